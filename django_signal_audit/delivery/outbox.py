"""The outbox: writing notifications with their events, claiming those that are due, finishing only what is still held.

A claim is a short transaction of its own, the sending happens outside any. ``lease_no`` is the fence: each claim
raises it, and a row is finished only by the worker that holds its present number. ``update()`` passes model-utils'
fields by, so the times are set here by name.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.models import F, Field, Min, QuerySet
from django.db.models.aggregates import Count
from django.utils import timezone

from django_signal_audit.channels import get_channel
from django_signal_audit.context.scopes import MAX_GENERATION, current_generation, suspended
from django_signal_audit.delivery.recipients import depends_on_event
from django_signal_audit.dispatchers import get_dispatcher
from django_signal_audit.enums import Level
from django_signal_audit.models import Notification
from django_signal_audit.models.events import utc_now
from django_signal_audit.rules.durations import parse_duration
from django_signal_audit.rules.schema import NotifyEntry, Rule

logger = logging.getLogger("django_signal_audit")

# A row names this many of its events; how many they are in all stands beside them.
MAX_NAMED = 100_000
_CLAIMED = Notification.STATUS.claimed
# PostgreSQL need not wait for its disk here: a result that is lost when the server itself crashes is a message sent
# twice, and the wait would be most of the time a message takes. It holds for this one statement.
_ASYNCHRONOUS = " AND (SELECT set_config('synchronous_commit', 'off', true)) IS NOT NULL"

_CLAIM_SETTINGS = (
    "SELECT set_config('synchronous_commit', 'off', true),"
    " set_config('enable_bitmapscan', 'off', true), set_config('enable_seqscan', 'off', true)"
)


class LeaseLost(Exception):
    """Another worker holds the row by now; whatever was to be done with it is that worker's."""


@dataclass(slots=True)
class _Group:
    """The events of a call that one rule sends one recipient through one channel."""

    entry: NotifyEntry
    level: str
    uids: list[UUID] = field(default_factory=list)
    count: int = 0

    def add(self, uid: UUID, level: str) -> None:
        self.level = Level.highest([self.level, level])
        self.count += 1
        if self.count <= MAX_NAMED:
            self.uids.append(uid)


class Pending:
    """The notifications of one call, until they are written: one for each rule, channel and recipient."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str, str], _Group] = {}

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._groups)

    def add(self, uid: UUID, level: str, notify: Iterable[tuple[Rule, NotifyEntry]]) -> None:
        """Add an event, which the entries of rules ask to notify of."""
        for rule, entry in notify:
            for recipient in _recipients(rule, entry):
                key = (rule.name, entry.channel, recipient)
                self._groups.setdefault(key, _Group(entry, level)).add(uid, level)

    def rows(self) -> list[Notification]:
        """Return the rows to write, in the order in which they were asked for."""
        return [_new_row(*key, group) for key, group in self._groups.items()]


def enqueue(pending: Pending, using: str) -> None:
    """Write the notifications, in the transaction of their events, and wake the dispatcher."""
    rows = pending.rows()
    if not rows:
        return
    dispatcher = get_dispatcher()
    ids = insert(rows, using, tell_workers=dispatcher.workers_listen)
    try:
        # What a dispatcher writes to wake somebody is no change of the project's.
        with suspended():
            dispatcher.wake(using, ids)
    except Exception:
        # A lost wake costs the time until a worker looks, and must not cost the change.
        logger.exception("The dispatcher could not be woken; the notifications wait for manage.py audit_deliver.")


def _recipients(rule: Rule, entry: NotifyEntry) -> tuple[str, ...]:
    if entry.to is not None:
        return tuple(dict.fromkeys(entry.to))
    try:
        return tuple(dict.fromkeys(get_channel(entry.channel).recipients()))
    except Exception:
        # The row is written all the same: delivery fails on it, and the fault is seen there and retried.
        logger.exception('Channel "%s" of rule "%s" names no recipients.', entry.channel, rule.name)
        return ("",)


def _new_row(rule: str, channel: str, recipient: str, group: _Group) -> Notification:
    row = Notification(rule=rule, channel=channel, recipient=recipient, level=group.level)
    row.generation = current_generation()
    if group.count == 1:
        row.event = group.uids[0]
    else:
        row.data = {"events": list(map(str, group.uids)), "count": group.count}
    if row.generation > MAX_GENERATION:
        return _cut_chain(row)
    row.throttle = group.entry.throttle
    if group.entry.digest:
        _wait_for_window(row, group.entry.digest)
    return row


def _cut_chain(row: Notification) -> Notification:
    """Return a notification that is not sent, because delivering it would set off the next one without end."""
    row.status = Notification.STATUS.skipped
    row.last_error = (
        f"It is about what a delivery wrote, and so were {MAX_GENERATION} before it, one after another. "
        "Such a chain has no end, so it is cut."
    )
    logger.error('Notification of rule "%s" to channel "%s" is skipped. %s', row.rule, row.channel, row.last_error)
    return row


def _wait_for_window(row: Notification, window: str) -> None:
    """Make a new row wait for the others of its digest.

    One whose recipient is known only from its event is due now: a worker finds out who it is for, and parks it.
    """
    if depends_on_event(row.recipient):
        row.digest_window = window
        return
    row.digest_key = key_of(row.rule, row.channel, row.recipient)
    row.available_at = end_of_window(window)


def key_of(*parts: str) -> str:
    """Return a short text that is the same for the same parts only: the key of a digest or of a throttle."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def end_of_window(window: str) -> dt.datetime:
    """Return when a digest's window that begins now is over."""
    return utc_now() + (parse_duration(window) or dt.timedelta())


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


