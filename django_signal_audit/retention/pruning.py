"""Pruning: taking away, batch by batch, what has been kept long enough, and saying so in the audit log."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import router, transaction
from django.db.models import Count, F, Max, Min

from django_signal_audit.capture.transactions import lock_database
from django_signal_audit.enums import Source
from django_signal_audit.events.changes import Change
from django_signal_audit.exceptions import EventNotWritten
from django_signal_audit.models import AuditEvent, AuditEventQuerySet, Notification
from django_signal_audit.models.events import delete_pruned
from django_signal_audit.models.fields import in_project_time
from django_signal_audit.recorder import record_changes
from django_signal_audit.reports.exports.base import utc
from django_signal_audit.reports.json_lookups import HasItem
from django_signal_audit.retention.archive import Archive
from django_signal_audit.rules.durations import Period, parse_period
from django_signal_audit.rules.schema import Rule

# Describes a batch that was pruned, in the transaction that took it away.
EVENTS_PRUNED = "events_pruned"


def periods_of(rules: Iterable[Rule]) -> dict[str, Period]:
    """Return the ``retention`` of each rule that has a period as such, by name."""
    found = {rule.name: parse_period(rule.retention) for rule in rules}
    return {name: period for name, period in found.items() if period is not None}


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long events are to be kept, as of one moment.

    An event is kept as long as the longest ``retention`` of its rules says. ``older_than`` asks for no more than
    that: it stands in for the rules that say nothing, whose events are otherwise kept for ever.

    Attributes:
        now: The moment that ages are counted to.
        periods: The retention of the rules that have one.
        older_than: How old events of the others must be; None keeps them.
        rule: Only events that this rule matched; ``""`` for all.

    """

    now: dt.datetime
    periods: Mapping[str, Period]
    older_than: Period | None = None
    rule: str = ""

    @property
    def cutoff(self) -> dt.datetime | None:
        """Return the moment before which events may be due; None if none ever is."""
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

    def is_due(self, event: AuditEvent) -> bool:
        """Return whether an event has been kept long enough."""
        if event.event_type == EVENTS_PRUNED and not self.periods.keys() & set(event.rules):
            # What is left to say where the others went stays, unless a rule of its own lets it go.
            return False
        promised = [self.periods.get(name, self.older_than) for name in event.rules]
        if self.older_than is not None or not promised:
            promised.append(self.older_than)
        cut = _earliest(*map(self._cut, promised))
        return cut is not None and event.recorded_at < cut

    def _cut(self, period: Period | None) -> dt.datetime | None:
        """Return the moment before which events are older than the period, None if none ever is."""
        return None if period is None else period.before(self.now)


def _earliest(*cuts: dt.datetime | None) -> dt.datetime | None:
    """Return the earliest of the moments, None if one of them is before all dates."""
    known = [cut for cut in cuts if cut is not None]
    return min(known) if known and len(known) == len(cuts) else None


