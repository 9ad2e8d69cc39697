"""Old values from the trail, for rows that another transaction wrote between the look and the write."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django_signal_audit.enums import ROW_EVENTS, EventType
from django_signal_audit.events.documents import stand_ins
from django_signal_audit.events.keys import row_name
from django_signal_audit.events.values import decode_tag
from django_signal_audit.models import AuditEvent
from django_signal_audit.rules.plans import ModelPlan

from .images import chunks
from .rows import Row


def last_recorded_values(plan: ModelPlan, pk: Any, new: Row, using: str) -> Row:
    """Return what the trail says the row held before it got the new values.

    The row was not there when it was looked for, and was when it was written: whoever made it has committed, with his
    events, and the write has locked it since.

    Args:
        plan: The plan of the row's model.
        pk: The row's key.
        new: The values it has now, by field name.
        using: The database.

    """
    state = AuditEvent.objects.using(using).state_of(plan.model, pk) or {}
    return {name: _old(plan, pk, name, state.get(name), value) for name, value in new.items()}


def recorded_keys(plan: ModelPlan, pks: Iterable[Any], using: str) -> set[Any]:
    """Return which of the primary keys have a row according to the audit log."""
    found: set[Any] = set()
    for chunk in chunks(pks):
        names = {row_name(plan.model, pk): pk for pk in chunk}
        events = AuditEvent.objects.using(using).filter(model=plan.label, object_id__in=names)
        newest = dict(events.filter(event_type__in=ROW_EVENTS).order_by("id").values_list("object_id", "event_type"))
        found |= {names[name] for name, event_type in newest.items() if event_type != EventType.DELETE}
    return found


def _old(plan: ModelPlan, pk: Any, name: str, recorded: Any, value: Any) -> Any:
    """Return the recorded value; the one it has now where only a tag was recorded and that is still the same."""
    if any(stand_ins(recorded)) and decode_tag(plan.keepers[name](value, pk)) == recorded:
        return value
    return recorded
