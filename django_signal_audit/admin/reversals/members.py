"""Putting the change of many-to-many fields back: what they gained goes, what they lost comes again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from django_signal_audit.capture.memberships import Membership
from django_signal_audit.capture.rows import rows_of
from django_signal_audit.models import AuditEvent
from django_signal_audit.values import plain_field

from .base import Reversal, changed, gone, lost, nothing_recorded


@dataclass(frozen=True, slots=True)
class Exchange:
    """The members that one field of an object gained and lost by an event."""

    field: models.ManyToManyField[Any, Any]
    gained: frozenset[Any]
    lost: frozenset[Any]

    def check(self, instance: models.Model, using: str, *, lock: bool) -> None:
        """Raise RefusedError unless the object has the members that the event left, and those it lost are there."""
        held = self._held(instance, using, lock=lock)
        if not self.gained <= held or self.lost & held:
            raise changed(self.field)
        self.check_lost(using)

    def check_lost(self, using: str) -> None:
        """Raise RefusedError unless all members that the object lost are there."""
        target: Any = Membership(self.field, ()).member_link.target_field
        found = rows_of(target.model, using).filter(**{f"{target.attname}__in": self.lost})
        if found.count() < len(self.lost):
            raise lost(self.field)

    def undo(self, instance: models.Model) -> None:
        """Take out what came, and put in what went."""
        manager = getattr(instance, self.field.name)
        manager.remove(*self.gained)
        manager.add(*self.lost)

    def _held(self, instance: models.Model, using: str, *, lock: bool) -> set[Any]:
        membership = Membership(self.field, ())
        mine = membership.of_owner(getattr(instance, membership.owner_link.target_field.attname))
        if lock:
            return {member for _owner, member in membership.pairs(using, mine)}
        pairs = rows_of(membership.through, using).filter(mine)
        return set(pairs.values_list(membership.member_link.attname, flat=True))


class MembersReversal(Reversal):
    """Puts the members of one m2m event back, if those that came are there still and those that went are not."""

    def check(self) -> None:
        """Raise RefusedError if members came or went since, or are deleted."""
        self._checked(lock=False)

    def undo(self) -> None:
        """Exchange the members once more."""
        instance, found = self._checked(lock=True)
        for exchange in found:
            exchange.undo(instance)

    def _checked(self, *, lock: bool) -> tuple[models.Model, list[Exchange]]:
        instance, found = self.find(lock=lock), list(exchanges(self.event, self.event.changes))
        if not found:
            raise nothing_recorded()
        for exchange in found:
            exchange.check(instance, self.using, lock=lock)
        return instance, found


def exchanges(event: AuditEvent, names: Any) -> Iterator[Exchange]:
    """Yield what the event changed of the fields of these names; raise RefusedError if it does not say so."""
    for name in names:
        field, change = event.field(name), event.member_changes.get(name)
        if not isinstance(field, models.ManyToManyField):
            raise gone(name)
        target = plain_field(Membership(field, ()).member_link.target_field)
        try:
            sides = (change.added, change.removed) if change else ()
            gained, went = (frozenset(map(target.to_python, keys)) for keys in sides)
        except (ValueError, ValidationError):
            raise nothing_recorded() from None
        yield Exchange(field, gained, went)
