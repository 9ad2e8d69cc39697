"""Descriptions: a change and what the rules make of it, as the row of an event."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from .context.actors import resolve_actor
from .context.impersonation import resolve_impersonator
from .context.scopes import current_context
from .enums import EventType
from .events.changes import Change
from .events.documents import JSONValue, clean_text
from .events.insert import EventRow
from .events.keys import object_id, row_name
from .events.payloads import hide, masked_payload, member_names, text_of
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

    def describe(self, change: Change, match: Match, text: str | None) -> EventRow:
        """Return the row of the event.

        Args:
            change: What happened.
            match: What the rules make of it.
            text: The text of the object, None if it has yet to be asked for it.

        """
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
            _object_repr(change, text),
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


def _object_repr(change: Change, text: str | None) -> str:
    values = _masked_values(change)
    if text is not None:
        return _shorten(hide(clean_text(text), values))
    return "" if change.instance is None else _shorten(text_of(change.instance, values))


def _masked_values(change: Change) -> list[Any]:
    """Return the values of masked fields that a change carries: its object may hold others, and hides these itself."""
    found: list[Any] = []
    if change.model is None:
        return found
    for name in masked_fields(change.model):
        found += change.fields.get(name, ())
    if has_secret_key(change.model):
        found += change.pk if isinstance(change.pk, (tuple, list)) else [change.pk]
    return found


def _shorten(text: str) -> str:
    return text if len(text) <= REPR_LENGTH else f"{text[: REPR_LENGTH - 1]}…"


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
