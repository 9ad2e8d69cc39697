"""What a row of a source means for an object whose state so far is known: the events it becomes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from django_signal_audit.enums import ROW_EVENTS, EventType
from django_signal_audit.importing.base import Entry
from django_signal_audit.importing.target import Target
from django_signal_audit.models.state import RecordedState

Changes = dict[str, Any]


class Drafted(NamedTuple):
    """The type and the changes of an event that a row becomes."""

    event_type: str
    changes: Changes
    is_inferred: bool = False


def draft(entry: Entry, row: str, state: RecordedState, target: Target) -> Iterator[Drafted]:
    """Yield the events that a row becomes; none if it changed nothing.

    The state is to be brought forward by each of them before the next one is asked for.

    Args:
        entry: The row.
        row: The name of the object in the audit log.
        state: What is recorded of the object so far.
        target: The model.

    """
    if entry.event_type not in ROW_EVENTS:
        yield Drafted(entry.event_type, {})
    elif entry.event_type == EventType.DELETE:
        yield from _deletion(entry, row, state, target)
    else:
        yield from _row(entry, row, state, target)
        yield from _members(entry, state, target)


def _deletion(entry: Entry, row: str, state: RecordedState, target: Target) -> Iterator[Drafted]:
    if state.values is None and state.is_told:
        return  # it was recorded twice
    last = entry.snapshot or {name: old for name, (old, _) in entry.changes.items()}
    yield Drafted(EventType.DELETE, ended({**(state.values or {}), **_encoded(last, row, target)}, target))


def ended(values: Mapping[str, Any], target: Target) -> Changes:
    """Return the changes of the deletion of a row with these recorded values."""
    gone: Changes = {name: [value, None] for name, value in values.items() if name not in target.members}
    for name, keys in values.items():
        if name in target.members and keys:
            gone[name] = {"added": [], "removed": list(keys)}
    return gone


def _row(entry: Entry, row: str, state: RecordedState, target: Target) -> Iterator[Drafted]:
    """Yield the events about the columns of a row that is there."""
    if entry.event_type == EventType.CREATE and state.values is not None:
        yield Drafted(EventType.DELETE, ended(state.values, target), is_inferred=True)
    if entry.snapshot is None:
        yield from _told(entry, row, state, target)
        return
    values = _encoded(entry.snapshot, row, target)
    known = state.values
    if entry.event_type == EventType.CREATE:
        yield Drafted(EventType.CREATE, {name: [None, value] for name, value in values.items()})
        return
    # The first row about an object need not be its creation, and a field may be younger than the object.
    new = {name: [None, value] for name, value in values.items() if known is None or name not in known}
    if known is None or new:
        yield Drafted(EventType.BASELINE, new)
    known = known or {}
    changed = {name: [known[name], value] for name, value in values.items() if name in known and known[name] != value}
    if changed:
        yield Drafted(EventType.UPDATE, changed)


def _told(entry: Entry, row: str, state: RecordedState, target: Target) -> Iterator[Drafted]:
    """Yield the event of a row that says old and new of what has changed."""
    olds = _encoded({name: old for name, (old, _) in entry.changes.items()}, row, target, count=False)
    news = _encoded({name: new for name, (_, new) in entry.changes.items()}, row, target)
    is_new = entry.event_type == EventType.CREATE
    changed = {name: [None if is_new else olds[name], news[name]] for name in news}
    if not is_new:
        changed = {name: pair for name, pair in changed.items() if pair[0] != pair[1]}
    if changed or entry.unclear or entry.event_type != EventType.UPDATE:
        event_type = EventType.BASELINE if state.values is None and state.is_told and not is_new else entry.event_type
        yield Drafted(event_type, changed)


def _encoded(values: Mapping[str, object], row: str, target: Target, *, count: bool = True) -> Changes:
    """Return what is kept of the values, by the present names of their fields."""
    found = {}
    for name, value in values.items():
        present = target.name(name, count=count)
        if present:
            found[present] = target.encode(present, value, row)
    return found


def _members(entry: Entry, state: RecordedState, target: Target) -> Iterator[Drafted]:
    """Yield the event about the m2m fields."""
    changed: Changes = {}
    known = state.values or {}
    for field, keys in entry.members.items():
        if name := target.name(field):
            now, before = target.keys(name, keys), known.get(name, [])
            changed[name] = _difference(before, now)
    for field, (added, removed) in entry.m2m.items():
        if name := target.name(field):
            now, lost = target.keys(name, added), target.keys(name, removed)
            if name in known or state.has_start:
                # Some packages list all there are where only some were removed.
                now = [key for key in now if key not in known.get(name, [])]
                lost = [key for key in lost if key in known.get(name, [])]
            changed[name] = {"added": now, "removed": lost}
    changed = {name: change for name, change in changed.items() if change["added"] or change["removed"]}
    if changed:
        yield Drafted(EventType.M2M, changed)


def _difference(before: list[Any], now: list[Any]) -> dict[str, list[Any]]:
    return {
        "added": [key for key in now if key not in before],
        "removed": [key for key in before if key not in now],
    }
