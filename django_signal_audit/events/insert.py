"""Writing event rows: one statement for many, compiled once, past the model's own machinery."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from itertools import chain
from operator import length_hint
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_signal_audit.events.documents import JSONValue, is_deeper, shallow
from django_signal_audit.models.events import AuditEvent
from django_signal_audit.models.fields import codec_of


class EventRow(NamedTuple):
    """The columns of an event that is about to be written, in the order of the statement."""

    uid: UUID
    recorded_at: dt.datetime
    event_type: str
    source: str
    level: str
    rules: list[str]
    model: str
    object_id: str
    object_repr: str
    actor_id: str
    actor_repr: str
    changes: dict[str, JSONValue]
    data: JSONValue
    context: dict[str, JSONValue]
    correlation_id: str
    signature: int
    tenant: str

    def as_event(self, using: str, pk: int | None = None) -> AuditEvent:
        """Return the event as an object, as if it had been read from the database."""
        # Documents are those of their objects still.
        changes = json.loads(json.dumps(self.changes))
        event = AuditEvent(**self._replace(changes=changes)._asdict())
        event.pk = pk
        event._state.adding = False
        event._state.db = using
        return event


# Characters, of a statement that writes many events. Servers take some megabytes.
MAX_STATEMENT_LENGTH = 1_000_000

# How PostgreSQL has to read a column that is sent as an array of texts.
_POSTGRESQL_CASTS = {
    "id": "bigint",
    "uid": "uuid",
    "recorded_at": "timestamptz",
    "rules": "jsonb",
    "changes": "jsonb",
    "data": "jsonb",
    "context": "jsonb",
    "signature": "bigint",
}


def insert_row(row: EventRow, using: str) -> int:
    """Write one event and return its primary key."""
    connection = connections[using]
    sql, values = insert_statement(row, using)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"{sql} RETURNING id", values)
            return int(cursor.fetchone()[0])
        cursor.execute(sql, values)
        return int(cursor.lastrowid)


def insert_statement(row: EventRow, using: str) -> tuple[str, tuple[Any, ...]]:
    """Return the statement that writes one event, and its parameters."""
    return _insert_sql(using), prepared_row(row, using)


def prepared_row(row: EventRow, using: str) -> tuple[Any, ...]:
    """Return the columns of an event as the driver takes them."""
    return _prepare([row], connections[using])[0]


def insert_rows(rows: Sequence[EventRow], using: str, ids: Sequence[int] = ()) -> None:
    """Write many events with one statement, or as few as the database takes.

    Args:
        rows: The events.
        using: Their database.
        ids: Their primary keys; the database gives them by default.

    """
    connection = connections[using]
    prepared = _prepare(rows, connection)
    names: tuple[str, ...] = EventRow._fields
    if ids:
        names = ("id", *names)
        prepared = [(key, *row) for key, row in zip(ids, prepared, strict=True)]
    if connection.vendor == "postgresql" and len(prepared) > 1:
        with connection.cursor() as cursor:
            cursor.execute(*_unnested(prepared, names, using))
    else:
        _insert_batches(prepared, names, using)


def _insert_batches(prepared: Sequence[tuple[Any, ...]], names: tuple[str, ...], using: str) -> None:
    connection = connections[using]
    with connection.cursor() as cursor:
        # Not by executemany(): what wraps cursors, as debug toolbars do, may not expect tuples of tuples.
        for batch in _batches(prepared, connection):
            cursor.execute(_insert_sql(using, len(batch), names), list(chain.from_iterable(batch)))


def insert_alike(shared: EventRow, own: Mapping[str, Sequence[str]], using: str) -> None:
    """Write events that differ in some columns only.

    Args:
        shared: What they share.
        own: The columns in which they differ, by name, as the database takes them: uids without dashes, JSON as text.
        using: Their database.

    """
    connection = connections[using]
    values = dict(zip(EventRow._fields, prepared_row(shared, using), strict=True))
    alike = {name: value for name, value in values.items() if name not in own}
    names = tuple(name for name in values if name in own)
    rows: Sequence[tuple[str, ...]] = list(zip(*(own[name] for name in names), strict=True))
    if connection.vendor == "mysql":
        codec = _codec(connection)
        rows = [tuple(_fitted_texts(dict(zip(names, row, strict=True)), codec)) for row in rows]
    if connection.vendor == "mysql" or len(rows) == 1:
        _insert_batches([(*alike.values(), *row) for row in rows], (*alike, *names), using)
        return
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            arrays = [_many(name, own[name]) for name in names]
            sql = _unnest_sql(using, EventRow._fields, tuple(name in alike for name in values))
            cursor.execute(sql, [*alike.values(), *arrays])
            return
        for batch in _batches(rows, connection, len(alike)):
            sql = _alike_sql(using, tuple(alike), names, len(batch))
            cursor.execute(sql, [*alike.values(), *chain.from_iterable(batch)])


# Characters of what has no length: a number, a moment.
_NUMBER_LENGTH = 20


def _batches(
    prepared: Sequence[tuple[Any, ...]], connection: BaseDatabaseWrapper, shared: int = 0
) -> Iterator[Sequence[tuple[Any, ...]]]:
    """Return the rows in parts that fit into a statement: in parameters on SQLite, in bytes on MariaDB.

    Args:
        prepared: The columns of each row.
        connection: The connection to the database.
        shared: How many parameters a statement has besides.

    """
    width = len(prepared[0])
    # It asks for nothing but how many columns there are.
    most = connection.ops.bulk_batch_size([AuditEvent._meta.pk] * width, prepared)
    if shared:
        most = max(most - shared // width - 1, 1)
    if connection.vendor == "sqlite":
        yield from (prepared[at : at + most] for at in range(0, len(prepared), most))
        return
    batch: list[tuple[Any, ...]] = []
    length = 0
    for row in prepared:
        row_length = sum(length_hint(value, _NUMBER_LENGTH) for value in row)
        if batch and (len(batch) >= most or length + row_length > MAX_STATEMENT_LENGTH):
            yield batch
            batch, length = [], 0
        batch.append(row)
        length += row_length
    yield batch


def _unnested(prepared: Sequence[tuple[object, ...]], names: tuple[str, ...], using: str) -> tuple[str, list[Any]]:
    """Return the statement and its parameters: an array per column, one value where all rows have the same."""
    columns = list(zip(*prepared, strict=True))
    is_shared = tuple(column.count(column[0]) == len(column) for column in columns)
    shared = [column[0] for column, same in zip(columns, is_shared, strict=True) if same]
    own = [(name, column) for name, column, same in zip(names, columns, is_shared, strict=True) if not same]
    arrays = [_many(name, column) for name, column in own]
    return _unnest_sql(using, names, is_shared), [*shared, *arrays]


def _many(name: str, column: Sequence[Any]) -> str | list[Any]:
    """Return a column as one parameter: JSON as lines, because in an array each text would have its quotes escaped."""
    return "\n".join(column) if _is_json(name) else _array(column)


def _array(column: Sequence[Any]) -> str | list[Any]:
    """Return a column as PostgreSQL's array; psycopg would escape its texts one by one, in Python."""
    if column[0].__class__ is int:
        return f"{{{','.join(map(str, column))}}}"
    if all(value.__class__ is str for value in column) and "".join(column).isprintable():
        # Of what is printable, JSON and an array escape the same characters in the same way.
        return f"{{{json.dumps(column, ensure_ascii=False)[1:-1]}}}"
    return list(column)


