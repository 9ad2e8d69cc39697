"""What the page of one event shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.admin import ModelAdmin
from django.http import HttpRequest
from django.utils.translation import gettext as _

from django_signal_audit.enums import EventType
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.reports.display import (
    ShownField,
    ShownValue,
    show_actor,
    show_fields,
    show_payload,
    show_reason,
    show_time,
)
from django_signal_audit.reports.relations import Names, related_names

from .links import event_url, events_url, history_url, notification_url, put_back_url
from .putback import may_put_back


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """An event ready for a template; nothing in it is escaped yet."""

    event: AuditEvent
    kind: str
    url: str
    time: str
    actor: str
    actor_url: str
    reason: str
    history_url: str
    correlation_url: str
    fields: list[ShownField]
    data: list[tuple[str, ShownValue]]
    context: list[tuple[str, ShownValue]]


def view_events(site: str, events: Sequence[AuditEvent]) -> list[EventView]:
    """Return events ready for a template of the named admin site."""
    names = related_names(events)
    return [_view(site, event, names) for event in events]


def _view(site: str, event: AuditEvent, names: Names) -> EventView:
    actor = show_actor(event)
    correlation = event.correlation_id
    return EventView(
        event=event,
        kind=EventType.label_of(event.event_type),
        url=event_url(site, event.pk),
        time=show_time(event.recorded_at),
        actor=actor,
        actor_url=events_url(site, actor=event.actor_id or actor) if actor else "",
        reason=show_reason(event),
        history_url=history_url(site, event.model, event.object_id) if event.model and event.object_id else "",
        correlation_url=events_url(site, q=correlation) if correlation else "",
        fields=show_fields(event, names),
        data=show_payload(event.data),
        # The reason has a place of its own.
        context=show_payload({key: value for key, value in event.context.items() if key != "reason"}),
    )


def event_page(model_admin: ModelAdmin[Any], request: HttpRequest, event: AuditEvent) -> dict[str, Any]:
    """Return what the template of an event's page needs beside the admin's own context."""
    site = model_admin.admin_site.name
    notifications = []
    if may_view_notifications(request):
        rows = Notification.objects.using(event._state.db).filter(event=event.uid).order_by("id")[:100]
        notifications = [(notification_url(site, row.pk), row) for row in rows]
    put_back = put_back_url(site, event.pk) if may_put_back(request, event) else ""
    return {
        "title": _("Audit event"),
        "view": view_events(site, [event])[0],
        "notifications": notifications,
        "put_back_url": put_back,
    }


def may_view_notifications(request: HttpRequest) -> bool:
    """Tell whether the user may see the outbox."""
    return request.user.has_perm("django_signal_audit.view_notification")
