"""What the page of one event shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.contrib.admin import AdminSite
from django.http import HttpRequest, JsonResponse
from django.utils.html import format_html
from django.utils.translation import gettext as _

from django_signal_audit.enums import ROW_EVENTS, EventType
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.models.renames import current_label, former_labels
from django_signal_audit.reports.display import (
    ShownField,
    ShownValue,
    show_actor,
    show_fields,
    show_impersonator,
    show_payload,
    show_reason,
)
from django_signal_audit.reports.exports.base import record_of
from django_signal_audit.reports.formatter import Reader, show_brief, show_moment
from django_signal_audit.reports.sentences import sentence_of

from .access import Access, access_of
from .base import ReadOnlyAdmin, crumbs_to_list, trail
from .keyset import ALL_TIME, Cursor, HistoryScan, Scan, find_visible
from .links import (
    actor_url,
    event_url,
    events_url,
    history_url,
    may_view_events,
    notification_url,
    object_url,
    permalink,
    restore_url,
    revert_request_url,
    revert_url,
)
from .listing import Row, icon_of, kind_of, model_name, name_with_time, origin_of, row_of
from .request_revert import may_revert_requests
from .restore import may_restore
from .revert import revert_for
from .reverting import refusal_of
from .search.conditions import by_fields
from .search.interpretation import Interpretation
from .search.query import Query
from .subjects import Subject
from .versions import CURRENT

# So many other events of the same request are shown.
MOST_BESIDE = 5


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
    fields: list[ShownField]
    data: list[tuple[str, ShownValue]]
    context: list[tuple[str, ShownValue]]
    url: str = ""
    actor_url: str = ""
    impersonator_url: str = ""
    tenant_url: str = ""
    history_url: str = ""
    correlation_url: str = ""
    # Whether it changed fields that the user may not see.
    is_cut: bool = False


def view_events(model_admin: ReadOnlyAdmin, request: HttpRequest, events: Sequence[AuditEvent]) -> list[EventView]:
    """Return events ready for a template.

    Args:
        model_admin: An admin of the site whose pages they link to.
        request: The request, whose user reads them.
        events: The events.

    """
    site = model_admin.admin_site
    access = access_of(request, site)
    shown = access.redact(events)
    reader = access.reader_of(shown)
    return [_view(view, reader, **_links(site, request, event)) for event, view in zip(events, shown, strict=True)]


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
        "correlation_url": events_url(site, request=correlation) if correlation else "",
        "tenant_url": events_url(site, tenant=event.tenant) if event.tenant else "",
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


def event_page(model_admin: ReadOnlyAdmin, request: HttpRequest, event: AuditEvent) -> dict[str, object]:
    """Return what the template of an event's page needs beside the admin's own context."""
    site = model_admin.admin_site.name
    notifications = []
    if may_view_notifications(request, model_admin.admin_site):
        rows = Notification.objects.using(event._state.db).filter(event=event.uid).order_by("id")[:100]
        notifications = [(notification_url(site, row.pk), row) for row in rows]
    revert = revert_for(model_admin.admin_site, request, event)
    refusal = refusal_of(revert) if revert else ""
    view = view_events(model_admin, request, [event])[0]
    access = access_of(request, model_admin.admin_site)
    path, origin = origin_of(event)
    here = name_with_time(view.event)
    return {
        **trail(crumbs_to_list(model_admin), here),
        "title": _("Audit event"),
        "subtitle": here,
        "view": view,
        "icon": icon_of(event),
        "headline": sentence_of(view.event) or _headline(view),
        "model_name": model_name(event),
        "path": path,
        "origin": origin,
        "ip": _request_part(event, "ip"),
        "object_url": object_url(site, event),
        "object_name": view.event.object_repr or view.event.object_id,
        "permalink": permalink(site, event.uid),
        "beside": _beside(model_admin, request, event),
        "around": _around(model_admin, access, event),
        "notifications": notifications,
        "revert_url": revert_url(site, event.pk) if revert else "",
        "refusal": refusal,
        "since": _changed_since(model_admin, access, event) if refusal else None,
        "restore_url": _restore_url(model_admin.admin_site, request, event),
        "compare_url": _compare_url(view, event),
        "revert_request_url": revert_request_url(site, event.correlation_id)
        if event.correlation_id and may_revert_requests(request)
        else "",
    }


def _headline(view: EventView) -> str:
    """Return who did what to what, in the order of the reader's language."""
    event = view.event
    is_known = event.event_type in EventType.values
    parts = {
        "actor": format_html("<strong><bdi>{}</bdi></strong>", view.actor or _("no actor")),
        "event": kind_of(event) if is_known else format_html("<code>{}</code>", event.event_type),
    }
    name = event.object_repr or event.object_id
    if not name:
        return format_html(_("{actor} {event}"), **parts)
    thing = format_html("<bdi>{}</bdi>", name)
    if view.history_url:
        thing = format_html('<a href="{}">{}</a>', view.history_url, thing)
    return format_html(_("{actor} {event} {object}"), **parts, object=thing)


