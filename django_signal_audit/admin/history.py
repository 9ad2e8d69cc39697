"""The history of one object: all that is recorded of it, the newest first."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.text import Truncator
from django.utils.translation import gettext as _

from django_signal_audit.enums import EventType
from django_signal_audit.keys import parse_id
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.events import utc_now
from django_signal_audit.reports.arguments import parse_moment
from django_signal_audit.reports.base import WrongArgument
from django_signal_audit.reports.display import show_state, show_time
from django_signal_audit.reports.queries import EventFilter

from .base import crumbs_to_list, render_page
from .details import view_events
from .links import key_of, object_url
from .paging import BoundedPaginator
from .related import related_events
from .visibility import may_view

PER_PAGE = 50
TEMPLATE = "django_signal_audit/admin/history.html"


def history_page(model_admin: ModelAdmin[Any], request: HttpRequest, label: str, segment: str) -> TemplateResponse:
    """Return the page, for whoever may view events and the model; an object with no event yet has one too."""
    if not model_admin.has_view_permission(request) or not may_view(request.user, label):
        raise PermissionDenied
    key = key_of(segment)
    wanted = EventFilter(model=label, object_id=key).conditions()
    events = model_admin.get_queryset(request).filter(*wanted).order_by("-id")
    page = BoundedPaginator(events, PER_PAGE).get_page(request.GET.get("p"))
    newest = events.first()
    site = model_admin.admin_site
    subject = (newest.object_repr if newest else "") or key
    context = {
        "title": _("Audit history"),
        "subtitle": subject,
        "label": label,
        "key": key,
        "page": page,
        "views": view_events(site.name, list(page)),
        "related": view_events(site.name, related_events(request, newest)) if newest and page.number == 1 else [],
        "at": request.GET.get("at", ""),
        **_state(newest, key, request.GET.get("at", "")),
        **_present(site.name, newest),
    }
    here = Truncator(subject).words(18)
    return render_page(model_admin, request, TEMPLATE, context, crumbs=crumbs_to_list(model_admin), here=here)


def _state(newest: AuditEvent | None, key: str, text: str) -> dict[str, Any]:
    """Return what the object was at the moment that was typed in, or what is wrong with that."""
    model = newest.model_class if newest else None
    if newest is None or model is None or not text:
        return {}
    try:
        moment = parse_moment(text, utc_now())
    except WrongArgument as wrong:
        return {"at_error": str(wrong)}
    pk = parse_id(model, key)
    values = AuditEvent.objects.using(newest._state.db).state_of(model, key if pk is None else pk, moment)
    return {"at_time": show_time(moment), "state": None if values is None else show_state(newest, values)}


def _present(site: str, newest: AuditEvent | None) -> dict[str, Any]:
    """Return whether the object is there still, and where."""
    is_deleted = newest is not None and newest.event_type == EventType.DELETE
    return {"is_deleted": is_deleted, "object_url": "" if newest is None or is_deleted else object_url(site, newest)}
