"""What all ways of putting a change back have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from django.db import models
from django.utils.translation import gettext as _

from django_signal_audit.capture.rows import locked, rows_of
from django_signal_audit.keys import parse_id
from django_signal_audit.models import AuditEvent
from django_signal_audit.reports.display import label_of
from django_signal_audit.rules.targets import Field
from django_signal_audit.values import Digest, Masked, decode, encode


class RefusedError(Exception):
    """The change cannot be put back, for the reason that is the message."""


@dataclass(frozen=True, slots=True)
class Present:
    """An object as it is now, None if it is gone, and the newest event of it."""

    instance: models.Model | None
    newest: AuditEvent


class Reversal(ABC):
    """Puts the change of one event back.

    ``permission`` is the action on the object that it amounts to, as Django's permissions name it.
    """

    permission: ClassVar[str] = "change"

    def __init__(self, event: AuditEvent, model: type[models.Model]) -> None:
        self.event = event
        self.model = model
        self.using = event._state.db or "default"

    @abstractmethod
    def check(self) -> None:
        """Raise RefusedError if the change cannot be put back; nothing is locked."""

    @abstractmethod
    def undo(self) -> None:
        """Put the change back, in the transaction that is open; raise RefusedError if it cannot be."""

    def is_open(self, present: Present) -> bool:
        """Tell whether it is certain without a query that nothing has changed since."""
        return False

    def left_out(self) -> list[Field]:
        """Return the fields that will get their defaults, as what they were is not recorded."""
        return []

    def find(self, *, lock: bool) -> models.Model:
        """Return the object as it is now; raise RefusedError if there is none."""
        rows = rows_of(self.model, self.using).filter(pk=parse_id(self.model, self.event.object_id))
        instance: models.Model | None = (locked(rows, self.using) if lock else rows).first()
        if instance is None:
            raise RefusedError(_("The object is no longer there."))
        return instance

    def refuse_unknown(self, name: str) -> None:
        """Raise RefusedError if a value of the field is not recorded as it was."""
        kinds = {type(value) for value in self.event.field_changes[name]}
        label = {"field": label_of(self.event.field(name), name)}
        if Masked in kinds:
            raise RefusedError(_("“%(field)s” is masked: what it was is not recorded.") % label)
        if Digest in kinds:
            raise RefusedError(_("Of “%(field)s” only a digest is recorded, not what it was.") % label)

    def refuse_lost(self, field: Field, key: Any) -> None:
        """Raise RefusedError if the field is a foreign key and there is no row with that key, which is JSON.

        A multi-table child's link is none: its parent's row goes and comes with the child's.
        """
        if not isinstance(field, models.ForeignKey) or key is None or field.remote_field.parent_link:
            return
        target: Any = field.target_field
        if not rows_of(target.model, self.using).filter(**{target.attname: decode(field, key)}).exists():
            raise lost(field)


def lost(field: Field) -> RefusedError:
    """Return the refusal of a field that would refer to a row that is gone."""
    label = label_of(field, field.name)
    return RefusedError(_("What “%(field)s” referred to is no longer there.") % {"field": label})


def changed(field: Field) -> RefusedError:
    """Return the refusal of a field that has another value now than the event left."""
    return RefusedError(_("“%(field)s” has changed since.") % {"field": label_of(field, field.name)})


def gone(name: str) -> RefusedError:
    """Return the refusal of a field that the model has no longer."""
    return RefusedError(_("The field “%(field)s” is no longer there.") % {"field": name})


def nothing_recorded() -> RefusedError:
    """Return the refusal of an event that tells no value."""
    return RefusedError(_("No value is recorded that could be put back."))


def holds(instance: models.Model, field: Field, value: Any) -> bool:
    """Tell whether a field of the object has a value, which is JSON."""
    return bool(encode(field, getattr(instance, field.attname)) == value)


def is_stamp(field: Field) -> bool:
    """Tell whether each save sets the field by itself, whatever it is given."""
    return bool(getattr(field, "auto_now", False))
