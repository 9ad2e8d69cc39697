"""What happened beside an object: to the rows that refer to it, and to it as a member, from the other side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.db import models

from django_signal_audit.admin.access import Access, readable
from django_signal_audit.admin.keyset import HistoryScan, IndexScan, newest_keys
from django_signal_audit.capture.rows import rows_of
from django_signal_audit.events.keys import parse_id, row_name
from django_signal_audit.events.values import Digest, JSONValue, Masked, encode
from django_signal_audit.models import AuditEvent, AuditEventQuerySet
from django_signal_audit.models.inheritance import labels_including_children
from django_signal_audit.models.renames import current_label
from django_signal_audit.reports.functions import known_signatures
from django_signal_audit.reports.relations import target_of
from django_signal_audit.rules.registry import get_registry

Model: TypeAlias = type[models.Model]
# Returns the object's value of a field of its own, None where that is not known.
ValueOf: TypeAlias = "Callable[[models.Field[Any, Any]], Any]"


@dataclass(frozen=True, slots=True)
class Reference:
    """A field by which rows of a model refer to one object, or the two fields of a generic foreign key."""

    # The labels of the events that describe such rows, all of them audited.
    labels: tuple[str, ...]
    # What the object is called in events, by field.
    names: Mapping[str, JSONValue]
    # The rows that refer to the object now, as a queryset of primary keys.
    rows: models.QuerySet[Any, Any]
    is_members: bool = False

    def is_named_in(self, changes: Mapping[str, object]) -> bool:
        """Return whether an event with these changes made or ended a reference to the object."""
        told = {name: changes[name] for name in self.names if name in changes}
        return bool(told) and all(self.names[name] in _old_and_new(change) for name, change in told.items())

    def keys(self, most: int) -> list[str]:
        """Return how the audit log names the rows that refer to the object now, at most so many of them."""
        return [row_name(self.rows.model, pk) for pk in self.rows[:most]]


def _old_and_new(change: Any) -> list[object]:
    return [*change["added"], *change["removed"]] if isinstance(change, dict) else change


def references_to(model: Model, value_of: ValueOf, using: str) -> Iterator[Reference]:
    """Yield the references of audited models to one object.

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


def _audited_labels(model: Model) -> tuple[str, ...]:
    ruled = {plan.label for plan in get_registry().plans.values()}
    return tuple(label for label in labels_including_children(model) if current_label(label) in ruled)


def _of_key(relation: models.ManyToOneRel, value_of: ValueOf, using: str) -> Reference | None:
    field, labels = relation.field, _audited_labels(relation.field.model)
    value = value_of(field.target_field)
    if not labels or value is None:
        return None
    rows = rows_of(field.model, using).filter(**{field.attname: value}).values_list("pk", flat=True)
    return Reference(labels, {field.name: encode(field, value)}, rows)


def _of_members(relation: models.ManyToManyRel, value_of: ValueOf, using: str) -> Reference | None:
    """Return the reference by a field whose changes are events of the rows that have it; None for a mirrored one."""
    field: Any = relation.field
    through, target, labels = relation.through, target_of(field), _audited_labels(relation.field.model)
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
    """Yield the references by generic foreign keys, which no field of the model describes."""
    pk: Any = model._meta.pk
    value = value_of(pk)
    for source in get_registry().plans:
        for key in source._meta.private_fields:
            if isinstance(key, GenericForeignKey) and key.model is source and value is not None:
                yield from _of_generic(key, model, value, using)


def _of_generic(key: GenericForeignKey, model: Model, value: object, using: str) -> Iterator[Reference]:
    source: Any = key.model
    field: Any = source._meta.get_field(key.fk_field)
    try:
        stored = field.to_python(str(value))
    except ValidationError:
        return  # its rows cannot refer to objects with such keys
    signature = ContentType.objects.db_manager(using).get_for_model(model, for_concrete_model=key.for_concrete_model)
    rows = rows_of(source, using).filter(**{key.ct_field: signature.pk, key.fk_field: stored})
    names = {key.ct_field: signature.pk, key.fk_field: encode(field, stored)}
    yield Reference(_audited_labels(source), names, rows.values_list("pk", flat=True))


