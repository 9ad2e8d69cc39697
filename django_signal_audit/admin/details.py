"""What the page of one event shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.admin import AdminSite, ModelAdmin
from django.http import HttpRequest
from django.utils.translation import gettext as _

from django_signal_audit.enums import EventType
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.reports.display import (
    ShownField,
    ShownValue,
    show_actor,
    show_fields,
    show_impersonator,
    show_payload,
    show_reason,
)
from django_signal_audit.reports.formatter import Reader, show_brief, show_moment

from .access import access_of
from .links import actor_url, event_url, events_url, history_url, may_view_events, notification_url, revert_url
from .revert import refusal_of, revert_for
from .reverting import Present


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """An event ready for a template; nothing in it is escaped yet. Addresses the user may not open are ``""``."""

    event: AuditEvent
    kind: str
    time: str
    brief: str
    actor: str
    impersonator: str
    reason: str
    revert_url: str
    fields: list[ShownField]
    data: list[tuple[str, ShownValue]]
    context: list[tuple[str, ShownValue]]
    url: str = ""
    actor_url: str = ""
    impersonator_url: str = ""
    history_url: str = ""
    correlation_url: str = ""
    # Whether it changed fields that the user may not see.
    is_cut: bool = False


def view_events(
    model_admin: ModelAdmin[Any], request: HttpRequest, events: Sequence[AuditEvent], present: Present | None = None
) -> list[EventView]:
    """Return events ready for a template.

    Args:
        model_admin: An admin of the site whose pages they link to.
        request: The request, whose user reads them.
        events: The events.
        present: Their object as it is now, where a change of it can be reverted from here.

    """
    site = model_admin.admin_site
    access = access_of(request, site)
    shown = access.redact(events)
    reader = access.reader_of(shown)
    return [
        _view(
            view,
            reader,
            # A revert covers all of the change, whatever of it may be seen.
            revert_url=_revert_url(site, request, event, present),
            **_links(site, request, event),
        )
        for event, view in zip(events, shown, strict=True)
    ]


def _revert_url(site: AdminSite, request: HttpRequest, event: AuditEvent, present: Present | None) -> str:
    """Return the URL of the revert page, ``""`` where the change can't be reverted or that takes long to know."""
    revert = revert_for(site, request, event) if present is not None else None
    is_open = revert is not None and present is not None and revert.is_open(present)
    return revert_url(site.name, event.pk) if is_open else ""


def _links(admin_site: AdminSite, request: HttpRequest, event: AuditEvent) -> dict[str, str]:
    """Return where the event leads; nowhere who may see a message about it, but not the log."""
    if not may_view_events(request, admin_site, event.model):
        return {}
    site = admin_site.name
    correlation = event.correlation_id
    impersonator = event.context.get("impersonator") if show_impersonator(event) else {}
    impersonator_id, impersonator_repr = impersonator.get("id", ""), impersonator.get("repr", "")
    return {
        "url": event_url(site, event.pk),
        "actor_url": actor_url(site, event.actor_id, event.actor_repr),
        "impersonator_url": actor_url(site, impersonator_id, impersonator_repr),
        "history_url": history_url(site, event.model, event.object_id) if event.model and event.object_id else "",
        "correlation_url": events_url(site, q=correlation) if correlation else "",
    }


def _view(event: AuditEvent, reader: Reader, **urls: str) -> EventView:
    return EventView(
        event=event,
        kind=EventType.label_of(event.event_type),
        time=show_moment(event.recorded_at),
        brief=show_brief(event.recorded_at),
        actor=show_actor(event),
        impersonator=show_impersonator(event),
        reason=show_reason(event),
        fields=show_fields(event, reader),
        data=show_payload(event.data),
        # These have places of their own.
        context=show_payload({k: value for k, value in event.context.items() if k not in ("reason", "impersonator")}),
        is_cut=getattr(event, "is_cut", False),
        **urls,
    )


def event_page(model_admin: ModelAdmin[Any], request: HttpRequest, event: AuditEvent) -> dict[str, Any]:
    """Return what the template of an event's page needs beside the admin's own context."""
    site = model_admin.admin_site.name
    notifications = []
    if may_view_notifications(request):
        rows = Notification.objects.using(event._state.db).filter(event=event.uid).order_by("id")[:100]
        notifications = [(notification_url(site, row.pk), row) for row in rows]
    revert = revert_for(model_admin.admin_site, request, event)
    return {
        "title": _("Audit event"),
        "view": view_events(model_admin, request, [event])[0],
        "notifications": notifications,
        "revert_url": revert_url(site, event.pk) if revert else "",
        "refusal": refusal_of(revert) if revert else "",
    }


def may_view_notifications(request: HttpRequest) -> bool:
    """Return whether the user may see the outbox."""
    return request.user.has_perm("django_signal_audit.view_notification")
