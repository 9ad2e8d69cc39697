"""Saves: pre_save decides what is audited, the statement is recorded together with its event, post_save ends the save.

The rows are read right before Django's first statement and the event is written right after its last. The project's
receivers of pre_save have run by then: what they did to the instance, its primary key included, is what is written.
Where somebody has muted the signals, the statement decides, and the end of ``save_base`` is that of the save.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from django.db import models, router
from django.db.models.signals import post_save, pre_save

from django_signal_audit.capture.internals import SAVE_BASE_PARAMETERS, SAVE_TABLE_PARAMETERS, connect_first, patch_once
from django_signal_audit.capture.looks import (
    PendingSave,
    changes_of,
    close_save,
    decide,
    look_before_save,
    pending_save,
    saving,
    updating,
)
from django_signal_audit.capture.notes import Notes
from django_signal_audit.capture.sources.base import CaptureSource, register_source
from django_signal_audit.capture.transactions import rollback_on_error, write_transaction
from django_signal_audit.conf import get_settings
from django_signal_audit.enums import EventType
from django_signal_audit.recorder import record_changes
from django_signal_audit.rules.patterns import concrete
from django_signal_audit.rules.registry import Registry

_writes: Notes[PendingSave] = Notes()


def look_before_write(instance: models.Model, using: str, update_fields: Any) -> None:
    """Read what a write is about to change, with what arguments its pre_save is sent."""
    write = PendingSave(instance, raw=False, force_insert=False, force_update=False, writes_more=True)
    look_before_save(write, using or router.db_for_write(type(instance), instance=instance), update_fields)
    _writes.put(instance, write)


def record_after_write(sender: type[models.Model], instance: models.Model, created: bool) -> None:
    """Record what was changed, once its post_save is sent."""
    write = _writes.take(instance)
    if write is None:
        return
    with rollback_on_error(write.using):
        changes = changes_of(write.before or (), instance, concrete(sender), write.using, created=created)
        record_changes(changes, write.using)


UID = "django_signal_audit.saves"

# The classes whose saves rules ask for.
_senders: set[type[models.Model]] = set()


def _given(parameters: list[str], args: Any, kwargs: Any) -> Callable[[str], Any]:
    """Return what gives an argument of a call by its name, None where it was left out."""
    return {**dict(zip(parameters[1:], args, strict=False)), **kwargs}.get


def wrap_save_base(original: Callable[..., None]) -> Callable[..., None]:
    """Return ``save_base`` as one save that its steps can look up."""

    @wraps(original)
    def save_base(self: models.Model, *args: Any, **kwargs: Any) -> None:
        if type(self) not in _senders:
            original(self, *args, **kwargs)
            return
        given = _given(SAVE_BASE_PARAMETERS, args, kwargs)
        forces = {name: bool(given(name)) for name in ("raw", "force_insert", "force_update")}
        with saving(self, **forces):
            original(self, *args, **kwargs)

    return save_base


def wrap_save_parents(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``_save_parents``, which begins a multi-table child's save, with a look at the rows ahead of it."""

    @wraps(original)
    def save_parents(
        self: models.Model, cls: Any, using: str, update_fields: Any, force_insert: Any, updated_parents: Any = None
    ) -> Any:
        pending = pending_save(self)
        if pending is not None and pending.before is None and cls._meta.parents:
            look_before_save(pending, using, update_fields)
        return original(self, cls, using, update_fields, force_insert, updated_parents)

    return save_parents


def wrap_save_table(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``_save_table``, which writes one table: the look comes before the first, the event after the last."""

    @wraps(original)
    def save_table(self: models.Model, *args: Any, **kwargs: Any) -> Any:
        pending = pending_save(self)
        # Of fixtures, which save once for every table, the query hook records what they write.
        if pending is None or (pending.raw and get_settings().capture_queries):
            return original(self, *args, **kwargs)
        given = _given(SAVE_TABLE_PARAMETERS, args, kwargs)
        table, using = given("cls"), given("using")
        if table is not concrete(type(self)):
            with _writing(pending, table):
                return original(self, *args, **kwargs)
        with write_transaction(using):
            if pending.before is None:
                look_before_save(pending, using, given("update_fields"))
            with _writing(pending, table):
                updated = original(self, *args, **kwargs)
            _record(pending, created=not updated)
        return updated

    return save_table


def wrap_update(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``QuerySet._update``, by which saves update."""

    @wraps(original)
    def update(self: Any, *args: Any, **kwargs: Any) -> Any:
        with updating(self.model):
            return original(self, *args, **kwargs)

    return update


@contextmanager
def _writing(pending: PendingSave, model: type[models.Model]) -> Iterator[None]:
    outer, pending.writing = pending.writing, model
    try:
        yield
    finally:
        pending.writing = outer


def _record(pending: PendingSave, *, created: bool) -> None:
    """Record what the save changed."""
    before, using, instance = pending.before or (), pending.using, pending.instance
    if not before:
        return
    state = instance._state
    adding, db = state.adding, state.db
    # What Django sets next: conditions and texts of the project may ask for it.
    state.adding, state.db = False, using
    try:
        with rollback_on_error(using):
            record_changes(changes_of(before, instance, concrete(type(instance)), using, created=created), using)
    except BaseException:
        state.adding, state.db = adding, db
        raise


def decide_before_save(
    sender: type[models.Model], instance: models.Model, using: str = "", update_fields: Any = None, **_: Any
) -> None:
    """Decide what is audited of a save (receiver of pre_save)."""
    pending = pending_save(instance)
    if pending is not None and pending.plans is None:
        decide(pending, using, update_fields)
    elif not get_settings().capture_queries:
        look_before_write(instance, using, update_fields)


def end_after_save(sender: type[models.Model], instance: models.Model, created: bool = False, **_: Any) -> None:
    """End a save ahead of the project's receivers, which may write the instance anew (receiver of post_save)."""
    pending = pending_save(instance)
    if pending is not None and pending.before is not None:
        close_save()
    elif not get_settings().capture_queries:
        record_after_write(sender, instance, created)


_STEPS: tuple[tuple[type, str, Callable[..., Any]], ...] = (
    (models.Model, "save_base", wrap_save_base),
    (models.Model, "_save_parents", wrap_save_parents),
    (models.Model, "_save_table", wrap_save_table),
    (models.QuerySet, "_update", wrap_update),
)


@register_source
class SaveSource(CaptureSource):
    """Connects the save receivers to the ruled models, their proxies and children, and wraps the steps of a save.

    Steps are wrapped once per process; models that no rule concerns pass through.
    """

    def connect(self, registry: Registry) -> None:
        """Connect every class that may save a ruled row."""
        for sender, plans in registry.senders.items():
            if any(plan.by_event[EventType.CREATE] or plan.by_event[EventType.UPDATE] for plan in plans):
                pre_save.connect(decide_before_save, sender=sender, weak=False, dispatch_uid=UID)
                connect_first(post_save, end_after_save, sender, UID)
                _senders.add(sender)
        for owner, name, wrap in _STEPS if _senders else ():
            patch_once(owner, name, wrap)

    def disconnect(self) -> None:
        """Record no saves, and leave no receiver behind."""
        for sender in _senders:
            pre_save.disconnect(sender=sender, dispatch_uid=UID)
            post_save.disconnect(sender=sender, dispatch_uid=UID)
        _senders.clear()
