"""Values that the driver or Django can't read, such as PostgreSQL's date ``infinity`` or a text that is no decimal.

Django can update and delete the rows that hold them, so their events have to be written. Such a value is recorded as
the text that the database makes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from django.core.exceptions import ValidationError
from django.db import DatabaseError, DataError, models
from django.db.models.functions import Cast

Row: TypeAlias = tuple[Any, ...]
Read: TypeAlias = Callable[[models.QuerySet[Any, Any]], Iterable[Row]]

# What drivers and converters raise at a value.
ERRORS = (DataError, ValueError, TypeError, ArithmeticError, AttributeError, LookupError, ValidationError)


class Unreadable(str):
    """The database's text of a value that nobody can read."""

    __slots__ = ()


def read_rows(rows: models.QuerySet[Any, Any], columns: Sequence[str], read: Read) -> Iterator[Row]:
    """Return columns of many rows. Where some can't be read, the rows are halved until each of these is alone.

    Args:
        rows: The queryset of the rows.
        columns: The attribute names of the columns.
        read: Returns the rows of a queryset of ``values_list``; it raises one of ``ERRORS`` for what can't be read.

    """
    keys = list(rows.values_list("pk", flat=True))
    yield from _by_halves(rows, keys, columns, read)


def _by_halves(
    rows: models.QuerySet[Any, Any], keys: list[object], columns: Sequence[str], read: Read
) -> Iterator[Row]:
    # As many as one query may name on every database.
    if len(keys) <= 500:
        try:
            yield from list(read(rows.filter(pk__in=keys).values_list(*columns)))
        except ERRORS:
            if len(keys) > 1:
                yield from _halves(rows, keys, columns, read)
            elif keys:
                yield from _by_columns(rows.filter(pk__in=keys), columns, read)
    else:
        yield from _halves(rows, keys, columns, read)


def _halves(rows: models.QuerySet[Any, Any], keys: list[object], columns: Sequence[str], read: Read) -> Iterator[Row]:
    middle = len(keys) // 2
    yield from _by_halves(rows, keys[:middle], columns, read)
    yield from _by_halves(rows, keys[middle:], columns, read)


def _by_columns(row: models.QuerySet[Any, Any], columns: Sequence[str], read: Read) -> Iterator[Row]:
    """Return one row, whose columns are read one by one; nothing if it is not there."""
    values = []
    for name in columns:
        try:
            found = list(read(row.values_list(name)))
        except ERRORS:
            text = Cast(name, models.TextField())
            found = [(Unreadable(value),) for (value,) in row.annotate(audit_text=text).values_list("audit_text")]
        if not found:
            return
        values.append(found[0][0])
    yield tuple(values)


def or_texts(error: Exception, rows: Callable[[], Iterable[Row]]) -> list[Row]:
    """Return the rows read in another way; raise the error again if the transaction can't go on after it."""
    try:
        return list(rows())
    except DatabaseError:
        raise error from None


def rest_of(cursor: Any) -> list[Row]:
    """Return what is left of the rows of a statement whose cursor could not read them; psycopg 3 has the texts.

    Raises:
        AttributeError: The driver hands out no texts.

    """
    own = cursor.cursor
    result = own.pgresult
    kinds = [(result.ftype(at), result.fformat(at)) for at in range(result.nfields)]
    loaders = [own.adapters.get_loader(*kind)(kind[0], own) for kind in kinds]
    return [
        tuple(_loaded(load.load, result.get_value(row, at)) for at, load in enumerate(loaders))
        for row in range(own.rownumber, result.ntuples)
    ]


def _loaded(load: Callable[[bytes], object], data: bytes | None) -> object:
    if data is None:
        return None
    try:
        return load(data)
    except Exception:  # noqa: BLE001  # psycopg's own DataError, which Django has not wrapped here
        return Unreadable(bytes(data).decode())
