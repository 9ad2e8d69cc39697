"""The two tables: what happened, and who is to hear of it."""

from __future__ import annotations

from .events import AuditEvent, AuditEventQuerySet
from .notifications import Notification, NotificationQuerySet

__all__ = ["AuditEvent", "AuditEventQuerySet", "Notification", "NotificationQuerySet"]
