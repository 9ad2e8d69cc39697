"""Putting the change of a many-to-many field back: what it gained goes, what it lost comes again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext as _

from django_signal_audit.capture.memberships import Membership
from django_signal_audit.capture.rows import rows_of
from django_signal_audit.models import AuditEvent
from django_signal_audit.reports.display import label_of
from django_signal_audit.values import plain_field

from .refusals import RefusedError


@dataclass(frozen=True, slots=True)
class Exchange:
    """The members that one field of an object gained and lost by an event."""

    field: models.ManyToManyField[Any, Any]
    gained: frozenset[Any]
    lost: frozenset[Any]

    def check(self, instance: models.Model, using: str) -> None:
        """Raise RefusedError unless the object has what the event left, and what it lost is there; takes locks."""
        membership = Membership(self.field, ())
        owner = getattr(instance, membership.owner_link.target_field.attname)
        held = {member for _owner, member in membership.pairs(using, membership.of_owner(owner))}
        label = label_of(self.field, self.field.name)
        if not self.gained <= held or self.lost & held:
            raise RefusedError(_("“%(field)s” has changed since.") % {"field": label})
        target: Any = membership.member_link.target_field
        found = rows_of(target.model, using).filter(**{f"{target.attname}__in": self.lost})
        if found.count() < len(self.lost):
            raise RefusedError(_("What “%(field)s” referred to is no longer there.") % {"field": label})

    def undo(self, instance: models.Model) -> None:
        """Take out what came, and put in what went."""
        manager = getattr(instance, self.field.name)
        manager.remove(*self.gained)
        manager.add(*self.lost)


def exchanges(event: AuditEvent) -> list[Exchange]:
    """Return what an m2m event changed; raise RefusedError if it does not say so of fields that are there."""
    found = [_exchange(event, name) for name in event.changes]
    if not found:
        raise RefusedError(_("No value is recorded that could be put back."))
    return found


def _exchange(event: AuditEvent, name: str) -> Exchange:
    field, change = event.field(name), event.member_changes.get(name)
    if not isinstance(field, models.ManyToManyField):
        raise RefusedError(_("The field “%(field)s” is no longer there.") % {"field": name})
    target = plain_field(Membership(field, ()).member_link.target_field)
    try:
        sides = (change.added, change.removed) if change else ()
        gained, lost = (frozenset(map(target.to_python, keys)) for keys in sides)
    except (ValueError, ValidationError):
        raise RefusedError(_("No value is recorded that could be put back.")) from None
    return Exchange(field, gained, lost)
