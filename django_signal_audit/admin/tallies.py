"""What the dashboard counts: events of a period by day, model, actor and rule, and what failed to be delivered."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from django.db.models import Case, Count, F, IntegerField, Max, Value, When

from django_signal_audit.models import AuditEvent, AuditEventQuerySet, Notification
from django_signal_audit.models.events import utc_now
from django_signal_audit.models.fields import in_project_time
from django_signal_audit.reports.arguments import parse_moment
from django_signal_audit.reports.kinds import known_kinds
from django_signal_audit.reports.localised import local
from django_signal_audit.reports.queries import EventFilter

from .visibility import may_view

FAILURES = (Notification.STATUS.failed, Notification.STATUS.dead)
_DAY = dt.timedelta(days=1)


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
class ActorTally:
    """How many events an actor caused; ``key`` and ``name`` are ``""`` for nobody."""

    key: str
    name: str
    count: int


@dataclass(frozen=True, slots=True)
class EventTallies:
    """How many events there are by what all events of a kind have in common, and by day."""

    days: Counter[dt.date]
    models: Counter[str]
    rules: Counter[str]


class VisibleEvents:
    """The events of a period that a user may see, found by the index of their kinds."""

    def __init__(self, user: Any, period: Period, using: str) -> None:
        self.period = period
        kinds = known_kinds(using).items()
        self.kinds = {number: kind for number, kind in kinds if may_view(user, kind.model)}
        # All kinds are named even to who sees all: their index has all that is counted by day, model and rule.
        found = EventFilter(since=period.since, until=period.until).find(using)
        self.events: AuditEventQuerySet = found.filter(kind__in=self.kinds).order_by()

    def count(self) -> EventTallies:
        """Count the events by day, model and rule: one query, of the index alone."""
        days = self.period.days
        ends = ((number, _midnight(day + _DAY)) for number, day in enumerate(days))
        number = Case(
            *(When(recorded_at__lt=end, then=Value(number)) for number, end in ends), output_field=IntegerField()
        )
        tallies = EventTallies(Counter(), Counter(), Counter())
        rows = self.events.annotate(day=number).values_list("kind", "day").annotate(count=Count("id"))
        for kind, day, count in rows:
            tallies.days[days[day]] += count
            tallies.models[self.kinds[kind].model] += count
            tallies.rules.update(dict.fromkeys(self.kinds[kind].rules, count))
        return tallies

    def count_by_actor(self, most: int) -> Sequence[ActorTally]:
        """Return those who caused the most events, each by the name in the newest of them."""
        # Who has no key is told apart by name.
        unkeyed = Case(When(actor_id="", then=F("actor_repr")), default=Value(""))
        groups = self.events.annotate(unkeyed=unkeyed).values("actor_id", "unkeyed")
        counted = groups.annotate(count=Count("id"), newest=Max("id")).order_by("-count", "actor_id", "unkeyed")
        rows = list(counted.values_list("actor_id", "count", "newest")[:most])
        newest = AuditEvent.objects.using(self.events.db).filter(pk__in=[row[2] for row in rows]).order_by()
        names = dict(newest.values_list("pk", "actor_repr"))
        return [ActorTally(key, names.get(pk, ""), count) for key, count, pk in rows]


def count_failures(since: dt.datetime) -> list[tuple[str, str, int]]:
    """Return channel, status and number of the notifications that failed since then and still are as they were."""
    rows = Notification.objects.filter(status__in=FAILURES, status_changed__gte=in_project_time(since))
    # The index has the end of the claim or the time of the next attempt, and both come after the failure.
    rows = rows.filter(available_at__gte=since - _DAY)
    counted = rows.order_by().values_list("channel", "status").annotate(count=Count("id"))
    return sorted(counted, key=lambda row: (-row[2], row[0], row[1]))
