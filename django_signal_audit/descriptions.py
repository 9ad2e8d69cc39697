"""Descriptions: a change and what the rules make of it, as the row of an event."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from .actors import resolve_actor
from .changes import Change
from .context import current_context
from .impersonation import resolve_impersonator
from .keys import object_id
from .masking import mask_payload
from .matching import Match
from .models.events import REPR_LENGTH, utc_now
from .models.kinds import Kind, number_of
from .models.rows import EventRow
from .uids import new_uids
from .values import JSONValue, clean_text, payload, safe_str

_NO_DATA: dict[str, JSONValue] = {}


class Describer:
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
            object_id(change.pk),
            _object_repr(change),
            actor_id,
            actor_repr,
            _describe_changes(change, match),
            _describe_data(change, match, label) if change.data else _NO_DATA,
            self.context,
            self.correlation_id,
            number_of(Kind(event_type, match.level, label, tuple(rules))),
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


def _describe_data(change: Change, match: Match, label: str) -> JSONValue:
    named = {name for rule in match.rules for name in rule.mask}
    return mask_payload(label or change.event_type, payload(dict(change.data)), named)


def _cut(actor_id: str, actor_repr: str) -> tuple[str, str]:
    return actor_id, actor_repr[:REPR_LENGTH]


def _object_repr(change: Change) -> str:
    text = change.object_repr
    if text is None:
        text = "" if change.instance is None else safe_str(change.instance)
    text = clean_text(text)
    return text if len(text) <= REPR_LENGTH else f"{text[: REPR_LENGTH - 1]}…"


def _describe_changes(change: Change, match: Match) -> dict[str, JSONValue]:
    plan = match.plan
    if plan is None:
        return {}
    keepers = plan.keepers
    described: dict[str, JSONValue] = {}
    names = match.names
    for name, (old, new) in change.fields.items():
        if name in names:
            keep = keepers[name]
            described[name] = [None if old is None else keep(old), None if new is None else keep(new)]
    for name, members in change.members.items():
        if name in match.names:
            described[name] = {"added": payload(members.added), "removed": payload(members.removed)}
    return described
