"""Images of many rows: read under lock in one query, kept on disk when they are many."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import chain, islice
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
from django_signal_audit.capture.unreadable import ERRORS, or_texts, read_rows
from django_signal_audit.conf import on_settings_changed
from django_signal_audit.events.changes import FieldChange
from django_signal_audit.events.documents import clean_text
from django_signal_audit.events.object_texts import texts_of
from django_signal_audit.events.secret_fields import masked_fields
from django_signal_audit.events.secret_texts import may_name_secrets
from django_signal_audit.rules.patterns import Field
from django_signal_audit.rules.plans import ModelPlan

Image: TypeAlias = tuple[Any, ...]

# Rows handled at a time: as many as one query may name by key on every database.
CHUNK = 500
# Chunks and bytes kept in memory; what is beyond goes to a temporary file.
_MEMORY_CHUNKS = 20
_MEMORY_BYTES = 16 * 2**20
# Long texts and documents count: so much is handled at a time.
CHUNK_BYTES = 4 * 2**20


def chunks(items: Iterable[object], size: int = CHUNK) -> Iterator[list[Any]]:
    """Return the items in lists of at most ``size``."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def size_of(images: Sequence[Image]) -> int:
    """Return the approximate size of images in bytes: what has no length counts nothing."""
    return sum(map(length_hint, chain.from_iterable(images)))


def _sized_chunks(images: Iterable[Image]) -> Iterator[tuple[list[Image], int]]:
    """Return the images in lists of limited length and size, each with its approximate size in bytes."""
    chunk: list[Image] = []
    size = 0
    for image in images:
        chunk.append(image)
        size += sum(map(length_hint, image))
        if len(chunk) >= CHUNK or size >= CHUNK_BYTES:
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

    @classmethod
    def of(cls, images: Iterable[Image]) -> Spool:
        """Return a spool of the images."""
        spool = cls()
        try:
            spool.extend(images)
        except BaseException:
            spool.close()
            raise
        return spool

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
    """The columns of a model's images: where each is, which are the key's, and which differ from objects' values."""

    fields: tuple[Any, ...]
    attnames: tuple[str, ...]
    position: Mapping[str, int]
    key_positions: tuple[int, ...]
    converted: Mapping[int, Any]


@lru_cache(1024)
def _layout(model: type[models.Model], missing: frozenset[object], using: str, only: frozenset[str] | None) -> _Layout:
    fields = tuple(
        field
        for field in model._meta.concrete_fields
        if field.column and field not in missing and (only is None or field.attname in only)
    )
    position = {field.attname: position for position, field in enumerate(fields)}
    keys = tuple(position[one.attname] for one in model._meta.pk_fields)
    return _Layout(fields, tuple(position), position, keys, converted_fields(fields, using))


on_settings_changed(_layout.cache_clear)


