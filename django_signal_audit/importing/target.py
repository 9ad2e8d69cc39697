"""The model that imported rows are about, as the project has it now, and what the audit log keeps of their values.

What a row means depends on the state of its object so far: ``draft`` has the events that it becomes.
"""

from __future__ import annotations

import ast
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from django.apps import apps
from django.db import models

from django_signal_audit.enums import ROW_EVENTS, EventType
from django_signal_audit.events.documents import clean_text
from django_signal_audit.events.keys import object_id, row_id
from django_signal_audit.events.payloads import hide, masked_payload, member_names
from django_signal_audit.events.values import JSONValue
from django_signal_audit.importing.base import Entry, Unusable
from django_signal_audit.importing.values import ERRORS
from django_signal_audit.models.events import REPR_LENGTH
from django_signal_audit.models.state import RecordedState, member_order
from django_signal_audit.rules.patterns import key_fields
from django_signal_audit.rules.plans import ModelPlan, build_plan
from django_signal_audit.rules.registry import get_registry


class Target:
    """What rows of a source about one model become.

    Args:
        label: The model's label in lower case, as it is named now.
        fields: The present names of fields that had another one.
        unaudited: Counts the values that are left out because no rule audits their field.

    """

    def __init__(self, label: str, fields: Mapping[str, str], unaudited: Counter[str]) -> None:
        self.label, self._renamed, self._unaudited = label, fields, unaudited
        self.model = _model(label)
        self.plan: ModelPlan | None = None
        self.is_audited = False
        self._audited: set[str] | None = None
        if self.model is not None:
            audited = get_registry().plan_for(self.model)
            self.is_audited = audited is not None
            self.plan = audited or build_plan(self.model, (), get_registry().masked(self.model))
            self._audited = {*audited.fields, *audited.members} if audited else None
        self._fields = dict(self.plan.all_fields) if self.plan else {}
        self.members = dict(self.plan.all_members) if self.plan else {}
        self._keys = _key_names(self.model)

    def object_id(self, key: object) -> str:
        """Return the text by which the audit log names an object."""
        if self.model is None:
            return object_id(key)
        if len(self.model._meta.pk_fields) > 1 and isinstance(key, str):
            key = _composite(key)
        return row_id(self.model, key)

    def name(self, field: str, *, count: bool = True) -> str:
        """Return the name that a field has now, ``""`` for one that is left out, and count it if asked to."""
        field = self._renamed.get(field, field)
        if field in self._keys and field not in self._fields:
            return ""
        if self._audited is not None and field in (self._fields.keys() | self.members.keys()) - self._audited:
            self._unaudited[f"{self.label}.{field}"] += count
            return ""
        return field

    def renamed(self, changes: Any) -> Any:
        """Return the changes of an event with the names that the fields have now; a name of today counts first."""
        if not isinstance(changes, dict) or self._renamed.keys().isdisjoint(changes):
            return changes
        found = {self._renamed.get(name, name): change for name, change in changes.items()}
        return {**found, **{name: change for name, change in changes.items() if name not in self._renamed}}

    def field(self, name: str) -> models.Field[Any, Any] | None:
        """Return the model's field that a value of a source belongs to, None if there is none now."""
        name = self._renamed.get(name, name)
        return self._fields.get(name) or self.members.get(name)

    def encode(self, name: str, value: object, row: str) -> JSONValue:
        """Return what the audit log keeps of a value, masked where it has to be.

        Args:
            name: The field's present name.
            value: The value.
            row: The name of the row in the audit log.

        """
        if value is None:
            return None
        if self.plan is not None and name in self._fields:
            return storable(self.plan.serializers[name](value, row))
        return masked_payload({name: value}, (self.label, row)).get(name)

    def keys(self, name: str, keys: Iterable[object]) -> list[JSONValue]:
        """Return the keys of an m2m field's members as events have them."""
        field = self.members.get(name)
        if field is None:
            return [*sorted({object_id(key) for key in keys})]
        found = member_names(field, {field.target_field.to_python(key) for key in keys})
        return sorted(found, key=member_order)

    def text(self, entry: Entry) -> str:
        """Return the text of a row's object, without secrets of its own."""
        secret = self.plan.secret if self.plan else ()
        values = {**(entry.snapshot or {}), **{name: new for name, (_, new) in entry.changes.items()}}
        shown = hide(
            clean_text(entry.object_repr),
            [value for name, value in values.items() if self._renamed.get(name, name) in secret],
        )
        return shown if len(shown) <= REPR_LENGTH else f"{shown[: REPR_LENGTH - 1]}…"

    def payload(self, value: Mapping[str, object], row: str, event_type: str = "") -> dict[str, JSONValue]:
        """Return any mapping as JSON, with its secrets masked."""
        # The name that was tried at a failed login is no secret.
        containers = ("credentials",) if event_type == EventType.LOGIN_FAILED else ()
        return masked_payload(value, (self.label, row, "data"), self.plan.secret if self.plan else (), containers)


def storable(value: JSONValue) -> JSONValue:
    """Return JSON without what PostgreSQL does not store; the other package had it on another one, or in a text.

    These are a character, and numbers that JSON does not have: NaN and the infinities become texts.
    """
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [storable(item) for item in value]
    if isinstance(value, dict):
        return {clean_text(key): storable(item) for key, item in value.items()}
    return value


def _model(label: str) -> type[models.Model] | None:
    try:
        model = apps.get_model(label)
    except (LookupError, ValueError):
        return None
    return model._meta.concrete_model or model


def _key_names(model: type[models.Model] | None) -> set[str]:
    return set() if model is None else {name for field in key_fields(model) for name in (field.name, field.attname)}


_READERS: tuple[Callable[[str], Any], ...] = (json.loads, ast.literal_eval)


def _composite(text: str) -> Any:
    """Return the parts of a composite key that is a text: JSON, or a Python tuple."""
    for read in _READERS:
        try:
            found = read(text)
        except ERRORS:
            continue
        if isinstance(found, (list, tuple)):
            return tuple(found)
    msg = "its composite key can't be read"
    raise Unusable(msg)


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