BATCH_SIZE = 1000
# How many uids one question names.
_CHUNK = 500
_STATUS = Notification.STATUS
# Nothing is pending for anybody any more.
FINISHED = (_STATUS.sent, _STATUS.skipped, _STATUS.dead)
UNFINISHED = (_STATUS.pending, _STATUS.claimed, _STATUS.failed)


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch that is done: how many events were looked at, are gone, and wait for a message about them."""

    examined: int
    pruned: int
    awaited: int


class Pruning:
    """Takes away what a retention lets go, oldest first, in batches that commit one by one.

    Each batch is archived, then deleted in one transaction with the finished notifications about it and with an event
    that says so. It may be ended at any moment and goes on where it ended when it is run again.

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

    def candidates(self) -> AuditEventQuerySet:
        """Return the events among which some may be due."""
        events = AuditEvent.objects.using(self._using)
        if self._retention.cutoff is None:
            return events.none()
        events = events.filter(recorded_at__lt=self._retention.cutoff)
        return events.filter(HasItem(F("rules"), self._retention.rule)) if self._retention.rule else events

    def run(self, batch_size: int = BATCH_SIZE) -> Iterator[Batch]:
        """Prune, and return each batch after its commit."""
        self._awaited_by_digests = set(_uids_of_digests(self._using))
        columns = self.candidates().only("uid", "recorded_at", "event_type", "rules")
        for page in columns.in_pages(batch_size):
            due = [event for event in page if self._retention.is_due(event)]
            free = self._unawaited(due)
            pruned = len(free) if self._is_dry else self._prune(free)
            yield Batch(len(page), pruned, len(due) - len(free))
        if not self._is_dry and self._retention.cutoff is not None:
            prune_digests(self._using, created__lt=in_project_time(self._retention.cutoff))

    def _unawaited(self, events: Sequence[AuditEvent]) -> list[AuditEvent]:
        """Return the events of which no message is still to be sent: it could not be written without its event."""
        awaited = set(self._about(events).filter(status__in=UNFINISHED).values_list("event", flat=True))
        return [
            event for event in events if event.uid not in awaited and str(event.uid) not in self._awaited_by_digests
        ]

    def _about(self, events: Sequence[AuditEvent]) -> Any:
        return Notification.objects.using(self._using).filter(event__in=[event.uid for event in events])

    def _prune(self, events: Sequence[AuditEvent]) -> int:
        if not events:
            return 0
        rows = AuditEvent.objects.using(self._using).filter(pk__in=[event.pk for event in events])
        if self._archive is not None:
            self._archive.add(rows.order_by("recorded_at", "id"))
        with transaction.atomic(using=self._using):
            lock_database(self._using)
            self._about(events).filter(status__in=FINISHED).delete()
            pruned = delete_pruned(rows.order_by())
            if pruned:
                self._tell(events, pruned)
        return pruned

    def _tell(self, events: Sequence[AuditEvent], pruned: int) -> None:
        retention = self._retention
        data = {
            "count": pruned,
            "first": utc(events[0].recorded_at),
            "last": utc(events[-1].recorded_at),
            "older_than_seconds": retention.older_than_seconds,
            "rule": retention.rule or None,
            "archive": None if self._archive is None else str(self._archive.path),
        }
        record_pruned(self._using, data)


def record_pruned(using: str, data: dict[str, object]) -> None:
    """Record that events were pruned, or raise EventNotWritten: what is not recorded does not happen."""
    change = Change(event_type=EVENTS_PRUNED, source=Source.MANUAL, using=using, data=data)
    if not record_changes([change], using):
        msg = "That events are pruned could not be recorded, so they stay. See the log for the cause."
        raise EventNotWritten(msg)


def _digests(using: str, statuses: Iterable[str]) -> Any:
    return Notification.objects.using(using).filter(event=None, status__in=tuple(statuses)).order_by("id")


def _uids_of_digests(using: str) -> Iterator[str]:
    """Yield the uids that messages still to be sent about several events name."""
    for row in _digests(using, UNFINISHED).only("data").iterator(chunk_size=20):
        yield from map(str, row.event_uids)


def prune_digests(using: str, **which: object) -> None:
    """Delete what was sent about several events of which none is left.

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
        if AuditEvent.objects.using(using).filter(uid__in=some).exists():
            return True
    return False


def prune(events: AuditEventQuerySet) -> int:
    """Delete the events of a queryset in one transaction and return how many they were.

    Raises:
        EventNotWritten: The event that says so could not be written, so nothing is deleted.

    """
    using = getattr(events, "_db", None) or router.db_for_write(AuditEvent)
    events = events.using(using)
    with transaction.atomic(using=using):
        lock_database(using)
        data, since = _describe(events)
        about = Notification.objects.using(using).filter(event__in=events.order_by().values("uid"))
        about.filter(status__in=FINISHED).delete()
        pruned = delete_pruned(events)
        if pruned and since:
            # A digest is younger than the first of its events.
            prune_digests(using, created__gte=in_project_time(since))
            record_pruned(using, {**data, "count": pruned})
    return pruned


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
