"""Revert a creation: the object is deleted, if nothing has happened to it since and nothing refers to it."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.admin.utils import NestedObjects
from django.db import models
from django.utils.translation import gettext as _

from django_signal_audit.enums import EventType
from django_signal_audit.events.values import canonical_json
from django_signal_audit.rules.registry import get_registry

from .base import RefusedError, Revert, changed, gone, is_stamp, nothing_recorded
from .m2m import present_values


class CreationRevert(Revert):
    """Deletes the object of one creation, and nothing else."""

    permission: ClassVar[str] = "delete"

    @property
    def traces(self) -> frozenset[str]:
        """Return the types of the events that record the revert."""
        return frozenset({EventType.DELETE})

    def check(self) -> None:
        """Raise RefusedError if the object has changed since, or something would go with it."""
        self._check(self.find(lock=False))

    def undo(self) -> None:
        """Delete the object by the model's ``delete``."""
        instance = self.find(lock=True)
        self._check(instance)
        instance.delete(using=self.using)

    def refuse_value(self, name: str) -> None:
        """Accept any field: all of them go with the object."""

    def _check(self, instance: models.Model) -> None:
        plan = get_registry().plan_for(self.model)
        if plan is None:
            raise nothing_recorded()
        present = present_values(instance, plan, self.using)
        for name, change in self.event.changes.items():
            field = self.event.field(name)
            if field is None:
                raise gone(name)
            is_known = isinstance(change, list) and name in present and not is_stamp(field)
            if is_known and canonical_json(present[name]) != canonical_json(change[1]):
                raise changed(field)
        for name, field in plan.members.items():
            if present.get(name):
                raise changed(field)
        self._refuse_others(instance)

    def _refuse_others(self, instance: models.Model) -> None:
        """Raise RefusedError if other rows would be deleted or changed with the object."""
        found = NestedObjects(using=self.using)
        found.collect([instance])
        others = [row for rows in found.data.values() for row in rows if not _is_part(row, instance)]
        updates: Any = found.field_updates.values()  # lists of querysets, which may be empty
        if others or found.protected or any(bool(rows) for several in updates for rows in several):
            raise RefusedError(_("Other objects refer to it."))


def _is_part(row: models.Model, instance: models.Model) -> bool:
    """Return whether a row is the object's own, or that of a parent."""
    return isinstance(instance, type(row)) and row.pk == instance.pk
