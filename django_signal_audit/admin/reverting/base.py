"""What all ways to revert a change have in common."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, models, router
from django.utils.translation import gettext as _
from model_utils.fields import AutoLastModifiedField

from django_signal_audit.admin.policies import Limits
from django_signal_audit.capture.rows import locked, rows_of
from django_signal_audit.capture.tables import stored_value
from django_signal_audit.capture.through_rows import M2MRelation
from django_signal_audit.delivery.redaction import describe
from django_signal_audit.events.documents import stand_ins
from django_signal_audit.events.keys import parse_id
from django_signal_audit.events.values import Digest, Masked, canonical_json, decode, encode
from django_signal_audit.models import AuditEvent
from django_signal_audit.reports.display import label_of
from django_signal_audit.rules.patterns import Field

logger = logging.getLogger(__name__)

_PLAIN = {
    kind.pre_save for kind in (models.Field, models.DateField, models.DateTimeField, models.TimeField, models.FileField)
}


class RefusedError(Exception):
    """The change can't be reverted; the message says why."""

    def __init__(self, message: str, event: AuditEvent | None = None) -> None:
        super().__init__(message)
        # The event whose change it is, where there are several.
        self.event = event


@dataclass(frozen=True, slots=True)
class Present:
    """An object as it is now, None if it is gone, and the newest event of it."""

    instance: models.Model | None
    newest: AuditEvent


class Revert(ABC):
    """Reverts the change of one event.

    The event may be made up: of what an object has now, and what it had at some point of its history.

    ``permission`` is the action on the object that it amounts to, as Django's permissions name it.
    """

    permission: ClassVar[str] = "change"

    def __init__(self, event: AuditEvent, model: type[models.Model]) -> None:
        self.event = event
        self.model = model
        # What the user may write by hand.
        self.limits = Limits()
        # Whether they can see the row that comes of it.
        self.is_seen: Callable[[], bool] = lambda: True

    @cached_property
    def using(self) -> str:
        """Return the database to write to: the event may have been read from a replica of it."""
        read = self.event._state.db or DEFAULT_DB_ALIAS
        write = router.db_for_write(self.model, instance=self.event)
        is_replica = write != read and AuditEvent.objects.using(write).filter(uid=self.event.uid).exists()
        return write if is_replica else read

    @cached_property
    def pk(self) -> Any:
        """Return the primary key of the object; raise RefusedError if the event does not tell all of it."""
        pk = parse_id(self.model, self.event.object_id)
        # What no database keeps in a text is spelled out in the name of the row.
        if pk is None or r"\u0000" in self.event.object_id:
            raise RefusedError(_("Its primary key isn't recorded in full."))
        return pk

    @property
    @abstractmethod
    def traces(self) -> frozenset[str]:
        """Return the types of the events that record the revert."""

    @abstractmethod
    def check(self) -> None:
        """Raise RefusedError if the change can't be reverted; nothing is locked."""

    @abstractmethod
    def undo(self) -> None:
        """Revert the change in the open transaction; raise RefusedError if that isn't possible."""

    def is_open(self, present: Present) -> bool:
        """Return whether the change can probably be reverted, at next to no cost: a history has many events."""
        return False

    def notes(self) -> list[str]:
        """Return what the revert leaves out, in sentences for the user who confirms it."""
        return []

    def cause(self, name: str) -> str:
        """Return why one field can't get its old value back, ``""`` if nothing about that field is in the way."""
        field = self.event.field(name)
        try:
            if field is None:
                raise gone(name)
            if isinstance(self.event.changes[name], list):
                self.refuse_unknown(name)
            if not self.writes(field):
                raise set_by_itself(field)
            self.refuse_forbidden(field)
            self.refuse_value(name)
        except RefusedError as refused:
            return str(refused)
        return ""

    @abstractmethod
    def refuse_value(self, name: str) -> None:
        """Raise RefusedError if the old value of a field, or a part of it, is no value that the user could set now."""

    def find(self, *, lock: bool) -> models.Model:
        """Return the object as it is now; raise RefusedError if there is none."""
        rows = rows_of(self.model, self.using).filter(pk=self.pk)
        instance: models.Model | None = (locked(rows, self.using) if lock else rows).first()
        if instance is None:
            raise RefusedError(_("The object no longer exists."))
        return instance

    def writes(self, field: Field) -> bool:
        """Return whether the field is written: some are set by each save, whatever they are given."""
        if is_stamp(field) or field.generated:
            return False
        # Where there is a form, what it cannot have is left to the field itself, if it has a way of its own.
        return self.limits.fields is None or field.editable or type(field).pre_save in _PLAIN

    def refuse_forbidden(self, field: Field) -> None:
        """Raise RefusedError if the user may not change the field by hand."""
        if not self.limits.allows(field.name):
            raise RefusedError(_("You may not change “%(field)s”.") % {"field": label_of(field, field.name)})

    def refuse_not_offered(self, field: Field, *values: object) -> None:
        """Raise RefusedError if the user could not choose these values, which are typed, by hand."""
        is_relation = isinstance(field, (models.ForeignKey, models.ManyToManyField))
        target: Any = getattr(field, "target_field", None) if is_relation else None
        given = [value for value in values if value is not None]
        if not self.limits.offers(target, field.name, given, self.using):
            label = {"field": label_of(field, field.name)}
            raise RefusedError(_("You may not set “%(field)s” to its old value.") % label)

    def refuse_invalid(self, instance: models.Model, values: Mapping[Field, object]) -> None:
        """Raise RefusedError if the project's form or model finds the row with these values invalid.

        Args:
            instance: The object as it is now, or a new one.
            values: The values to be written, typed: of foreign keys and m2m fields the keys, of all members.

        """
        try:
            cleaned = {field.name: self._cleaned(instance, field, value) for field, value in values.items()}
            found = " ".join(self.limits.objections(instance, cleaned))
        except DatabaseError:
            raise
        except Exception as error:
            # The form is the project's code, and may raise anything.
            logger.warning("The form could not say whether event %s may be reverted.", self.event.uid, exc_info=True)
            found = describe(error)
        if found:
            raise RefusedError(_("It can't be saved: %(error)s") % {"error": found})

    def _cleaned(self, instance: models.Model, field: Field, value: Any) -> object:
        """Return a value as a form has it once it is cleaned: keys as what they are the keys of."""
        if isinstance(field, models.ManyToManyField):
            link: Any = M2MRelation(field, ()).member_link.target_field
            return rows_of(field.remote_field.model, self.using).filter(**{f"{link.attname}__in": value})
        if isinstance(field, models.ForeignKey) and value is not None:
            target: Any = field.target_field
            return rows_of(target.model, self.using).filter(**{target.attname: value}).first()
        return field.attr_class(instance, field, value) if isinstance(field, models.FileField) else value

    def refuse_unknown(self, name: str) -> None:
        """Raise RefusedError if a value of the field is not recorded as it was."""
        field = self.event.field(name)
        kinds = {type(item) for value in self.event.changes[name] for item in stand_ins(decode(field, value))}
        label = {"field": label_of(field, name)}
        if Masked in kinds:
            raise RefusedError(_("“%(field)s” is masked: its old value isn't recorded.") % label)
        if Digest in kinds:
            raise RefusedError(_("Only a digest of “%(field)s” is recorded, not its old value.") % label)

    def refuse_lost(self, field: Field, key: Any) -> None:
        """Raise RefusedError if the field is a foreign key and there is no row with that key, which is JSON.

        A multi-table child's link is none: its parent's row goes and comes with the child's.
        """
        if not isinstance(field, models.ForeignKey) or key is None or field.remote_field.parent_link:
            return
        target: Any = field.target_field
        try:
            found = rows_of(target.model, self.using).filter(**{target.attname: decode(field, key)}).exists()
        except (ValueError, TypeError, ValidationError):
            found = False  # the target has keys of another type by now
        if not found:
            raise lost(field)


