"""Folding the events of objects into their states, and reading documents of another shape than we write."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from django.core.exceptions import FieldDoesNotExist
from django.db import models

from django_signal_audit.enums import ROW_EVENTS, EventType
from django_signal_audit.events.values import decode
from django_signal_audit.models.renames import current_label, renamed_changes

if TYPE_CHECKING:
    from django_signal_audit.models.events import AuditEvent

# What events describe a row: the names of its fields, and the JSON that events carry for their values.
Recorded: TypeAlias = "dict[str, Any]"

_SCALARS = (str, int, float, bool)


class RecordedState:
    """The state of one row, built up event by event, oldest first."""

    __slots__ = ("_orphans", "has_start", "is_told", "member_names", "values")

    def __init__(self) -> None:
        # None for a row that is not there.
        self.values: Recorded | None = None
        # Whether a create or a baseline described the whole row. Otherwise, only the fields that changed are known.
        self.has_start = False
        # Whether there was any event.
        self.is_told = False
        # Members that are there without their owner: some databases check foreign keys at the commit, so pairs may come
        # before their owner, or stay behind when its deletion is recorded, as long as a transaction is open.
        self._orphans: Recorded = {}
        # The m2m fields among the names.
        self.member_names: set[str] = set()

    @property
    def has_orphans(self) -> bool:
        """Return whether there are members without their owner."""
        return bool(self._orphans)

    def copy(self) -> RecordedState:
        """Return a state that goes its own way from here."""
        copied = RecordedState()
        copied.values = None if self.values is None else dict(self.values)
        copied.has_start, copied.is_told = self.has_start, self.is_told
        copied._orphans, copied.member_names = dict(self._orphans), set(self.member_names)
        return copied

    def apply(self, event_type: str, changes: Recorded) -> None:
        """Add one event."""
        if event_type not in ROW_EVENTS:
            return
        changes = well_formed(changes)
        is_first = not self.is_told
        self.is_told = True
        self.member_names |= {name for name, change in changes.items() if isinstance(change, dict)}
        if event_type == EventType.DELETE:
            self._end(changes)
        elif event_type == EventType.EXTENDED:
            # The child's events go on with it, members included.
            self.values, self.has_start, self._orphans = None, False, {}
        elif event_type == EventType.M2M:
            self._change_members(changes, is_first=is_first)
        else:
            self._change_row(event_type, changes)

    def _end(self, changes: Recorded) -> None:
        left = {name: (self.values or {}).get(name, []) for name in self.member_names}
        _apply_all(left, {name: change for name, change in changes.items() if name in left})
        self.values, self.has_start = None, False
        self._orphans = {name: keys for name, keys in left.items() if keys}

    def _change_members(self, changes: Recorded, *, is_first: bool) -> None:
        if not self.has_start:
            _apply_all(self._orphans, changes)
        if self.values is None and is_first:
            self.values = {}
        if self.values is not None:
            _apply_all(self.values, changes)

    def _change_row(self, event_type: str, changes: Recorded) -> None:
        if event_type == EventType.CREATE:
            self.values = self._orphans
        elif self.values is None:
            self.values = {}
        if event_type in (EventType.CREATE, EventType.BASELINE):
            self.has_start, self._orphans = True, {}
        _apply_all(self.values, changes)


def fold(
    model: type[models.Model], events: Iterable[tuple[str, str, str, Recorded]], into: dict[str, RecordedState]
) -> dict[str, RecordedState]:
    """Add events to the states of rows of a model, by object id, and return these.

    Args:
        model: The concrete model.
        events: Object id, label, type and changes of each event, oldest first; the label of a multi-table child tells
            that only what it says of the model's own fields is meant.
        into: The states there are already.

    """
    for object_id, label, event_type, changes in events:
        into.setdefault(object_id, RecordedState()).apply(event_type, own_changes(model, label, changes))
    return into


def own_changes(model: type[models.Model], label: str, changes: Recorded) -> Recorded:
    """Return what an event with this label says of a model's own fields; a multi-table child's may say more."""
    label, changes = current_label(label), renamed_changes(label, changes)
    if label == model._meta.label_lower or not isinstance(changes, dict):
        return changes
    own = own_fields(model)
    return {name: change for name, change in changes.items() if name in own}


@cache
def own_fields(model: type[models.Model]) -> frozenset[str]:
    """Return the names of the fields of a model's rows, m2m fields among them."""
    return frozenset(field.name for field in (*model._meta.concrete_fields, *model._meta.many_to_many))


