"""The tables: what happened, who is to hear of it, and how much of it is too much."""

from __future__ import annotations

from .events import AuditEvent, AuditEventQuerySet
from .notifications import Notification, NotificationQuerySet, Throttle

__all__ = ["AuditEvent", "AuditEventQuerySet", "Notification", "NotificationQuerySet", "Throttle"]
