from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .base import Contender

if TYPE_CHECKING:
    from django.db.models import Model


class EasyAudit(Contender):
    """Watches every model unless the setting names some."""

    name = "django-easy-audit"
    distribution = "django-easy-audit"
    apps = ("django.contrib.sessions", "easyaudit")
    settings = {"DJANGO_EASY_AUDIT_REGISTERED_CLASSES": ["shop.Product"]}

    def logs(self) -> Sequence[type[Model]]:
        """Return its log of changes."""
        from easyaudit.models import CRUDEvent

        return (CRUDEvent,)
