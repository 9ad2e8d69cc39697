"""Writing rows of the outbox: one INSERT, which on PostgreSQL wakes the workers that listen when it commits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from django.db import connections
from django.db.models import Field

from django_signal_audit.models import Notification

# What PostgreSQL's workers listen to.
SIGNAL = "django_signal_audit_due"
# Rows of one statement, which PostgreSQL gets as one text.
_BATCH_SIZE = 1000


def insert(rows: Sequence[Notification], using: str, *, tell_workers: bool = False) -> list[int]:
    """Write new rows and return their primary keys, in the order of the rows.

    Args:
        rows: Notifications that were not saved yet.
        using: The database of the outbox.
        tell_workers: Whether to wake workers that listen, where the database can. It costs no statement more.

    """
    if connections[using].vendor == "postgresql":
        keys = []
        for start in range(0, len(rows), _BATCH_SIZE):
            keys += _insert_batch(rows[start : start + _BATCH_SIZE], using, tell_workers)
        return keys
    Notification.objects.using(using).bulk_create(rows)
    if any(row.pk is None for row in rows):  # MySQL gives no keys back
        written = Notification.objects.using(using).filter(message_id__in=[row.message_id for row in rows])
        return list(written.order_by("pk").values_list("pk", flat=True))
    return [row.pk for row in rows]


def _insert_batch(rows: Sequence[Notification], using: str, tell_workers: bool) -> list[int]:
    connection = connections[using]
    fields = _fields()
    values = [field.get_db_prep_save(field.pre_save(row, True), connection) for row in rows for field in fields]
    given = f"({', '.join(['%s'] * len(fields))})"
    with connection.cursor() as cursor:
        cursor.execute(_sql(using, tell_workers) % ", ".join([given] * len(rows)), values)
        return [key for key, *_ in cursor.fetchall()]


def _fields() -> list[Field[Any, Any]]:
    return [field for field in Notification._meta.local_concrete_fields if not field.primary_key]


@cache
def _sql(using: str, tell_workers: bool) -> str:
    quote = connections[using].ops.quote_name
    columns = ", ".join(quote(str(field.column)) for field in _fields())
    # The server keeps one of the equal notices of a transaction, and drops it if that rolls back.
    told = f", pg_notify('{SIGNAL}', '')" if tell_workers else ""
    return f"INSERT INTO {quote(Notification._meta.db_table)} ({columns}) VALUES %s RETURNING id{told}"  # noqa: S608
