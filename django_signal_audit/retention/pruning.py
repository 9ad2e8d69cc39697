"""Pruning: taking away, batch by batch, what has been kept long enough, and saying so in the audit log."""

from __future__ import annotations

import datetime as dt
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import router, transaction
from django.db.models import Count, F, Max, Min

from django_signal_audit.capture.rows import is_one_of
from django_signal_audit.capture.transactions import lock_database
from django_signal_audit.enums import Source
from django_signal_audit.events.changes import Change
from django_signal_audit.evidence.records import (
    described,
    drop_pruned_prefix,
    is_sealed,
    leaves_of,
    note_prune,
    only_sealed,
    ranges_of,
    starts_of,
)
from django_signal_audit.evidence.sealing import seal
from django_signal_audit.exceptions import EventNotWritten
from django_signal_audit.models import AuditEvent, AuditEventQuerySet, Notification
from django_signal_audit.models.events import delete_pruned
from django_signal_audit.models.fields import in_project_time
from django_signal_audit.recorder import record_changes
from django_signal_audit.reports.exports.base import utc
from django_signal_audit.reports.functions import HasItem, known_signatures
from django_signal_audit.reports.rollups import count_again
from django_signal_audit.retention.archive import Archive
from django_signal_audit.retention.holds import Held, held_objects
from django_signal_audit.retention.ranking import Ranks, histories_with_more
from django_signal_audit.retention.starting_points import (
    PRUNE,
    KnownEvent,
    Replacement,
    is_starting_point,
    known,
    known_columns,
    known_events,
    replacement_of,
)
from django_signal_audit.rules.durations import Period, parse_period
from django_signal_audit.rules.schema import Rule

# Describes a batch that was pruned, in the transaction that took it away.
EVENTS_PRUNED = "events_pruned"


def periods_of(rules: Iterable[Rule]) -> dict[str, Period]:
    """Return the ``retention`` of each rule that has a period as such, by name."""
    found = {rule.name: parse_period(rule.retention) for rule in rules}
    return {name: period for name, period in found.items() if period is not None}


def counts_of(rules: Iterable[Rule]) -> dict[str, int]:
    """Return how many events per object the ``retention`` of each rule keeps that has such a number, by name."""
    return {rule.name: rule.retention["last"] for rule in rules if isinstance(rule.retention, Mapping)}


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long events are to be kept, as of one moment.

    An event is kept as long as the longest ``retention`` of its rules says. ``older_than`` and ``keep_last`` ask for no
    more than that: they stand in for the rules that say nothing, whose events are otherwise kept forever.

    Attributes:
        now: The moment that ages are counted to.
        periods: The retention of the rules that have one.
        counts: How many events per object the rules keep that have such a number.
        older_than: How old events of the others must be; None keeps them.
        keep_last: How many newer events their objects must have; None asks for none.
        rule: Only events that this rule matched; ``""`` for all.

    """

    now: dt.datetime
    periods: Mapping[str, Period]
    counts: Mapping[str, int] = field(default_factory=dict)
    older_than: Period | None = None
    keep_last: int | None = None
    rule: str = ""

    @property
    def cutoff(self) -> dt.datetime | None:
        """Return the moment before which events may be due for their age alone; None if none ever is."""
        if self.keep_last is not None:
            return None
        if self.older_than is not None:
            return _earliest(self._cut(self.older_than), self._cut(self.periods.get(self.rule, self.older_than)))
        if self.rule:
            return self._cut(self.periods.get(self.rule))
        cuts = [cut for period in self.periods.values() if (cut := self._cut(period)) is not None]
        return max(cuts, default=None)

    @property
    def older_than_seconds(self) -> int | None:
        """Return how old events were asked to be, in seconds before now; None if that was not asked for."""
        cut = self._cut(self.older_than)
        return None if cut is None else int((self.now - cut).total_seconds())

    @property
    def fewest(self) -> int | None:
        """Return the number of events above which some of an object's may be due; None if ages decide."""
        if self.keep_last is not None:
            return self.keep_last
        counts = [self.counts[self.rule]] if self.rule in self.counts else self.counts.values()
        return min(counts, default=None) if not self.rule or self.rule in self.counts else None

    def is_due(self, event: KnownEvent, ranks: Ranks | None = None) -> bool:
        """Return whether an event has been kept long enough.

        Args:
            event: The event.
            ranks: Its place among the events of its object, None where that isn't known.

        """
        if event.event_type == EVENTS_PRUNED and not {*self.periods, *self.counts} & set(event.rules):
            # What is left to say where the others went stays, unless a rule of its own lets it go.
            return False
        if is_starting_point(event.source, event.rules):
            return False  # it goes along with what follows it
        is_asked_for = self.older_than is not None or self.keep_last is not None
        promises = [self._is_over(name, event, ranks) for name in event.rules]
        if is_asked_for or not promises:
            promises.append(self._is_over("", event, ranks))
        return all(promises)

    def _is_over(self, name: str, event: KnownEvent, ranks: Ranks | None) -> bool:
        """Return whether a rule, or for ``""`` the caller, no longer wants an event to be kept."""
        if name in self.counts:
            return ranks is not None and ranks.get(name, 0) > self.counts[name]
        if name in self.periods:
            return self._is_before(event, self.periods[name])
        if self.older_than is None and self.keep_last is None:
            return False
        is_old = self.older_than is None or self._is_before(event, self.older_than)
        is_far = self.keep_last is None or (ranks is not None and ranks.get("", 0) > self.keep_last)
        return is_old and is_far

    def _is_before(self, event: KnownEvent, period: Period) -> bool:
        cut = self._cut(period)
        return cut is not None and event.recorded_at < cut

    def _cut(self, period: Period | None) -> dt.datetime | None:
        """Return the moment before which events are older than the period, None if none ever is."""
        return None if period is None else period.before(self.now)


