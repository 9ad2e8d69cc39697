from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .base import Contender

if TYPE_CHECKING:
    from django.db.models import Model


class Ours(Contender):
    """The package itself: all fields watched, nobody notified."""

    name = "django-signal-audit"
    distribution = "django-signal-audit"
    apps = ("django_signal_audit",)
    settings = {"SIGNAL_AUDIT": {"RULES": [{"name": "products", "model": "shop.Product"}]}}

    @property
    def version(self) -> str | None:
        """Return the version of the source tree, which need not be installed."""
        from django_signal_audit import __version__

        return __version__

    def logs(self) -> Sequence[type[Model]]:
        """Return the model of its events."""
        from django_signal_audit.models import AuditEvent

        return (AuditEvent,)
