"""Putting a deletion back: the row comes again with the key, the values and the members that it had."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models
from django.utils.translation import gettext as _

from django_signal_audit.capture.rows import rows_of
from django_signal_audit.keys import parse_id
from django_signal_audit.models import AuditEvent
from django_signal_audit.reports.display import label_of
from django_signal_audit.rules.targets import Field
from django_signal_audit.values import decode, to_json

from .base import Present, RefusedError, Reversal, holds, is_stamp
from .members import Exchange, exchanges


class DeletionReversal(Reversal):
    """Puts one deleted row back, if all of it is recorded and nothing has come in its place."""

    permission: ClassVar[str] = "add"

    def check(self) -> None:
        """Raise RefusedError if something is not recorded, refers to what is gone, or has come in its place."""
        self._checked()

    def undo(self) -> None:
        """Insert the row by the model's ``save``, and add the members that it had."""
        values, members = self._checked()
        instance = self._insert(values)
        for exchange in members:
            exchange.undo(instance)

    def is_open(self, present: Present) -> bool:
        """Tell whether this is how the object ended, and all of it is recorded."""
        try:
            return present.instance is None and present.newest.pk == self.event.pk and bool(self._values())
        except RefusedError:
            return False

    def _checked(self) -> tuple[dict[Field, Any], list[Exchange]]:
        values = self._values()
        members = list(exchanges(self.event, self._members()))
        self._refuse_successors()
        for field, value in values.items():
            self.refuse_lost(field, value)
        for exchange in members:
            exchange.check_lost(self.using)
        return values, members

    def left_out(self) -> list[Field]:
        """Return the fields of which nothing is recorded and that can do without: they get their defaults."""
        try:
            values = self._values()
        except RefusedError:
            return []
        return [field for field in self._fields() if field not in values and not is_stamp(field)]

    def _values(self) -> dict[Field, Any]:
        """Return what the row held, as JSON, of each field that it takes to insert it: its key among them."""
        pk = parse_id(self.model, self.event.object_id)
        if pk is None:
            raise RefusedError(_("Its key is not recorded as a whole."))
        [key, *_others] = self.model._meta.pk_fields
        # The parts of a composite key are among the changes.
        values: dict[Field, Any] = {} if isinstance(pk, tuple) else {key: to_json(pk)}
        for field in self._fields():
            try:
                values[field] = self._value(field)
            except RefusedError:
                if not _is_optional(field):
                    raise
        return values

    def _fields(self) -> list[Field]:
        """Return the fields that the event may tell of: its object_id is the key, and the database generates some."""
        fields: list[Field] = list(self.model._meta.concrete_fields)
        return [field for field in fields if not field.generated and not field.primary_key]

    def _value(self, field: Field) -> Any:
        change = self.event.changes.get(field.name)
        if not isinstance(change, list):
            label = label_of(field, field.name)
            raise RefusedError(_("“%(field)s” is not recorded: what it was is not known.") % {"field": label})
        self.refuse_unknown(field.name)
        return change[0]

    def _members(self) -> list[str]:
        return [name for name, change in self.event.changes.items() if isinstance(change, dict)]

    def _refuse_successors(self) -> None:
        pk = parse_id(self.model, self.event.object_id)
        # Asked before the row: what came in between is there, rather than gone again.
        came_again = self._came_again()
        if rows_of(self.model, self.using).filter(pk=pk).exists():
            raise RefusedError(_("The object is there again."))
        for parent in self.model._meta.get_parent_list():
            if rows_of(parent, self.using).filter(pk=pk).exists():
                raise RefusedError(_("The row that it extended is there still, and may have changed since."))
        if came_again:
            raise RefusedError(_("It came again since, and went again: only its last deletion can be put back."))

    def _came_again(self) -> bool:
        same = AuditEvent.objects.using(self.using).filter(model=self.event.model, object_id=self.event.object_id)
        # Some databases find "a" where "A" was asked for.
        return self.event.object_id in same.filter(id__gt=self.event.pk).values_list("object_id", flat=True)

    def _insert(self, values: dict[Field, Any]) -> models.Model:
        instance = self.model()
        _save(instance, values, using=self.using, force_insert=True)
        stored: models.Model = rows_of(self.model, self.using).get(pk=instance.pk)
        # The first save of a row sets some fields by itself, whatever it is given.
        others = {
            field: value for field, value in values.items() if not is_stamp(field) and not holds(stored, field, value)
        }
        if others:
            _save(stored, others, using=self.using, update_fields=[field.name for field in others])
        return stored


def _save(instance: models.Model, values: dict[Field, Any], **options: Any) -> None:
    for field, value in values.items():
        setattr(instance, field.attname, decode(field, value))
    instance.save(**options)


def _is_optional(field: Field) -> bool:
    """Tell whether a new row may do without the field."""
    return field.blank or field.null or field.has_default() or field.has_db_default()