def _earliest(*cuts: dt.datetime | None) -> dt.datetime | None:
    """Return the earliest of the moments, None if one of them is before all dates."""
    known = [cut for cut in cuts if cut is not None]
    return min(known) if known and len(known) == len(cuts) else None


# More at once are faster, but what others commit meanwhile waits until all of it is written: with 1,000, the slowest
# saves take three to five times as long.
BATCH_SIZE = 250
# How many events of a queryset are replaced at a time.
_AT_ONCE = 5000
# How many uids one question names.
_CHUNK = 500
_STATUS = Notification.STATUS
# Nothing is pending for anybody any more.
FINISHED = (_STATUS.sent, _STATUS.skipped, _STATUS.dead)
UNFINISHED = (_STATUS.pending, _STATUS.claimed, _STATUS.failed)


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch that is done: how many events were looked at, are gone, wait for a message, and are held."""

    examined: int
    pruned: int
    awaited: int
    held: int = 0


class Pruning:
    """Takes away what a retention lets go, oldest first, in batches that commit one by one.

    Each batch is archived, then deleted in one transaction with the finished notifications about it, with starting
    points in the place of events that say what rows hold, and with an event that says so. It may be ended at any moment
    and goes on where it ended when it is run again.

    Args:
        retention: What is to be kept.
        using: The database.
        archive: Where the events are written before they are deleted; None for nowhere.
        is_dry: Say what would go, and take nothing away.

    """

    def __init__(
        self, retention: Retention, using: str, *, archive: Archive | None = None, is_dry: bool = False
    ) -> None:
        self._retention, self._using, self._archive, self._is_dry = retention, using, archive, is_dry
        self._awaited_by_digests: set[str] = set()
        self._is_sealed = False
        self._starts: list[UUID] = []

    def candidates(self) -> AuditEventQuerySet:
        """Return the events among which some may be due for their age alone."""
        events = AuditEvent.objects.using(self._using)
        if self._retention.cutoff is None:
            return events.none()
        return self._of_rule(events.filter(recorded_at__lt=self._retention.cutoff))

    def _of_rule(self, events: AuditEventQuerySet) -> AuditEventQuerySet:
        return events.filter(HasItem(F("rules"), self._retention.rule)) if self._retention.rule else events

    def run(self, batch_size: int = BATCH_SIZE) -> Iterator[Batch]:
        """Prune, and return each batch after its commit."""
        self._awaited_by_digests = set(_uids_of_digests(self._using))
        self._is_sealed = is_sealed(self._using)
        for page in known_columns(self.candidates()).in_pages(batch_size):
            yield self._batch(len(page), [event for event in known(page) if self._retention.is_due(event)])
        for examined, due in self._beyond(batch_size):
            yield self._batch(examined, due)
        if not self._is_dry and self._retention.cutoff is not None:
            prune_digests(self._using, created__lt=in_project_time(self._retention.cutoff))
        if not self._is_dry and self._is_sealed:
            seal(self._using, events=self._starts)
            drop_pruned_prefix(self._using)
        if not self._is_dry:
            count_again(self._using)

    def _batch(self, examined: int, due: Sequence[KnownEvent]) -> Batch:
        held = held_objects(self._using) if due else {}
        free = [event for event in due if (event.model, event.object_id) not in held]
        unawaited = self._unawaited(free)
        pruned = len(unawaited) if self._is_dry else self._prune(unawaited)
        return Batch(examined, pruned, len(free) - len(unawaited), len(due) - len(free))

    def _beyond(self, batch_size: int) -> Iterator[tuple[int, list[KnownEvent]]]:
        """Yield what is due for its place among the events of its object, with how many events were looked at."""
        if self._retention.fewest is None:
            return
        due: list[KnownEvent] = []
        examined = 0
        for events, ranks in histories_with_more(self._retention.fewest, self._labels(), self._using):
            found = [event for event in events if self._is_beyond(event, ranks.of(event))]
            # What is left of an object is worked out once where its events go together.
            if due and len(due) + len(found) > batch_size:
                yield examined, due
                due, examined = [], 0
            due += found
            examined += len(events)
            while len(due) >= batch_size:
                yield examined, due[:batch_size]
                due, examined = due[batch_size:], 0
        if due:
            yield examined, due

    def _labels(self) -> set[str] | None:
        """Return the labels of the events of rules that count; None if all events count."""
        if self._retention.keep_last is not None:
            return None
        signatures = known_signatures(self._using).values()
        return {one.model for one in signatures if not self._retention.counts.keys().isdisjoint(one.rules)}

    def _is_beyond(self, event: KnownEvent, ranks: Ranks) -> bool:
        """Return whether an event is due for its place, and wasn't for its age alone."""
        retention = self._retention
        if ranks.get("", 0) <= (retention.fewest or 0) or (retention.rule and retention.rule not in event.rules):
            return False
        return retention.is_due(event, ranks) and (retention.keep_last is not None or not retention.is_due(event))

    def _unawaited(self, events: Sequence[KnownEvent]) -> list[KnownEvent]:
        """Return the events of which no message is still to be sent: it could not be written without its event."""
        awaited = set(self._about(events).filter(status__in=UNFINISHED).values_list("event", flat=True))
        return [
            event for event in events if event.uid not in awaited and str(event.uid) not in self._awaited_by_digests
        ]

    def _about(self, events: Sequence[KnownEvent]) -> Any:
        uids = [event.uid for event in events]
        return Notification.objects.using(self._using).filter(
            is_one_of(Notification, uids, self._using, column="event")
        )

    def _prune(self, events: Sequence[KnownEvent]) -> int:
        if not events:
            return 0
        if self._is_sealed:
            sealed = set(_keys(only_sealed(_with_keys([event.pk for event in events], self._using))))
            events = [event for event in events if event.pk in sealed]
        replacement = replacement_of(events, self._using, is_evidence=self._is_sealed)
        if self._archive is not None and replacement.events:
            self._archive.add(_with_keys(replacement.events, self._using).order_by("recorded_at", "id"))
        with transaction.atomic(using=self._using):
            lock_database(self._using)
            take = Take(self._using, is_evidence=self._is_sealed)
            take.replace(replacement)
            if take.pruned:
                self._tell(events, take)
        self._starts += take.starts
        return take.pruned

    def _tell(self, events: Sequence[KnownEvent], take: Take) -> None:
        retention = self._retention
        data = {
            "count": take.pruned,
            "first": utc(min(event.recorded_at for event in events)),
            "last": utc(max(event.recorded_at for event in events)),
            "older_than_seconds": retention.older_than_seconds,
            "rule": retention.rule or None,
            "archive": None if self._archive is None else str(self._archive.path),
        }
        take.record(data if retention.keep_last is None else {**data, "keep_last": retention.keep_last})


