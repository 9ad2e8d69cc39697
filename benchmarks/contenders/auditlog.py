from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .base import Contender

if TYPE_CHECKING:
    from django.db.models import Model


class AuditLog(Contender):
    name = "django-auditlog"
    distribution = "django-auditlog"
    apps = ("auditlog",)

    def adapt(self, product: type[Model]) -> None:
        """Register the model with its many-to-many field."""
        from auditlog.registry import auditlog

        auditlog.register(product, m2m_fields={"tags"})

    def logs(self) -> Sequence[type[Model]]:
        """Return its log."""
        from auditlog.models import LogEntry

        return (LogEntry,)
