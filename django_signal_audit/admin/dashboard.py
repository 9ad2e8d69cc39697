"""The dashboard: what happened in a period, drawn and in numbers, and what failed to be delivered."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, TypeAlias

from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.db.models import Case, Count, F, IntegerField, Max, Value, When
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.formats import number_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from django_signal_audit.admin.access import Access, access_of
from django_signal_audit.admin.base import crumbs_to_list, render_page
from django_signal_audit.admin.details import may_view_notifications
from django_signal_audit.admin.keyset import MOST_READ
from django_signal_audit.admin.links import events_url, notifications_url
from django_signal_audit.models import AuditEvent, AuditEventQuerySet, Notification
from django_signal_audit.models.events import utc_now
from django_signal_audit.models.fields import in_project_time
from django_signal_audit.reports.arguments import parse_moment
from django_signal_audit.reports.display import printable
from django_signal_audit.reports.formatter import local, show_date
from django_signal_audit.reports.queries import EventFilter
from django_signal_audit.reports.signatures import known_signatures

FAILURES = (Notification.STATUS.failed, Notification.STATUS.dead)
_DAY = dt.timedelta(days=1)
# What decides who may see an event, and what it is counted by.
_COLUMNS = ("id", "model", "object_id", "event_type", "recorded_at", "signature", "actor_id", "actor_repr")
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
    """How many events there are by what all events of a signature have in common, and by day."""

    days: Counter[dt.date]
    models: Counter[str]
    rules: Counter[str]


class VisibleEvents:
    """The events of a period that a user may see, found by the index of their signatures.

    Those of models of which the user sees some rows only are read one by one, the newest first and not too many.
    """

    def __init__(self, access: Access, period: Period, using: str) -> None:
        self.access = access
        self.period = period
        signatures = known_signatures(using).items()
        self.signatures = {number: signature for number, signature in signatures if access.may_view(signature.model)}
        partial = [number for number, signature in self.signatures.items() if access.is_partial(signature.model)]
        # All signatures are named even to who sees all: their index has all that is counted by day, model and rule.
        found = EventFilter(since=period.since, until=period.until).find(using)
        self.events: AuditEventQuerySet = found.filter(signature__in=self.signatures.keys() - set(partial)).order_by()
        self._partial = found.filter(signature__in=partial) if partial else None

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
        rows = self.events.annotate(day=number).values_list("signature", "day").annotate(count=Count("id"))
        for signature, day, count in rows:
            self._add(counts, signature, days[day], count)
        for event in self._shown:
            self._add(counts, event.signature, local(event.recorded_at).date(), 1)
        return counts

    def _add(self, counts: EventCounts, signature: int, day: dt.date, count: int) -> None:
        counts.days[day] += count
        counts.models[self.signatures[signature].model] += count
        counts.rules.update(dict.fromkeys(self.signatures[signature].rules, count))

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


TEMPLATE = "django_signal_audit/admin/dashboard.html"
PERIODS = (7, 30, 90)
DEFAULT_PERIOD = 30
# More bars than these cannot be told apart; the tables have all models and rules, and so many actors.
MOST_BARS = 12
MOST_ACTORS = 50


@dataclass(frozen=True, slots=True)
class Row:
    """A number, what it counts, and where the list of just these is."""

    label: str
    value: int
    url: str = ""

    @property
    def shown(self) -> str:
        """Return the number as people read it."""
        return str(number_format(self.value, force_grouping=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One chart with its numbers; ``name`` names it in the page's addresses."""

    name: str
    title: str
    heading: str
    rows: Sequence[Row]
    unit: str
    note: str = ""
    is_time: bool = False

    @property
    def counted(self) -> list[Row]:
        """Return the rows with anything to count."""
        return [row for row in self.rows if row.value]


