"""The objects that events are about, to follow their relations to recipients: rows, or what is known of those gone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from django.db.models import Model, prefetch_related_objects

from django_signal_audit.enums import EventType
from django_signal_audit.events.keys import parse_id, row_name
from django_signal_audit.events.values import Digest, Masked
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.tenants import tenant_function

# SQLite limits the parameters of a statement, and a key may have several parts.
CHUNK = 200

Name: TypeAlias = tuple[str, str]


def load_subjects(events: Iterable[AuditEvent], using: str) -> dict[Name, Model]:
    """Return the objects of the events by ``(event.model, event.object_id)``; events of no known model have none."""
    wanted: dict[type[Model], dict[Name, AuditEvent]] = {}
    for event in events:
        model = event.model_class
        if model is not None and event.object_id:
            wanted.setdefault(model, {})[event.model, event.object_id] = event
    found: dict[Name, Model] = {}
    for model, named in wanted.items():
        label = model._meta.label_lower
        found.update({(label, row_name(model, item.pk)): item for item in _rows(model, list(named.values()), using)})
        for name, event in named.items():
            if name not in found and parse_id(model, event.object_id) is not None:
                found[name] = _stand_in(model, event, using)
    return found


def prefetch(subjects: Iterable[Model], path: str) -> None:
    """Load what a path leads through, in a query per step and not per object."""
    by_model: dict[type[Model], list[Model]] = {}
    for subject in subjects:
        by_model.setdefault(type(subject), []).append(subject)
    for model, found in by_model.items():
        if relations := _relations(model, path):
            prefetch_related_objects(found, relations)


def _relations(model: type[Model], path: str) -> str:
    """Return the relations that a path begins with, as the lookup they are, ``""`` if it begins with none."""
    names: list[str] = []
    for name in path.split("."):
        fields = {field.name: field for field in (*model._meta.fields, *model._meta.many_to_many)}
        target = fields[name].related_model if name in fields else None
        if not isinstance(target, type):
            break
        names.append(name)
        model = target
    return "__".join(names)


def _rows(model: type[Model], events: Sequence[AuditEvent], using: str) -> Iterator[Model]:
    keys = [key for event in events if (key := parse_id(model, event.object_id)) is not None]
    for start in range(0, len(keys), CHUNK):
        yield from model._base_manager.using(using).filter(pk__in=keys[start : start + CHUNK])


def _stand_in(model: type[Model], event: AuditEvent, using: str) -> Model:
    """Return an instance with what the audit log knows of a row that is gone, to follow its relations from."""
    values = _recorded(model, event, using)
    known = {field.attname: values[field.name] for field in model._meta.concrete_fields if field.name in values}
    instance = model(**{name: value for name, value in known.items() if not isinstance(value, (Digest, Masked))})
    instance.pk = parse_id(model, event.object_id)
    instance._state.db, instance._state.adding = using, False
    return instance


def _recorded(model: type[Model], event: AuditEvent, using: str) -> dict[str, object]:
    if event.event_type == EventType.DELETE:
        return event.old
    named = AuditEvent.of_all_tenants.using(using).filter(model=model._meta.label_lower, object_id=event.object_id)
    if tenant_function():
        named = named.for_tenant(event.tenant)
    last = named.of_type(EventType.DELETE).order_by("-id").first()
    return {**event.new, **(last.old if last else {})}
