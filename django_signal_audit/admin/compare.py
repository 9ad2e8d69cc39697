"""Two versions of an object beside each other: any two, or the state at a time beside the present one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.text import get_text_list
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from django_signal_audit.models import AuditEvent
from django_signal_audit.reports.base import WrongArgument
from django_signal_audit.reports.display import label_of, show_actors
from django_signal_audit.reports.formatter import local
from django_signal_audit.reports.history import uncertain

from .base import ReadOnlyAdmin, render_page
from .keyset import ALL_TIME, Cursor, Position, TimeRange, find_keys
from .links import history_url, restore_url
from .restore import may_restore
from .subjects import Subject, crumbs_of
from .versions import CURRENT, FieldRow, Version, rows_between, version_of

TEMPLATE = "django_signal_audit/admin/compare.html"
# So many changes between two versions are counted.
MOST_BETWEEN = 100
# So many of those who made them are named.
MOST_NAMED = 3


def compare_page(model_admin: ReadOnlyAdmin, request: HttpRequest, subject: Subject) -> HttpResponse:
    """Return what differs between the versions that the address names."""
    points = request.GET.get("older", "").strip(), request.GET.get("newer", "").strip() or CURRENT
    context: dict[str, Any] = {"typed": points}
    try:
        older, newer = (version_of(subject, point) for point in points)
    except WrongArgument as wrong:
        return _render(model_admin, request, subject, {**context, "error": str(wrong)})
    if _place(older) > _place(newer):
        older, newer = newer, older
    if request.GET.get("format") == "json":
        return _json(subject, {"older": older, "newer": newer})
    context |= {
        "typed": [_typed(older), _typed(newer)],
        "between": _between(subject, older, newer),
        "title": _("Compare"),
    }
    return _render(model_admin, request, subject, context, versions=(older, newer), shows_all="all" in request.GET)


def state_page(model_admin: ReadOnlyAdmin, request: HttpRequest, subject: Subject) -> HttpResponse:
    """Return what the object was at the time that the address names, beside what it is now."""
    text = request.GET.get("at", "").strip()
    context: dict[str, Any] = {"is_state": True, "typed": [text], "title": _("State at")}
    try:
        version, current = version_of(subject, text), version_of(subject, CURRENT)
    except WrongArgument as wrong:
        return _render(model_admin, request, subject, {**context, "error": str(wrong)})
    if request.GET.get("format") == "json":
        return _json(subject, {"state": version})
    context |= {"typed": [_typed(version)], "title": version.title, "neighbours": _neighbours(subject, version)}
    shows_all = "differing" not in request.GET
    return _render(model_admin, request, subject, context, versions=(version, current), shows_all=shows_all)


def _render(
    model_admin: ReadOnlyAdmin,
    request: HttpRequest,
    subject: Subject,
    context: Mapping[str, object],
    *,
    versions: tuple[Version, Version] | None = None,
    shows_all: bool = False,
) -> HttpResponse:
    site = model_admin.admin_site
    back = history_url(site.name, subject.label, subject.key)
    page: dict[str, Any] = {"title": _("Compare"), "subject": subject, "back": back, **context}
    if versions is not None:
        older, newer = versions
        rows = rows_between(subject, older, newer, shows_members=shows_all)
        is_open = not older.is_current and older.values is not None and may_restore(site, request, subject)
        page |= {
            "older": older,
            "newer": newer,
            "rows": rows if shows_all else [row for row in rows if row.differs],
            "count": len(rows),
            "differing": sum(row.differs for row in rows),
            "shows_all": shows_all,
            "toggle_url": _toggled(request),
            "json_url": f"?{_query(request, format='json')}",
            "is_cut": _is_cut(subject, versions),
            "uncertain": _uncertain(subject, older, rows),
            "restore_url": restore_url(site.name, subject.label, subject.key, older.point) if is_open else "",
        }
    crumbs = [*crumbs_of(model_admin, subject), (_("History"), back)]
    return render_page(model_admin, request, TEMPLATE, page, crumbs=crumbs)


def _place(version: Version) -> tuple[bool, int]:
    """Return what versions are in order by: the present one comes last."""
    return version.is_current, version.event.pk if version.event else 0


def _typed(version: Version) -> str:
    """Return the text that names a version in the form, exactly."""
    if version.is_current:
        return CURRENT
    moment = version.moment or (version.event.recorded_at if version.event else None)
    if moment is None:
        return version.point
    here = local(moment)
    # Of the hour that comes twice, only the offset tells the second.
    return (here if here.fold else here.replace(tzinfo=None)).isoformat(sep=" ")


def _query(request: HttpRequest, **more: str) -> str:
    names = ("at", "older", "newer")
    return urlencode({**{name: request.GET[name] for name in names if name in request.GET}, **more})


def _toggled(request: HttpRequest) -> str:
    """Return the address that shows all fields, or only those that differ."""
    name = "differing" if "at" in request.GET else "all"
    return f"?{_query(request) if name in request.GET else _query(request, **{name: '1'})}"


def _is_cut(subject: Subject, versions: Sequence[Version]) -> bool:
    """Return whether there are fields that the user may not see."""
    names = {name for version in versions for name in version.values or {}}
    return not all(map(subject.shows, names))


def _uncertain(subject: Subject, older: Version, rows: Sequence[FieldRow]) -> list[str]:
    """Return the fields whose changes are not all recorded."""
    names = [row.name for row in rows if older.values and row.name in older.values]
    event = subject.change({})
    return [label_of(event.field(name), name) for name in uncertain(event, names)]


def _json(subject: Subject, versions: Mapping[str, Version]) -> JsonResponse:
    """Return versions as JSON, without the fields that the user may not see."""
    found: dict[str, object] = {"model": subject.label, "object_id": subject.key}
    for name, version in versions.items():
        values = version.values
        shown = None if values is None else {key: one for key, one in values.items() if subject.shows(key)}
        event = version.event
        found[name] = {"event": str(event.uid) if event else None, "at": version.at, "values": shown}
    return JsonResponse(found, json_dumps_params={"indent": 2, "ensure_ascii": True})


def _neighbours(subject: Subject, version: Version) -> list[tuple[str, str]]:
    """Return the addresses of the states after the previous and the next change."""
    position = Position(version.event.recorded_at, version.event.pk) if version.event else ALL_TIME.after
    scans, found = subject.scans(subject.row_events), []
    for label, is_older in ((_("Previous change"), True), (_("Next change"), False)):
        keys = find_keys(scans, Cursor(is_older, position).narrow(ALL_TIME), 1, Cursor(is_older, position))
        found += [(label, f"?at={key}") for key in keys if version.event or not is_older]
    return found


def _between(subject: Subject, older: Version, newer: Version) -> dict[str, object]:
    """Return how many changes lead from one version to the other, by whom, and where they are listed."""
    if older.event is None or newer.event is None or older.event.pk >= newer.event.pk:
        return {}
    end = Position(newer.event.recorded_at, newer.event.pk + 1)
    span = TimeRange(Position(older.event.recorded_at, older.event.pk), end)
    keys = find_keys(subject.scans(subject.row_events), span, MOST_BETWEEN + 1, Cursor())
    rows = AuditEvent.objects.using(subject.using).filter(pk__in=keys[:MOST_BETWEEN])
    columns = ("model", "object_id", "event_type", "actor_id", "actor_repr", "context")
    events = subject.access.filter(rows.only(*columns).order_by("pk"))
    names = list(dict.fromkeys(show_actors(event) or _("no actor") for event in events))
    named = names if len(names) <= MOST_NAMED else [*names[:MOST_NAMED], _("others")]
    return {
        "count": len(events),
        "is_more": len(keys) > MOST_BETWEEN,
        "actors": get_text_list(named, pgettext("list", "and")),
        "query": "" if newer.is_current else urlencode({"p": str(Cursor(position=end))}),
    }
