"""Documents as they are meant to be: whoever has the database can store any JSON, and the pages are to open still."""

from __future__ import annotations

from collections.abc import Iterable

from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.models.state import well_formed


def shaped(events: Iterable[AuditEvent]) -> list[AuditEvent]:
    """Return the events, in memory without what cannot be read of their documents."""
    return [_shaped(event) for event in events]


def _shaped(event: AuditEvent) -> AuditEvent:
    if "changes" not in event.__dict__:  # it is deferred, and so are the others
        return event
    event.changes = well_formed(event.changes)
    if not isinstance(event.data, dict):
        event.data = {} if event.data is None else {"": event.data}
    if not isinstance(event.context, dict):
        event.context = {}
    if not (isinstance(event.rules, list) and all(isinstance(name, str) for name in event.rules)):
        event.rules = []
    return event


def shaped_notification(notification: Notification) -> Notification:
    """Return the notification, in memory with an empty document in place of what is none."""
    if not isinstance(notification.data, dict):
        notification.data = {}
    return notification
