"""Up to which ids events can be counted once and for all: PostgreSQL gives ids out in another order than commits."""

from __future__ import annotations

import time
from typing import NamedTuple

from django.db import connections, models
from django.db.models import Max, Q

from django_signal_audit.models import AuditEvent, Rollup
from django_signal_audit.models.events import BEFORE_ALL

PAUSE_SECONDS = 0.02

# A standby, a transaction that sees the past, a role that may not write, ids that are given out in advance or come from
# another server: there, nothing is kept.
_MAY_KEEP = """
SELECT
    current_setting('transaction_read_only') = 'off' AND current_setting('transaction_isolation') = 'read committed'
    AND has_table_privilege(%s, 'INSERT') AND has_table_privilege(%s, 'UPDATE')
    AND NOT EXISTS (SELECT 1 FROM pg_subscription_rel WHERE srrelid = %s::regclass)
    AND COALESCE((SELECT seqcache FROM pg_sequence WHERE seqrelid = pg_get_serial_sequence(%s, 'id')::regclass), 0) = 1
"""
_WRITERS = """
SELECT virtualtransaction, pid = pg_backend_pid() FROM pg_locks
WHERE locktype = 'relation' AND relation = %s::regclass
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
"""


class Marks(NamedTuple):
    """The events up to two ids: imported ones have negative ids, and each of both sorts has ever higher ones."""

    imported: int
    recorded: int

    @property
    def within(self) -> Q:
        """Return the condition on events up to these ids."""
        return Q(id__lte=self.imported) | Q(id__gt=0, id__lte=self.recorded)

    @property
    def beyond(self) -> Q:
        """Return the condition on all others."""
        return Q(id__gt=self.recorded) | Q(id__gt=self.imported, id__lte=0)


def quoted(model: type[models.Model], using: str) -> str:
    """Return the name of a model's table as statements have it."""
    return str(connections[using].ops.quote_name(model._meta.db_table))


def may_keep(using: str) -> bool:
    """Return whether what is counted on a database can be kept there."""
    events, rollups = quoted(AuditEvent, using), quoted(Rollup, using)
    with connections[using].cursor() as cursor:
        cursor.execute(_MAY_KEEP, [rollups, rollups, events, events])
        return bool(cursor.fetchone()[0])


def ends(using: str) -> Marks:
    """Return the highest ids that there are."""
    events = AuditEvent.of_all_tenants.using(using)
    imported = events.filter(id__lte=0).aggregate(last=Max("id"))["last"]
    recorded = events.aggregate(last=Max("id"))["last"]
    return Marks(BEFORE_ALL if imported is None else imported, max(recorded or 0, 0))


def final_marks(using: str, attempts: int) -> Marks | None:
    """Return ids below which no transaction is still writing, None if some transaction is.

    Args:
        using: The database.
        attempts: How often is looked whether those who write now have ended.

    """
    marks = ends(using)
    found = _writers(using)
    waiting = set(found)
    for _ in range(0 if any(found.values()) else attempts):
        if not waiting:
            break
        time.sleep(PAUSE_SECONDS)
        waiting &= _writers(using).keys()
    return None if waiting else marks


def _writers(using: str) -> dict[str, bool]:
    """Return the transactions that have written events, or are about to, and whether each is the caller's own.

    The table is locked before an id is given.
    """
    with connections[using].cursor() as cursor:
        cursor.execute(_WRITERS, [quoted(AuditEvent, using)])
        return dict(cursor.fetchall())
