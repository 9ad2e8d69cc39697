"""The statements that change rows if they are still held: compiled once, as one runs for every message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from django_signal_audit.models import Notification

_CLAIMED = Notification.STATUS.claimed
# PostgreSQL need not wait for its disk here: a result that is lost when the server itself crashes is a message sent
# twice, and the wait would be most of the time a message takes. It holds for this one statement.
_ASYNCHRONOUS = " AND (SELECT set_config('synchronous_commit', 'off', true)) IS NOT NULL"

_CLAIM_SETTINGS = (
    "SELECT set_config('synchronous_commit', 'off', true),"
    " set_config('enable_bitmapscan', 'off', true), set_config('enable_seqscan', 'off', true)"
)


def begin_claim(using: str) -> None:
    """Tell PostgreSQL what a transaction that claims needs; other databases need nothing.

    Its commit need not wait for the disk: what is lost with the server is claimed again. And it is to read the first
    due rows in the order of the index. In a table where nothing stays as it was the statistics are always old, and by
    them the planner would rather read and sort all that is due, with all that was.
    """
    connection = connections[using]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(_CLAIM_SETTINGS)


def change_held(row: Notification, changes: Mapping[str, Any]) -> bool:
    """Change the columns of a row if the claim that ``row`` knows of is the present one; tell whether it is.

    Args:
        row: A row that was claimed. It is left as it is.
        changes: Values by name of field.

    """
    using = row._state.db or DEFAULT_DB_ALIAS
    connection = connections[using]
    is_asynchronous = connection.vendor == "postgresql" and connection.get_autocommit()
    sql = _sql(using, tuple(changes), is_asynchronous)
    values = [_field(name).get_db_prep_save(value, connection) for name, value in changes.items()]
    with connection.cursor() as cursor:
        cursor.execute(sql, [*values, row.pk, row.lease_no, _CLAIMED])
        return bool(cursor.rowcount)


def change_all_held(rows: Sequence[Notification], changes: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Change many rows in one transaction, on PostgreSQL in one statement; tell of each whether it was still held.

    Args:
        rows: Rows of one database that were claimed.
        changes: Values by name of field for each of the rows, the same names for all.

    """
    using = rows[0]._state.db or DEFAULT_DB_ALIAS
    connection = connections[using]
    if connection.vendor != "postgresql":
        with transaction.atomic(using=using):
            return [change_held(row, change) for row, change in zip(rows, changes, strict=True)]
    values: list[Any] = []
    for row, change in zip(rows, changes, strict=True):
        values += [row.pk, row.lease_no]
        values += [_field(name).get_db_prep_save(value, connection) for name, value in change.items()]
    sql = _many_sql(using, tuple(changes[0]), len(rows), connection.get_autocommit())
    with connection.cursor() as cursor:
        cursor.execute(sql, [*values, _CLAIMED])
        held = {key for (key,) in cursor.fetchall()}
    return [row.pk in held for row in rows]


@cache
def _many_sql(using: str, names: tuple[str, ...], count: int, is_asynchronous: bool) -> str:
    quote = connections[using].ops.quote_name
    table = quote(Notification._meta.db_table)
    columns = [quote(_field(name).column) for name in names]
    given = f"({', '.join(['%s'] * (len(names) + 2))})"
    return (
        f"UPDATE {table} SET {', '.join(f'{column} = given.{column}' for column in columns)}"  # noqa: S608  # our names
        f" FROM (VALUES {', '.join([given] * count)}) AS given (given_id, given_lease, {', '.join(columns)})"
        f" WHERE id = given_id AND lease_no = given_lease AND {table}.status = %s"
        f"{_ASYNCHRONOUS if is_asynchronous else ''} RETURNING id"
    )


def _field(name: str) -> Any:
    return Notification._meta.get_field(name)


@cache
def _sql(using: str, names: tuple[str, ...], is_asynchronous: bool) -> str:
    quote = connections[using].ops.quote_name
    columns = ", ".join(f"{quote(_field(name).column)} = %s" for name in names)
    return (
        f"UPDATE {quote(Notification._meta.db_table)} SET {columns}"  # noqa: S608  # our names
        f" WHERE id = %s AND lease_no = %s AND status = %s{_ASYNCHRONOUS if is_asynchronous else ''}"
    )
