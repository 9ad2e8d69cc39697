"""Phantom rows: rows that begin to match a statement after the rows it concerns were looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from django.db import transaction

from django_signal_audit.capture.compilers import DeleteStatement, UpdateStatement
from django_signal_audit.capture.images import chunks
from django_signal_audit.capture.scope import Row
from django_signal_audit.capture.transactions import is_single_writer
from django_signal_audit.context.tenants import events_of_writer
from django_signal_audit.enums import LAST_EVENTS, ROW_EVENTS
from django_signal_audit.events.documents import decode_tag, stand_ins
from django_signal_audit.events.keys import row_name
from django_signal_audit.exceptions import EventNotWritten
from django_signal_audit.models.renames import former_labels
from django_signal_audit.rules.plans import ModelPlan

Statement: TypeAlias = UpdateStatement | DeleteStatement

# More keys than this are not named in a statement.
_NAMED = 20_000


def restrict_to_locked_rows(statement: Statement, count: int, keys: Callable[[], Iterable[object]]) -> Any:
    """Run a statement on the rows that were looked at, and on no others.

    The rows are locked, but others may insert some that match as well, or put back one that was there before. SQLite
    has one writer.

    Args:
        statement: The statement.
        count: How many rows were looked at.
        keys: Returns their primary keys.

    """
    if is_single_writer(statement.using):
        return statement.execute()
    if count <= _NAMED:
        statement.restrict(list(keys()))
        result = statement.execute()
        # Django's own DELETE of nothing is not run either, and counts for 0.
        return 0 if result is None else result
    result = statement.execute()
    if isinstance(result, int) and result != count:
        transaction.set_rollback(True, using=statement.using)
        msg = (
            f"A write to {count} {statement.model._meta.label} rows met {result}: others wrote rows that match while "
            "it was looking. Nothing was changed; run it again, or in a stricter isolation level."
        )
        raise EventNotWritten(msg)
    return result


def last_recorded_values(plan: ModelPlan, pk: object, new: Row, using: str) -> Row:
    """Return what the audit log says the row held before it got the new values.

    The row was not there when it was looked for, and was when it was written: its writer has committed, with
    the events, and the write has locked it since.

    Args:
        plan: The plan of the row's model.
        pk: The row's key.
        new: The values it has now, by field name.
        using: The database.

    """
    state = events_of_writer(using).state_of(plan.model, pk) or {}
    return {name: _old(plan, pk, name, state.get(name), value) for name, value in new.items()}


def recorded_keys(plan: ModelPlan, pks: Iterable[object], using: str) -> set[object]:
    """Return which of the primary keys have a row according to the audit log."""
    found: set[object] = set()
    for chunk in chunks(pks):
        names = {row_name(plan.model, pk): pk for pk in chunk}
        events = events_of_writer(using).filter(model__in=(plan.label, *former_labels(plan.label)), object_id__in=names)
        newest = dict(events.filter(event_type__in=ROW_EVENTS).order_by("id").values_list("object_id", "event_type"))
        found |= {names[name] for name, event_type in newest.items() if event_type not in LAST_EVENTS}
    return found


def _old(plan: ModelPlan, pk: object, name: str, recorded: object, value: object) -> object:
    """Return the recorded value; the one it has now where only a tag was recorded and that is still the same."""
    if any(stand_ins(recorded)) and decode_tag(plan.serializers[name](value, pk)) == recorded:
        return value
    return recorded
