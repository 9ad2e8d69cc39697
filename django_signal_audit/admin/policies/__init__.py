"""Who decides what a user may see and change of a model's rows: a ModelAdmin, an inline, or permissions."""

from __future__ import annotations

from .base import ALL_FIELDS, FieldAccess, Limits, Policy, Verdict
from .children import ChildPolicy
from .inlines import InlinePolicy
from .model_admins import AdminPolicy
from .permissions import PermissionPolicy

__all__ = [
    "ALL_FIELDS",
    "AdminPolicy",
    "ChildPolicy",
    "FieldAccess",
    "InlinePolicy",
    "Limits",
    "PermissionPolicy",
    "Policy",
    "Verdict",
]
