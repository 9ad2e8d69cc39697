"""Saves on their way: what was found before each, kept in a context variable until it is recorded."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias

from django.db import models

from django_signal_audit.recorder import recorded_count
from django_signal_audit.rules.patterns import Field, concrete
from django_signal_audit.rules.plans import ModelPlan

from .compilers import InsertStatement, UpdateStatement
from .rows import Row, read_row

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
    # What was found of the parents' rows, if they may be all that is updated because the child's row is gone.
    parts: Sequence[Before] | None = None
    is_part: bool = False


@dataclass(slots=True)
class PendingSave:
    """One run of ``save_base``."""

    instance: models.Model
    raw: bool
    force_insert: bool
    force_update: bool
    # What pre_save decides: the plans that the save concerns, and the fields that it names. None if it was muted.
    plans: Sequence[ModelPlan] | None = None
    update_fields: Collection[str] | None = None
    # May something else be written than what the instance has, or more than the save names?
    writes_more: bool = False
    using: str = ""
    # None until somebody has looked, which is when the project's receivers of pre_save have run.
    before: Sequence[Before] | None = None
    # What had been recorded when the rows were read.
    count: int = 0
    # The model whose table is being written.
    writing: type[models.Model] | None = None
    # Is the next UPDATE of that table the save's own?
    is_updating: bool = False


_innermost: ContextVar[PendingSave | None] = ContextVar("django_signal_audit_save", default=None)


def pending_save(instance: models.Model) -> PendingSave | None:
    """Return the save of the instance that is under way; None if there is none, or another's within it."""
    pending = _innermost.get()
    return pending if pending is not None and pending.instance is instance else None


@contextmanager
def saving(instance: models.Model, *, raw: bool, force_insert: bool, force_update: bool) -> Iterator[None]:
    """Run a block as a save of the instance."""
    token = _innermost.set(PendingSave(instance, raw, force_insert, force_update))
    try:
        yield
    finally:
        _innermost.reset(token)


def close_save() -> None:
    """End the innermost save ahead of its ``save_base``: what its instance writes from here on is another's."""
    _innermost.set(None)


@contextmanager
def updating(model: type[models.Model]) -> Iterator[None]:
    """Run a block in which a save updates the table that it is writing, if that is the model's."""
    pending = _innermost.get()
    if pending is None or pending.writing is not concrete(model):
        yield
        return
    pending.is_updating = True
    try:
        yield
    finally:
        pending.is_updating = False


def is_a_saves_own(statement: InsertStatement | UpdateStatement) -> bool:
    """Return whether a statement is the one of the save under way, which records it."""
    pending = _innermost.get()
    if pending is None or pending.before is None or pending.writing is not concrete(statement.model):
        return False
    if isinstance(statement, InsertStatement):
        return len(statement.objs) == 1 and statement.objs[0] is pending.instance
    is_own, pending.is_updating = pending.is_updating, False
    return is_own


def look_again() -> None:
    """Read the rows anew if anything was recorded since: what runs between may have written them."""
    pending = _innermost.get()
    if pending is None or pending.count == recorded_count():
        return
    for before in pending.before or ():
        if before.was_read:
            before.row = read_row(before.plan.model, before.pk, before.fields, pending.using)