def dashboard_page(model_admin: ModelAdmin[Any], request: HttpRequest) -> TemplateResponse:
    """Return the page for users who may view events; failed notifications take the permission to view notifications."""
    if not model_admin.has_view_permission(request):
        raise PermissionDenied
    site = model_admin.admin_site
    days = _chosen(request)
    period, access = Period.until_today(days), access_of(request, site)
    visible = VisibleEvents(access, period, AuditEvent.objects.all().db)
    panels = _event_panels(site.name, visible)
    if may_view_notifications(request):
        panels.append(_delivery(site.name, period))
    charts = _draw(panels)
    context = {
        "title": _("Dashboard"),
        "days": days,
        "periods": PERIODS,
        "period": period,
        "panels": list(zip(panels, charts or [SafeString()] * len(panels), strict=True)),
        "has_charts": charts is not None,
        "most_read": MOST_READ if visible.is_cut else 0,
    }
    return render_page(model_admin, request, TEMPLATE, context, crumbs=crumbs_to_list(model_admin))


def _chosen(request: HttpRequest) -> int:
    """Return the number of days the address asks for, the usual one if it asks for none that is offered."""
    named = {str(days): days for days in PERIODS}
    return named.get(request.GET.get("days", ""), DEFAULT_PERIOD)


def _event_panels(site: str, visible: VisibleEvents) -> list[Panel]:
    counts = visible.count()
    first, last = visible.period.first.isoformat(), visible.period.last.isoformat()

    def link(**parameters: str) -> str:
        return events_url(site, **parameters, since=first, until=last)

    days = [
        Row(show_date(day), counts.days[day], events_url(site, since=day.isoformat(), until=day.isoformat()))
        for day in visible.period.days
    ]
    models = [
        Row(printable(label) or _("none"), count, link(model=label) if label else "")
        for label, count in _ranked(counts.models)
    ]
    actors = []
    for actor in visible.count_by_actor(MOST_ACTORS):
        label = printable(actor.name or actor.key) or _("none")
        # Somebody without a primary key may have somebody else's for a name.
        named = {"actor": actor.key} if actor.key else {"actor_name": actor.name}
        actors.append(Row(label, actor.count, link(**named) if any(named.values()) else ""))
    rules = [Row(printable(name), count, link(rule=name)) for name, count in _ranked(counts.rules)]
    unit = _("Events")
    both = _("An event that several rules matched counts for each of them.")
    cut = _("The %(count)d with the most events.") % {"count": MOST_ACTORS}
    return [
        Panel(name="day", title=_("Events by day"), heading=_("Day"), rows=days, unit=unit, is_time=True),
        Panel(name="model", title=_("Events by model"), heading=_("Model"), rows=models, unit=unit),
        Panel(
            name="actor",
            title=_("Events by actor"),
            heading=_("Actor"),
            rows=actors,
            unit=unit,
            note=cut if len(actors) == MOST_ACTORS else "",
        ),
        Panel(name="rule", title=_("Events by rule"), heading=_("Rule"), rows=rules, unit=unit, note=both),
    ]


def _ranked(counts: Counter[str]) -> Iterable[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _delivery(site: str, period: Period) -> Panel:
    states: dict[str, str] = {str(value): str(label) for value, label in Notification.STATUS}
    rows = [
        Row(printable(f"{channel}: {states[status]}"), count, notifications_url(site, channel=channel, status=status))
        for channel, status, count in count_failures(period.since)
    ]
    note = _("Failed notifications are retried, dead ones aren't. The list includes those of earlier days.")
    title, unit = _("Failed notifications"), _("Notifications")
    return Panel(name="delivery", title=title, heading=_("Channel"), rows=rows, unit=unit, note=note)


def _draw(panels: Sequence[Panel]) -> list[SafeString] | None:
    """Return a chart of each panel; None where pygal is not installed."""
    try:
        from django_signal_audit.reports.charts import Mark, bars, columns
    except ImportError:
        return None
    charts = []
    for panel in panels:
        # What did not happen has no list to lead to.
        marks = [Mark(row.label, row.value, row.url if row.value else "") for row in panel.rows]
        charts.append(columns(panel.title, marks) if panel.is_time else bars(panel.title, marks[:MOST_BARS]))
    return charts
