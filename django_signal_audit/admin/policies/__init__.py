"""Who decides what a user may see and change of a model's rows: a ModelAdmin, an inline, or permissions."""

from __future__ import annotations

from django_signal_audit.admin.policies.base import PermissionPolicy
from django_signal_audit.admin.policies.model_admins import ChildPolicy, ParentPolicy

from .base import ALL_FIELDS, FieldAccess, Limits, Policy, Verdict
from .inlines import InlinePolicy
from .model_admins import AdminPolicy

__all__ = [
    "ALL_FIELDS",
    "AdminPolicy",
    "ChildPolicy",
    "FieldAccess",
    "InlinePolicy",
    "Limits",
    "ParentPolicy",
    "PermissionPolicy",
    "Policy",
    "Verdict",
]
