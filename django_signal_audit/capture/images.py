"""Images of many rows: read under lock in one query, kept on disk when they are many."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import islice
from operator import length_hint
from os import SEEK_END
from secrets import token_bytes
from tempfile import TemporaryFile
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from django.db import models

from django_signal_audit.capture.hooks import is_plain, plain_object
from django_signal_audit.capture.rows import (
    Convert,
    converters_of,
    current,
    is_one_of,
    locked,
    raw_rows,
    rows_of,
    same,
)
from django_signal_audit.capture.scope import Row
from django_signal_audit.capture.tables import converted, converted_fields, missing_columns, stored
from django_signal_audit.conf import on_settings_changed
from django_signal_audit.events.changes import FieldChange
from django_signal_audit.events.object_texts import texts_of
from django_signal_audit.rules.patterns import Field
from django_signal_audit.rules.plans import ModelPlan

Image: TypeAlias = tuple[Any, ...]

# Rows handled at a time: as many as one query may name by key on every database.
CHUNK = 500
# Chunks and bytes kept in memory; what is beyond goes to a temporary file.
_MEMORY_CHUNKS = 20
_MEMORY_BYTES = 16 * 2**20
# Long texts and documents count: so much is handled at a time.
_CHUNK_BYTES = 4 * 2**20


def chunks(items: Iterable[object], size: int = CHUNK) -> Iterator[list[Any]]:
    """Return the items in lists of at most ``size``."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _sized_chunks(images: Iterable[Image]) -> Iterator[tuple[list[Image], int]]:
    """Return the images in lists of limited length and size, each with its approximate size in bytes."""
    chunk: list[Image] = []
    size = 0
    for image in images:
        chunk.append(image)
        size += sum(map(length_hint, image))  # 0 for what has no length
        if len(chunk) >= CHUNK or size >= _CHUNK_BYTES:
            yield chunk, size
            chunk, size = [], 0
    if chunk:
        yield chunk, size


class Spool:
    """Chunks of images, in memory as long as they are few and small, and in a temporary file beyond that.

    Rows may hold secrets, which must not reach the disk in clear: the file is useless without keys that never leave
    the memory.
    """

    def __init__(self) -> None:
        self._file: Any = None
        self._chunks: list[list[Image]] = []
        # The key and the length of each chunk in the file.
        self._keys: list[tuple[bytes, int]] = []
        self._size = 0
        self.count = 0

    def extend(self, images: Iterable[Image]) -> None:
        """Keep the images."""
        for chunk, size in _sized_chunks(images):
            self.count += len(chunk)
            if len(self._chunks) < _MEMORY_CHUNKS and self._size + size <= _MEMORY_BYTES:
                self._size += size
                self._chunks.append(chunk)
            else:
                self._write(pickle.dumps(chunk, protocol=pickle.HIGHEST_PROTOCOL))

    def _write(self, data: bytes) -> None:
        if self._file is None:
            self._file = TemporaryFile()  # noqa: SIM115  # closed by close()
        key = token_bytes(32)
        self._keys.append((key, len(data)))
        self._file.seek(0, SEEK_END)
        self._file.write(_sealed(data, key))

    def __iter__(self) -> Iterator[list[Image]]:
        yield from self._chunks
        start = 0
        for key, length in self._keys:
            self._file.seek(start)
            start += length
            yield pickle.loads(_sealed(self._file.read(length), key))  # noqa: S301  # written above by ourselves

    def close(self) -> None:
        """Remove the file."""
        if self._file is not None:
            self._file.close()


def _sealed(data: bytes, key: bytes) -> bytes:
    """Return data combined with a stream that only the key gives, used once; doing it again gives the data."""
    stream = hashlib.shake_256(key).digest(len(data))
    return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(data), "big")


class _Layout(NamedTuple):
    """The columns of a model's images, where each is, which are the key's, and of which objects have something else."""

    fields: tuple[Any, ...]
    attnames: tuple[str, ...]
    position: Mapping[str, int]
    key_positions: tuple[int, ...]
    converted: Mapping[int, Any]


