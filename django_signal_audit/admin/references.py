"""The fields of watched models by which their rows refer to an object."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.db import models

from django_signal_audit.capture.rows import rows_of
from django_signal_audit.events.keys import row_name
from django_signal_audit.events.values import JSONValue, encode
from django_signal_audit.models.inheritance import labels_including_children
from django_signal_audit.reports.relations import target_of
from django_signal_audit.rules.registry import get_registry

Model: TypeAlias = type[models.Model]
# Returns the object's value of a field of its own, None where that is not known.
ValueOf: TypeAlias = "Callable[[models.Field[Any, Any]], Any]"


@dataclass(frozen=True, slots=True)
class Reference:
    """A field by which rows of a model refer to one object, or the two fields of a generic foreign key."""

    # The labels of the events that tell of such rows, all of them watched.
    labels: tuple[str, ...]
    # What the object is called in events, by field.
    names: Mapping[str, JSONValue]
    # The rows that refer to the object now, as a queryset of primary keys.
    rows: models.QuerySet[Any, Any]
    is_members: bool = False

    def is_named_in(self, changes: Mapping[str, Any]) -> bool:
        """Return whether an event with these changes made or ended a reference to the object."""
        told = {name: changes[name] for name in self.names if name in changes}
        return bool(told) and all(self.names[name] in _values(change) for name, change in told.items())

    def keys(self, most: int) -> list[str]:
        """Return how the audit log names the rows that refer to the object now, at most so many of them."""
        return [row_name(self.rows.model, pk) for pk in self.rows[:most]]


def _values(change: Any) -> list[Any]:
    return [*change["added"], *change["removed"]] if isinstance(change, dict) else change


def references_to(model: Model, value_of: ValueOf, using: str) -> Iterator[Reference]:
    """Yield the references of watched models to one object.

    Args:
        model: The object's model.
        value_of: Tells the object's values.
        using: The database.

    """
    for relation in model._meta.get_fields(include_hidden=True):
        found = None
        if isinstance(relation, models.ManyToManyRel):
            found = _of_members(relation, value_of, using)
        elif isinstance(relation, models.ManyToOneRel) and not getattr(relation, "parent_link", False):
            found = _of_key(relation, value_of, using)
        if found is not None:
            yield found
    yield from _generic(model, value_of, using)


def _watched(model: Model) -> tuple[str, ...]:
    ruled = {plan.label for plan in get_registry().plans.values()}
    return tuple(label for label in labels_including_children(model) if label in ruled)


def _of_key(relation: models.ManyToOneRel, value_of: ValueOf, using: str) -> Reference | None:
    field, labels = relation.field, _watched(relation.field.model)
    value = value_of(field.target_field)
    if not labels or value is None:
        return None
    rows = rows_of(field.model, using).filter(**{field.attname: value}).values_list("pk", flat=True)
    return Reference(labels, {field.name: encode(field, value)}, rows)


def _of_members(relation: models.ManyToManyRel, value_of: ValueOf, using: str) -> Reference | None:
    """Return the reference by a field whose changes are events of the rows that have it; None for a mirrored one."""
    field: Any = relation.field
    through, target, labels = relation.through, target_of(field), _watched(relation.field.model)
    # With a hand-written through model its rows refer to the object. Of a symmetrical field the object has the mirror.
    if through is None or not through._meta.auto_created or relation.symmetrical or not labels or target is None:
        return None
    value = value_of(target)
    if value is None:
        return None
    to_object, to_owner = field.m2m_reverse_field_name(), field.m2m_field_name()
    rows = rows_of(through, using).filter(**{to_object: value}).values_list(to_owner, flat=True)
    return Reference(labels, {field.name: encode(target, value)}, rows, is_members=True)


def _generic(model: Model, value_of: ValueOf, using: str) -> Iterator[Reference]:
    """Yield the references by generic foreign keys, which no field of the model tells of."""
    pk: Any = model._meta.pk
    value = value_of(pk)
    for source in get_registry().plans:
        for key in source._meta.private_fields:
            if isinstance(key, GenericForeignKey) and key.model is source and value is not None:
                yield from _of_generic(key, model, value, using)


def _of_generic(key: GenericForeignKey, model: Model, value: Any, using: str) -> Iterator[Reference]:
    source: Any = key.model
    field: Any = source._meta.get_field(key.fk_field)
    try:
        stored = field.to_python(str(value))
    except ValidationError:
        return  # its rows cannot refer to objects with such keys
    kind = ContentType.objects.db_manager(using).get_for_model(model, for_concrete_model=key.for_concrete_model)
    rows = rows_of(source, using).filter(**{key.ct_field: kind.pk, key.fk_field: stored})
    names = {key.ct_field: kind.pk, key.fk_field: encode(field, stored)}
    yield Reference(_watched(source), names, rows.values_list("pk", flat=True))
