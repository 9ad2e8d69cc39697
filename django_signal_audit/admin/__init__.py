"""The audit log, the outbox and each object's history in Django's admin."""

from __future__ import annotations

from .events import AuditEventAdmin
from .notifications import NotificationAdmin

__all__ = ["AuditEventAdmin", "NotificationAdmin"]
