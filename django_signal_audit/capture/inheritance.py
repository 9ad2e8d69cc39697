"""Multi-table inheritance: which ruled model a row belongs to, when children's rows may extend it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from django.db import models

from django_signal_audit.models.tables import has_table
from django_signal_audit.rules.plans import ModelPlan

from .rows import current, rows_of
from .transactions import lock_database


class Owner(NamedTuple):
    """The row an event is about: its plan and its key in the plan's model."""

    plan: ModelPlan
    pk: Any


def with_tables(plans: Iterable[ModelPlan], using: str) -> list[ModelPlan]:
    """Leave out children whose tables are not there, unmanaged or still to be migrated ones: they extend no row."""
    return [plan for plan in plans if not plan.model._meta.parents or has_table(plan.model, using)]


def is_most_derived(plan: ModelPlan, pk: Any, using: str) -> bool:
    """Return whether no ruled child extends the row."""
    names = [field.name for field in plan.model._meta.pk_fields]
    values = pk if isinstance(pk, tuple) else (pk,)
    identity = dict(zip(names, values, strict=True))
    children = with_tables(plan.descendants, using)
    return not any(rows_of(child.model, using).filter(**identity).exists() for child in children)


def owner_of(plan: ModelPlan, pk: Any, using: str) -> Owner:
    """Return the row of the most derived ruled model that the row of the plan's model is part of; itself for most."""
    key = plan.model._meta.pk
    if not plan.descendants or key is None:
        return Owner(plan, pk)
    lock_database(using)
    return owners_of((plan, *plan.descendants), key, [pk], using)[pk]


def owners_of(
    plans: Sequence[ModelPlan], target: models.Field[Any, Any], keys: Iterable[Any], using: str
) -> dict[Any, Owner]:
    """Return the ruled row behind each key, the most derived one; keys behind which there is none are left out.

    Args:
        plans: The plans the rows may belong to, all of models that have the target field.
        target: The field the keys are values of, on the model that declares it.
        keys: The keys.
        using: The database.

    """
    found: dict[Any, Owner] = {}
    remaining = set(keys)
    for plan in sorted(with_tables(plans, using), key=lambda item: -len(item.model._meta.get_parent_list())):
        if plan.model is target.model and target.primary_key:
            found |= {key: Owner(plan, key) for key in remaining}
            break
        rows = current(rows_of(plan.model, using).filter(**{f"{target.name}__in": remaining}), using)
        extended = {key: Owner(plan, pk) for key, pk in rows.order_by().values_list(target.attname, "pk")}
        found |= extended
        remaining -= set(extended)
    return found
