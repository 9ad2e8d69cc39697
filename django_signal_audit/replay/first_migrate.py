"""After the migration that makes our tables: which audited rows are older, and so have no recorded history."""

from __future__ import annotations

import sys
from typing import Any

from django.db import DatabaseError, router

from django_signal_audit.models import AuditEvent
from django_signal_audit.models.inheritance import labels_including_children
from django_signal_audit.models.tables import table_exists
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.rules.registry import get_registry

from .rows import first_row_name


def after_migrate(using: str = "", verbosity: int = 1, stdout: Any = None, plan: Any = (), **_: Any) -> None:
    """Say that ``audit_baseline`` is due if the migration that made our tables left audited rows without events."""
    if verbosity < 1 or not any(_makes_tables(migration) and not is_backward for migration, is_backward in plan or ()):
        return
    found = models_from_before(using)
    if found:
        database = "" if using == "default" else f" --database {using}"
        out = stdout or sys.stdout
        out.write(f"  These audited models have rows without recorded history: {', '.join(found)}.\n")
        out.write(f"  Run manage.py audit_baseline{database} to record their baseline.\n")


def models_from_before(using: str) -> list[str]:
    """Return the labels of the audited models whose first row has no recorded history."""
    plans = [plan for model, plan in get_registry().plans.items() if router.allow_migrate_model(using, model)]
    return sorted(plan.model._meta.label for plan in plans if plan.unconditional and _begins_unrecorded(plan, using))


def _begins_unrecorded(plan: ModelPlan, using: str) -> bool:
    """Return whether no event is about the first row by primary key: no table is counted for that."""
    try:
        name = first_row_name(plan.model, using) if table_exists(plan.model, using) else None
    except DatabaseError:
        # A view that can't be read now, or a column that is still to come, must not spoil the migration.
        return False
    events = AuditEvent.objects.using(using).filter(model__in=labels_including_children(plan.model), object_id=name)
    return name is not None and not events.exists()


def _makes_tables(migration: Any) -> bool:
    return bool(migration.app_label == AuditEvent._meta.app_label and migration.initial)
