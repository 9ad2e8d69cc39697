"""What the dashboard counts: events of a period by day, model, actor and rule, and what failed to be delivered."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self, TypeAlias

from django.db.models import Case, Count, F, IntegerField, Max, Value, When

from django_signal_audit.models import AuditEvent, AuditEventQuerySet, Notification
from django_signal_audit.models.events import utc_now
from django_signal_audit.models.fields import in_project_time
from django_signal_audit.reports.arguments import parse_moment
from django_signal_audit.reports.localization import local
from django_signal_audit.reports.queries import EventFilter
from django_signal_audit.reports.signatures import known_kinds

from .access import Access
from .scanning import MOST_READ

FAILURES = (Notification.STATUS.failed, Notification.STATUS.dead)
_DAY = dt.timedelta(days=1)
# What decides who may see an event, and what it is counted by.
_COLUMNS = ("id", "model", "object_id", "event_type", "recorded_at", "kind", "actor_id", "actor_repr")
# Primary key and name of an actor, the number of their events, and the newest of these.
ActorRow: TypeAlias = tuple[str, str, int, int]


@dataclass(frozen=True, slots=True)
class Period:
    """Whole days in the current time zone, both ends included."""

    first: dt.date
    last: dt.date

    @classmethod
    def until_today(cls, days: int) -> Self:
        """Return today and the days before it, so many in all."""
        today = local(utc_now()).date()
        return cls(today - (days - 1) * _DAY, today)

    @property
    def days(self) -> list[dt.date]:
        """Return every day of it."""
        return [self.first + number * _DAY for number in range((self.last - self.first).days + 1)]

    @property
    def since(self) -> dt.datetime:
        """Return its first moment."""
        return _midnight(self.first)

    @property
    def until(self) -> dt.datetime:
        """Return the first moment after it."""
        return _midnight(self.last + _DAY)


def _midnight(day: dt.date) -> dt.datetime:
    return parse_moment(day.isoformat(), utc_now())


@dataclass(frozen=True, slots=True)
class ActorCount:
    """How many events an actor caused; ``key`` and ``name`` are ``""`` for nobody."""

    key: str
    name: str
    count: int


@dataclass(frozen=True, slots=True)
class EventCounts:
    """How many events there are by what all events of a kind have in common, and by day."""

    days: Counter[dt.date]
    models: Counter[str]
    rules: Counter[str]


class VisibleEvents:
    """The events of a period that a user may see, found by the index of their kinds.

    Those of models of which the user sees some rows only are read one by one, the newest first and not too many.
    """

    def __init__(self, access: Access, period: Period, using: str) -> None:
        self.access = access
        self.period = period
        kinds = known_kinds(using).items()
        self.kinds = {number: kind for number, kind in kinds if access.may_view(kind.model)}
        partial = [number for number, kind in self.kinds.items() if access.is_partial(kind.model)]
        # All kinds are named even to who sees all: their index has all that is counted by day, model and rule.
        found = EventFilter(since=period.since, until=period.until).find(using)
        self.events: AuditEventQuerySet = found.filter(kind__in=self.kinds.keys() - set(partial)).order_by()
        self._partial = found.filter(kind__in=partial) if partial else None

    @cached_property
    def _read(self) -> list[AuditEvent]:
        if self._partial is None:
            return []
        return list(self._partial.only(*_COLUMNS).order_by("-recorded_at", "-id")[: MOST_READ + 1])

    @cached_property
    def _shown(self) -> list[AuditEvent]:
        return self.access.filter(self._read[:MOST_READ])

    @property
    def is_cut(self) -> bool:
        """Return whether there are more events to be read one by one than are read."""
        return len(self._read) > MOST_READ

    def count(self) -> EventCounts:
        """Count the events by day, model and rule: one query, of the index alone."""
        days = self.period.days
        ends = ((number, _midnight(day + _DAY)) for number, day in enumerate(days))
        number = Case(
            *(When(recorded_at__lt=end, then=Value(number)) for number, end in ends), output_field=IntegerField()
        )
        counts = EventCounts(Counter(), Counter(), Counter())
        rows = self.events.annotate(day=number).values_list("kind", "day").annotate(count=Count("id"))
        for kind, day, count in rows:
            self._add(counts, kind, days[day], count)
        for event in self._shown:
            self._add(counts, event.kind, local(event.recorded_at).date(), 1)
        return counts

    def _add(self, counts: EventCounts, kind: int, day: dt.date, count: int) -> None:
        counts.days[day] += count
        counts.models[self.kinds[kind].model] += count
        counts.rules.update(dict.fromkeys(self.kinds[kind].rules, count))

    def count_by_actor(self, most: int) -> Sequence[ActorCount]:
        """Return those who caused the most events, each by the name in the newest of them."""
        # Who has no key is told apart by name.
        unkeyed = Case(When(actor_id="", then=F("actor_repr")), default=Value(""))
        groups = self.events.annotate(unkeyed=unkeyed).values("actor_id", "unkeyed")
        counted = groups.annotate(count=Count("id"), newest=Max("id")).order_by("-count", "actor_id", "unkeyed")
        rows = list(counted.values_list("actor_id", "unkeyed", "count", "newest")[: None if self._shown else most])
        rows = self._with_shown(rows)[:most]
        newest = AuditEvent.objects.using(self.events.db).filter(pk__in=[row[3] for row in rows]).order_by()
        names = dict(newest.values_list("pk", "actor_repr"))
        return [ActorCount(key, names.get(pk, ""), count) for key, _name, count, pk in rows]

    def _with_shown(self, rows: list[ActorRow]) -> list[ActorRow]:
        """Return the rows with the events that were read one by one, those with the most events first."""
        if not self._shown:
            return rows
        found: dict[tuple[str, str], tuple[int, int]] = {(key, name): (count, pk) for key, name, count, pk in rows}
        for event in self._shown:
            place = event.actor_id, "" if event.actor_id else event.actor_repr
            count, pk = found.get(place, (0, 0))
            found[place] = count + 1, max(pk, event.pk)
        merged = [(*place, *counted) for place, counted in found.items()]
        return sorted(merged, key=lambda row: (-row[2], row[0], row[1]))


def count_failures(since: dt.datetime) -> list[tuple[str, str, int]]:
    """Return channel, status and number of the notifications that failed since then and still are as they were."""
    rows = Notification.objects.filter(status__in=FAILURES, status_changed__gte=in_project_time(since))
    # The index has the end of the claim or the time of the next attempt, and both come after the failure.
    rows = rows.filter(available_at__gte=since - _DAY)
    counted = rows.order_by().values_list("channel", "status").annotate(count=Count("id"))
    return sorted(counted, key=lambda row: (-row[2], row[0], row[1]))
