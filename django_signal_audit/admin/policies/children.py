"""Multi-table children without a ModelAdmin, whose parent has one: their rows are the parent's rows too."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from django.db import models

from django_signal_audit.models import AuditEvent
from django_signal_audit.rules.visibility import has_permission, may_view_model

from .base import FieldAccess, Limits, Policy, Verdict


class ChildPolicy(Policy):
    """What the parent's policy lets a user see and change, who needs the permission for the child as well."""

    def __init__(self, user: Any, model: type[models.Model], parent: Policy) -> None:
        self.user = user
        self.model = model
        self.parent = parent
        may_view = may_view_model(user, model._meta.label_lower)
        self.sees_none = parent.sees_none or not may_view
        self.sees_all = parent.sees_all and may_view
        self.depends_on_row = parent.depends_on_row

    def verdicts(self, events: Mapping[str, AuditEvent], using: str) -> dict[str, Verdict]:
        """Return what the parent's policy says of the rows."""
        return dict.fromkeys(events, False) if self.sees_none else self.parent.verdicts(events, using)

    def rows(self, keys: Collection[str], using: str) -> dict[str, models.Model]:
        """Return the parent's rows."""
        return {} if self.sees_none else self.parent.rows(keys, using)

    def fields(self, row: models.Model | None) -> FieldAccess:
        """Return which of the parent's fields are shown, and all of the child's own."""
        found = self.parent.fields(row)
        if found.named is None:
            return found
        return FieldAccess(found.named | self._own(), found.excluded, found.is_explicit)

    def _own(self) -> set[str]:
        inherited = {field.name for field in self.parent.model._meta.get_fields()}
        return {field.name for field in self.model._meta.get_fields()} - inherited

    def limits(self, action: str, row: models.Model | None) -> Limits | None:
        """Return what the parent's policy lets the user write; of the child's own fields there is no form."""
        if not has_permission(self.user, action, self.model):
            return None
        return self.parent.limits(action, row)