def change_held(row: Notification, changes: Mapping[str, object]) -> bool:
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


def change_all_held(rows: Sequence[Notification], changes: Sequence[Mapping[str, object]]) -> list[bool]:
    """Change many rows in one transaction, on PostgreSQL in one statement; return for each whether it was still held.

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
    """Claim without row locks, and return those claimed: what another took since it was read is left to that worker.

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


def _claim_changes() -> dict[str, object]:
    return {**_status(STATUS.claimed), "available_at": utc_now() + LEASE}


def _status(status: str) -> dict[str, object]:
    now = timezone.now()
    return {"status": status, "status_changed": now, "modified": now}


def _note(row: Notification, **changes: object) -> None:
    for name, value in changes.items():
        setattr(row, name, value)


def _update_held(row: Notification, **changes: object) -> bool:
    """Change the row if it is still held by the claim that ``row`` knows of; tell whether it is."""
    if not change_held(row, changes):
        return False
    _note(row, **changes)
    return True


def hold(row: Notification, **changes: object) -> bool:
    """Lengthen the claim, and change other columns with it; False if the row is not held any more."""
    return _update_held(row, modified=timezone.now(), available_at=utc_now() + LEASE, **changes)


def is_half_over(row: Notification) -> bool:
    """Return whether so little of the claim is left that a send should not begin before it is lengthened."""
    return row.available_at - utc_now() < LEASE / 2


def finish(row: Notification, status: str, **changes: object) -> bool:
    """End the claim with a status; False if the row was not held any more, and then nothing is changed."""
    return _update_held(row, **_status(status), **changes)


def finish_all(rows: Sequence[Notification], status: str, changes: Sequence[dict[str, object]]) -> list[bool]:
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


def postpone(row: Notification, until: dt.datetime, **changes: object) -> bool:
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
        cursor.execute(_insert_sql(using, tell_workers) % ", ".join([given] * len(rows)), values)
        return [key for key, *_ in cursor.fetchall()]


def _fields() -> list[Field[object, object]]:
    return [field for field in Notification._meta.local_concrete_fields if not field.primary_key]


@cache
def _insert_sql(using: str, tell_workers: bool) -> str:
    quote = connections[using].ops.quote_name
    columns = ", ".join(quote(str(field.column)) for field in _fields())
    # The server keeps one of the equal notices of a transaction, and drops it if that rolls back.
    told = f", pg_notify('{SIGNAL}', '')" if tell_workers else ""
    return f"INSERT INTO {quote(Notification._meta.db_table)} ({columns}) VALUES %s RETURNING id{told}"  # noqa: S608
