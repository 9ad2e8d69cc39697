"""Reading another package's tables: whether it is installed or not, object by object, in constant memory."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from itertools import chain
from operator import or_
from typing import Any, TypeAlias

from django.apps.registry import Apps
from django.core.exceptions import ValidationError
from django.db import connections, models
from django.utils import timezone

from django_signal_audit.events.object_texts import texts_of
from django_signal_audit.importing.base import (
    CannotImport,
    Entry,
    History,
    ImportSource,
    Summary,
    Unusable,
    is_of_one_row,
)

Rows: TypeAlias = "models.QuerySet[Any, Any]"

OBJECTS = 500
SLICE = 1000
_NO_KEY = "its object's key is none"


def columns_of(table: str, using: str) -> set[str]:
    """Return the names of a table's columns, none if there is no such table."""
    connection = connections[using]
    with connection.cursor() as cursor:
        if table not in connection.introspection.table_names(cursor):
            return set()
        return {column.name for column in connection.introspection.get_table_description(cursor, table)}


def table_rows(table: str, using: str, **fields: models.Field[Any, Any]) -> Rows:
    """Return the rows of a table, of those of the named columns that it has.

    JSON is best read as a text: then one broken document is one broken row.

    Raises:
        CannotImport: There is no such table.

    """
    columns = columns_of(table, using)
    if not columns:
        msg = f'The table {table} doesn\'t exist in the database "{using}"; nothing can be imported from it.'
        raise CannotImport(msg)
    present = {name: field for name, field in fields.items() if name in columns}
    options = {"apps": Apps(), "app_label": "audit_import", "managed": False, "db_table": table}
    meta = type("Meta", (), options)
    model = type("ImportedRow", (models.Model,), {"__module__": __name__, "Meta": meta, **present})
    return models.QuerySet(model, using=using)


def analyze(table: str, using: str) -> None:
    """Have PostgreSQL look at what a table holds.

    A table that was just loaded has no statistics until autovacuum comes by, and without them PostgreSQL reads all of
    it for each page. Other databases keep theirs up to date, or do without. A role that doesn't own the table gets a
    warning from the server, and no statistics.
    """
    connection = connections[using]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            # It doesn't wait for a VACUUM that is at work.
            cursor.execute(f"ANALYZE (SKIP_LOCKED) {connection.ops.quote_name(table)}")


def content_types(using: str) -> dict[int, str]:
    """Return the labels of models in lower case by the key of their content type."""
    rows = table_rows(
        "django_content_type",
        using,
        id=models.IntegerField(primary_key=True),
        app_label=models.CharField(max_length=100),
        model=models.CharField(max_length=100),
    )
    return {key: f"{app}.{name}".lower() for key, app, name in rows.values_list("id", "app_label", "model")}


def moment(value: object) -> dt.datetime:
    """Return the time of a row as an aware one; the project's naive times are in its own zone.

    Raises:
        Unusable: It is none, or there is no such time in UTC.

    """
    msg = "it has no valid time"
    if not isinstance(value, dt.datetime):
        raise Unusable(msg)
    aware = value if value.tzinfo else timezone.make_aware(value, timezone.get_default_timezone())
    try:
        return aware.astimezone(dt.UTC)
    except OverflowError as error:
        raise Unusable(msg) from error


def document(text: object, what: str) -> Any:
    """Return what JSON says, None for nothing.

    Raises:
        Unusable: It is no JSON.

    """
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError) as error:
        msg = f"there is no valid JSON in its {what}"
        raise Unusable(msg) from error


def after(columns: Sequence[str], values: Sequence[object]) -> models.Q:
    """Return the condition on what comes after some values in the order of columns."""
    terms = []
    for at, column in enumerate(columns):
        equal = dict(zip(columns[:at], values[:at], strict=True))
        terms.append(models.Q(**equal, **{f"{column}__gt": values[at]}))
    # The first term's bound holds for all of them: an index is looked up by it.
    return reduce(or_, terms) & models.Q(**{f"{columns[0]}__gte": values[0]})


