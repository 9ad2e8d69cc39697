"""The counts of a period of many events, kept in a table: what was counted once is not read again.

Nothing is written when events are. An event is counted once its id is such that no event with a lower id can come any
more; with each view those that came later are counted and added. On PostgreSQL alone, which tells who is writing.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import zlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connections, transaction
from django.utils import timezone

from django_signal_audit.models import AuditEvent, AuditEventQuerySet, Rollup
from django_signal_audit.models.events import second_of, utc_now
from django_signal_audit.models.rollups import LOSSES, has_rollups
from django_signal_audit.models.tables import has_table
from django_signal_audit.reports.arguments import parse_moment
from django_signal_audit.reports.formatter import local
from django_signal_audit.reports.functions import known_signatures, much_memory
from django_signal_audit.reports.marks import Marks, ends, final_marks, may_keep, quoted
from django_signal_audit.reports.tallies import Tally
from django_signal_audit.transient import log_error

# The periods that end today whose counts are kept, in days.
DAYS = (7, 30, 90)
# Below so many events the database is asked each time.
ROLL_UP_FROM = 50_000
# So many events are counted with each view before they are counted once.
MOST_NEW = 5_000
# So long a beginning that has left the period is subtracted before all is counted again.
MOST_LOST = dt.timedelta(days=3, hours=1)
# So many groups of all models are kept, and of one model between so many.
_KEPT, _KEPT_OF_ONE = 12_000, (40, 1_000)
# How often is looked whether those who write have ended.
VIEW_ATTEMPTS, WORKER_ATTEMPTS = 5, 250
# What nobody asks for is counted no longer.
_UNASKED = dt.timedelta(days=14)
_FORMAT = 1

_STATE = """
SELECT
    COALESCE((SELECT number FROM {rollups} WHERE key = %s), 0),
    (SELECT COUNT(*) FROM {events} WHERE id = ANY(%s)),
    (SELECT SUM(pg_stat_get_tuples_deleted(oid) + pg_stat_get_tuples_updated(oid)) FROM pg_class
        WHERE oid = %s::regclass OR oid IN (SELECT relid FROM pg_partition_tree(%s::regclass)))
    - COALESCE((SELECT (scope ->> 'pruned')::bigint FROM {rollups} WHERE key = %s), 0)
"""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which events are counted: those of the last days, including today, of one tenant or of all."""

    using: str
    days: int
    tenant: str
    zone: str

    @classmethod
    def current(cls, using: str, days: int, tenant: str) -> Self:
        """Return the scope in the current time zone."""
        return cls(using, days, tenant, timezone.get_current_timezone_name() if settings.USE_TZ else "")

    @property
    def key(self) -> str:
        """Return what its counts are found by."""
        return hashlib.sha256(json.dumps([_FORMAT, self.days, self.tenant, self.zone]).encode()).hexdigest()

    @property
    def starts(self) -> list[dt.datetime]:
        """Return the moments at which the days begin, and that at which the last ends."""
        today, now = local(utc_now()).date(), utc_now()
        days = [today + dt.timedelta(days=number + 1 - self.days) for number in range(self.days + 1)]
        return [parse_moment(day.isoformat(), now) for day in days]

    @property
    def events(self) -> AuditEventQuerySet:
        """Return the events of the tenant, or of all."""
        events = AuditEventQuerySet(AuditEvent, using=self.using)
        return events.for_tenant(self.tenant) if self.tenant else events