@lru_cache(1024)
def _layout(model: type[models.Model], missing: frozenset[object], using: str) -> _Layout:
    fields = tuple(field for field in model._meta.concrete_fields if field.column and field not in missing)
    position = {field.attname: position for position, field in enumerate(fields)}
    keys = tuple(position[one.attname] for one in model._meta.pk_fields)
    return _Layout(fields, tuple(position), position, keys, converted_fields(fields, using))


on_settings_changed(_layout.cache_clear)


class ImageReader:
    """Reads rows of one plan's model as tuples of all columns, and makes rows and objects of them.

    Columns that the table lacks, because their migration has yet to run, are left out.
    """

    # What images hold unconverted, by position.
    _converters: Mapping[int, Convert] = MappingProxyType({})

    def __init__(self, plan: ModelPlan, using: str) -> None:
        self.plan = plan
        self.using = using
        layout = _layout(plan.model, missing_columns(plan.model, using), using)
        self.fields, self.attnames, self.position, self.key_positions, self.converted = layout
        # The columns of the fields that rows were asked for, by the fields' names, with what converts them.
        self._columns: dict[frozenset[str], list[tuple[str, int, Any]]] = {}

    def rows(self, *, deleting: bool = False, lock: bool = True) -> models.QuerySet[Any, Image]:
        """Return the queryset of the images of all rows, to be filtered."""
        rows = rows_of(self.plan.model, self.using)
        # Locks are taken in one order, so that two writes do not wait for each other.
        rows = locked(rows, self.using, deleting=deleting).order_by("pk") if lock else rows.order_by()
        return stored(rows.values_list(*self.attnames))

    def by_key(self, pks: Sequence[object]) -> dict[Any, Image]:
        """Return the images of the rows with these keys, which are locked already."""
        found = current(self.rows(lock=False), self.using).filter(pk__in=list(pks))
        return {self.key(image): image for image in found}

    def key(self, image: Image) -> Any:
        """Return the primary key of an image, a tuple for a composite one."""
        values = tuple(image[position] for position in self.key_positions)
        return values if len(values) > 1 else values[0]

    def value(self, image: Image, attname: str) -> Any:
        """Return the value of one column."""
        return image[self.position[attname]]

    def row(self, image: Image, names: frozenset[str]) -> Row:
        """Return the values of the named fields, in the order of the model."""
        columns = self._columns.get(names)
        if columns is None:
            columns = self._columns[names] = [
                (name, position, self._converters.get(position))
                for name, field in self.plan.all_fields.items()
                if name in names and (position := self.position.get(field.attname)) is not None
            ]
        return {name: image[at] if convert is None else convert(image[at]) for name, at, convert in columns}

    def instance(self, image: Image) -> models.Model:
        """Return the object of an image."""
        image = self.as_objects_have_it(image)
        if self.is_plain:
            return plain_object(self.plan.model, self.using, dict(zip(self.attnames, image, strict=True)))
        return self.plan.model.from_db(self.using, self.attnames, image)

    def as_objects_have_it(self, image: Image) -> Image:
        """Return an image with what the project's own fields make of the columns."""
        if not self.converted:
            return image
        values = list(image)
        for position, field in self.converted.items():
            values[position] = converted(field, values[position], self.using)
        return tuple(values)

    @cached_property
    def is_plain(self) -> bool:
        """Return whether nobody has a say in how objects are made of the images."""
        return is_plain(self.plan.model)

    def parents(self, image: Image) -> set[tuple[type[models.Model], Any]]:
        """Return the parents' rows that this row is part of, each as its model and key."""
        return {
            (parent, self.value(image, parent._meta.pk.attname))
            for parent in self.plan.model._meta.get_parent_list()
            if parent._meta.pk is not None
        }


