"""The dashboard: what happened in a period, drawn and in numbers, and what failed to be delivered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.formats import number_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.reports.localization import show_date
from django_signal_audit.reports.sanitizing import printable

from .access import access_of
from .base import crumbs_to_list, render_page
from .details import may_view_notifications
from .links import events_url, notifications_url
from .scanning import MOST_READ
from .statistics import Period, VisibleEvents, count_failures

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
