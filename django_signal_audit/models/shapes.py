"""Events whose documents have another shape than we write: SQL can store any JSON, and one row must not stop a page."""

from __future__ import annotations

from django_signal_audit.models.events import AuditEvent
from django_signal_audit.models.state import well_formed


def shaped(event: AuditEvent) -> AuditEvent:
    """Return the event, in memory without what cannot be read of its documents."""
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