class TableHistory(History):
    """The rows about one model in a table.

    Args:
        label: The model's label in lower case.
        rows: The rows about it.
        key: The columns of the object's primary key, which should have an index.
        order: The columns by which an object's rows are sorted, the last of them unique.
        entry: Returns what a row says; None if it says nothing. It may raise Unusable.

    """

    def __init__(
        self,
        label: str,
        rows: Rows,
        *,
        key: Sequence[str],
        order: Sequence[str],
        entry: Callable[[Any], Entry | None],
        has_values: bool = True,
    ) -> None:
        self.label, self.has_values = label, has_values
        self.table = rows.model._meta.db_table
        self.rows = rows.order_by()
        self._key, self._order, self._entry = tuple(key), tuple(order), entry

    def count(self) -> int:
        """Return how many rows there are."""
        return self.rows.count()

    def slices(self, summary: Summary) -> Iterator[tuple[int, Sequence[Entry]]]:
        """Yield some rows at a time: how many they are, and what can be taken of them."""
        analyze(self.table, self.rows.db)
        unreadable = Unreadable(self.table, summary)
        pages = self._pages(unreadable) if self.has_values else slices(self.rows, self._order, unreadable)
        for rows in pages:
            yield len(rows), list(self._entries(rows, summary))

    def place(self, at: dt.datetime, key: str) -> Any:
        """Return what the rows of one object are sorted by."""
        return int(key) if len(self._order) == 1 and key.isdecimal() else at

    def prepare(self, rows: Sequence[object]) -> None:
        """Fetch what some rows need besides themselves."""

    def _pages(self, unreadable: Unreadable) -> Iterator[list[Any]]:
        """Yield rows object by object: the keys of some objects, then all of their rows."""
        null = reduce(or_, (models.Q(**{f"{name}__isnull": True}) for name in self._key))
        for key, *_values in self._values(self.rows.filter(null)):
            unreadable.leave(key, _NO_KEY)
        keys = self.rows.exclude(null).order_by(*self._key).values_list(*self._key).distinct()
        following, skipped, is_any_left = keys, 0, False
        page = list(keys[:OBJECTS])
        while page:
            found = [key for key in page if self._is_key(key)]
            is_any_left |= len(found) < len(page)
            # SQLite keeps any text in a column of numbers. Nothing can be asked for that comes after it.
            skipped += len(page)
            if found:
                yield from slices(self.rows.filter(self._are(found)), (*self._key, *self._order), unreadable)
                following = keys.filter(after(self._key, found[-1]))
                skipped = len(page) - page.index(found[-1]) - 1
            page = list(following[skipped : skipped + OBJECTS]) if len(page) == OBJECTS else []
        for key, *values in self._values(self.rows) if is_any_left else ():
            if None not in values and not self._is_key(values):
                unreadable.leave(key, _NO_KEY)

    def _values(self, rows: models.QuerySet[Any]) -> Iterator[tuple[Any, ...]]:
        """Yield the primary key of each row and the key of its object, without holding all of them."""
        values = rows.order_by("pk").values_list("pk", *self._key)
        page = list(values[:OBJECTS])
        while page:
            yield from page
            page = list(values.filter(pk__gt=page[-1][0])[:OBJECTS])

    def _is_key(self, values: Sequence[Any]) -> bool:
        """Return whether rows can be looked up by a key that was read."""
        options = self.rows.model._meta
        try:
            return all(_is_same(options.get_field(name), value) for name, value in zip(self._key, values, strict=True))
        except (ValueError, TypeError, ArithmeticError, ValidationError):
            return False

    def _are(self, keys: Sequence[tuple[Any, ...]]) -> models.Q:
        if len(self._key) == 1:
            return models.Q(**{f"{self._key[0]}__in": list(chain.from_iterable(keys))})
        return reduce(or_, (models.Q(**dict(zip(self._key, key, strict=True))) for key in keys))

    def _entries(self, rows: Sequence[Any], summary: Summary) -> Iterator[Entry]:
        """Yield what can be taken of some rows; one whose other tables can't be read leaves out itself alone."""
        try:
            self.prepare(rows)
        except Exception as error:
            if not is_of_one_row(error):
                raise
            read = [self._read(row, summary, is_prepared=False) for row in rows]
        else:
            read = [self._read(row, summary) for row in rows]
        yield from (entry for entry in read if entry is not None)

    def _read(self, row: Any, summary: Summary, *, is_prepared: bool = True) -> Entry | None:
        try:
            if not is_prepared:
                self.prepare([row])
            return self._entry(row)
        except Unusable as error:
            summary.leave(str(error), f"{self.table} {row.pk}")
        except Exception as error:
            if not is_of_one_row(error):
                raise
            summary.leave(unread(error), f"{self.table} {row.pk}")
        return None


def _is_same(field: Any, value: object) -> bool:
    """Return whether a value is looked for as itself: 1.5 in a column of integers is not."""
    return isinstance(field.get_prep_value(value), float) or not isinstance(value, float)


def unread(error: Exception) -> str:
    """Return the reason why a row is left out that could not be read."""
    return f"it can't be read ({type(error).__name__})"


class Unreadable:
    """Names the rows that can't be fetched: the database holds what isn't of their column's type.

    Args:
        table: Their table.
        summary: Where they are named.

    """

    def __init__(self, table: str, summary: Summary) -> None:
        self._table, self._summary = table, summary

    def leave(self, key: object, reason: str) -> None:
        """Note a row that can't be fetched."""
        self._summary.read += 1
        self._summary.leave(reason, f"{self._table} {key}")


