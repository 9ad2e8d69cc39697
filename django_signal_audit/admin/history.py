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

from django_signal_audit.enums import EventType
from django_signal_audit.keys import parse_id
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.events import utc_now
from django_signal_audit.models.lineage import labels_telling_of
from django_signal_audit.reports.arguments import parse_moment
from django_signal_audit.reports.base import WrongArgument
from django_signal_audit.reports.display import label_of, show_state
from django_signal_audit.reports.history import uncertain
from django_signal_audit.reports.localised import show_moment
from django_signal_audit.values import clean_text

from .base import crumbs_to_list, render_page
from .details import view_events
from .keyset import EVER, Cursor, Life, Page, find_page, neighbours
from .links import key_of, object_url
from .related import find_object, related_events
from .reversals import Present
from .visibility import may_view, reader_of_state

PER_PAGE = 50
TEMPLATE = "django_signal_audit/admin/history.html"


def history_page(model_admin: ModelAdmin[Any], request: HttpRequest, label: str, segment: str) -> TemplateResponse:
    """Return the page, for whoever may view events and the model; an object with no event yet has one too."""
    if not model_admin.has_view_permission(request) or not may_view(request.user, label):
        raise PermissionDenied
    key, cursor, site = key_of(segment), Cursor.parse(request.GET.get("p", "")), model_admin.admin_site.name
    lives = _lives(model_admin, request, label, key)
    page, events = _read(model_admin, request, lives, cursor, PER_PAGE)
    is_first = not page.has_newer
    newest = next(iter(events if is_first else _read(model_admin, request, lives, Cursor(), 1)[1]), None)
    instance = find_object(newest) if newest else None
    related = related_events(request, events, instance) if newest and is_first else []
    subject = (newest.object_repr if newest else "") or key
    context = {
        "title": _("Audit history"),
        "subtitle": subject,
        "label": label,
        "key": key,
        "views": view_events(model_admin, request, events, Present(instance, newest) if newest else None),
        "links": {name: f"?{_query(found)}" for name, found in neighbours(cursor, page, events).items()},
        "related": view_events(model_admin, request, related),
        "newest": newest,
        "at": request.GET.get("at", ""),
        **_state(request, newest, label, key),
        **_present(site, newest),
    }
    here = Truncator(subject).words(18)
    return render_page(model_admin, request, TEMPLATE, context, crumbs=crumbs_to_list(model_admin), here=here)


def _query(cursor: Cursor) -> str:
    return urlencode({"p": str(cursor)} if str(cursor) else {})


def _model(label: str) -> type[models.Model] | None:
    return AuditEvent(model=label).model_class


def _lives(model_admin: ModelAdmin[Any], request: HttpRequest, label: str, key: str) -> list[Life]:
    """Return where the events of the object are: a row that a multi-table child's row extends has some of the child."""
    model, events = _model(label), AuditEvent.objects.using(model_admin.get_queryset(request).db)
    labels = labels_telling_of(model) if model is not None and label == model._meta.label_lower else (label,)
    return [Life(events, clean_text(one), clean_text(key)) for one in labels if may_view(request.user, one)]


def _read(
    model_admin: ModelAdmin[Any], request: HttpRequest, lives: Sequence[Life], cursor: Cursor, size: int
) -> tuple[Page, list[AuditEvent]]:
    """Return a page and its events: what is on neither side of it is not read."""
    page = find_page(lives, EVER, cursor, size)
    rows = model_admin.get_queryset(request).in_bulk(page.keys)
    return page, [rows[pk] for pk in page.keys if pk in rows]


def _state(request: HttpRequest, newest: AuditEvent | None, label: str, key: str) -> dict[str, Any]:
    """Return what the object was at the moment that was typed in, or what is wrong with that."""
    model, text = _model(label), request.GET.get("at", "")
    if newest is None or model is None or not text:
        return {}
    try:
        moment = parse_moment(text, utc_now())
    except WrongArgument as wrong:
        return {"at_error": str(wrong)}
    pk = parse_id(model, key)
    values = AuditEvent.objects.using(newest._state.db).state_of(model, key if pk is None else pk, moment)
    shown = None if values is None else show_state(newest, values, reader_of_state(request.user, newest, values))
    labels = [label_of(newest.field(name), name) for name in uncertain(newest, values or {})]
    return {"at_time": show_moment(moment), "state": shown, "uncertain": labels}


def _present(site: str, newest: AuditEvent | None) -> dict[str, Any]:
    """Return whether the object is there still, and where."""
    is_deleted = newest is not None and newest.event_type == EventType.DELETE
    return {"is_deleted": is_deleted, "object_url": "" if newest is None or is_deleted else object_url(site, newest)}
