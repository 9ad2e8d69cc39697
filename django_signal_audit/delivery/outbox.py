"""The outbox: claiming rows that are due, and finishing only what one still holds.

A claim is a short transaction of its own, the sending happens outside any. ``lease_no`` is the fence: each claim
raises it, and a row is finished only by whoever holds its present number. ``update()`` passes model-utils' fields by,
so the times are set here by name.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connections, transaction
from django.db.models import F, Min, QuerySet
from django.db.models.aggregates import Count
from django.utils import timezone

from django_signal_audit.models import Notification
from django_signal_audit.models.events import utc_now

from .fence import begin_claim, change_all_held, change_held

# Longer than any single send should take; a worker that holds a row longer may see it sent by another as well.
LEASE = dt.timedelta(minutes=5)

STATUS = Notification.STATUS


def claim(using: str, *, limit: int, ids: Sequence[int] | None = None) -> list[Notification]:
    """Claim at most ``limit`` rows that are due, and return them as they are now.

    Args:
        using: The database of the outbox.
        limit: How many rows at most.
        ids: Only these rows, and only those of them that nobody has tried yet.

    """
    if not connections[using].features.has_select_for_update_skip_locked:
        return _take_unlocked(_pick(using, limit, ids), using)
    is_nested = connections[using].in_atomic_block
    with transaction.atomic(using=using):
        if not is_nested:
            begin_claim(using)
        rows = _pick(using, limit, ids, skip_locked=True)
        _take_locked(rows, using)
    return rows


def _pick(using: str, limit: int, ids: Sequence[int] | None, skip_locked: bool = False) -> list[Notification]:
    """Return rows that are due, locked if ``skip_locked``, those that others have locked left out.

    Each status is a statement of its own: an OR of them would make MySQL lock every row it scans.
    """

    def first(status: str, count: int) -> list[Notification]:
        rows = due(using, status).order_by("available_at", "id")
        rows = rows if ids is None else rows.filter(pk__in=ids)
        rows = rows.select_for_update(skip_locked=True) if skip_locked else rows
        return list(rows[:count]) if count > 0 else []

    if ids is not None:
        return first(STATUS.pending, limit)
    # Of the lapsed ones just one: it may be what killed its worker, and should not take others along again.
    picked = first(STATUS.claimed, min(limit, 1))
    # Old failures get their share also while new rows keep coming in.
    picked += first(STATUS.failed, (limit - len(picked) + 1) // 2)
    return picked + first(STATUS.pending, limit - len(picked))


def due(using: str, status: str) -> QuerySet[Notification]:
    """Return the rows in a status whose time has come: for claimed ones, to be taken over."""
    return Notification.objects.using(using).filter(status=status, available_at__lte=utc_now())


def _take_locked(rows: Sequence[Notification], using: str) -> None:
    if not rows:
        return
    changes = _claim_changes()
    Notification.objects.using(using).filter(pk__in=[row.pk for row in rows]).update(
        **changes, lease_no=F("lease_no") + 1, attempts=F("attempts") + 1
    )
    for row in rows:
        _note(row, **changes, lease_no=row.lease_no + 1, attempts=row.attempts + 1)


def _take_unlocked(rows: Sequence[Notification], using: str) -> list[Notification]:
    """Claim without row locks, and return those claimed: what another took since it was read is left to him.

    The rows were read before this transaction. One that begins with a write waits for SQLite's lock; one that read
    first would fail with "database is locked" instead.
    """
    if not rows:
        return []
    taken = []
    with transaction.atomic(using=using):
        for row in rows:
            changes = {**_claim_changes(), "lease_no": row.lease_no + 1, "attempts": row.attempts + 1}
            unchanged = Notification.objects.using(using).filter(
                pk=row.pk, status=row.status, lease_no=row.lease_no, available_at=row.available_at
            )
            if unchanged.update(**changes):
                _note(row, **changes)
                taken.append(row)
    return taken


def _claim_changes() -> dict[str, Any]:
    return {**_status(STATUS.claimed), "available_at": utc_now() + LEASE}


def _status(status: str) -> dict[str, Any]:
    now = timezone.now()
    return {"status": status, "status_changed": now, "modified": now}


def _note(row: Notification, **changes: Any) -> None:
    for name, value in changes.items():
        setattr(row, name, value)


def _update_held(row: Notification, **changes: Any) -> bool:
    """Change the row if it is still held by the claim that ``row`` knows of; tell whether it is."""
    if not change_held(row, changes):
        return False
    _note(row, **changes)
    return True


def hold(row: Notification, **changes: Any) -> bool:
    """Lengthen the claim, and change other columns with it; False if the row is not held any more."""
    return _update_held(row, modified=timezone.now(), available_at=utc_now() + LEASE, **changes)


def is_half_over(row: Notification) -> bool:
    """Return whether so little of the claim is left that a send should not begin before it is lengthened."""
    return row.available_at - utc_now() < LEASE / 2


def finish(row: Notification, status: str, **changes: Any) -> bool:
    """End the claim with a status; False if the row was not held any more, and then nothing is changed."""
    return _update_held(row, **_status(status), **changes)


def finish_all(rows: Sequence[Notification], status: str, changes: Sequence[dict[str, Any]]) -> list[bool]:
    """End the claims of many rows; of each, tell whether it was still held, and so changed."""
    common = _status(status)
    complete = [{**common, **change} for change in changes]
    held = change_all_held(rows, complete)
    for row, change, is_held in zip(rows, complete, held, strict=True):
        if is_held:
            _note(row, **change)
    return held


def release(rows: Iterable[Notification]) -> None:
    """Give back rows that were claimed and never tried; the attempt is not spent."""
    for row in rows:
        status = STATUS.failed if row.attempts > 1 else STATUS.pending
        _update_held(row, **_status(status), attempts=row.attempts - 1, available_at=utc_now())


def postpone(row: Notification, until: dt.datetime, **changes: Any) -> bool:
    """Give back a row that is not to be sent before then, the attempt unspent; False if it is not held any more."""
    return _update_held(row, **_status(STATUS.pending), attempts=row.attempts - 1, available_at=until, **changes)


def count_due(using: str) -> int:
    """Return how many rows are due now."""
    return sum(due(using, status).count() for status in (STATUS.pending, STATUS.failed, STATUS.claimed))


def retry_dead(using: str) -> int:
    """Make the dead rows due now, with all their attempts ahead of them, and return how many they were."""
    return Notification.objects.using(using).of_status(STATUS.dead).retry()


def count_by_status(using: str) -> dict[str, int]:
    """Return how many rows are in each status, all of them named."""
    rows = Notification.objects.using(using).order_by().values_list("status").annotate(count=Count("id"))
    found: dict[str, int] = dict(rows)
    return {str(status): found.get(str(status), 0) for status, _label in STATUS}


def oldest_pending_age(using: str) -> dt.timedelta | None:
    """Return for how long the oldest pending row has been due, None if none is."""
    oldest = due(using, STATUS.pending).aggregate(oldest=Min("available_at"))["oldest"]
    return None if oldest is None else utc_now() - oldest
