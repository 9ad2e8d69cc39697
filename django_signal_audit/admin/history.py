"""The history of one object: all that is recorded of it, the newest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.text import Truncator
from django.utils.translation import gettext as _

from django_signal_audit.admin.keyset import Found, Scan, find_visible
from django_signal_audit.enums import EventType
from django_signal_audit.events.keys import parse_id
from django_signal_audit.events.values import clean_text
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.events import utc_now
from django_signal_audit.models.inheritance import labels_including_children
from django_signal_audit.reports.arguments import parse_moment
from django_signal_audit.reports.base import WrongArgument
from django_signal_audit.reports.display import label_of, show_state
from django_signal_audit.reports.formatter import show_moment
from django_signal_audit.reports.history import uncertain

from .access import Access, access_of
from .base import crumbs_to_list, render_page
from .details import view_events
from .keyset import ALL_TIME, Cursor, HistoryScan, neighbours
from .links import key_of, object_url
from .related import find_object, related_events
from .reverting import Present

PER_PAGE = 50
TEMPLATE = "django_signal_audit/admin/history.html"


def history_page(model_admin: ModelAdmin[Any], request: HttpRequest, label: str, segment: str) -> TemplateResponse:
    """Return the page, for who may view events and the object; an object with no event yet has one too."""
    key, cursor, site = key_of(segment), Cursor.parse(request.GET.get("p", "")), model_admin.admin_site
    access, using = access_of(request, site), AuditEvent.objects.all().db
    if not model_admin.has_view_permission(request) or not access.may_view_object(label, clean_text(key), using):
        raise PermissionDenied
    scans = _scans(access, using, label, key)
    found = _read(access, using, scans, cursor, PER_PAGE)
    events, is_first = found.events, not found.page.has_newer
    newest = next(iter(events if is_first else _read(access, using, scans, Cursor(), 1).events), None)
    instance = find_object(newest) if newest else None
    related = related_events(access, events, instance) if events and is_first else []
    subject = (newest.object_repr if newest else "") or key
    context = {
        "title": _("Audit history"),
        "subtitle": subject,
        "label": label,
        "key": key,
        "views": view_events(model_admin, request, events, Present(instance, newest) if newest else None),
        "links": _links(cursor, found),
        "searched_to": found.searched_to,
        "related": view_events(model_admin, request, related),
        "newest": newest,
        "at": request.GET.get("at", ""),
        **_state(access, newest, label, key, request.GET.get("at", "")),
        **_present(site.name, newest),
    }
    here = Truncator(subject).words(18)
    return render_page(model_admin, request, TEMPLATE, context, crumbs=crumbs_to_list(model_admin), here=here)


def _links(cursor: Cursor, found: Found) -> dict[str, str]:
    cursors = neighbours(cursor, found.page, found.events)
    if found.further is not None:
        cursors["further"] = found.further
    return {name: f"?{_query(one)}" for name, one in cursors.items()}


def _query(cursor: Cursor) -> str:
    return urlencode({"p": str(cursor)} if str(cursor) else {})


def _model(label: str) -> type[models.Model] | None:
    return AuditEvent(model=label).model_class


def _scans(access: Access, using: str, label: str, key: str) -> list[HistoryScan]:
    """Return where the events of the object are: a row that a multi-table child's row extends has some of the child."""
    model, events = _model(label), AuditEvent.objects.using(using)
    labels = labels_including_children(model) if model is not None and label == model._meta.label_lower else (label,)
    name = clean_text(key)
    return [HistoryScan(events, clean_text(one), name) for one in labels if access.may_view_object(one, name, using)]


def _read(access: Access, using: str, scans: Sequence[HistoryScan], cursor: Cursor, size: int) -> Found:
    """Return a page: what is on neither side of it is not read."""
    scan = Scan(access, AuditEvent.objects.using(using), scans, ALL_TIME, size)
    return find_visible(scan, cursor, [scan.label for scan in scans])


def _state(access: Access, newest: AuditEvent | None, label: str, key: str, text: str) -> dict[str, object]:
    """Return what the object was at the moment that was typed in, or what is wrong with that."""
    model = _model(label)
    if newest is None or model is None or not text:
        return {}
    try:
        moment = parse_moment(text, utc_now())
    except WrongArgument as wrong:
        return {"at_error": str(wrong)}
    pk, events = parse_id(model, key), AuditEvent.objects.using(newest._state.db)
    if access.is_left_to_project(label, clean_text(key)):
        events = access.narrow(events)
    try:
        values = events.state_of(model, key if pk is None else pk, moment)
        return {"at_time": show_moment(moment), **_shown_state(access, newest, values)}
    except (AttributeError, KeyError, TypeError, ValueError):
        # SQL can store any JSON.
        return {"at_error": _("The history of this object can't be read.")}


def _shown_state(access: Access, newest: AuditEvent, values: dict[str, object] | None) -> dict[str, object]:
    if values is None:
        return {"state": None}
    values = {name: value for name, value in values.items() if access.shows(newest, name)}
    shown = show_state(newest, values, access.reader_of_state(newest, values))
    return {"state": shown, "uncertain": [label_of(newest.field(name), name) for name in uncertain(newest, values)]}


def _present(site: str, newest: AuditEvent | None) -> dict[str, object]:
    """Return whether the object is there still, and where."""
    is_deleted = newest is not None and newest.event_type == EventType.DELETE
    return {"is_deleted": is_deleted, "object_url": "" if newest is None or is_deleted else object_url(site, newest)}
