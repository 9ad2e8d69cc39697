"""The audit log, the outbox and each object's history in Django's admin."""

from __future__ import annotations

from django.apps import apps

# Projects without the admin have the audit log on pages of their own, which ask here who may view what.
if apps.is_installed("django.contrib.admin"):
    from .events import AuditEventAdmin as AuditEventAdmin
    from .notifications import NotificationAdmin as NotificationAdmin
