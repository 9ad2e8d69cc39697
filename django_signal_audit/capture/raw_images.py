"""Images as the driver gives them: a column is converted when it is asked for, and most columns never are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.db import models

from django_signal_audit.events.changes import FieldChange
from django_signal_audit.events.object_texts import texts_of
from django_signal_audit.rules.patterns import Field
from django_signal_audit.rules.plans import ModelPlan

from .images import Image, ImageReader
from .internals import plain_object
from .rows import current, rows_of, same
from .selects import converters_of, is_one_of, raw_rows


class RawImageReader(ImageReader):
    """Reads rows of one plan's model as tuples of all columns, unconverted."""

    def __init__(self, plan: ModelPlan, using: str) -> None:
        super().__init__(plan, using)
        self._converters = converters_of(plan.model, self.attnames, using)
        unconverted = self._converters.keys() | self.converted.keys()
        self._held = [(name, at) for at, name in enumerate(self.attnames) if at not in unconverted]

    def images(self, rows: models.QuerySet[Any, Any]) -> Iterator[Image]:
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

    def _convert(self, image: Image, position: int) -> Any:
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

        def load(*_: Any, **__: Any) -> None:
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
