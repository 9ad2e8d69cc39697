"""The dashboard: what happened in a period, in figures, and what failed to be delivered."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.formats import number_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_signal_audit.admin.access import access_of
from django_signal_audit.admin.base import ReadOnlyAdmin, crumbs_to_list, render_page
from django_signal_audit.admin.details import may_view_notifications
from django_signal_audit.admin.evidence import seal_state
from django_signal_audit.admin.keyset import MOST_READ
from django_signal_audit.admin.links import events_url, history_url, notifications_url
from django_signal_audit.admin.periods import Period
from django_signal_audit.admin.statistics import (
    DELETED,
    KINDS,
    Deliveries,
    EventCounts,
    Ranked,
    VisibleEvents,
    count_deliveries,
)
from django_signal_audit.models import AuditEvent
from django_signal_audit.reports.base import WrongArgument
from django_signal_audit.reports.charts import Mark, bar, columns, swatch
from django_signal_audit.reports.display import printable
from django_signal_audit.reports.formatter import show_date
from django_signal_audit.reports.rollups import DAYS

TEMPLATE = "django_signal_audit/admin/dashboard.html"
DEFAULT_DAYS, HOURS = 30, 24
# So many rows a table has, and so many if all are asked for.
MOST_ROWS, ALL_ROWS = 10, 500
KIND_NAMES = {
    "changed": gettext_lazy("changed"),
    "other": gettext_lazy("other"),
    "created": gettext_lazy("created"),
    "deleted": gettext_lazy("deleted"),
}


@dataclass(frozen=True, slots=True)
class Choice:
    """What was asked for.

    Attributes:
        period: The period.
        query: The query that asks for it.
        everything: The name of the table that shows all its rows.
        error: What was wrong with the period.
        since: Its first day as it was typed in.
        until: Its last day as it was typed in.

    """

    period: Period
    query: str
    everything: str = ""
    error: str = ""
    since: str = ""
    until: str = ""

    def limit(self, table: str) -> int:
        """Return how many rows a table has at most."""
        return ALL_ROWS if self.everything == table else MOST_ROWS


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure with a line below it, which may be a link."""

    name: str
    title: str
    value: str
    note: str = ""
    url: str = ""
    is_alarming: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A number, what it counts, and where the list of just these is."""

    label: str
    value: int
    url: str
    bar: SafeString

    @property
    def shown(self) -> str:
        """Return the number as people read it."""
        return _count(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What there is most of; ``name`` names it in the page's address."""

    name: str
    title: str
    unit: str
    rows: Sequence[Row]
    more: str = ""
    note: str = ""


def dashboard_page(model_admin: ReadOnlyAdmin, request: HttpRequest) -> TemplateResponse:
    """Return the page for users who may view events; deliveries take the permission to view notifications."""
    if not model_admin.has_view_permission(request):
        raise PermissionDenied
    site, choice = model_admin.admin_site, _choose(request)
    visible = VisibleEvents(access_of(request, site), choice.period, AuditEvent.objects.all().db)
    counts = visible.count()
    deliveries = count_deliveries(choice.period) if may_view_notifications(request, site) else None
    context = {
        "title": _("Dashboard"),
        "choice": choice,
        "span": _span(choice.period),
        "ranges": _ranges(choice.query),
        "tiles": list(_tiles(site.name, choice.period, counts, deliveries)),
        "chart": _chart(site.name, choice.period, counts),
        "legend": [(swatch(kind), KIND_NAMES[kind]) for kind in KINDS],
        "busy": _only_day(choice.period, counts),
        "tables": list(_tables(site.name, visible, counts, deliveries, choice)),
        "most_read": MOST_READ if visible.is_cut else 0,
        "seals": seal_state(request, AuditEvent.objects.all().db),
    }
    return render_page(model_admin, request, TEMPLATE, context, crumbs=crumbs_to_list(model_admin))


# The period


def _choose(request: HttpRequest) -> Choice:
    """Return the period the address asks for, the usual one if it asks for none."""
    parameters = request.GET
    since, until = (parameters.get(name, "").strip()[:100] for name in ("since", "until"))
    everything = parameters.get("all", "")
    if since or until:
        return replace(_choose_days(since, until), everything=everything)
    if parameters.get("hours") == str(HOURS):
        return Choice(Period.last_hours(HOURS), f"hours={HOURS}", everything)
    named = {str(days): days for days in DAYS}
    days = named.get(parameters.get("days", ""), DEFAULT_DAYS)
    return Choice(Period.last_days(days), f"days={days}", everything)


def _choose_days(since: str, until: str) -> Choice:
    default = Period.last_days(DEFAULT_DAYS)
    try:
        last = dt.date.fromisoformat(until) if until else default.last_day
        first = dt.date.fromisoformat(since) if since else last - dt.timedelta(days=DEFAULT_DAYS - 1)
        period = Period.of_days(*sorted((first, last)))
    except (ValueError, OverflowError, WrongArgument):
        error = _("“%(since)s” to “%(until)s” isn't a valid period. Use dates such as 2026-01-31.")
        shown = error % {"since": since or "…", "until": until or "…"}
        return Choice(default, f"days={DEFAULT_DAYS}", error=shown, since=since, until=until)
    ends = {"since": period.first_day.isoformat(), "until": period.last_day.isoformat()}
    return Choice(period, urlencode(ends), **ends)


def _ranges(query: str) -> list[tuple[str, str, bool]]:
    """Return query and label of each range that is offered, and whether it is the one that is shown."""
    hours = ngettext("%(count)d hour", "%(count)d hours", HOURS) % {"count": HOURS}
    days = [
        (f"days={number}", ngettext("%(count)d day", "%(count)d days", number) % {"count": number}) for number in DAYS
    ]
    return [(one, label, one == query) for one, label in ((f"hours={HOURS}", hours), *days)]