def slices(rows: Rows, order: Sequence[str], unreadable: Unreadable) -> Iterator[list[Any]]:
    """Yield rows in an order that ends with something unique, each slice by a query of its own."""
    ordered = rows.order_by(*order)
    following = ordered
    # Unreadable ones among those that follow: no place in the order can be asked for that comes after them.
    left: list[Any] = []
    is_end = False
    while not is_end:
        remaining = following.exclude(pk__in=left) if left else following
        try:
            found = list(remaining[:SLICE])
            is_end = len(found) < SLICE
        except Exception as error:
            if not is_of_one_row(error):
                raise
            keys = list(remaining.values_list("pk", flat=True)[:SLICE])
            is_end = len(keys) < SLICE
            found = _one_by_one(ordered, keys, left, unreadable)
        page = [row for row in found if _has_place(row, order, left, unreadable)]
        if page:
            yield page
        if page and not is_end:
            last = [getattr(page[-1], column) for column in order]
            following = ordered.filter(after(order, last))


def _has_place(row: Any, order: Sequence[str], left: list[Any], unreadable: Unreadable) -> bool:
    """Return whether a row can be sorted, and note one that can't: a time that is none is read as nothing."""
    lacking = [column for column in order if getattr(row, column) is None]
    if lacking:
        left.append(row.pk)
        unreadable.leave(row.pk, f"it has no valid {lacking[0]}")
    return not lacking


def _one_by_one(rows: Rows, keys: Iterable[Any], left: list[Any], unreadable: Unreadable | None) -> list[Any]:
    """Return the rows with these keys that can be fetched, and note those that can't."""
    found: list[Any] = []
    for key in keys:
        try:
            found += rows.filter(pk=key)
        except Exception as error:
            if not is_of_one_row(error):
                raise
            left.append(key)
            if unreadable is not None:
                unreadable.leave(key, unread(error))
    return found


def fetched(rows: Rows, keys: Sequence[Any], unreadable: Unreadable | None = None) -> dict[Any, Any]:
    """Return the rows with these keys by their key, as far as they can be fetched; name the others if asked to."""
    try:
        return rows.in_bulk(keys)
    except Exception as error:
        if not is_of_one_row(error):
            raise
        return {row.pk: row for row in _one_by_one(rows, keys, [], unreadable)}


def texts_of_rows(model: Any, using: str, attnames: Sequence[str], rows: Sequence[Any]) -> dict[Any, str]:
    """Return what objects were called, by the keys of rows that have their columns under the same names."""
    objects = [model.from_db(using, attnames, [getattr(row, name) for name in attnames]) for row in rows]
    return dict(zip([row.pk for row in rows], texts_of(objects), strict=True))


def serialized(text: object) -> dict[str, Any]:
    """Return the values by field name of an object that Django's serializers have written as JSON.

    Raises:
        Unusable: It is no such object.

    """
    found = document(text, "data")
    try:
        (one,) = found
        return dict(one["fields"])
    except (TypeError, ValueError, KeyError) as error:
        msg = "its data isn't a serialized object"
        raise Unusable(msg) from error


def histories_by_content_type(
    rows: Rows,
    source: ImportSource,
    reader: Callable[[str], Callable[[Any], Entry | None]],
    *,
    key: str = "object_pk",
    order: Sequence[str] = ("timestamp", "id"),
    has_values: bool = True,
) -> list[History]:
    """Return the histories in a table with a column ``content_type_id``, one for each model.

    Args:
        rows: The rows.
        source: Their source.
        reader: Returns, for a model's label, what reads a row about it.
        key: The column of the object's primary key.
        order: The columns by which an object's rows are sorted, the last of them unique.
        has_values: See ``History``.

    """
    labels = content_types(source.using)
    # A model that was renamed may have rows under both of its names.
    together: dict[str, dict[int | None, str]] = {}
    for number in rows.order_by().values_list("content_type_id", flat=True).distinct():
        label = labels.get(number, "")
        together.setdefault(source.renamed.get(label, label), {})[number] = label
    return [
        TableHistory(
            next(iter(found.values())),
            rows.filter(content_type_id__in=[number for number in found if number is not None])
            if label
            else rows.filter(_of_none_of(labels)),
            key=(key,),
            order=order,
            entry=_by_content_type({number: reader(name) for number, name in found.items() if name}),
            has_values=has_values and bool(label),
        )
        for label, found in together.items()
    ]


def _of_none_of(labels: Iterable[int]) -> models.Q:
    return ~models.Q(content_type_id__in=list(labels)) | models.Q(content_type_id=None)


def _by_content_type(readers: dict[int | None, Callable[[Any], Entry | None]]) -> Callable[[Any], Entry | None]:
    def read(row: Any) -> Entry | None:
        if row.content_type_id not in readers:
            msg = f"its content type {row.content_type_id} is gone"
            raise Unusable(msg)
        return readers[row.content_type_id](row)

    return read
