"""Documents as they are meant to be: whoever has the database can store any JSON, and the pages are to open still."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django_signal_audit.models import AuditEvent, Notification

_SCALARS = (str, int, float, bool)


def shaped(events: Iterable[AuditEvent]) -> list[AuditEvent]:
    """Return the events, in memory without what cannot be read of their documents."""
    return [_shaped(event) for event in events]


def _shaped(event: AuditEvent) -> AuditEvent:
    if "changes" not in event.__dict__:  # it is deferred, and so are the others
        return event
    changes: Any = event.changes
    is_right = isinstance(changes, dict) and all(map(_is_change, changes.values()))
    if not is_right:
        event.changes = {
            name: change
            for name, change in (changes.items() if isinstance(changes, dict) else ())
            if _is_change(change)
        }
    if not isinstance(event.data, dict):
        event.data = {} if event.data is None else {"": event.data}
    if not isinstance(event.context, dict):
        event.context = {}
    if not (isinstance(event.rules, list) and all(isinstance(name, str) for name in event.rules)):
        event.rules = []
    return event


def _is_change(change: Any) -> bool:
    """Return whether it is a pair of an old and a new value, or what an m2m field gained and lost."""
    if isinstance(change, list):
        return len(change) == 2  # a pair
    keys = [change.get("added"), change.get("removed")] if isinstance(change, dict) else [None]
    return all(isinstance(one, list) and all(isinstance(key, _SCALARS) for key in one) for one in keys)


def shaped_notification(notification: Notification) -> Notification:
    """Return the notification, in memory with an empty document in place of what is none."""
    if not isinstance(notification.data, dict):
        notification.data = {}
    return notification