class ImageReader:
    """Reads rows of one plan's model as tuples of all columns, and makes rows and objects of them.

    Columns that the table lacks, because their migration has yet to run, are left out.

    Args:
        plan: The plan of the model.
        using: The database.
        only: The attribute names of the columns to read, those of the key among them; None for all.

    """

    # What images hold unconverted, by position.
    _converters: Mapping[int, Convert] = MappingProxyType({})

    def __init__(self, plan: ModelPlan, using: str, only: frozenset[str] | None = None) -> None:
        self.plan = plan
        self.using = using
        layout = _layout(plan.model, missing_columns(plan.model, using), using, only)
        self.fields, self.attnames, self.position, self.key_positions, self.converted = layout
        # The columns of the fields that rows were asked for, by the fields' names, with what converts them.
        self._columns: dict[frozenset[str], list[tuple[str, int, Any]]] = {}

    def rows(self, *, deleting: bool = False, lock: bool = True) -> models.QuerySet[Any, Image]:
        """Return the queryset of the images of all rows, to be filtered."""
        rows = rows_of(self.plan.model, self.using)
        # Locks are taken in one order, so that two writes do not wait for each other.
        rows = locked(rows, self.using, deleting=deleting).order_by("pk") if lock else rows.order_by()
        return stored(rows.values_list(*self.attnames))

    def read(self, rows: models.QuerySet[Any, Image]) -> list[Image]:
        """Return the images of the rows in a queryset that ``rows`` gave."""
        try:
            return list(rows)
        except ERRORS as error:
            return or_texts(error, lambda: read_rows(rows, self.attnames, stored))

    def by_key(self, pks: Sequence[object]) -> dict[Any, Image]:
        """Return the images of the rows with these keys, which are locked already."""
        found = self.read(current(self.rows(lock=False), self.using).filter(pk__in=list(pks)))
        return {self.key(image): image for image in found}

    def key(self, image: Image) -> Any:
        """Return the primary key of an image, a tuple for a composite one."""
        values = tuple(image[position] for position in self.key_positions)
        return values if len(values) > 1 else values[0]

    def keys(self, images: Sequence[Image]) -> list[Any]:
        """Return the primary keys of images."""
        first, *others = self.key_positions
        if others or first in self._converters:
            return [*map(self.key, images)]
        return [image[first] for image in images]

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

    def columns(self, images: Sequence[Image], names: Collection[str]) -> dict[str, Sequence[Any]]:
        """Return the values that images have for the named fields, by field, in the order of the model."""
        columns = list(zip(*images, strict=True))
        return {
            name: self._converted_column(columns[position], position)
            for name, field in self.plan.all_fields.items()
            if name in names and (position := self.position.get(field.attname)) is not None
        }

    def _converted_column(self, values: Sequence[object], position: int) -> Sequence[object]:
        convert = self._converters.get(position)
        if convert is None:
            return values
        # Of one class each: 1 and 1.0 are equal, and not the same. Neither are 0.0 and -0.0.
        known: dict[type, dict[Any, Any]] = {str: {}, int: {}, float: {}}
        found = []
        for value in values:
            alike = known.get(value.__class__) if value else None
            if alike is None:
                found.append(convert(value))
                continue
            if value not in alike:
                alike[value] = convert(value)
            found.append(alike[value])
        return found

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

    def _convert(self, image: Image, position: int) -> object:
        convert = self._converters.get(position)
        return image[position] if convert is None else convert(image[position])

    def _converted(self, image: Image) -> Image:
        return tuple(self._convert(image, position) for position in range(len(image)))

    @cached_property
    def _held(self) -> list[tuple[str, int]]:
        """Return the columns that texts are known to need and that need no conversion, with their positions."""
        unconverted = self._converters.keys() | self.converted.keys()
        needed = text_columns(self.plan)
        return [(name, at) for at, name in enumerate(self.attnames) if at not in unconverted and name in needed]

    def texts(self, images: Sequence[Image]) -> list[str]:
        """Return the texts of the objects of images, which mostly are about one column or two."""
        place = self._text_place
        if place is None or not images:
            return self._asked_texts(images) if images else []
        values = [image[place] for image in images]
        unsure = [at for at, value in enumerate(values) if value.__class__ is not str or may_name_secrets(value)]
        asked = dict(zip(unsure, self._asked_texts([images[at] for at in unsure]), strict=True))
        return [asked[at] if at in asked else clean_text(value) for at, value in enumerate(values)]

    @cached_property
    def _text_place(self) -> int | None:
        """Return where the column is that is the text of an object; None if the object has to be asked for it."""
        name = "" if masked_fields(self.plan.model) else text_attribute(self.plan.model)
        return dict(self._held).get(name)

    def _asked_texts(self, images: Sequence[Image]) -> list[str]:
        others = _Others(self, images)
        objects = [self._sketch(image, others) for image in images] if self.is_plain else [*map(self.instance, images)]
        try:
            return texts_of(objects)
        finally:
            for made in objects:
                vars(made).pop("refresh_from_db", None)

    def _sketch(self, image: Image, others: _Others) -> models.Model:
        """Return the object of an image with the columns that need no conversion; it gets the others on demand."""
        columns = {name: image[position] for name, position in self._held}
        for position in self.key_positions:
            columns[self.attnames[position]] = self._convert(image, position)
        made: Any = plain_object(self.plan.model, self.using, columns)

        def load(*_: object, fields: Iterable[str] | None = None, **__: object) -> None:
            values = self.as_objects_have_it(self._converted(image))
            made.__dict__.update(zip(self.attnames, values, strict=True))
            if fields is None or not set(fields) <= self.position.keys():
                made.__dict__.update(others.of(self.key(image), fields or ()))

        # Django asks an object for its deferred columns so.
        made.refresh_from_db = load
        return made  # type: ignore[no-any-return]