class Pieces:
    """The counts of a period: of most of its events from the table, of the others as they are now.

    Args:
        scope: The period.
        row: What is kept.

    """

    def __init__(self, scope: Scope, row: Rollup) -> None:
        self.scope, self.row = scope, row
        self.starts = scope.starts
        self._base = _unpacked(row.base)
        found = _unpacked(row.recent) if row.recent else {}
        self._recent = found if found.get("since") == self.since else {}
        self.marks = Marks(*self._base["marks"])

    @property
    def since(self) -> int:
        """Return the second at which the period begins."""
        return second_of(self.starts[0])

    @property
    def counted_up_to(self) -> Marks:
        """Return which events are not counted with each view."""
        return Marks(*self._recent["marks"]) if self._recent else self.marks

    @property
    def lost(self) -> dt.timedelta:
        """Return how much of what was counted first has left the period."""
        return dt.timedelta(seconds=self.since - self._base["since"])

    @property
    def losses(self) -> int:
        """Return how many rows SQL had deleted when these were counted."""
        return int(self._base["losses"])

    @property
    def witnesses(self) -> list[int]:
        """Return ids of counted events: the newest of each day."""
        return [*self._base["tally"]["newest"], *(self._recent["delta"]["newest"] if self._recent else ())]

    @property
    def is_due(self) -> bool:
        """Return whether others should be counted once and for all."""
        if self.lost and not self._recent:
            return True
        now, marks = ends(self.scope.using), self.counted_up_to
        new = now.recorded - marks.recorded + now.imported - marks.imported
        return new > MOST_NEW + self._came // 16

    @property
    def is_worn(self) -> bool:
        """Return whether so much has come since the first count that all should be counted again."""
        return bool(self._came > sum(number for *_, number in self._base["tally"]["signed"]) // 2)

    @property
    def _came(self) -> int:
        return sum(number for *_, number in self._recent["delta"]["signed"]) if self._recent else 0

    @cached_property
    def tallies(self) -> list[tuple[int, Tally]]:
        """Return what was counted, what has left the period since with the sign -1, and what came later."""
        found = [(1, Tally.from_json(self._base["tally"]))]
        if self._recent:
            found.append((1, Tally.from_json(self._recent["delta"])))
            lost = Tally.from_json(self._recent["lost"])
        else:
            lost = self._count_lost()
        found.append((-1, lost))
        late = self._period.filter(self.counted_up_to.beyond)
        tally = Tally.of(late)
        tally.count_signed(late, self.starts[:-1])
        return [*found, (1, tally)]

    @property
    def _period(self) -> AuditEventQuerySet:
        return self.scope.events.filter(recorded_at__gte=self.starts[0], recorded_at__lt=self.starts[-1]).order_by()

    def _count_lost(self) -> Tally:
        """Count the events before the period that were counted when they were in it."""
        if not self.lost:
            return Tally()
        first = utc_moment(self._base["since"])
        gone = self.scope.events.filter(self.marks.within, recorded_at__gte=first, recorded_at__lt=self.starts[0])
        return Tally.of(gone.order_by(), kept=_kept(self.scope.using))

    def counted(self, marks: Marks) -> bytes:
        """Count what came between the marks of the first count and these, and what has left the period."""
        came = self._period.filter(self.marks.beyond).filter(marks.within)
        delta = Tally.of(came, kept=_kept(self.scope.using))
        delta.count_signed(came, self.starts[:-1])
        lost = self._count_lost()
        return _packed({"since": self.since, "marks": marks, "delta": delta.to_json(), "lost": lost.to_json()})


def utc_moment(second: int) -> dt.datetime:
    """Return a moment as events have it."""
    moment = dt.datetime.fromtimestamp(second, dt.UTC)
    return moment if settings.USE_TZ else moment.replace(tzinfo=None)


def counts_for_view(scope: Scope, number: Callable[[], int]) -> Pieces | None:
    """Return the counts of a period for somebody who asks now, None if nothing can be kept of it.

    Args:
        scope: The period.
        number: Returns how many events it has; not called if its counts are kept already.

    """
    if not (has_rollups(scope.using) and has_table(Rollup, scope.using)):
        return None
    pieces = _load(scope)
    if pieces is None:
        pieces = keep(scope, VIEW_ATTEMPTS) if number() >= ROLL_UP_FROM else None
    elif pieces.is_due:
        pieces = keep(scope, VIEW_ATTEMPTS) or pieces
    if pieces is not None and pieces.row.asked_on != _today() and may_keep(scope.using):
        Rollup.objects.using(scope.using).filter(pk=scope.key).update(asked_on=_today())
    return pieces


def keep(scope: Scope, attempts: int, most_lost: dt.timedelta = MOST_LOST) -> Pieces | None:
    """Count what isn't counted yet, keep it, and return the counts of the period; None if they can't be kept.

    Args:
        scope: The period.
        attempts: How often is looked whether those who write now have ended.
        most_lost: How much of what was counted may have left the period.

    """
    using = scope.using
    if not (has_rollups(using) and has_table(Rollup, using) and may_keep(using)):
        return None
    with transaction.atomic(using=using):
        if not _is_alone(scope):
            return None
        # Before anything is counted: who takes events away meanwhile makes what is counted invalid.
        number, _found, losses = _state(using, [])
        pieces = _load(scope, most_lost)
        marks = final_marks(using, attempts)
        if marks is None:
            return None
        if pieces is not None and not pieces.is_worn:
            is_kept = _save(scope, number, recent=pieces.counted(marks))
        else:
            tally = _count(scope, marks)
            found = {"since": second_of(scope.starts[0]), "marks": marks, "losses": losses}
            is_kept = tally is not None and _save(
                scope, number, base=_packed({**found, "tally": tally.to_json()}), recent=b""
            )
    return _load(scope, most_lost) if is_kept else None


def keep_all(using: str, attempts: int = WORKER_ATTEMPTS, most_lost: dt.timedelta = dt.timedelta(0)) -> None:
    """Bring what is kept on a database up to date, and drop what nobody has asked for.

    Args:
        using: The database.
        attempts: How often is looked whether those who write now have ended.
        most_lost: How much of what was counted may have left the period.

    """
    if not (has_rollups(using) and has_table(Rollup, using)):
        return
    rows = Rollup.objects.using(using).exclude(pk=LOSSES)
    rows.filter(asked_on__lt=_today() - _UNASKED).delete()
    for days, tenant, zone in list(rows.values_list("scope__days", "scope__tenant", "scope__zone")):
        try:
            override = timezone.override(ZoneInfo(zone)) if zone else nullcontext()
        except (ValueError, ZoneInfoNotFoundError):
            continue  # a zone of the project's own: who asks in it counts
        with override:
            scope = Scope(using, days, tenant, zone)
            pieces = _load(scope, most_lost)
            if pieces is None or pieces.is_due:
                keep(scope, attempts, most_lost)


def roll_up(using: str, attempts: int = WORKER_ATTEMPTS, most_lost: dt.timedelta = dt.timedelta(0)) -> None:
    """Do as ``keep_all``; what fails is logged, and the next view of the page counts."""
    try:
        keep_all(using, attempts, most_lost)
    except (DatabaseError, InterfaceError) as error:
        log_error(error, 'The counts of the dashboard could not be kept on the database "%s"', using)
        connections[using].close_if_unusable_or_obsolete()


def count_again(using: str) -> None:
    """Count anew what a prune or an erasure has made invalid, once it is committed: no page has to wait for that."""
    transaction.on_commit(partial(roll_up, using, VIEW_ATTEMPTS, MOST_LOST), using=using)


def _today() -> dt.date:
    return utc_now().date()


def _load(scope: Scope, most_lost: dt.timedelta = MOST_LOST) -> Pieces | None:
    """Return what is kept of a period, None if it isn't true any more."""
    row = Rollup.objects.using(scope.using).filter(pk=scope.key).first()
    if row is None or not row.base:
        return None
    pieces = Pieces(scope, row)
    if not dt.timedelta(0) <= pieces.lost <= most_lost:
        return None
    number, found, losses = _state(scope.using, pieces.witnesses)
    is_true = number == row.number and found == len(set(pieces.witnesses)) and losses == pieces.losses
    return pieces if is_true else None


def _state(using: str, witnesses: Sequence[int]) -> tuple[int, int, int]:
    """Return how often events were taken away, how many of some are there, and how many rows others have deleted."""
    events, rollups = quoted(AuditEvent, using), quoted(Rollup, using)
    with connections[using].cursor() as cursor:
        cursor.execute(_STATE.format(events=events, rollups=rollups), [LOSSES, [*witnesses], events, events, LOSSES])
        number, found, losses = cursor.fetchone()
    return number, found, int(losses or 0)


def _is_alone(scope: Scope) -> bool:
    """Return whether nobody else counts the same, and let nobody until the transaction ends."""
    with connections[scope.using].cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtext(%s))", [f"django_signal_audit {scope.key}"])
        return bool(cursor.fetchone()[0])


