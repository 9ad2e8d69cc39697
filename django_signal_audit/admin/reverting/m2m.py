"""Revert a change of m2m fields: what was added is removed, what was removed is added."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.db import models

from django_signal_audit.capture.images import chunks
from django_signal_audit.capture.rows import rows_of
from django_signal_audit.capture.through_rows import WatchedM2M
from django_signal_audit.enums import EventType
from django_signal_audit.events.values import plain_field
from django_signal_audit.models import AuditEvent

from .base import Revert, changed, gone, lost, missed, nothing_recorded

MOST_PARAMETERS = 900


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

    @property
    def member_model(self) -> type[models.Model]:
        """Return the model of the members."""
        model: Any = self.field.remote_field.model
        return model  # type: ignore[no-any-return]

    def check_lost(self, using: str, but: object = None) -> None:
        """Raise RefusedError unless all members that the object lost are there, ``but`` the one with this key."""
        target: Any = WatchedM2M(self.field, ()).member_link.target_field
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

    def _held(self, instance: models.Model, using: str, *, lock: bool) -> set[object]:
        membership = WatchedM2M(self.field, ())
        mine = membership.of_owner(getattr(instance, membership.owner_link.target_field.attname))
        if lock:
            return {member for _owner, member in membership.pairs(using, mine)}
        pairs = rows_of(membership.through, using).filter(mine)
        return set(pairs.values_list(membership.member_link.attname, flat=True))


class M2MRevert(Revert):
    """Reverts one m2m event, if what it added is still there and what it removed is not."""

    trace: ClassVar[str] = EventType.M2M

    def check(self) -> None:
        """Raise RefusedError if members came or went since, or are deleted."""
        self._checked(lock=False)

    def undo(self) -> None:
        """Exchange the members once more."""
        instance, found = self._checked(lock=True)
        for exchange in found:
            exchange.undo(instance, self.using)

    def _checked(self, *, lock: bool) -> tuple[models.Model, list[Exchange]]:
        instance, found = self.find(lock=lock), list(exchanges(self.event, self.event.changes))
        if not found:
            raise nothing_recorded()
        for exchange in found:
            self.refuse_forbidden(exchange.field)
            exchange.check(instance, self.using, lock=lock)
            self.refuse_not_offered(exchange.field, *exchange.gained, *exchange.lost)
        return instance, found


def exchanges(event: AuditEvent, names: Any) -> Iterator[Exchange]:
    """Yield what the event changed of the fields of these names; raise RefusedError if it does not say so."""
    for name in names:
        field, change = event.field(name), event.m2m_changes.get(name)
        if not isinstance(field, models.ManyToManyField):
            raise gone(name)
        target = plain_field(WatchedM2M(field, ()).member_link.target_field)
        try:
            sides = (change.added, change.removed) if change else ()
            gained, went = (frozenset(map(target.to_python, keys)) for keys in sides)
        except (ValueError, ValidationError):
            raise nothing_recorded() from None
        yield Exchange(field, gained, went)
