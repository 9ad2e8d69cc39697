"""Rows that are gone: which events are about them, and what is known of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NoReturn

from django.contrib.contenttypes.fields import GenericForeignKey
from django.db import models

from django_signal_audit.capture.images import chunks
from django_signal_audit.enums import EventType
from django_signal_audit.events.keys import parse_id
from django_signal_audit.events.values import Digest, Masked
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.renames import current_label, former_labels, renamed_changes
from django_signal_audit.models.state import well_formed

from .base import CHUNK, NotRecordedError, Policy, Verdict

# A row's record begins with one of these: events before it may be about another row that had the primary key.
_STARTS = (EventType.CREATE.value, EventType.BASELINE.value)
_LIMITS = (*_STARTS, EventType.DELETE.value)


class Lives:
    """Which row an event is about: a primary key can be used again once its row is deleted."""

    def __init__(self) -> None:
        # What begins and ends the rows of a key, oldest first, and from which event on that is known.
        self._limits: dict[tuple[str, str], list[AuditEvent]] = defaultdict(list)
        self._known: dict[tuple[str, str], int] = {}

    def load(self, events: Iterable[AuditEvent], using: str) -> None:
        """Find out in one query per model what has ended the rows of events."""
        wanted: dict[str, dict[str, int]] = defaultdict(dict)
        for event in events:
            label, key = event.model, event.object_id
            if not is_recorded(event) or not key or self._known.get((label, key), event.id + 1) <= event.id:
                continue
            wanted[label][key] = min(event.id, wanted[label].get(key, event.id))
        for label, by_key in wanted.items():
            for keys in chunks(frozenset(by_key), CHUNK):
                self._read(label, {key: by_key[key] for key in keys}, using)

    def _read(self, label: str, first: Mapping[str, int], using: str) -> None:
        current, least = current_label(label), min(first.values())
        rows = AuditEvent.objects.using(using).filter(model__in=(current, *former_labels(current)))
        rows = rows.of_type(*_LIMITS).filter(object_id__in=list(first), pk__gte=least)
        if all((label, key) in self._known for key in first):
            rows = rows.filter(pk__lt=max(self._known[label, key] for key in first))
        found: dict[str, dict[int, AuditEvent]] = defaultdict(dict)
        for row in rows:
            found[row.object_id][row.id] = _shaped(row)
        for key in first:
            known = {**found.get(key, {}), **{event.id: event for event in self._limits[label, key]}}
            self._limits[label, key] = [known[pk] for pk in sorted(known)]
            self._known[label, key] = least

    def end_of(self, event: AuditEvent) -> AuditEvent | None:
        """Return what ended the row of an event, None if it may be the row that has the primary key now."""
        if not is_recorded(event):
            return None
        limits = self._limits.get((event.model, event.object_id), ())
        return next((one for one in limits if one.id > event.id or (one.id == event.id and _is_deletion(one))), None)

    def life_of(self, event: AuditEvent) -> str:
        """Return a text that tells the rows of a primary key apart, ``""`` for the one that has it now."""
        end = self.end_of(event)
        return "" if end is None else str(end.id)

    def told_by(self, event: AuditEvent, using: str) -> AuditEvent:
        """Return the event that says most about the row of an event, which is gone: its deletion, if it is known."""
        if not is_recorded(event):
            return _last_deletion(event, using) or event
        end = self.end_of(event)
        return end if end is not None and _is_deletion(end) else event


def is_recorded(event: AuditEvent) -> bool:
    """Return whether an event has a place in the log: others only name an object."""
    number: object = event.id
    return number is not None


def _is_deletion(event: AuditEvent) -> bool:
    return event.event_type == EventType.DELETE


def _last_deletion(event: AuditEvent, using: str) -> AuditEvent | None:
    current = current_label(event.model)
    rows = AuditEvent.objects.using(using).filter(model__in=(current, *former_labels(current)))
    found = rows.of_type(EventType.DELETE).filter(object_id=event.object_id).order_by("-id").first()
    return None if found is None else _shaped(found)


def _shaped(event: AuditEvent) -> AuditEvent:
    """Return the event, in memory with names of today and without changes that are none: SQL can store any JSON."""
    event.changes = renamed_changes(event.model, well_formed(event.changes))
    event.model = current_label(event.model)
    return event


def judged(policy: Policy, events: Sequence[AuditEvent], lives: Lives, using: str) -> list[Verdict]:
    """Return for each event whether its row may be seen, or could have been before it was deleted."""
    lives.load(events, using)
    present = policy.verdicts({event.object_id for event in events if lives.end_of(event) is None}, using)
    is_gone = [lives.end_of(event) is not None or event.object_id not in present for event in events]
    gone = [lives.told_by(event, using) for event, is_one in zip(events, is_gone, strict=True) if is_one]
    past: Iterator[Verdict] = iter(policy.verdicts_of_gone(gone, using) if gone else ())
    return [next(past) if is_one else present[event.object_id] for event, is_one in zip(events, is_gone, strict=True)]


def stand_in(model: type[models.Model], event: AuditEvent, using: str) -> Any:
    """Return a row that is gone as its deletion has recorded it; what isn't known of it raises NotRecordedError.

    Args:
        model: The model of the row, which may be a proxy of the event's.
        event: The deletion. No other event tells all of what the row was in the end.
        using: The database.

    """
    recorded = event.old if _is_deletion(event) else {}
    fields = model._meta.concrete_fields
    found = {field.attname: recorded[field.name] for field in fields if field.name in recorded}
    known = {name: value for name, value in found.items() if not isinstance(value, (Digest, Masked))}
    instance: Any = model(**known)
    pk = parse_id(model, event.object_id)
    if pk is not None:
        instance.pk = pk
        known |= dict.fromkeys(field.attname for field in model._meta.pk_fields)
    for field in fields:
        if field.attname not in known:
            instance.__dict__.pop(field.attname, None)
    instance._state.db, instance._state.adding = using, False
    instance.__class__ = _kind(model)
    return instance


def is_stand_in(row: models.Model) -> bool:
    """Return whether a row was made by ``stand_in``."""
    return type(row).__dict__.get("refresh_from_db") is _not_recorded


def _not_recorded(*_args: object, **_options: object) -> NoReturn:
    msg = "The row was deleted, and this wasn't recorded."
    raise NotRecordedError(msg)


@cache
def _kind(model: type[models.Model]) -> type[models.Model]:
    """Return a class like the model, whose relations can't be followed: their rows are gone with the row.

    It is unknown to Django's registry of models.
    """
    unknown: dict[str, object] = dict.fromkeys(_relations(model), property(_not_recorded))
    generic = {field.name: _generic(model, field.name) for field in _generic_keys(model)}
    # Fields that the instance lacks are deferred ones to Django, which asks for them here.
    body = {"__module__": model.__module__, "refresh_from_db": _not_recorded, **unknown, **generic}
    return type.__new__(type(model), model.__name__, (model,), body)


def _relations(model: type[models.Model]) -> Iterator[str]:
    for field in model._meta.get_fields(include_hidden=True):
        if field.many_to_many or field.one_to_many or (field.one_to_one and field.auto_created):
            accessor = getattr(field, "get_accessor_name", None)
            name = accessor() if field.auto_created and accessor else field.name
            if name:
                yield name


def _generic_keys(model: type[models.Model]) -> list[GenericForeignKey]:
    return [field for field in model._meta.private_fields if isinstance(field, GenericForeignKey)]


def _generic(model: type[models.Model], name: str) -> property:
    """Return a generic foreign key that raises where its row is gone, in place of None."""

    def get(instance: Any) -> object:
        found = getattr(super(_kind(model), instance), name)
        return _not_recorded() if found is None else found

    return property(get)
