"""The app: connects what the rules ask for once all models are loaded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module

from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate, pre_save
from django.utils.translation import gettext_lazy as _


class SignalAuditConfig(AppConfig):
    """Configuration of the audit app."""

    name = "django_signal_audit"
    verbose_name = _("Audit")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks and connect the capture sources."""
        from django_signal_audit.dispatchers import load_dispatcher
        from django_signal_audit.replay.baseline import after_migrate

        from . import checks
        from .conf import get_settings
        from .exceptions import InvalidSettings

        checks.register_all()
        for name in ("AuditEvent", "Rollup"):
            pre_save.connect(_forget_counts, sender=self.get_model(name), dispatch_uid="django_signal_audit.rollups")
        post_migrate.connect(after_migrate, sender=self, dispatch_uid="django_signal_audit.replay.baseline")
        # One that has a task queue deliver brings the task along, and the queue's workers are to know it.
        with suppress(InvalidSettings):  # the checks report it, and the log once it is needed
            load_dispatcher(get_settings().dispatcher)
        _when_all_are_ready(_start)


def _start() -> None:
    """Begin to record, and register with the admin where nobody discovers what is to be registered.

    Other pages import our admin's modules too. Once the admin has its URLs, a model that comes is one without.
    """
    from .capture import connection

    connection.start()
    if apps.is_installed("django.contrib.admin"):
        import_module("django_signal_audit.admin")


def _forget_counts(*, instance: object, raw: bool, using: str, **kwargs: object) -> None:
    """Make what was counted invalid when a fixture brings events, or counts of another database."""
    from .models.rollups import Rollup, forget_rollups

    if raw and isinstance(instance, Rollup):
        instance.base = instance.recent = b""
    elif raw:
        forget_rollups(using)


def _when_all_are_ready(start: Callable[[], None]) -> None:
    """Call a function after the last app's ``ready()``.

    Apps may add fields there, as django-modeltranslation does, and change managers. Ours is among the first.
    """
    last = list(apps.get_app_configs())[-1]
    if apps.ready or isinstance(last, SignalAuditConfig):
        start()
        return
    own, ready = vars(last).get("ready"), last.ready

    def ready_and_start() -> None:
        # Each AppConfig is asked once. Nothing of this is to stay.
        if own is None:
            del vars(last)["ready"]
        else:
            vars(last)["ready"] = own
        ready()
        start()

    vars(last)["ready"] = ready_and_start
