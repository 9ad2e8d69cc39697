"""Revert a deletion: the row is restored with its primary key, its values and its related objects."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

from django.core.exceptions import SuspiciousFileOperation
from django.db import models
from django.utils.translation import gettext as _

from django_signal_audit.capture.rows import rows_of
from django_signal_audit.capture.tables import assignable
from django_signal_audit.enums import EventType
from django_signal_audit.events.values import decode, to_json
from django_signal_audit.models import AuditEvent
from django_signal_audit.reports.display import label_of
from django_signal_audit.rules.patterns import Field
from django_signal_audit.rules.registry import get_registry

from .base import Present, RefusedError, Revert, demand, gone, holds, is_stamp
from .m2m import Exchange, exchanges

logger = logging.getLogger(__name__)

# JSON of what a row held, by field.
Values = dict[Field, Any]


class DeletionRevert(Revert):
    """Restores one deleted row, if all of it is recorded and nothing has come in its place."""

    permission: ClassVar[str] = "add"

    @property
    def traces(self) -> frozenset[str]:
        """Return the types of the events that record the revert."""
        return frozenset({EventType.CREATE})

    def check(self) -> None:
        """Raise RefusedError if something is not recorded, refers to what is gone, or has come in its place."""
        self._checked()

    def undo(self) -> None:
        """Insert the row by the model's ``save``, and add the members that it had."""
        values, members = self._checked()
        instance = self._insert(values)
        for exchange in members:
            exchange.undo(instance, self.using)

    def is_open(self, present: Present) -> bool:
        """Return whether the object ended like this and can be restored; one event of a history is asked about."""
        if present.instance is not None or present.newest.pk != self.event.pk:
            return False
        try:
            self.check()
        except RefusedError:
            return False
        return True

    def notes(self) -> list[str]:
        """Return which fields get their defaults, and which related objects and files are not restored."""
        try:
            values = self._values()
        except RefusedError:
            return []
        missing = [field for field in self._fields() if field not in values and not is_stamp(field)]
        forbidden = [field for field in missing if self._is_forbidden(field)]
        unknown = [field for field in missing if field not in forbidden]
        forbidden += [field for field in map(self.event.field, self._members()) if field and self._is_forbidden(field)]
        files = [name for field, name in values.items() if name and _is_gone(field, name)]
        bypass_capture = self._unaudited()
        notes = (
            (_("You may not set these fields, so they get their defaults: %(names)s."), forbidden),
            (_("The values of these fields aren't recorded, so they get their defaults: %(names)s."), unknown),
            (_("Related objects of these fields aren't recorded and won't be restored: %(names)s."), bypass_capture),
            (_("These files no longer exist and won't be restored: %(names)s."), files),
        )
        return [text % {"names": ", ".join(map(_label, names))} for text, names in notes if names]

    def _checked(self) -> tuple[Values, list[Exchange]]:
        values = self._values()
        allowed = [name for name in self._members() if self.limits.allows(name)]
        members = list(exchanges(self.event, allowed))
        self._refuse_successors()
        for field, value in values.items():
            self._refuse_value(field, value)
        for exchange in members:
            self._refuse_members(exchange)
        self._refuse_invalid(values, members)
        return values, members

    def refuse_value(self, name: str) -> None:
        """Raise RefusedError if the old value of a field is no value that the user could set now."""
        if name in self._members():
            for exchange in exchanges(self.event, [name]):
                self._refuse_members(exchange)
            return
        field = self.event.field(name)
        if field is not None:
            self._refuse_value(field, self.event.changes[name][0])

    def _refuse_value(self, field: Field, value: Any) -> None:
        if not self._is_itself(field, value):
            self.refuse_lost(field, value)
            self.refuse_not_offered(field, decode(field, value))

    def _refuse_members(self, exchange: Exchange) -> None:
        self.refuse_not_offered(exchange.field, *exchange.lost)
        exchange.check_lost(self.using, but=self.pk if exchange.member_model is self.model else None)

    def _refuse_invalid(self, values: Values, members: list[Exchange]) -> None:
        instance = self.model()
        instance._state.db = self.using
        typed: dict[Field, Any] = {field: decode(field, value) for field, value in values.items()}
        for field, value in {**self._key(), **typed}.items():
            setattr(instance, field.attname, value)
        itself = {field for field, value in values.items() if self._is_itself(field, value)}
        given = {field: value for field, value in typed.items() if field not in itself}
        self.refuse_invalid(instance, {**given, **{one.field: one.lost for one in members}})

    def _values(self) -> Values:
        for name in self.event.changes:
            if self.event.field(name) is None:
                raise gone(name)
        values: Values = {field: to_json(part) for field, part in self._key().items()}
        for field in self._fields():
            try:
                if self._is_forbidden(field):
                    self.refuse_forbidden(field)
                values[field] = self._value(field)
            except RefusedError:
                if not is_optional(field):
                    raise
        return values

    def refuse_forbidden(self, field: Field) -> None:
        """Raise RefusedError if the user may not set the field by hand; what no form can set comes again."""
        if field.editable:
            super().refuse_forbidden(field)

    def _is_forbidden(self, field: Field) -> bool:
        """Return whether the project keeps the user from setting the field; what no form can set comes again."""
        return field.editable and not self.limits.allows(field.name)

    def _key(self) -> dict[Field, object]:
        """Return the parts of the key by field: a multi-table child's parents have it too."""
        fields = self.model._meta.pk_fields
        if len(fields) > 1:
            return dict(zip(fields, self.pk, strict=True))
        return {field: self.pk for field in self.model._meta.concrete_fields if field.primary_key}

    def _fields(self) -> list[Field]:
        """Return the fields that the event describes: its object_id is the key, and the database generates some."""
        fields: list[Field] = list(self.model._meta.concrete_fields)
        key = self._key()
        return [field for field in fields if field not in key and not field.generated]

    def _value(self, field: Field) -> object:
        change = self.event.changes.get(field.name)
        if not isinstance(change, list):
            label = label_of(field, field.name)
            raise RefusedError(_("“%(field)s” is not recorded, so its old value isn't known.") % {"field": label})
        self.refuse_unknown(field.name)
        return change[0]

    def _members(self) -> list[str]:
        return [name for name, change in self.event.changes.items() if isinstance(change, dict)]

    def _unaudited(self) -> list[Field]:
        """Return the m2m fields whose members no rule records at a deletion."""
        plan = get_registry().plan_for(self.model)
        audited = plan.names_for(EventType.DELETE) if plan else frozenset()
        return [field for name, field in plan.all_members.items() if name not in audited] if plan else []

    def _is_itself(self, field: Field, value: object) -> bool:
        """Return whether the row refers to itself."""
        target = getattr(field, "target_field", None)
        return target is not None and value is not None and self._own(target) == value

    def _own(self, field: Field) -> object:
        if not issubclass(self.model, field.model):
            return None
        key = self._key()
        return to_json(key[field]) if field in key else self.event.changes.get(field.name, [None])[0]

    def _refuse_successors(self) -> None:
        # Asked before the row: what came in between is there, rather than gone again.
        came_again = self._came_again()
        if rows_of(self.model, self.using).filter(pk=self.pk).exists():
            raise RefusedError(_("The object exists again."))
        for parent in self.model._meta.get_parent_list():
            if rows_of(parent, self.using).filter(pk=self.pk).exists():
                raise RefusedError(_("The parent's row still exists and may have changed since."))
        if came_again:
            raise RefusedError(
                _("It was restored and deleted again since then. Only the last deletion can be reverted.")
            )

    def _came_again(self) -> bool:
        labels = {model._meta.label_lower for model in (self.model, *self.model._meta.get_parent_list())}
        same = AuditEvent.objects.using(self.using).filter(model__in=labels, object_id=self.event.object_id)
        # Some databases find "a" where "A" was asked for.
        return self.event.object_id in same.filter(id__gt=self.event.pk).values_list("object_id", flat=True)

    def _insert(self, values: Values) -> models.Model:
        instance = self.model()
        for field, part in self._key().items():
            setattr(instance, field.attname, part)
        # A parent's row that comes meanwhile is somebody's, and not to be written over.
        force: object = (models.Model,) if self.model._meta.parents else True
        _save(instance, values, self.using, force_insert=force)
        stored = self._stored()
        # The first save of a row sets some fields by itself, whatever it is given.
        others = {
            field: value for field, value in values.items() if not is_stamp(field) and not holds(stored, field, value)
        }
        if others:
            _save(stored, others, self.using, update_fields=[field.name for field in others])
            demand(self._stored(), others)
        return stored

    def _stored(self) -> models.Model:
        found: models.Model = rows_of(self.model, self.using).get(pk=self.pk)
        return found


def _save(instance: models.Model, values: Values, using: str, **options: Any) -> None:
    for field, value in values.items():
        setattr(instance, field.attname, assignable(field, decode(field, value), using))
    instance.save(using=using, **options)


def _label(found: Any) -> str:
    return found if isinstance(found, str) else label_of(found, found.name)


def is_optional(field: Field) -> bool:
    """Return whether a new row may do without the field."""
    return field.blank or field.null or field.has_default() or field.has_db_default()


def _is_gone(field: Field, name: str) -> bool:
    try:
        return isinstance(field, models.FileField) and not field.storage.exists(name)
    except SuspiciousFileOperation:
        return True  # outside of the storage, which cannot have it
    except Exception:
        logger.warning("The storage of %s could not say whether a file exists.", field, exc_info=True)
        return False