def _changed_since(model_admin: ReadOnlyAdmin, access: Access, event: AuditEvent) -> EventView | None:
    """Return the next event of the object that changed one of the same fields, None if there is none."""
    events = AuditEvent.objects.using(event._state.db or "default")
    asked = [by_fields(list(event.changes), access.shows)] if event.changes else []
    scan = Scan(access, events, [HistoryScan(events, event.model, event.object_id)], ALL_TIME, 1, asked)
    found = find_visible(scan, Cursor.from_event(event, is_older=False), [event.model]).events
    later = [one for one in found if one.pk > event.pk]
    return next(iter(view_events(model_admin, access.request, later)), None)


def _compare_url(view: EventView, event: AuditEvent) -> str:
    """Return the URL that compares what the event left with what the object is now."""
    is_version = event.event_type in ROW_EVENTS and event.event_type != EventType.DELETE
    return f"{view.history_url}?older={event.pk}&newer={CURRENT}" if view.history_url and is_version else ""


def _restore_url(site: AdminSite, request: HttpRequest, event: AuditEvent) -> str:
    """Return the URL of the page that restores the object as the event left it, ``""`` where the user may not."""
    subject = Subject(access_of(request, site), event._state.db or "default", event.model, event.object_id)
    is_version = event.event_type in ROW_EVENTS and event.object_id and subject.model is not None
    if not is_version or not may_restore(site, request, subject):
        return ""
    return restore_url(site.name, event.model, event.object_id, str(event.pk))


def _request_part(event: AuditEvent, name: str) -> str:
    request = event.context.get("request")
    return str(request.get(name, "")) if isinstance(request, dict) else ""


def _beside(model_admin: ReadOnlyAdmin, request: HttpRequest, event: AuditEvent) -> list[Row]:
    """Return a few other events of the same request, task or command."""
    if not event.correlation_id:
        return []
    access = access_of(request, model_admin.admin_site)
    asked = Query(pairs=(("request", event.correlation_id),))
    events = AuditEvent.objects.using(event._state.db or "default")
    found = Interpretation(access, events, asked).find(Cursor(), MOST_BESIDE + 1).found.events
    return _rows(model_admin, access, [one for one in found if one.pk != event.pk][:MOST_BESIDE])


def _around(model_admin: ReadOnlyAdmin, access: Access, event: AuditEvent) -> list[tuple[str, Row]]:
    """Return the previous and the next event of the same object."""
    if not (event.model and event.object_id):
        return []
    events = AuditEvent.objects.using(event._state.db or "default")
    label = current_label(event.model)
    scans = [HistoryScan(events, one, event.object_id) for one in (label, *former_labels(label))]
    scan = Scan(access, events, scans, ALL_TIME, 1)
    found = []
    for label, is_older in ((_("Previous"), True), (_("Next"), False)):
        cursor = Cursor.from_event(event, is_older=is_older)
        others = [one for one in find_visible(scan, cursor, [event.model]).events if one.pk != event.pk]
        found += [(label, row) for row in _rows(model_admin, access, others)]
    return found


def _rows(model_admin: ReadOnlyAdmin, access: Access, events: Sequence[AuditEvent]) -> list[Row]:
    shown = access.redact(events)
    reader = access.reader_of(shown)
    return [row_of(model_admin.admin_site.name, event, reader=reader) for event in shown]


def json_page(model_admin: ReadOnlyAdmin, request: HttpRequest, event: AuditEvent) -> JsonResponse:
    """Return an event as JSON, without the fields that the user may not see."""
    [shown] = access_of(request, model_admin.admin_site).redact([event])
    return JsonResponse(record_of(shown), json_dumps_params={"indent": 2, "ensure_ascii": True})


def may_view_notifications(request: HttpRequest, site: AdminSite) -> bool:
    """Return whether the user may see the outbox, and the site has it."""
    return site.is_registered(Notification) and request.user.has_perm("django_signal_audit.view_notification")
