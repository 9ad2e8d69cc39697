"""Models without a ModelAdmin: Django's permissions, and the project's VISIBILITY where there is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import models

from django_signal_audit.models import AuditEvent
from django_signal_audit.rules.visibility import has_permission, may_view_model

from .base import Limits, Policy, Verdict


class PermissionPolicy(Policy):
    """What a user may see and change of a model by its permissions."""

    def __init__(self, user: Any, model: type[models.Model], *, has_hook: bool) -> None:
        self.user = user
        self.model = model
        may_view = may_view_model(user, model._meta.label_lower)
        self.sees_none = not may_view
        self.sees_all = may_view and not has_hook

    def verdicts(self, events: Mapping[str, AuditEvent], using: str) -> dict[str, Verdict]:
        """Return for each row what the permissions say, and leave the rest to VISIBILITY."""
        verdict = False if self.sees_none else True if self.sees_all else None
        return dict.fromkeys(events, verdict)

    def limits(self, action: str, row: models.Model | None) -> Limits | None:
        """Return no limits for who has the permission."""
        return Limits() if has_permission(self.user, action, self.model) else None
