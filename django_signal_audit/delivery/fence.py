"""The statement that changes a row if it is still held: compiled once, as it runs for every message."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections

from django_signal_audit.models import Notification

_CLAIMED = Notification.STATUS.claimed
# PostgreSQL need not wait for its disk here: a result that is lost when the server itself crashes is a message sent
# twice, and the wait would be most of the time a message takes. It holds for this one statement.
_ASYNCHRONOUS = " AND (SELECT set_config('synchronous_commit', 'off', true)) IS NOT NULL"


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
