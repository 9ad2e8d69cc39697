"""The app: connects what the rules ask for once all models are loaded."""

from __future__ import annotations

from contextlib import suppress

from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class SignalAuditConfig(AppConfig):
    """Configuration of the audit app."""

    name = "django_signal_audit"
    verbose_name = _("Audit")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks and connect the capture sources."""
        from . import checks
        from .capture import connection
        from .conf import get_settings
        from .dispatchers.registry import load_dispatcher
        from .exceptions import InvalidSettings
        from .first_migrate import after_migrate

        checks.register_all()
        post_migrate.connect(after_migrate, sender=self, dispatch_uid="django_signal_audit.first_migrate")
        # One that has a task queue deliver brings the task along, and the queue's workers are to know it.
        with suppress(InvalidSettings):  # the checks report it, and the log once it is needed
            load_dispatcher(get_settings().dispatcher)
        connection.start()