class RawImageReader(ImageReader):
    """Reads rows of one plan's model as tuples of all columns, unconverted."""

    def __init__(self, plan: ModelPlan, using: str, only: frozenset[str] | None = None) -> None:
        super().__init__(plan, using, only)
        self._converters = converters_of(plan.model, self.attnames, using)

    def spooled(self, rows: models.QuerySet[Any, object], query: object = None) -> Spool:
        """Return the images of rows, however many.

        Args:
            rows: A queryset that ``rows`` gave.
            query: The query to read them by in its place, as long as all of them can be read.

        """
        try:
            return Spool.of(raw_rows(rows.query if query is None else query, self.using))
        except ERRORS as error:
            return Spool.of(or_texts(error, lambda: read_rows(rows, self.attnames, self._raw)))

    def images(self, rows: models.QuerySet[Any, object]) -> list[Image]:
        """Return the images of a few of them."""
        try:
            return list(self._raw(rows))
        except ERRORS as error:
            return or_texts(error, lambda: read_rows(rows, self.attnames, self._raw))

    def _raw(self, rows: models.QuerySet[Any, Any]) -> Iterator[Image]:
        return raw_rows(rows.query, self.using, are_many=False)

    def again(self, images: Sequence[Image], fields: Iterable[Any]) -> list[Image | None]:
        """Return the images of rows after some of their columns may have changed, None for one that is gone.

        Only those columns are read.
        """
        names = [self.attnames[at] for at in self.key_positions]
        positions = [self.position[field.attname] for field in fields]
        rows = current(rows_of(self.plan.model, self.using), self.using).order_by()
        rows = rows.filter(is_one_of(self.plan.model, [self.key(image) for image in images], self.using))
        columns = rows.values_list(*names, *(self.attnames[at] for at in positions))
        try:
            found = list(raw_rows(columns.query, self.using, are_many=False))
        except ERRORS as error:
            attnames = [*names, *(self.attnames[at] for at in positions)]
            found = or_texts(error, lambda: read_rows(rows, attnames, self._raw))
        now = {row[: len(names)]: row[len(names) :] for row in found}
        return [replaced(image, positions, now.get(tuple(image[at] for at in self.key_positions))) for image in images]

    def key(self, image: Image) -> Any:
        """Return the primary key of an image, a tuple for a composite one."""
        if len(self.key_positions) == 1:
            return self._convert(image, self.key_positions[0])
        return tuple(self._convert(image, position) for position in self.key_positions)

    def value(self, image: Image, attname: str) -> Any:
        """Return the value of one column."""
        return self._convert(image, self.position[attname])

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


class _Others:
    """The columns that images lack, which are read for all of them once a text asks for one."""

    def __init__(self, reader: ImageReader, images: Sequence[Image]) -> None:
        self.reader = reader
        self.images = images

    def of(self, key: object, asked_for: Iterable[str]) -> Mapping[str, object]:
        """Return the columns of a row, and remember which of them texts of its model ask for."""
        text_columns(self.reader.plan).update(asked_for)
        return self._rows.get(key, {})

    @cached_property
    def _rows(self) -> dict[Any, dict[str, object]]:
        reader = ImageReader(self.reader.plan, self.reader.using)
        found = reader.by_key([self.reader.key(image) for image in self.images])
        return {
            key: {
                name: value
                for name, value in zip(reader.attnames, reader.as_objects_have_it(image), strict=True)
                if name not in self.reader.position
            }
            for key, image in found.items()
        }


def _text_of_attribute(self: Any) -> Any:
    return self.name


_CODE = _text_of_attribute.__code__


def text_attribute(model: type[models.Model]) -> str:
    """Return the field that is the text of a model's objects, if ``__str__`` does nothing but return it; else "".

    The interpreter has the same instructions for each such method, whatever the name of the attribute.
    """
    code = getattr(model.__str__, "__code__", None)
    if code is None or code.co_code != _CODE.co_code or len(code.co_names) != 1 or code.co_nlocals != 1:
        return ""
    name = str(code.co_names[0])
    is_field = any(name in (field.name, field.attname) for field in model._meta.concrete_fields)
    is_usual = is_plain(model) and model.__getattribute__ is object.__getattribute__
    return name if is_field and is_usual else ""


def needed_columns(plan: ModelPlan, event_type: str, names: Collection[str]) -> frozenset[str] | None:
    """Return the columns to read for events about some fields: theirs, the key's, and what texts need; None for all.

    Conditions may ask an object for anything, and so may what makes objects in the project's own way.
    """
    model = plan.model
    if model._meta.parents or event_type in plan.conditional or plan.included or not is_plain(model):
        return None
    keys = {field.attname for field in model._meta.pk_fields}
    audited = {field.attname for name, field in plan.all_fields.items() if name in names}
    return frozenset(keys | audited | text_columns(plan))


def text_columns(plan: ModelPlan) -> set[str]:
    """Return the attribute names of the columns that texts of a model's objects are known to need.

    Those are the ones that ``__str__`` names, what it has asked for before, and what may have to be hidden in a text.
    """
    known: set[str] | None = plan.certainties.get("text columns")
    if known is None:
        named = getattr(getattr(plan.model.__str__, "__code__", None), "co_names", ())
        masked = masked_fields(plan.model)
        known = plan.certainties["text columns"] = {
            field.attname
            for field in plan.model._meta.concrete_fields
            if field.name in named or field.attname in named or field.name in masked
        }
    return known


def replaced(image: Image, positions: Sequence[int], values: Image | None) -> Image | None:
    """Return an image with some columns replaced."""
    if values is None:
        return None
    columns = list(image)
    for position, value in zip(positions, values, strict=True):
        columns[position] = value
    return tuple(columns)