def _span(period: Period) -> str:
    if period.is_hourly and period.first_day != period.last_day:
        parts = [period.parts[0].label, period.parts[-1].label]
    else:
        parts = [show_date(period.first_day), show_date(period.last_day)]
    first, last = parts
    return first if first == last else _("%(since)s to %(until)s") % {"since": first, "until": last}


# Figures


def _tiles(site: str, period: Period, counts: EventCounts, deliveries: Deliveries | None) -> Iterable[Tile]:
    kinds, total = counts.kinds, counts.kinds.total()
    per_day = number_format(round(total / period.days, 1), 1, force_grouping=True)
    yield Tile("events", _("Events"), _count(total), _("%(count)s a day") % {"count": per_day} if total else "")
    yield _busiest(site, period, counts)
    deleted = kinds[DELETED]
    url = events_url(site, event_type="delete", **period.filters) if deleted else ""
    yield Tile("deletions", _("Deletions"), _count(deleted), _("View them") if deleted else "", url)
    if deliveries is not None:
        total, failed = deliveries.channels.total(), deliveries.failed
        note = ngettext("of %(count)s notification", "of %(count)s notifications", total) % {"count": _count(total)}
        url = notifications_url(site, status="dead") if failed else ""
        yield Tile("failed", _("Failed deliveries"), _count(failed), note, url, is_alarming=bool(failed))


def _busiest(site: str, period: Period, counts: EventCounts) -> Tile:
    title = _("Busiest hour") if period.is_hourly else _("Busiest day")
    totals = [part.total() for part in counts.parts]
    most = max(totals, default=0)
    if not most:
        return Tile("busiest", title, "–")  # noqa: RUF001  # an en dash for nothing
    part = period.parts[totals.index(most)]
    note = ngettext("%(count)s event", "%(count)s events", most) % {"count": _count(most)}
    return Tile("busiest", title, part.brief, note, events_url(site, **part.filters))


def _chart(site: str, period: Period, counts: EventCounts) -> SafeString:
    marks = []
    for part, found in zip(period.parts, counts.parts, strict=True):
        # What did not happen has no list to lead to.
        url = events_url(site, **part.filters) if found.total() else ""
        marks.append(Mark(part.label, {kind: found[kind] for kind in KINDS}, url, part.brief))
    return columns(_chart_title(period), marks, {kind: str(name) for kind, name in KIND_NAMES.items()})


def _chart_title(period: Period) -> str:
    return _("Events by hour") if period.is_hourly else _("Events by day")


def _only_day(period: Period, counts: EventCounts) -> dict[str, str]:
    """Return the sentence for a period whose events are all of one day, and the query that shows its hours."""
    busy = [part for part, found in zip(period.parts, counts.parts, strict=True) if found]
    if period.is_hourly or len(busy) != 1 or busy[0].filters["since"] != busy[0].filters["until"]:
        return {}
    total = counts.kinds.total()
    text = ngettext("%(count)s event, on %(day)s.", "All %(count)s events are from %(day)s.", total)
    return {"text": text % {"count": _count(total), "day": busy[0].label}, "query": urlencode(busy[0].filters)}


# Tables


def _tables(
    site: str,
    visible: VisibleEvents,
    counts: EventCounts,
    deliveries: Deliveries | None,
    choice: Choice,
) -> Iterable[Table]:
    filters = visible.period.filters
    # One more tells whether there are more.
    actors = [_actor_row(site, one, filters) for one in visible.actors(choice.limit("users") + 1)]
    yield _table(choice, "users", _("Most active users"), _("events"), actors)
    objects = [_object_row(site, one) for one in visible.objects(choice.limit("objects") + 1)]
    yield _table(choice, "objects", _("Most changed objects"), _("changes"), objects)
    rules = [(printable(name), count, events_url(site, rule=name, **filters)) for name, count in _ranked(counts.rules)]
    both = _("An event that several rules matched counts for each of them.") if len(rules) > 1 else ""
    yield _table(choice, "rules", _("Rules"), _("matching events"), rules, both)
    if deliveries is not None:
        channels = [
            (printable(name), count, notifications_url(site, channel=name))
            for name, count in _ranked(deliveries.channels)
        ]
        yield _table(choice, "channels", _("Channels"), _("notifications"), channels)


def _table(
    choice: Choice, name: str, title: str, unit: str, rows: Sequence[tuple[str, int, str]], note: str = ""
) -> Table:
    limit = choice.limit(name)
    largest = max((value for _label, value, _url in rows), default=0)
    shown = [Row(label, value, url, bar(value, largest)) for label, value, url in rows[:limit]]
    more = ""
    if len(rows) > limit and limit == ALL_ROWS:
        note = _("The %(count)s with the most.") % {"count": ALL_ROWS}
    elif len(rows) > limit:
        more = f"?{choice.query}&all={name}#{name}"
    return Table(name=name, title=title, unit=unit, rows=shown, more=more, note=note)


def _actor_row(site: str, actor: Ranked, filters: Mapping[str, str]) -> tuple[str, int, str]:
    label = printable(actor.name or actor.key)
    # Somebody without a primary key may have somebody else's for a name.
    named = {"actor": actor.key} if actor.key else {"actor_name": actor.name} if actor.name else {"actor": "none"}
    return label, actor.count, events_url(site, **named, **filters)


def _object_row(site: str, one: Ranked) -> tuple[str, int, str]:
    return printable(one.name or one.key), one.count, history_url(site, one.label, one.key)


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _count(value: int) -> str:
    return str(number_format(value, force_grouping=True))