# So many events are shown.
MAX_EVENTS = 20
# Of so many, those are taken that the user may see.
MAX_CANDIDATES = 500
# Of the rows that refer to the object by one field, the events of this many are looked for, and of each this many.
MAX_ROWS = 50
MAX_EVENTS_OF_FIELD = 100
# What rows that are gone, or refer to another object now, have to do with it is looked for in this many of the newest
# events of their models, of this many signatures, and in this many of the events that came with those on the page.
MAX_RECENT = 300
MAX_SIGNATURES = 200
MAX_TOGETHER = 200
# SQLite merges no more than 500 queries.
MAX_BRANCHES = 400


def find_object(event: AuditEvent) -> models.Model | None:
    """Return the event's object as it is now, None if it or its model is gone."""
    model, using = event.model_class, event._state.db or "default"
    pk = parse_id(model, event.object_id) if model else None
    return None if model is None or pk is None else rows_of(model, using).filter(pk=pk).first()


def related_events(access: Access, page: Sequence[AuditEvent], instance: models.Model | None) -> list[AuditEvent]:
    """Return the newest events that have to do with an object and are not its own, as far as the user sees them.

    Args:
        access: What the user may see.
        page: Events of the object, the newest first: at least one.
        instance: The object, None if it is gone.

    """
    newest = page[0]
    model, using = newest.model_class, newest._state.db or "default"
    if model is None:
        return []
    events = AuditEvent.objects.using(using)
    found = [
        reference
        for reference in references_to(model, _values(newest, instance), using)
        if any(access.may_view(label) for label in reference.labels)
    ]
    if not found:
        return []
    labels = {label for reference in found for label in reference.labels}
    keys, candidates = _of_rows(events, found)
    candidates |= _recent(events, labels) | _together(events, page)
    keys |= _naming(events.filter(pk__in=candidates), found)
    own = {"model__in": {event.model for event in page}, "object_id": newest.object_id}
    shown = readable(access, events.filter(pk__in=keys)).exclude(**own)
    seen = access.filter(shown.order_by("-id")[:MAX_CANDIDATES])
    # That a row refers to the object is not for them to know who may not see the field by which it does.
    fields: dict[str, list[Iterable[str]]] = {}
    for reference in found:
        for label in reference.labels:
            fields.setdefault(label, []).append(reference.names)
    return access.showing_any(seen, fields)[:MAX_EVENTS]


def _values(newest: AuditEvent, instance: models.Model | None) -> ValueOf:
    """Return what tells the object's values: the row, or the event that it ended with."""
    if instance is not None:
        return lambda field: getattr(instance, field.attname)
    # What is masked, or kept as a digest, finds nothing.
    old = {name: value for name, value in newest.old.items() if not isinstance(value, (Masked, Digest))}
    model = newest.model_class
    pk = parse_id(model, newest.object_id) if model else None
    return lambda field: pk if field.primary_key else old.get(field.name)


def _of_rows(events: AuditEventQuerySet, references: Iterable[Reference]) -> tuple[set[int], set[int]]:
    """Return the keys of the events of rows that refer to the object, and of those that may name it as a member."""
    certain: set[int] = set()
    possible: set[int] = set()
    for reference in references:
        keys = reference.keys(min(MAX_ROWS, MAX_BRANCHES // len(reference.labels)))
        scans = [HistoryScan(events, label, key) for label in reference.labels for key in keys]
        if reference.is_members:
            possible.update(newest_keys(scans, MAX_EVENTS_OF_FIELD))
        else:
            certain.update(newest_keys(scans, MAX_EVENTS))
    return certain, possible


def _recent(events: AuditEventQuerySet, labels: set[str]) -> set[int]:
    signatures = [number for number, signature in known_signatures(events.db).items() if signature.model in labels]
    return set(
        newest_keys([IndexScan(events, "signature", number) for number in signatures[:MAX_SIGNATURES]], MAX_RECENT)
    )


def _together(events: AuditEventQuerySet, page: Iterable[AuditEvent]) -> set[int]:
    """Return the keys of events of the same requests and commands."""
    found = dict.fromkeys(event.correlation_id for event in page if event.correlation_id)
    return set(newest_keys([IndexScan(events, "correlation_id", value) for value in found], MAX_TOGETHER))


def _naming(events: AuditEventQuerySet, references: Iterable[Reference]) -> set[int]:
    by_label: dict[str, list[Reference]] = {}
    for reference in references:
        for label in reference.labels:
            by_label.setdefault(label, []).append(reference)
    rows: Any = events.filter(model__in=by_label).order_by().values_list("pk", "model", "changes")
    return {pk for pk, label, changes in rows if any(one.is_named_in(changes) for one in by_label[label])}