# MariaDB takes no JSON that is nested deeper than 31; a digest is a level too.
_MOST_LEVELS = 30


def _storable(rows: Sequence[EventRow], connection: BaseDatabaseWrapper) -> Sequence[EventRow]:
    """Return the rows such that MariaDB can hold them: its JSON is shallow, and not every character set has emoji."""
    if connection.vendor != "mysql":
        return rows
    codec = _codec(connection)
    return [_fitted(row, codec) for row in rows]


def _codec(connection: BaseDatabaseWrapper) -> str:
    return codec_of(connection.alias, str(connection.settings_dict["NAME"]), AuditEvent._meta.db_table)


def _fitted(row: EventRow, codec: str) -> EventRow:
    texts = {name: text for name in _TEXTS if not (text := getattr(row, name)).isascii()} if codec else {}
    fitted: dict[str, Any] = {name: _field(name).fitted(text, codec) for name, text in texts.items()}
    for name in ("changes", "data", "context"):
        if is_deeper(document := getattr(row, name), _MOST_LEVELS):
            fitted[name] = shallow(document, _MOST_LEVELS)
    return row._replace(**fitted) if fitted else row


def _fitted_texts(texts: Mapping[str, str], codec: str) -> Iterator[str]:
    """Return columns of an event, given as the database takes them, such that MariaDB can hold them."""
    for name, text in texts.items():
        if name == "changes" and text.count("[") + text.count("{") > _MOST_LEVELS:
            yield json.dumps(shallow(json.loads(text), _MOST_LEVELS))
        else:
            yield _field(name).fitted(text, codec) if codec and name in _TEXTS and not text.isascii() else text


