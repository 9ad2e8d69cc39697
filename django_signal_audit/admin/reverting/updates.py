"""Revert an update or an m2m change: the fields get the values that they had before it."""

from __future__ import annotations

from typing import Any

from django.db import models

from django_signal_audit.capture.tables import assignable
from django_signal_audit.enums import EventType
from django_signal_audit.events.values import decode
from django_signal_audit.rules.patterns import Field

from .base import Present, RefusedError, Revert, changed, demand, gone, holds, is_stamp, nothing_recorded
from .m2m import Exchange, exchanges

# Old and new value, as JSON, by field.
Pairs = dict[Field, list[Any]]


class UpdateRevert(Revert):
    """Restores the values from before one change, if the object still has what the change left in it."""

    @property
    def traces(self) -> frozenset[str]:
        """Return the types of the events that record the revert: members have events of their own."""
        kinds = {EventType.M2M if isinstance(one, dict) else EventType.UPDATE for one in self.event.changes.values()}
        return frozenset(kinds)

    def check(self) -> None:
        """Raise RefusedError if a value is not known, has changed since, or refers to what is gone."""
        self._check(self.find(lock=False), lock=False)

    def undo(self) -> None:
        """Save the fields that the change is about, and those that each save sets by itself; exchange the members."""
        instance = self.find(lock=True)
        values, members = self._check(instance, lock=True)
        if values:
            self._save(instance, {field: old for field, (old, _new) in values.items()})
        for exchange in members:
            exchange.undo(instance, self.using)

    def is_open(self, present: Present) -> bool:
        """Return whether the object has what the update left in it, and what was there before is known."""
        instance = present.instance
        if self._member_names():
            return False  # to know that takes queries
        try:
            # A parent's row may be there without the child's.
            return isinstance(instance, self.model) and all(
                holds(instance, field, new) for field, (_old, new) in self._values().items()
            )
        except RefusedError:
            return False

    def refuse_value(self, name: str) -> None:
        """Raise RefusedError if the old value of a field is no value that the user could set now."""
        if name in self._member_names():
            for exchange in exchanges(self.event, [name]):
                self._refuse_members(exchange)
            return
        field, [old, _new] = self.event.field(name), self.event.changes[name]
        if field is not None:
            self.refuse_lost(field, old)
            self.refuse_not_offered(field, decode(field, old))

    def _refuse_members(self, exchange: Exchange) -> None:
        exchange.check_lost(self.using)
        self.refuse_not_offered(exchange.field, *exchange.gained, *exchange.lost)

    def _member_names(self) -> list[str]:
        return [name for name, change in self.event.changes.items() if isinstance(change, dict)]

    def _values(self) -> Pairs:
        """Return old and new value of each field that can be reverted."""
        values: Pairs = {}
        for name, pair in self.event.changes.items():
            field = self.event.field(name)
            if isinstance(pair, dict) or (field is not None and field.many_to_many):
                continue
            if field is None:
                raise gone(name)
            self.refuse_unknown(name)
            if self.writes(field):
                self.refuse_forbidden(field)
                values[field] = pair
        return values

    def _check(self, instance: models.Model, *, lock: bool) -> tuple[Pairs, list[Exchange]]:
        values, members = self._values(), list(exchanges(self.event, self._member_names()))
        if not values and not members:
            raise nothing_recorded()
        for field, (_old, new) in values.items():
            if not holds(instance, field, new):
                raise changed(field)
            self.refuse_value(field.name)
        for exchange in members:
            self.refuse_forbidden(exchange.field)
            exchange.check_held(instance, self.using, lock=lock)
            self._refuse_members(exchange)
        given: dict[Field, Any] = {field: decode(field, old) for field, (old, _new) in values.items()}
        given.update((one.field, one.members_after(instance, self.using)) for one in members)
        self.refuse_invalid(instance, given)
        return values, members

    def _save(self, instance: models.Model, values: dict[Field, Any]) -> None:
        for field, old in values.items():
            setattr(instance, field.attname, assignable(field, decode(field, old), self.using))
        stamps = [field.name for field in instance._meta.concrete_fields if is_stamp(field)]
        instance.save(using=self.using, update_fields=[*(field.name for field in values), *stamps])
        demand(self.find(lock=True), values)
