"""Descriptions: a change and what the rules make of it, as the row of an event."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from .context.actors import resolve_actor
from .context.impersonation import resolve_impersonator
from .context.scopes import current_context
from .enums import EventType
from .events.changes import Change
from .events.documents import JSONValue, clean_text, safe_str
from .events.insert import EventRow
from .events.keys import concrete, object_id, row_name
from .events.payloads import hide, masked_payload, member_names, secret_values
from .events.secret_fields import has_secret_key, masked_fields
from .events.uids import new_uids
from .models.events import REPR_LENGTH, utc_now
from .models.signatures import Kind, signature_hash
from .rules.matching import Match

_NO_DATA: dict[str, JSONValue] = {}


class EventBuilder:
    """Describes the changes of one call: what they share is worked out once."""

    def __init__(self) -> None:
        context = current_context()
        self.moment = utc_now()
        impersonator = resolve_impersonator()
        self.context = {**context.payload, "impersonator": impersonator} if impersonator else context.payload
        self._uids = new_uids()
        self._first: UUID | None = next(self._uids)
        # Outside any scope, the events of one call still belong together.
        self.correlation_id = context.correlation_id or str(self._first)
        self._actor: tuple[str, str] | None = None
        self._rules: dict[int, list[str]] = {}

    def describe(self, change: Change, match: Match) -> EventRow:
        """Return the row of the event."""
        label = match.plan.label if match.plan else change.model._meta.label_lower if change.model else ""
        actor_id, actor_repr = self._resolve(change.actor)
        uid, self._first = self._first or next(self._uids), None
        # In the order of the columns: naming all of them takes half of the time.
        event_type, rules = str.__str__(change.event_type), self._names(match)
        return EventRow(
            uid,
            self.moment,
            event_type,
            str.__str__(change.source),
            match.level,
            rules,
            label,
            row_name(change.model, change.pk) if change.model else object_id(change.pk),
            _object_repr(change),
            actor_id,
            actor_repr,
            _describe_changes(change, match),
            _describe_data(change, match, label, uid) if change.data else _NO_DATA,
            self.context,
            self.correlation_id,
            signature_hash(Kind(event_type, match.level, label, tuple(rules))),
        )

    def _resolve(self, explicit: Any) -> tuple[str, str]:
        if explicit is not None:
            return _cut(*resolve_actor(explicit))
        if self._actor is None:
            self._actor = _cut(*resolve_actor())
        return self._actor

    def _names(self, match: Match) -> list[str]:
        names = self._rules.get(id(match))
        if names is None:
            names = self._rules[id(match)] = [rule.name for rule in match.rules]
        return names


def _describe_data(change: Change, match: Match, label: str, uid: UUID) -> dict[str, JSONValue]:
    named = {name for rule in match.rules for name in rule.mask}
    # Secrets without an object are told apart by the event.
    row = (label, row_name(change.model, change.pk)) if change.model and change.pk is not None else (str(uid),)
    containers = {"credentials"} if change.event_type == EventType.LOGIN_FAILED else ()
    return masked_payload(change.data, (*row, "data"), named, containers)


def _cut(actor_id: str, actor_repr: str) -> tuple[str, str]:
    return object_id(actor_id), _shorten(actor_repr)


def _object_repr(change: Change) -> str:
    text = change.object_repr
    if text is None:
        text = "" if change.instance is None else safe_str(change.instance)
    text = clean_text(text)
    return _shorten(hide(text, _masked_values(change)) if text else text)


def _masked_values(change: Change) -> list[Any]:
    """Return the values of masked fields that the text of a change's object may show."""
    found = [] if change.instance is None else list(secret_values(change.instance))
    if change.model is None:
        return found
    model = concrete(change.model)
    for name in masked_fields(model) & change.fields.keys():
        found += change.fields[name]
    if has_secret_key(model):
        found += change.pk if isinstance(change.pk, (tuple, list)) else [change.pk]
    return found


def _shorten(text: str) -> str:
    return text if len(text) <= REPR_LENGTH else f"{text[: REPR_LENGTH - 1]}…"


def _without_masked(text: str, change: Change) -> str:
    """Return the text without the values of masked fields that the change tells of: the instance may hold others."""
    masked = masked_fields(concrete(change.model)) if change.model is not None else frozenset()
    found = [change.fields[name] for name in change.fields.keys() & masked]
    return hide(text, [value for pair in found for value in pair]) if found else text


def _describe_changes(change: Change, match: Match) -> dict[str, JSONValue]:
    plan = match.plan
    if plan is None:
        return {}
    keepers, pk = plan.keepers, change.pk
    described: dict[str, JSONValue] = {}
    names = match.names
    for name, (old, new) in change.fields.items():
        if name in names:
            keep = keepers[name]
            described[name] = [None if old is None else keep(old, pk), None if new is None else keep(new, pk)]
    for name, members in change.members.items():
        if name in match.names:
            field = plan.all_members[name]
            added, removed = member_names(field, members.added), member_names(field, members.removed)
            described[name] = {"added": added, "removed": removed}
    return described