def lost(field: Field) -> RefusedError:
    """Return the refusal of a field that would refer to a row that is gone."""
    label = label_of(field, field.name)
    return RefusedError(_("The object that “%(field)s” referred to no longer exists.") % {"field": label})


def changed(field: Field) -> RefusedError:
    """Return the refusal of a field that has another value now than the event left."""
    return RefusedError(_("“%(field)s” has changed since.") % {"field": label_of(field, field.name)})


def gone(name: str) -> RefusedError:
    """Return the refusal of a field that the model has no longer."""
    return RefusedError(_("The field “%(field)s” no longer exists.") % {"field": name})


def set_by_itself(field: Field) -> RefusedError:
    """Return the refusal of a field that nobody sets by hand."""
    return RefusedError(_("“%(field)s” sets itself.") % {"field": label_of(field, field.name)})


def nothing_recorded() -> RefusedError:
    """Return the refusal of an event that tells no value."""
    return RefusedError(_("No value is recorded that could be restored."))


def holds(instance: models.Model, field: Field, value: object) -> bool:
    """Return whether a field of the object has a value, which is JSON."""
    return canonical_json(encode(field, stored_value(instance, field))) == canonical_json(value)


def demand(instance: models.Model, values: Mapping[Field, object]) -> None:
    """Raise RefusedError unless the object has these values, which are JSON."""
    for field, value in values.items():
        if not _has_its_way(field) and not holds(instance, field, value):
            raise missed(field)


def _has_its_way(field: Field) -> bool:
    """Return whether the field may make another value of what it is given when it is saved: stamps and slugs do."""
    return is_stamp(field) or type(field).pre_save not in _PLAIN


def missed(field: Field) -> RefusedError:
    """Return the refusal of a field that was saved, and holds something else."""
    return RefusedError(_("“%(field)s” wouldn't get its old value back.") % {"field": label_of(field, field.name)})


def is_stamp(field: Field) -> bool:
    """Return whether each save sets the field to the present time, whatever it is given."""
    return bool(getattr(field, "auto_now", False)) or isinstance(field, AutoLastModifiedField)
