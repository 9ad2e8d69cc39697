"""Revert changes of m2m fields: what was added is removed, what was removed is added."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from django_signal_audit.capture.images import chunks
from django_signal_audit.capture.rows import rows_of
from django_signal_audit.capture.tables import stored_value
from django_signal_audit.capture.through_rows import M2MRelation
from django_signal_audit.events.values import encode, plain_field
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.state import Recorded, member_order, own_fields
from django_signal_audit.rules.plans import ModelPlan

from .base import changed, gone, lost, missed, nothing_recorded

MOST_PARAMETERS = 900


@dataclass(frozen=True, slots=True)
class Exchange:
    """The members that one field of an object gained and lost by an event."""

    field: models.ManyToManyField[Any, Any]
    gained: frozenset[object]
    lost: frozenset[object]

    def check_held(self, instance: models.Model, using: str, *, lock: bool) -> None:
        """Raise RefusedError unless the object has the members that the event left."""
        held = self._held(instance, using, lock=lock)
        if not self.gained <= held or self.lost & held:
            raise changed(self.field)

    @property
    def member_model(self) -> type[models.Model]:
        """Return the model of the members."""
        model: Any = self.field.remote_field.model
        return model  # type: ignore[no-any-return]

    def check_lost(self, using: str, but: object = None) -> None:
        """Raise RefusedError unless all members that the object lost are there, ``but`` the one with this key."""
        target: Any = M2MRelation(self.field, ()).member_link.target_field
        # Some builds of SQLite take no more than 999 parameters.
        for wanted in chunks(self.lost - {but}, MOST_PARAMETERS):
            found = rows_of(target.model, using).filter(**{f"{target.attname}__in": wanted})
            if found.count() < len(wanted):
                raise lost(self.field)

    def undo(self, instance: models.Model, using: str) -> None:
        """Take out what came, and put in what went; raise RefusedError if a manager that hides rows was in the way."""
        manager = getattr(instance, self.field.name)
        manager.remove(*self.gained)
        manager.add(*self.lost)
        held = self._held(instance, using, lock=True)
        if self.gained & held or not self.lost <= held:
            raise missed(self.field)

    def members_after(self, instance: models.Model, using: str) -> set[object]:
        """Return the keys of the members that the object has once the change is reverted."""
        return (self._held(instance, using, lock=False) - self.gained) | self.lost

    def _held(self, instance: models.Model, using: str, *, lock: bool) -> set[object]:
        return held_members(self.field, instance, using, lock=lock)


def held_members(
    field: models.ManyToManyField[Any, Any], instance: models.Model, using: str, *, lock: bool = False
) -> set[object]:
    """Return the keys of the members that an object has now."""
    membership = M2MRelation(field, ())
    mine = membership.of_owner(getattr(instance, membership.owner_link.target_field.attname))
    if lock:
        return {member for _owner, member in membership.pairs(using, mine)}
    pairs = rows_of(membership.through, using).filter(mine)
    return set(pairs.values_list(membership.member_link.attname, flat=True))


def exchanges(event: AuditEvent, names: Any) -> Iterator[Exchange]:
    """Yield what the event changed of the fields of these names; raise RefusedError if it does not say so."""
    for name in names:
        field, change = event.field(name), event.m2m_changes.get(name)
        if not isinstance(field, models.ManyToManyField):
            raise gone(name)
        target = plain_field(M2MRelation(field, ()).member_link.target_field)
        try:
            sides = (change.added, change.removed) if change else ()
            gained, went = (frozenset(map(target.to_python, keys)) for keys in sides)
        except (ValueError, ValidationError):
            raise nothing_recorded() from None
        yield Exchange(field, gained, went)


def present_values(instance: models.Model, plan: ModelPlan, using: str) -> Recorded:
    """Return what a row holds of its audited fields, in the JSON of events: secrets are tags, what is long a digest."""
    names = own_fields(type(instance))
    values = {
        name: plan.serializers[name](stored_value(instance, field), instance.pk)
        for name, field in plan.fields.items()
        if name in names
    }
    for name, field in plan.members.items():
        if name in names:
            target = plain_field(M2MRelation(field, ()).member_link.target_field)
            keys = (encode(target, key) for key in held_members(field, instance, using))
            values[name] = sorted(keys, key=member_order)
    return values
