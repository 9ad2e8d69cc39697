"""Saves on their way: what was found before each, kept on the instance until it is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from django.db import models

from django_signal_audit.recorder import recorded_count
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.rules.targets import Field

from .rows import Row, read_row
from .transactions import write_transaction

Fields: TypeAlias = Mapping[str, Field]


@dataclass(slots=True)
class Before:
    """What was found of one plan's row before the save: ``row`` is None if there was none."""

    plan: ModelPlan
    # None for a row that is certain to be inserted.
    pk: Any
    fields: Fields
    row: Row | None
    # Did anybody look? Not before an insert that is certain, and not if no watched field is written.
    was_read: bool
    # Is it sure that the instance is what was written?
    is_own: bool = True
    # May the row that is inserted extend a parent's that is there?
    may_extend: bool = False


@dataclass(slots=True)
class PendingSave:
    """One save on its way. It rides on the instance, so that an abandoned one disappears with it."""

    outer: PendingSave | None
    # From our pre_save to our post_save. Receivers that are called after it run outside, as they do without us: there,
    # an error of the database that they handle must not take the save along.
    transaction: write_transaction
    force_insert: bool = False
    force_update: bool = False
    before: Sequence[Before] = ()
    # Is the next pre_save the one that Django sends for this save? Others are sent by hand.
    is_awaited: bool = True
    # Between our pre_save and our post_save: the statements of the instance are the save's own.
    is_running: bool = False
    # Did it come past the wrapper, which would have taken it off again?
    is_foreign: bool = False
    # May the model or its manager write more than the save names, or something else than the object has?
    writes_more: bool = False
    using: str = ""
    # What had been recorded when the rows were read.
    count: int = 0


def pending_save(instance: models.Model) -> PendingSave | None:
    """Return the innermost save of the instance that is on its way, None if there is none."""
    return getattr(instance._state, "audit_save", None)


def set_pending_save(instance: models.Model, pending: PendingSave | None) -> None:
    """Make it another one."""
    instance._state.audit_save = pending  # type: ignore[attr-defined]


def is_being_saved(instance: models.Model) -> bool:
    """Tell whether the receivers record what is being written of the instance."""
    pending = pending_save(instance)
    return pending is not None and pending.is_running


def look_again(instance: models.Model) -> None:
    """Read the rows anew if anything was recorded since pre_save: a receiver after ours may have written them."""
    pending = pending_save(instance)
    if pending is None or pending.count == recorded_count():
        return
    for before in pending.before:
        if before.was_read:
            before.row = read_row(before.plan.model, before.pk, before.fields, pending.using)