def _with_keys(keys: Collection[int], using: str) -> AuditEventQuerySet:
    return AuditEvent.of_all_tenants.using(using).filter(is_one_of(AuditEvent, list(keys), using))


def _keys(rows: AuditEventQuerySet) -> list[int]:
    return list(rows.order_by().values_list("pk", flat=True))


class Take:
    """What one transaction takes away and leaves in its place; an event says so, or nothing happens.

    Args:
        using: The database.
        is_evidence: Whether the log is sealed.

    """

    def __init__(self, using: str, *, is_evidence: bool) -> None:
        self._using, self._is_evidence = using, is_evidence
        self.pruned = 0
        self._written: list[AuditEvent] = []
        self._leaves: list[int] = []

    @property
    def starts(self) -> list[UUID]:
        """Return the uids of the starting points."""
        return [start.uid for start in self._written]

    def replace(self, replacement: Replacement) -> None:
        """Delete events, with the finished notifications about them and the former starting points before them."""
        rows = _with_keys(replacement.gone, self._using)
        times = dict(rows.order_by().select_for_update().values_list("pk", "recorded_at"))
        if times.keys() != replacement.gone:
            # Somebody else has pruned some of them meanwhile.
            rest = known_events(replacement.events, self._using)
            replacement = replacement_of(rest, self._using, is_evidence=self._is_evidence)
            rows = _with_keys(replacement.gone, self._using)
        about = Notification.objects.using(self._using).filter(event__in=rows.values("uid"))
        about.filter(status__in=FINISHED).delete()
        if self._is_evidence:
            self._leaves += leaves_of(rows)
        self.pruned += delete_pruned(rows.order_by(), max(times.values(), default=None)) - len(replacement.absorbed)
        self._written += replacement.starts

    def record(self, data: Mapping[str, object]) -> None:
        """Write the starting points and the event about all of them, or raise EventNotWritten.

        Args:
            data: What was pruned.

        """
        if self._written:
            data = {**data, "starting_points": len(self._written)}
        if self._leaves:
            ranges = ranges_of(self._leaves)
            starts = starts_of(self.starts)
            data = {**data, **described(ranges, starts)}
        change = Change(event_type=EVENTS_PRUNED, source=Source.MANUAL, using=self._using, data=data)
        rows = record_changes([change], self._using)
        if not rows:
            msg = "That events are pruned could not be recorded, so they stay. See the log for the cause."
            raise EventNotWritten(msg)
        if self._leaves:
            note_prune(rows[0].uid, ranges, starts, self._using)
        for start in self._written:
            start.data[PRUNE] = str(rows[0].uid)
        AuditEvent.of_all_tenants.using(self._using).bulk_create(self._written, batch_size=500)


