"""Many-to-many fields, and the pairs that their automatic through models hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import models

from django_signal_audit.enums import EventType
from django_signal_audit.models.state import member_order
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.rules.registry import Registry

from .rows import locked, rows_of
from .scope import ThroughRow
from .transactions import lock_database


def through_of(field: models.ManyToManyField[Any, Any]) -> type[models.Model]:
    """Return the through model of an m2m field."""
    through: Any = field.remote_field.through
    return through  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class M2MRelation:
    """An m2m field, its automatic through model, and the plans of the models that have the field."""

    field: models.ManyToManyField[Any, Any]
    plans: tuple[ModelPlan, ...]

    @property
    def through(self) -> type[models.Model]:
        """Return the model of the pairs."""
        return through_of(self.field)

    @property
    def owner_link(self) -> Any:
        """Return the through model's foreign key to the owner."""
        return self.through._meta.get_field(self.field.m2m_field_name())

    @property
    def member_link(self) -> Any:
        """Return the through model's foreign key to the member."""
        return self.through._meta.get_field(self.field.m2m_reverse_field_name())

    @property
    def is_symmetrical(self) -> bool:
        """Return whether every pair has a mirror image."""
        return bool(self.field.remote_field.symmetrical)

    def pairs(self, using: str, *conditions: models.Q) -> set[ThroughRow]:
        """Return the pairs that meet any of the conditions, locked until the transaction ends."""
        lock_database(using)
        wanted = conditions[0]
        for condition in conditions[1:]:
            wanted |= condition
        rows = locked(rows_of(self.through, using), using, deleting=True).filter(wanted)
        return set(rows.order_by("pk").values_list(self.owner_link.attname, self.member_link.attname))

    def of_owner(self, *owners: Any) -> models.Q:
        """Return the condition that picks the pairs of these owners."""
        return models.Q(**{f"{self.owner_link.attname}__in": owners})

    def of_member(self, *members: Any) -> models.Q:
        """Return the condition that picks the pairs of these members."""
        return models.Q(**{f"{self.member_link.attname}__in": members})


def members_of(field: models.ManyToManyField[Any, Any], plan: ModelPlan, pk: object, using: str) -> tuple[Any, ...]:
    """Return the sorted keys of an owner's members."""
    relation = M2MRelation(field, (plan,))
    target = relation.owner_link.target_field
    key = pk
    if target.model is not plan.model or not target.primary_key:
        rows = rows_of(plan.model, using).filter(pk=pk)
        key = rows.values_list(target.attname, flat=True).get()
    return sorted_keys(member for _, member in relation.pairs(using, relation.of_owner(key)))


def sorted_keys(keys: Iterable[object]) -> tuple[Any, ...]:
    """Return the keys as a sorted tuple."""
    return tuple(sorted(keys, key=member_order))


def audited_m2m_fields(registry: Registry) -> list[M2MRelation]:
    """Return the m2m fields that rules audit, each once however many models inherit it."""
    found: dict[type[models.Model], list[tuple[models.ManyToManyField[Any, Any], ModelPlan]]] = {}
    for plan in registry.plans.values():
        if not plan.all_members:
            continue
        names = plan.names_for(EventType.M2M) if plan.by_event[EventType.M2M] else frozenset()
        for name, field in plan.all_members.items():
            if name in names:
                found.setdefault(through_of(field), []).append((field, plan))
    return [M2MRelation(pairs[0][0], tuple(plan for _, plan in pairs)) for pairs in found.values()]
