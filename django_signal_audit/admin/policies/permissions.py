"""Models without a ModelAdmin: Django's permissions, and the project's VISIBILITY where there is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.apps import apps
from django.contrib.auth import get_permission_codename
from django.db import models

from django_signal_audit.models import AuditEvent

from .base import Limits, Policy, Verdict


def may_view_model(user: Any, label: str) -> bool:
    """Return whether the user has a permission to view a model: who may change may view, as everywhere in the admin.

    Events of no model are for all who may view events, those of models that are gone for superusers.
    """
    if user.is_superuser or not label:
        return True
    try:
        model = apps.get_model(label)
    except (LookupError, ValueError):
        return False
    return any(has_permission(user, action, model) for action in ("view", "change"))


def has_permission(user: Any, action: str, model: type[models.Model]) -> bool:
    """Return whether the user has a permission for a model."""
    opts = model._meta
    return bool(user.has_perm(f"{opts.app_label}.{get_permission_codename(action, opts)}"))


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