def _digests(using: str, statuses: Iterable[str]) -> Any:
    return Notification.objects.using(using).filter(event=None, status__in=tuple(statuses)).order_by("id")


def _uids_of_digests(using: str) -> Iterator[str]:
    """Yield the uids that messages still to be sent about several events name."""
    for row in _digests(using, UNFINISHED).only("data").iterator(chunk_size=20):
        yield from map(str, row.event_uids)


def prune_digests(using: str, **which: object) -> None:
    """Delete what was sent about several events, if none of them is left.

    Args:
        using: The database.
        which: Which notifications to look at, as arguments of ``filter``.

    """
    last = 0
    rows = _digests(using, FINISHED).filter(**which).only("data")
    while page := list(rows.filter(id__gt=last)[:20]):
        last = page[-1].pk
        gone = [row.pk for row in page if not _any_left(row.event_uids, using)]
        if gone:
            Notification.objects.using(using).filter(pk__in=gone, status__in=FINISHED).delete()


def _any_left(uids: Sequence[object], using: str) -> bool:
    # The last ones are the newest, and the likeliest to be there.
    for end in range(len(uids), 0, -_CHUNK):
        some = [UUID(str(uid)) for uid in uids[max(0, end - _CHUNK) : end]]
        if AuditEvent.of_all_tenants.using(using).filter(uid__in=some).exists():
            return True
    return False


def prune(events: AuditEventQuerySet) -> int:
    """Delete the events of a queryset in one transaction and return how many they were.

    Events of objects on legal hold stay, and so do starting points, until what follows them is pruned.

    Raises:
        EventNotWritten: The event that says so could not be written, so nothing is deleted.

    """
    using = getattr(events, "_db", None) or router.db_for_write(AuditEvent)
    events = events.using(using)
    is_evidence = not events.query.is_sliced and is_sealed(using)
    if is_evidence:
        events = only_sealed(events)
    with transaction.atomic(using=using):
        lock_database(using)
        data, since = _describe(events)
        take = Take(using, is_evidence=is_evidence)
        keys = _free_keys(events, held_objects(using))
        for at in range(0, len(keys), _AT_ONCE):
            some = known_events(keys[at : at + _AT_ONCE], using)
            take.replace(replacement_of(some, using, is_evidence=is_evidence))
        if take.pruned and since:
            # A digest is younger than the first of its events.
            prune_digests(using, created__gte=in_project_time(since))
            take.record({**data, "count": take.pruned})
    if take.pruned and is_evidence:
        seal(using, events=take.starts)  # a prune counts once its record is sealed
    if take.pruned:
        count_again(using)
    return take.pruned


def _free_keys(events: AuditEventQuerySet, held: Collection[Held]) -> array[int]:
    """Return the primary keys of the events that nobody holds, those of one object together."""
    rows = events.order_by("model", "object_id", "id").values_list("pk", "model", "object_id")
    return array("q", (pk for pk, *one in rows.iterator(chunk_size=5000) if not held or tuple(one) not in held))


def _describe(events: AuditEventQuerySet) -> tuple[dict[str, Any], dt.datetime | None]:
    """Return of which models and times the events are, and the time of the first."""
    if events.query.is_sliced:
        msg = "Cannot use 'limit' or 'offset' with prune()."
        raise TypeError(msg)
    groups = list(
        events.order_by()
        .values_list("model")
        .annotate(count=Count("pk"), first=Min("recorded_at"), last=Max("recorded_at"))
        .order_by("model")
    )
    first: dt.datetime | None = min((group[2] for group in groups), default=None)
    last: dt.datetime | None = max((group[3] for group in groups), default=None)
    data = {
        "first": None if first is None else utc(first),
        "last": None if last is None else utc(last),
        "models": {model: count for model, count, *_ in groups if model},
    }
    return data, first
