"""Revert the change of one event: after a confirmation, in one transaction that is itself recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _

from django_signal_audit.enums import EventType, Source
from django_signal_audit.models import AuditEvent
from django_signal_audit.reports.display import ShownField, show_fields

from .access import Access, access_of, readable
from .base import ReadOnlyAdmin, crumbs_to_list, render_page
from .links import event_url, events_url, history_url, revert_url
from .listing import model_name, name_with_time
from .reverting import Present, RefusedError, Revert, refusal_of, revert_of, run

TEMPLATE = "django_signal_audit/admin/revert.html"


def revert_for(
    site: AdminSite, request: HttpRequest, event: AuditEvent, *, with_creations: bool = False
) -> Revert | None:
    """Return how the user may revert this change, None if they may not.

    It takes the permission to revert, and the permission to make the same change by hand.
    """
    user: Any = request.user
    revert = revert_of(event, with_creations=with_creations)
    if revert is None or not user.has_perm("django_signal_audit.revert_auditevent"):
        return None
    access = access_of(request, site)
    limits = access.limits(event, revert.permission)
    if limits is None:
        return None
    revert.limits = limits
    if revert.permission != "delete":
        revert.is_seen = lambda: access.finds_row(event)
    return revert


def open_revert_url(site: AdminSite, request: HttpRequest, event: AuditEvent, present: Present) -> str:
    """Return the URL of the revert page, ``""`` where the change can't be reverted or that takes long to know."""
    revert = revert_for(site, request, event)
    return revert_url(site.name, event.pk) if revert is not None and revert.is_open(present) else ""


def revert_page(model_admin: ReadOnlyAdmin, request: HttpRequest, event_id: int) -> HttpResponse:
    """Ask for confirmation, and revert the change once it is given."""
    if not model_admin.has_view_permission(request):
        raise PermissionDenied
    access = access_of(request, model_admin.admin_site)
    event = next(iter(access.filter(readable(access, AuditEvent.objects.all()).filter(pk=event_id))), None)
    if event is None:
        raise Http404
    revert = revert_for(model_admin.admin_site, request, event)
    if revert is None:
        raise PermissionDenied
    site = model_admin.admin_site.name
    if request.method == "POST":
        try:
            run([revert], request.user, f"Revert of event {event.uid}", using=revert.using)
        except RefusedError as refused:
            return _render(model_admin, request, revert, str(refused), status=409)
        model_admin.message_user(request, _("The change was reverted."), messages.SUCCESS)
        return HttpResponseRedirect(history_url(site, event.model, event.object_id))
    return _render(model_admin, request, revert, refusal_of(revert))


def _render(
    model_admin: ReadOnlyAdmin, request: HttpRequest, revert: Revert, refusal: str, status: int = 200
) -> HttpResponse:
    event, site = revert.event, model_admin.admin_site.name
    back = event_url(site, event.pk)
    access = access_of(request, model_admin.admin_site)
    [shown] = access.redact([event])
    context = {
        "title": _("Revert this change"),
        "event": event,
        "object_name": event.object_repr or event.object_id,
        "model": model_name(event),
        "event_url": back,
        "is_deletion": event.event_type == EventType.DELETE,
        "together_url": events_url(site, q=event.correlation_id, event_type=event.event_type)
        if event.correlation_id and event.source != Source.CASCADE
        else "",
        "refusal": refusal,
        "notes": revert.notes(),
        "fields": _reverted_fields(shown, access),
    }
    crumbs = [*crumbs_to_list(model_admin), (name_with_time(shown), back)]
    return render_page(model_admin, request, TEMPLATE, context, crumbs=crumbs, status=status)


def _reverted_fields(shown: AuditEvent, access: Access) -> list[ShownField]:
    """Return the diff of what would happen, as far as the user may see it."""
    return [
        replace(
            line,
            old=line.new,
            new=line.old,
            old_parts=line.new_parts,
            new_parts=line.old_parts,
            added=line.removed,
            removed=line.added,
            percent="",
        )
        for line in show_fields(shown, access.reader_of([shown]))
    ]
