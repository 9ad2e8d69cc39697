"""Revert an update: the fields get the values that they had before it."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models

from django_signal_audit.capture.tables import assignable
from django_signal_audit.enums import EventType
from django_signal_audit.events.values import decode
from django_signal_audit.rules.patterns import Field

from .base import Present, RefusedError, Revert, changed, demand, gone, holds, is_stamp, nothing_recorded


class UpdateRevert(Revert):
    """Restores the values from before one update, if the object still has what the update left in it."""

    trace: ClassVar[str] = EventType.UPDATE

    def check(self) -> None:
        """Raise RefusedError if a value is not known, has changed since, or refers to what is gone."""
        self._check(self.find(lock=False), self._values())

    def undo(self) -> None:
        """Save the fields that the update changed, and those that each save sets by itself."""
        instance = self.find(lock=True)
        values = self._values()
        self._check(instance, values)
        for field, (old, _new) in values.items():
            setattr(instance, field.attname, assignable(field, decode(field, old), self.using))
        stamps = [field.name for field in instance._meta.concrete_fields if is_stamp(field)]
        instance.save(using=self.using, update_fields=[*(field.name for field in values), *stamps])
        demand(self.find(lock=True), {field: old for field, (old, _new) in values.items()})

    def is_open(self, present: Present) -> bool:
        """Return whether the object has what the update left in it, and what was there before is known."""
        instance = present.instance
        try:
            # A parent's row may be there without the child's.
            return isinstance(instance, self.model) and all(
                holds(instance, field, new) for field, (_old, new) in self._values().items()
            )
        except RefusedError:
            return False

    def _values(self) -> dict[Field, list[Any]]:
        """Return old and new value, as JSON, of each field that can be reverted."""
        values: dict[Field, list[Any]] = {}
        for name, pair in self.event.changes.items():
            field = self.event.field(name)
            if field is None or not isinstance(pair, list):
                raise gone(name)
            self.refuse_unknown(name)
            if self.writes(field):
                self.refuse_forbidden(field)
                values[field] = pair
        if not values:
            raise nothing_recorded()
        return values

    def _check(self, instance: models.Model, values: dict[Field, list[Any]]) -> None:
        for field, (old, new) in values.items():
            if not holds(instance, field, new):
                raise changed(field)
            self.refuse_lost(field, old)
            self.refuse_not_offered(field, decode(field, old))