def _count(scope: Scope, marks: Marks) -> Tally | None:
    """Count all events of a period up to the marks, None if there are too few, or some of days to come."""
    *starts, end = scope.starts
    known = known_signatures(scope.using)
    events = scope.events.filter(marks.within, recorded_at__gte=starts[0]).order_by()
    if events.filter(recorded_at__gte=end).exists():
        return None
    tally = Tally()
    # With the signatures, an index has all that is counted.
    tally.count_signed(events.filter(signature__in=known), starts)
    if sum(tally.signed.values()) < ROLL_UP_FROM:
        return None
    with much_memory(scope.using):
        found = Tally.of(events, kept=_kept(scope.using))
    return replace(tally, actors=found.actors, objects=found.objects)


def _kept(using: str) -> int:
    """Return how many groups of a model are kept."""
    models = {signature.model for signature in known_signatures(using).values()}
    fewest, most = _KEPT_OF_ONE
    return min(max(_KEPT // max(len(models), 1), fewest), most)


def _save(scope: Scope, number: int, **values: Any) -> bool:
    """Keep what was counted, unless events were or are taken away meanwhile; return whether it is kept."""
    rows = Rollup.objects.using(scope.using)
    rows.bulk_create([Rollup(pk=LOSSES)], ignore_conflicts=True)
    with connections[scope.using].cursor() as cursor:
        cursor.execute(
            f"SELECT number FROM {quoted(Rollup, scope.using)} WHERE key = %s FOR SHARE SKIP LOCKED",  # noqa: S608
            [LOSSES],
        )
        if cursor.fetchone() != (number,):
            return False
    kept = {**values, "number": number}
    if "base" not in values:
        return bool(rows.filter(pk=scope.key).update(**kept))
    since = second_of(scope.starts[0])
    kept["scope"] = {"days": scope.days, "tenant": scope.tenant, "zone": scope.zone, "since": since}
    rows.update_or_create(pk=scope.key, defaults=kept, create_defaults={**kept, "asked_on": _today()})
    return True


def _packed(found: object) -> bytes:
    return zlib.compress(json.dumps(found, separators=(",", ":")).encode(), 1)


def _unpacked(found: bytes | memoryview) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads(zlib.decompress(found))
    return stored
