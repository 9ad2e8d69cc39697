"""What happened beside an object: to the rows that refer to it, and to it as a member, from the other side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.db import models

from django_signal_audit.capture.rows import rows_of
from django_signal_audit.events.keys import parse_id
from django_signal_audit.events.values import Digest, Masked
from django_signal_audit.models import AuditEvent, AuditEventQuerySet
from django_signal_audit.reports.signatures import known_kinds

from .access import Access, readable
from .keyset import HistoryScan, IndexScan, newest_keys
from .references import Reference, ValueOf, references_to

# So many events are shown.
MAX_EVENTS = 20
# Of so many, those are taken that the user may see.
MAX_CANDIDATES = 500
# Of the rows that refer to the object by one field, the events of this many are looked for, and of each this many.
MAX_ROWS = 50
MAX_EVENTS_OF_FIELD = 100
# What rows that are gone, or refer to another object now, have to do with it is looked for in this many of the newest
# events of their models, of this many kinds, and in this many of the events that came with those on the page.
MAX_RECENT = 300
MAX_KINDS = 200
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
        if any(access.may_view(label) for label in reference.labels) and _may_be_shown(access, reference)
    ]
    if not found:
        return []
    labels = {label for reference in found for label in reference.labels}
    keys, candidates = _of_rows(events, found)
    candidates |= _recent(events, labels) | _together(events, page)
    keys |= _naming(events.filter(pk__in=candidates), found)
    own = {"model__in": {event.model for event in page}, "object_id": newest.object_id}
    shown = readable(access, events.filter(pk__in=keys)).exclude(**own)
    return access.filter(shown.order_by("-id")[:MAX_CANDIDATES])[:MAX_EVENTS]


def _may_be_shown(access: Access, reference: Reference) -> bool:
    """Return whether the user may see the fields by which rows refer to the object: else it is not for them to know."""
    return all(access.shows_field(label, name) for label in reference.labels for name in reference.names)


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
    kinds = [number for number, kind in known_kinds(events.db).items() if kind.model in labels]
    return set(newest_keys([IndexScan(events, "kind", number) for number in kinds[:MAX_KINDS]], MAX_RECENT))


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
