"""What happened to the rows that refer to an object: shown beside its own history."""

from __future__ import annotations

from collections.abc import Iterator

from django.db import models
from django.http import HttpRequest

from django_signal_audit.capture.rows import rows_of
from django_signal_audit.keys import object_id, parse_id
from django_signal_audit.models import AuditEvent
from django_signal_audit.rules.registry import get_registry

from .visibility import visible

# Of each model that refers to the object, the events of this many rows, and of all of them together this many.
MAX_ROWS = 50
MAX_EVENTS = 20


def related_events(request: HttpRequest, event: AuditEvent) -> list[AuditEvent]:
    """Return the newest events of the rows that have a foreign key to the event's object, as far as the user sees them.

    Rows are found by where they point now: what was deleted or points elsewhere has a history of its own.
    """
    model, using = event.model_class, event._state.db or "default"
    pk = parse_id(model, event.object_id) if model else None
    if model is None or pk is None:
        return []
    instance = rows_of(model, using).filter(pk=pk).first()
    if instance is None:
        return []
    found: list[AuditEvent] = []
    for label, keys in _rows(model, instance, using):
        events = visible(request, AuditEvent.objects.using(using).filter(model=label, object_id__in=keys))
        found += events.order_by("-id")[:MAX_EVENTS]
    return sorted(found, key=lambda one: one.pk, reverse=True)[:MAX_EVENTS]


def _rows(model: type[models.Model], instance: models.Model, using: str) -> Iterator[tuple[str, list[str]]]:
    """Yield label and names of the rows of each watched model that refers to the object."""
    watched = get_registry().plans
    for relation in model._meta.get_fields(include_hidden=True):
        source = getattr(relation, "field", None)
        if not isinstance(relation, models.ManyToOneRel) or not isinstance(source, models.ForeignKey):
            continue
        if source.model not in watched or getattr(relation, "parent_link", False):
            continue
        target = getattr(instance, source.target_field.attname)
        rows = rows_of(source.model, using).filter(**{source.attname: target}).order_by("-pk")
        keys = [object_id(pk) for pk in rows.values_list("pk", flat=True)[:MAX_ROWS]]
        if keys:
            yield source.model._meta.label_lower, keys
