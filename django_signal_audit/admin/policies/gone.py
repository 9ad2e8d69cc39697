"""Rows that are gone: which events are about them, and what is known of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import compress
from typing import Any, NamedTuple, NoReturn, Protocol

from django.contrib.contenttypes.fields import GenericForeignKey
from django.db import models

from django_signal_audit.capture.rows import is_one_of
from django_signal_audit.enums import EventType
from django_signal_audit.events.keys import parse_id
from django_signal_audit.events.values import Digest, Masked
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.renames import current_label, former_labels, renamed_changes
from django_signal_audit.models.state import well_formed

from .base import NotRecordedError, Policy, Verdict, in_parts

# A row's record begins with one of these: events before it may be about another row that had the primary key.
_STARTS = (EventType.CREATE.value, EventType.BASELINE.value)
_LIMITS = (*_STARTS, EventType.DELETE.value)


class Located(Protocol):
    """What tells which row an event is about: an event, or these columns of it."""

    @property
    def id(self) -> int:
        """Return its place in the log."""

    @property
    def model(self) -> str:
        """Return the label of the model."""

    @property
    def object_id(self) -> str:
        """Return the primary key as events have it."""


class _Limit(NamedTuple):
    """An event with which the record of a row begins or ends."""

    id: int
    is_deletion: bool


class Lives:
    """Which row an event is about: a primary key can be used again once its row is deleted."""

    def __init__(self) -> None:
        # What begins and ends the rows of a key, oldest first, and from which event on that is known.
        self._limits: dict[tuple[str, str], list[_Limit]] = defaultdict(list)
        self._known: dict[tuple[str, str], int] = {}
        self._deletions: dict[int, AuditEvent] = {}

    def load(self, events: Iterable[Located], using: str) -> None:
        """Find out in one query per model what has ended the rows of events."""
        wanted: dict[str, dict[str, int]] = defaultdict(dict)
        for event in events:
            label, key = event.model, event.object_id
            if not is_recorded(event) or not key or self._known.get((label, key), event.id + 1) <= event.id:
                continue
            wanted[label][key] = min(event.id, wanted[label].get(key, event.id))
        for label, by_key in wanted.items():
            for keys in in_parts(by_key, using):
                self._read(label, {key: by_key[key] for key in keys}, using)

    def _read(self, label: str, first: Mapping[str, int], using: str) -> None:
        current, least = current_label(label), min(first.values())
        rows = AuditEvent.objects.using(using).filter(model__in=(current, *former_labels(current)))
        rows = (
            rows.of_type(*_LIMITS)
            .filter(is_one_of(AuditEvent, list(first), rows.db, column="object_id"), pk__gte=least)
            .order_by()
        )
        if all((label, key) in self._known for key in first):
            rows = rows.filter(pk__lt=max(self._known[label, key] for key in first))
        found: dict[str, set[_Limit]] = defaultdict(set)
        for pk, key, event_type in rows.values_list("id", "object_id", "event_type"):
            found[key].add(_Limit(pk, event_type == EventType.DELETE))
        for key in first:
            self._limits[label, key] = sorted(found[key].union(self._limits[label, key]))
            self._known[label, key] = least

    def is_over(self, event: Located) -> bool:
        """Return whether the row of an event has ended: another one may have the primary key now."""
        return self._end_of(event) is not None

    def _end_of(self, event: Located) -> _Limit | None:
        """Return what ended the row of an event, None if it may be the row that has the primary key now."""
        if not is_recorded(event):
            return None
        limits = self._limits.get((event.model, event.object_id), ())
        return next((one for one in limits if one.id > event.id or (one.id == event.id and one.is_deletion)), None)

    def life_of(self, event: Located) -> str:
        """Return a text that tells the rows of a primary key apart, ``""`` for the one that has it now."""
        end = self._end_of(event)
        return "" if end is None else str(end.id)

    def told_by(self, events: Iterable[Located], using: str) -> list[AuditEvent]:
        """Return for each event the one that says most about its row, which is gone: its deletion, if it is known."""
        pairs = [(event, self._end_of(event)) for event in events]
        wanted = {end.id for _event, end in pairs if end is not None and end.is_deletion} - self._deletions.keys()
        for keys in in_parts(wanted, using):
            rows = AuditEvent.objects.using(using).filter(pk__in=keys).order_by()
            self._deletions.update((row.id, _shaped(row)) for row in rows)
        return [self._told_by(event, end, using) for event, end in pairs]

    def _told_by(self, event: Located, end: _Limit | None, using: str) -> AuditEvent:
        if not is_recorded(event):
            return _last_deletion(event, using) or _as_event(event)
        # It may have been pruned since the limits were read.
        found = self._deletions.get(end.id) if end is not None and end.is_deletion else None
        return found or _as_event(event)


def _as_event(event: Located) -> AuditEvent:
    if isinstance(event, AuditEvent):
        return event
    return AuditEvent(id=event.id, model=event.model, object_id=event.object_id)


def is_recorded(event: Located) -> bool:
    """Return whether an event has a place in the log: others only name an object."""
    number: object = event.id
    return number is not None


def _is_deletion(event: AuditEvent) -> bool:
    return event.event_type == EventType.DELETE


def _last_deletion(event: Located, using: str) -> AuditEvent | None:
    current = current_label(event.model)
    rows = AuditEvent.objects.using(using).filter(model__in=(current, *former_labels(current)))
    found = rows.of_type(EventType.DELETE).filter(object_id=event.object_id).order_by("-id").first()
    return None if found is None else _shaped(found)


def _shaped(event: AuditEvent) -> AuditEvent:
    """Return the event, in memory with names of today and without changes that are none: SQL can store any JSON."""
    event.changes = renamed_changes(event.model, well_formed(event.changes))
    event.model = current_label(event.model)
    return event


def judged(policy: Policy, events: Sequence[Located], lives: Lives, using: str) -> list[Verdict]:
    """Return for each event whether its row may be seen, or could have been before it was deleted."""
    lives.load(events, using)
    is_over = [lives.is_over(event) for event in events]
    keys = {event.object_id for event, is_one in zip(events, is_over, strict=True) if not is_one}
    present = policy.verdicts(keys, using)
    is_gone = [is_one or event.object_id not in present for event, is_one in zip(events, is_over, strict=True)]
    gone = list(compress(events, is_gone))
    past: Iterator[Verdict] = iter(policy.verdicts_of_gone(gone, lives, using) if gone else ())
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