def _field(name: str) -> Any:
    return AuditEvent._meta.get_field(name)


_TEXTS = ("event_type", "object_id", "object_repr", "actor_id", "actor_repr", "correlation_id", "tenant")


@lru_cache(1024)
def _names(rules: tuple[str, ...]) -> str:
    return json.dumps(rules)


def _prepare(rows: Sequence[EventRow], connection: BaseDatabaseWrapper) -> list[tuple[Any, ...]]:
    """Return the rows as the driver takes them. What the rows of one call share is converted once."""
    rows = _storable(rows, connection)
    native_uuid = connection.features.has_native_uuid_field
    moments = _moments(rows, connection)
    shared: dict[int, str] = {}

    def dumped(value: object) -> str:
        # Context and empty data are the same objects on every row of a call.
        if not value:
            return "{}"
        text = shared.get(id(value))
        if text is None:
            text = shared[id(value)] = json.dumps(value)
        return text

    return [
        (
            str(row.uid) if native_uuid else row.uid.hex,
            moments[row.recorded_at],
            row.event_type,
            row.source,
            row.level,
            _names(tuple(row.rules)),
            row.model,
            row.object_id,
            row.object_repr,
            row.actor_id,
            row.actor_repr,
            json.dumps(row.changes),
            dumped(row.data),
            dumped(row.context),
            row.correlation_id,
            row.signature,
            row.tenant,
        )
        for row in rows
    ]


def _moments(rows: Sequence[EventRow], connection: BaseDatabaseWrapper) -> dict[dt.datetime, object]:
    column = AuditEvent._meta.get_field("recorded_at")
    return {
        moment: column.get_db_prep_value(moment, connection, prepared=True)
        for moment in {row.recorded_at for row in rows}
    }


@lru_cache(64)
def _insert_sql(using: str, count: int = 1, names: tuple[str, ...] = EventRow._fields) -> str:
    quote = connections[using].ops.quote_name
    columns = ", ".join(map(quote, names))
    values = f"({', '.join(['%s'] * len(names))})"
    rows = ", ".join([values] * count)
    return f"INSERT INTO {quote(AuditEvent._meta.db_table)} ({columns}) VALUES {rows}"  # noqa: S608  # our names


@lru_cache(64)
def _alike_sql(using: str, alike: tuple[str, ...], own: tuple[str, ...], count: int) -> str:
    """Return the INSERT of so many rows, whose parameters are first the columns that all of them share."""
    quote = connections[using].ops.quote_name
    columns, rows = ", ".join(map(quote, (*alike, *own))), f"({', '.join(['%s'] * len(own))})"
    return (
        f"INSERT INTO {quote(AuditEvent._meta.db_table)} ({columns}) "  # noqa: S608  # our own names
        f"SELECT {', '.join(['%s'] * len(alike))}, given.* FROM (VALUES {', '.join([rows] * count)}) AS given"
    )


@cache
def _unnest_sql(using: str, names: tuple[str, ...], is_shared: tuple[bool, ...]) -> str:
    quote = connections[using].ops.quote_name
    shared = [name for name, same in zip(names, is_shared, strict=True) if same]
    own = [name for name, same in zip(names, is_shared, strict=True) if not same]
    columns = ", ".join(map(quote, [*shared, *own]))
    values = ", ".join(
        [f"%s::{_POSTGRESQL_CASTS.get(name, 'text')}" for name in shared]
        + [f"{quote(name)}::{_POSTGRESQL_CASTS.get(name, 'text')}" for name in own]
    )
    arrays = ", ".join(r"string_to_table(%s::text, E'\n')" if _is_json(name) else "unnest(%s::text[])" for name in own)
    # WITH ORDINALITY: the ids have to ascend in the order of the rows.
    return (
        f"INSERT INTO {quote(AuditEvent._meta.db_table)} ({columns}) SELECT {values} "  # noqa: S608  # our own names
        f"FROM ROWS FROM ({arrays}) WITH ORDINALITY AS given({', '.join(map(quote, own))}, position) ORDER BY position"
    )


def _is_json(name: str) -> bool:
    return _POSTGRESQL_CASTS.get(name) == "jsonb"