def _apply_all(values: Recorded, changes: Recorded) -> None:
    for name, change in changes.items():
        _apply(values, name, change)


def _apply(values: Recorded, name: str, change: Any) -> None:
    if isinstance(change, list):
        values[name] = change[1]
        return
    # A baseline names members that m2m events may have named before: it adds to them.
    known = {*_keys(values.get(name))}
    values[name] = sorted(known - {*change["removed"]} | {*change["added"]}, key=member_order)


def well_formed(changes: object) -> Recorded:
    """Return the changes of an event without what is none: SQL can store any JSON."""
    if not isinstance(changes, dict):
        return {}
    if all(map(_is_change, changes.values())):
        return changes
    return {name: change for name, change in changes.items() if _is_change(change)}


def _is_change(change: object) -> bool:
    """Return whether JSON is a pair of an old and a new value, or what an m2m field gained and lost."""
    if isinstance(change, list):
        return len(change) == 2  # a pair
    return isinstance(change, dict) and all(
        isinstance(keys, list) and len(_keys(keys)) == len(keys)
        for keys in (change.get("added"), change.get("removed"))
    )


def _keys(value: object) -> list[Any]:
    return [key for key in value if isinstance(key, _SCALARS)] if isinstance(value, list) else []


def is_members(value: object) -> bool:
    """Return whether JSON is what a state has of an m2m field: a list of keys."""
    return isinstance(value, list) and len(_keys(value)) == len(value)


def member_order(key: object) -> tuple[str, Any]:
    """Return what the keys of an m2m field's members are sorted by.

    Their type may have changed with time, and members of an enum have no order.
    """
    kind = type(key)
    is_ordered = any("__lt__" in vars(base) for base in kind.__mro__[:-1])
    return kind.__name__, key if is_ordered else repr(key)


def typed(model: type[models.Model], values: Recorded) -> dict[str, Any]:
    """Return the values as Python values of their fields' types; those of fields that are gone stay JSON."""
    return {name: _typed(model, name, values[name]) for name in in_order(model, values)}


def in_order(model: type[models.Model] | None, names: Iterable[str]) -> list[str]:
    """Return names of fields in the order of the model, those of fields that are gone last.

    What was recorded has no order of its own: PostgreSQL keeps the keys of JSON by their length.
    """
    if model is None:
        return list(names)
    places = _places(model)
    return sorted(names, key=lambda name: places.get(name, len(places)))


@cache
def _places(model: type[models.Model]) -> dict[str, int]:
    fields = (*model._meta.fields, *model._meta.many_to_many)
    return {field.name: place for place, field in enumerate(fields)}


def _typed(model: type[models.Model], name: str, value: Any) -> object:
    try:
        field = model._meta.get_field(name)
    except FieldDoesNotExist:
        return value
    if isinstance(field, models.ManyToManyField):
        return sorted((decode(field.target_field, key) for key in _keys(value)), key=member_order)
    return decode(field, value) if isinstance(field, models.Field) else value


def shaped(event: AuditEvent) -> AuditEvent:
    """Return the event, in memory without what cannot be read of its documents: SQL can store any JSON."""
    if "changes" not in event.__dict__:  # it is deferred, and so are the others
        return event
    event.changes = well_formed(event.changes)
    if not isinstance(event.data, dict):
        event.data = {} if event.data is None else {"": event.data}
    if not isinstance(event.context, dict):
        event.context = {}
    if not (isinstance(event.rules, list) and all(isinstance(name, str) for name in event.rules)):
        event.rules = []
    return event
