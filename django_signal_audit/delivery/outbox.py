"""The outbox: writing notifications with their events, claiming those that are due, finishing only what is still held.

A claim is a short transaction of its own, the sending happens outside any. ``lease_no`` is the fence: each claim
raises it, and a row is finished only by the worker that holds its present number. ``update()`` passes model-utils'
fields by, so the times are set here by name.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.models import F, Min, QuerySet
from django.db.models.aggregates import Count
from django.utils import timezone

from django_signal_audit.context.scopes import suspended
from django_signal_audit.context.tenants import writing_tenant
from django_signal_audit.delivery.order import free, number
from django_signal_audit.delivery.pending import Pending, insert
from django_signal_audit.dispatchers import get_dispatcher
from django_signal_audit.events import prepared
from django_signal_audit.models import Notification
from django_signal_audit.models.events import utc_now
from django_signal_audit.models.tenants import tenant_function

logger = logging.getLogger("django_signal_audit")

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


def enqueue(pending: Pending, using: str) -> None:
    """Write the notifications, in the transaction of their events, and wake the dispatcher."""
    rows = pending.rows(writing_tenant().name if tenant_function() else "")
    if not rows:
        return
    number(rows, using)
    dispatcher = get_dispatcher()
    ids = insert(rows, using, tell_workers=dispatcher.workers_listen)
    try:
        # What a dispatcher writes to wake somebody is no change of the project's.
        with suspended():
            dispatcher.wake(using, ids)
    except Exception:
        # A lost wake costs the time until a worker looks, and must not cost the change.
        logger.exception("The dispatcher could not be woken; the notifications wait for manage.py audit_deliver.")


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
    connection: Any = connections[using]
    is_asynchronous = connection.vendor == "postgresql" and connection.get_autocommit()
    sql = _sql(using, tuple(changes), is_asynchronous)
    values = [_field(name).get_db_prep_save(value, connection) for name, value in changes.items()]
    values += [row.pk, row.lease_no, _CLAIMED]
    if is_asynchronous and connection.Database.__name__ == "psycopg":
        return bool(prepared.change(connection, f"{sql} RETURNING {prepared.PROCESS}", values))
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
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
    first = changes[0]
    shared = tuple(name for name in first if all(change[name] == first[name] for change in changes))
    own = tuple(name for name in first if name not in shared)

    def value_of(name: str, change: Mapping[str, object]) -> object:
        return _field(name).get_db_prep_save(change[name], connection)

    values: list[Any] = [value_of(name, first) for name in shared]
    values += [[row.pk for row in rows], [row.lease_no for row in rows]]
    values += [[value_of(name, change) for change in changes] for name in own]
    with connection.cursor() as cursor:
        cursor.execute(_many_sql(using, shared, own, connection.get_autocommit()), [*values, _CLAIMED])
        held = {key for (key,) in cursor.fetchall()}
    return [row.pk in held for row in rows]


@cache
def _many_sql(using: str, shared: tuple[str, ...], own: tuple[str, ...], is_asynchronous: bool) -> str:
    """Return the statement: an array for a column whose values differ, as psycopg parses each parameter in Python."""
    connection = connections[using]
    quote = connection.ops.quote_name
    table = quote(Notification._meta.db_table)
    columns = {name: quote(_field(name).column) for name in (*shared, *own)}
    sets = [f"{columns[name]} = %s" for name in shared] + [f"{columns[name]} = given.{columns[name]}" for name in own]
    arrays = [f"%s::{_field(name).cast_db_type(connection)}[]" for name in ("id", "lease_no", *own)]
    given = ", ".join(["given_id", "given_lease", *(columns[name] for name in own)])
    return (
        f"UPDATE {table} SET {', '.join(sets)} FROM unnest({', '.join(arrays)}) AS given ({given})"  # noqa: S608  # our names
        f" WHERE id = given_id AND lease_no = given_lease AND {table}.status = %s"
        f"{_ASYNCHRONOUS if is_asynchronous else ''} RETURNING id"
    )


def _field(name: str) -> Any:
    return Notification._meta.get_field(name)


@cache
def _sql(using: str, names: tuple[str, ...], is_asynchronous: bool) -> str:
    quote = connections[using].ops.quote_name
    columns = ", ".join(f"{quote(_field(name).column)} = %s" for name in names)
    # The row is found by its primary key. TRIM() does nothing but keep the index of the lanes out of it: with old
    # statistics, PostgreSQL would look there among all that were claimed since the last VACUUM, each time for longer.
    return (
        f"UPDATE {quote(Notification._meta.db_table)} SET {columns}"  # noqa: S608  # our names
        f" WHERE id = %s AND lease_no = %s AND TRIM(status) = %s{_ASYNCHRONOUS if is_asynchronous else ''}"
    )


# How long a claim holds. It is lengthened while a message is being sent; a worker that dies lengthens nothing.
LEASE = dt.timedelta(minutes=5)

STATUS = Notification.STATUS
DISCARDED = "Discarded by audit_deliver --discard-pending."
UNFINISHED = (STATUS.pending, STATUS.failed, STATUS.claimed)


def claim(
    using: str,
    *,
    limit: int,
    ids: Sequence[int] | None = None,
    channel: str | None = None,
    statuses: Collection[str] = UNFINISHED,
    is_ordered: bool = False,
    without: Iterable[str] = (),
    unknown: Collection[str] = (),
    favoured: int | None = None,
) -> list[Notification]:
    """Claim at most ``limit`` rows that are due, and return them as they are now: critical ones first.

    Args:
        using: The database of the outbox.
        limit: How many rows at most.
        ids: Only these rows, and only those of them that nobody has tried yet.
        channel: Only rows of this channel.
        statuses: Only rows in these, as nothing waits in the others.
        is_ordered: Leave out what has to wait for other messages.
        without: No rows of these channels.
        unknown: No rows of these rules.
        favoured: A priority whose turn it is, so that it is not kept waiting by those before it forever.

    """
    rows = _candidates(using, ids, channel, without, unknown)
    rows = free(rows) if is_ordered else rows
    statuses = statuses if ids is None else (STATUS.pending,)
    if not connections[using].features.has_select_for_update_skip_locked:
        return _take_unlocked(_pick(rows, limit, statuses, favoured), using)
    is_nested = connections[using].in_atomic_block
    with transaction.atomic(using=using):
        if not is_nested:
            begin_claim(using)
        is_hinted = connections[using].vendor == "mysql" and channel is not None
        picked = _pick(rows.select_for_update(skip_locked=True), limit, statuses, favoured, is_hinted=is_hinted)
        _take_locked(picked, using)
    return picked


def _candidates(
    using: str, ids: Sequence[int] | None, channel: str | None, without: Iterable[str], unknown: Collection[str]
) -> QuerySet[Notification]:
    rows: QuerySet[Notification] = Notification.objects.using(using)
    rows = rows if ids is None else rows.filter(pk__in=ids)
    rows = rows if channel is None else rows.filter(channel=channel)
    rows = rows.exclude(channel__in=without) if without else rows
    return rows.exclude(rule__in=unknown) if unknown else rows


def _pick(
    rows: QuerySet[Notification],
    limit: int,
    statuses: Collection[str],
    favoured: int | None,
    *,
    is_hinted: bool = False,
) -> list[Notification]:
    """Return rows that are due, those that others have locked left out.

    Each status is a statement of its own: an OR of them would make MySQL lock every row it scans.

    Args:
        rows: Those to pick from.
        limit: How many at most.
        statuses: What they may be in.
        favoured: The priority that comes first in this turn.
        is_hinted: Whether MariaDB is told which index to use.

    """
    picker = _Picker(rows, statuses, is_hinted)
    pick, picked = picker.pick, picker.picked
    # Of the lapsed ones just one: it may be what killed its worker, and should not take others along again.
    pick(STATUS.claimed, min(limit, 1))
    if favoured is not None:
        pick(STATUS.pending, (limit - len(picked) + 3) // 4, priority=favoured)
    # Old failures get their share also while new rows keep coming in: of a single row, every now and then.
    share = (limit - len(picked) + (favoured is not None)) // 2 if STATUS.pending in statuses else limit
    are_more_failed = pick(STATUS.failed, share) or share == 0
    pick(STATUS.pending, limit - len(picked))
    if are_more_failed:
        pick(STATUS.failed, limit - len(picked))
    return picked


@dataclass(slots=True)
class _Picker:
    """What one claim has picked so far, of the rows and the statuses that it may pick from."""

    rows: QuerySet[Notification]
    statuses: Collection[str]
    is_hinted: bool
    picked: list[Notification] = field(default_factory=list)

    def pick(self, status: str, count: int, **only: int) -> bool:
        """Pick so many that are due, the most urgent first; return whether there may be more."""
        if count <= 0 or status not in self.statuses:
            return False
        due = self.rows.filter(status=status, available_at__lte=utc_now(), **only)
        due = due.exclude(pk__in=[row.pk for row in self.picked]) if self.picked else due
        due = due.order_by("priority", "available_at", "id")[:count]
        found = list(_by_lane(due) if self.is_hinted else due)
        self.picked.extend(found)
        return len(found) == count


def _by_lane(rows: QuerySet[Notification]) -> Iterable[Notification]:
    """Return locked rows of one channel, which MariaDB is told to find by the index of the lanes.

    Where most rows of a small table are due, it would rather read all of it and sort, and so lock all that is due:
    another worker would find nothing meanwhile.
    """
    sql, params = rows.query.get_compiler(rows.db).as_sql()
    table = f"FROM {connections[rows.db].ops.quote_name(Notification._meta.db_table)}"
    hinted = sql.replace(table, f"{table} FORCE INDEX (dsa_notification_lane)", 1)
    return Notification.objects.using(rows.db).raw(hinted, params)


@dataclass(slots=True)
class Waiting:
    """What waits of a channel, due or not.

    Attributes:
        statuses: The statuses in which something does.
        first: The priority and the time of what comes first, as the database has them.

    """

    statuses: list[str]
    first: tuple[Any, ...]


def waiting_channels(using: str) -> dict[str, Waiting]:
    """Return the channels that have messages waiting.

    The index is asked for one after the other, so that it costs the same however many rows there are of each.
    """
    found: dict[str, Waiting] = {}
    last: dict[str, str | None] = dict.fromkeys(UNFINISHED)
    while last:
        statuses, last = last, {}
        for status, alias, *urgency in _next_channels(using, statuses):
            last[status] = alias
            waiting = found.setdefault(alias, Waiting([], tuple(urgency)))
            waiting.statuses.append(status)
            waiting.first = min(waiting.first, tuple(urgency))
    return found


def _next_channels(using: str, last: Mapping[str, str | None]) -> list[tuple[Any, ...]]:
    """Return for each status the first row of the channel that comes after the given one, if there is one."""
    part = (
        "SELECT * FROM (SELECT status, channel, priority, available_at FROM {table} WHERE status = %s{after}"
        " ORDER BY channel, priority, available_at LIMIT 1) AS {name}"
    )
    table = connections[using].ops.quote_name(Notification._meta.db_table)
    parts = [
        part.format(table=table, name=f"of_{status}", after="" if alias is None else " AND channel > %s")
        for status, alias in last.items()
    ]
    values = [value for pair in last.items() for value in pair if value is not None]
    with connections[using].cursor() as cursor:
        cursor.execute(" UNION ALL ".join(parts), values)
        return list(cursor.fetchall())


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
    if row.order_key and status not in UNFINISHED:
        changes["order_key"] = ""  # what waits for it may go
    if row.unknown_since is not None:
        changes["unknown_since"] = None
    return _update_held(row, **_status(status), **changes)


def finish_all(rows: Sequence[Notification], status: str, changes: Sequence[dict[str, object]]) -> list[bool]:
    """End the claims of many rows; of each, tell whether it was still held, and so changed."""
    common = _status(status)
    if any(row.order_key for row in rows):
        common["order_key"] = ""
    if any(row.unknown_since for row in rows):
        common["unknown_since"] = None
    complete = [{**common, **change} for change in changes]
    held = change_all_held(rows, complete)
    for row, change, is_held in zip(rows, complete, held, strict=True):
        if is_held:
            _note(row, **change)
    return held


def release(rows: Iterable[Notification], **changes: object) -> None:
    """Give back rows that were claimed and never tried; the attempt is not spent."""
    for row in rows:
        status = STATUS.failed if row.attempts > 1 else STATUS.pending
        _update_held(row, **_status(status), attempts=row.attempts - 1, available_at=utc_now(), **changes)


def leave(row: Notification, reason: str) -> None:
    """Give back a row that the settings of this process don't know, for other workers to send."""
    release([row], unknown_since=row.unknown_since or utc_now(), last_error=reason)


def discard(using: str, only: Collection[str], without: Collection[str]) -> int:
    """Skip what waits, of these channels or of all but those, and return how many rows that were.

    Claimed ones too: on a copy of a database, nobody will finish them. A worker that does hold one has lost it.
    """
    rows = Notification.objects.using(using).filter(status__in=UNFINISHED).exclude(channel__in=without)
    rows = rows.filter(channel__in=only) if only else rows
    return rows.update(
        **_status(STATUS.skipped), last_error=DISCARDED, lease_no=F("lease_no") + 1, order_key="", digest_key=""
    )


def postpone(row: Notification, until: dt.datetime, **changes: object) -> bool:
    """Give back a row that is not to be sent before then, the attempt unspent; False if it is not held any more."""
    return _update_held(row, **_status(STATUS.pending), attempts=row.attempts - 1, available_at=until, **changes)


def count_due(using: str) -> int:
    """Return how many rows are due now."""
    return sum(due(using, status).count() for status in UNFINISHED)


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