class RawImageReader(ImageReader):
    """Reads rows of one plan's model as tuples of all columns, unconverted."""

    def __init__(self, plan: ModelPlan, using: str) -> None:
        super().__init__(plan, using)
        self._converters = converters_of(plan.model, self.attnames, using)
        unconverted = self._converters.keys() | self.converted.keys()
        self._held = [(name, at) for at, name in enumerate(self.attnames) if at not in unconverted]

    def images(self, rows: models.QuerySet[Any, object]) -> Iterator[Image]:
        """Return the images of the rows in a queryset that ``rows`` gave."""
        return raw_rows(rows.query, self.using)

    def again(self, images: Sequence[Image], fields: Iterable[Any]) -> list[Image | None]:
        """Return the images of rows after some of their columns may have changed, None for one that is gone.

        Only those columns are read.
        """
        names = [self.attnames[at] for at in self.key_positions]
        positions = [self.position[field.attname] for field in fields]
        rows = current(rows_of(self.plan.model, self.using), self.using).order_by()
        rows = rows.filter(is_one_of(self.plan.model, [self.key(image) for image in images], self.using))
        columns = rows.values_list(*names, *(self.attnames[at] for at in positions))
        found = raw_rows(columns.query, self.using, are_many=False)
        now = {row[: len(names)]: row[len(names) :] for row in found}
        return [_replaced(image, positions, now.get(tuple(image[at] for at in self.key_positions))) for image in images]

    def key(self, image: Image) -> Any:
        """Return the primary key of an image, a tuple for a composite one."""
        if len(self.key_positions) == 1:
            return self._convert(image, self.key_positions[0])
        return tuple(self._convert(image, position) for position in self.key_positions)

    def value(self, image: Image, attname: str) -> Any:
        """Return the value of one column."""
        return self._convert(image, self.position[attname])

    def _convert(self, image: Image, position: int) -> object:
        convert = self._converters.get(position)
        return image[position] if convert is None else convert(image[position])

    def _converted(self, image: Image) -> Image:
        return tuple(self._convert(image, position) for position in range(len(image)))

    def differences(self, fields: Mapping[str, Field], old: Image, new: Image) -> dict[str, FieldChange]:
        """Return the fields whose stored value differs, in the order of the fields."""
        changed = {}
        for name, field in fields.items():
            position = self.position[field.attname]
            before, after = old[position], new[position]
            # What the driver gives alike is alike.
            if before.__class__ is after.__class__ and before == after:
                continue
            change = FieldChange(self._convert(old, position), self._convert(new, position))
            if not same(field, *change):
                changed[name] = change
        return changed

    def instance(self, image: Image) -> models.Model:
        """Return the object of an image."""
        return super().instance(self._converted(image))

    def texts(self, images: Sequence[Image]) -> list[str]:
        """Return the texts of the objects of images, which mostly are about one column or two."""
        if not images:
            return []
        objects = [self._sketch(image) for image in images] if self.is_plain else [*map(self.instance, images)]
        try:
            return texts_of(objects)
        finally:
            for made in objects:
                vars(made).pop("refresh_from_db", None)

    def _sketch(self, image: Image) -> models.Model:
        """Return the object of an image with the columns that need no conversion; it gets the others on demand."""
        columns = {name: image[position] for name, position in self._held}
        for position in self.key_positions:
            columns[self.attnames[position]] = self._convert(image, position)
        made: Any = plain_object(self.plan.model, self.using, columns)

        def load(*_: object, **__: object) -> None:
            values = self.as_objects_have_it(self._converted(image))
            made.__dict__.update(zip(self.attnames, values, strict=True))

        # Django asks an object for its deferred columns so.
        made.refresh_from_db = load
        return made  # type: ignore[no-any-return]


def _replaced(image: Image, positions: Sequence[int], values: Image | None) -> Image | None:
    """Return an image with some columns replaced."""
    if values is None:
        return None
    columns = list(image)
    for position, value in zip(positions, values, strict=True):
        columns[position] = value
    return tuple(columns)
