"""Saves: pre_save chooses the plans, the rows are read and the event is written around the statements.

The rows are read right before Django's first statement and the event is written right after its last. The project's
receivers of pre_save have run by then, so what they changed on the instance, such as its primary key, is recorded.
If the signals are muted, the first statement chooses the plans, and the save ends with ``save_base``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from django.db import models, router
from django.db.models.signals import post_save, pre_save

from django_signal_audit.capture.before_images import changes_of, choose_plans, read_before_save
from django_signal_audit.capture.engines import Engine, engine_for
from django_signal_audit.capture.hooks import SAVE_BASE_PARAMETERS, SAVE_TABLE_PARAMETERS, connect_first, patch_once
from django_signal_audit.capture.queries import handler_of
from django_signal_audit.capture.row_statements import row_update
from django_signal_audit.capture.scope import Notes, SaveScope, save_of, scope_of
from django_signal_audit.capture.sources.base import CaptureSource, register_source
from django_signal_audit.capture.transactions import rollback_on_error, write_transaction
from django_signal_audit.conf import get_settings
from django_signal_audit.enums import EventType
from django_signal_audit.recorder import record_changes
from django_signal_audit.rules.patterns import concrete
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.rules.registry import Registry

_writes: Notes[SaveScope] = Notes()


def read_before_write(instance: models.Model, using: str, update_fields: Any) -> None:
    """Read what a write is about to change, with what arguments its pre_save is sent."""
    write = SaveScope(instance, using, raw=False, force_insert=False, force_update=False, writes_more=True)
    read_before_save(write, using, update_fields)
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


def _arguments(parameters: list[str], args: Any, kwargs: Any) -> Callable[[str], Any]:
    """Return a function that returns an argument of a call by its name, None if it was left out."""
    return {**dict(zip(parameters[1:], args, strict=False)), **kwargs}.get if args else kwargs.get


def wrap_save_base(original: Callable[..., None]) -> Callable[..., None]:
    """Return ``save_base`` such that its steps find the save that they are part of."""

    @wraps(original)
    def save_base(self: models.Model, *args: object, **kwargs: object) -> None:
        if type(self) not in _senders:
            original(self, *args, **kwargs)
            return
        given = _arguments(SAVE_BASE_PARAMETERS, args, kwargs)
        using = given("using") or router.db_for_write(type(self), instance=self)
        raw, force_insert, force_update = bool(given("raw")), bool(given("force_insert")), bool(given("force_update"))
        scope = scope_of(using)
        outer, scope.save = scope.save, SaveScope(self, using, raw, force_insert, force_update)
        try:
            original(self, *args, **kwargs)
        finally:
            scope.save = outer

    return save_base


def wrap_save_parents(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``_save_parents``, which begins a multi-table child's save, so that the rows are read before it."""

    @wraps(original)
    def save_parents(
        self: models.Model,
        cls: Any,
        using: str,
        update_fields: Any,
        force_insert: object,
        updated_parents: object = None,
    ) -> Any:
        save = save_of(self, using) if cls._meta.parents else None
        if save is not None and save.before is None:
            read_before_save(save, using, update_fields)
        return original(self, cls, using, update_fields, force_insert, updated_parents)

    return save_parents


def wrap_save_table(original: Callable[..., object]) -> Callable[..., Any]:
    """Return ``_save_table``, which writes one table: the rows are read before it, the event is written after it."""

    @wraps(original)
    def save_table(self: models.Model, *args: object, **kwargs: object) -> object:
        given = _arguments(SAVE_TABLE_PARAMETERS, args, kwargs)
        table, using = given("cls"), given("using")
        save = save_of(self, using)
        # Of fixtures, which save once for every table, the query hook records what they write.
        if save is None or (save.raw and get_settings().capture_queries):
            return original(self, *args, **kwargs)
        outer, save.writing = save.writing, table
        try:
            if table is not concrete(type(self)):
                return original(self, *args, **kwargs)
            with write_transaction(using, is_open=False) as transaction:
                save.engine, save.transaction = _engine_of(save, using, given("update_fields")), transaction
                if save.engine is None:
                    transaction.open()
                    if save.before is None:
                        read_before_save(save, using, given("update_fields"))
                updated = original(self, *args, **kwargs)
                save.writing = outer
                _record(save, created=not updated)
                save.before = save.before or ()
            return updated
        finally:
            save.writing = outer

    return save_table


def _engine_of(save: SaveScope, using: str, update_fields: Any) -> Engine | None:
    """Return the engine that may write the row and its event together, None if the rows are to be read first."""
    if save.before is not None or not get_settings().capture_queries:
        return None
    if save.plans is None or save.using != using:
        choose_plans(save, using, update_fields)
    return engine_for(save)


def wrap_do_update(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``_do_update``, which writes the row of an object that is there."""

    @wraps(original)
    def do_update(
        self: models.Model,
        base_qs: models.QuerySet[Any],
        using: str,
        pk_val: object,
        values: Any,
        update_fields: object,
        forced_update: object,
        *returning: object,
    ) -> object:
        save = save_of(self, using) if type(self) in _senders else None
        is_own = save is not None and save.writing is concrete(base_qs.model) and save.is_prepared
        table = handler_of(base_qs.model) if is_own and not any(returning) else None
        if save is not None and table is not None:
            statement = row_update(save, base_qs, pk_val, values)
            if statement is not None:
                save.is_updating = True
                return table.on_update(statement)
        return original(self, base_qs, using, pk_val, values, update_fields, forced_update, *returning)

    return do_update


def wrap_update(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``QuerySet._update``, by which saves update."""

    @wraps(original)
    def update(self: Any, *args: object, **kwargs: object) -> Any:
        # A save names the database. A call without one is no save's.
        save = scope_of(self._db).save if self._db else None
        if save is None or save.writing is not concrete(self.model):
            return original(self, *args, **kwargs)
        save.is_updating = True
        try:
            return original(self, *args, **kwargs)
        finally:
            save.is_updating = False

    return update


def _record(save: SaveScope, *, created: bool) -> None:
    """Record what the save changed."""
    before, using, instance = save.before or (), save.using, save.instance
    if not before:
        return
    state = instance._state
    adding, db = state.adding, state.db
    # What Django sets next: conditions and texts of the project may ask for it.
    state.adding, state.db = False, using
    try:
        with rollback_on_error(using):
            changes = changes_of(before, instance, concrete(type(instance)), using, created=created)
            (save.record or record_changes)(changes, using)
    except BaseException:
        state.adding, state.db = adding, db
        raise


def on_pre_save(
    sender: type[models.Model], instance: models.Model, using: str = "", update_fields: Any = None, **_: object
) -> None:
    """Choose the plans that a save concerns (receiver of pre_save)."""
    using = using or router.db_for_write(type(instance), instance=instance)
    save = save_of(instance, using)
    if save is not None and save.plans is None:
        choose_plans(save, using, update_fields)
    elif not get_settings().capture_queries:
        read_before_write(instance, using, update_fields)


def on_post_save(
    sender: type[models.Model], instance: models.Model, created: bool = False, using: str = "", **_: object
) -> None:
    """End a save before the project's receivers, which may save the instance again (receiver of post_save)."""
    using = using or router.db_for_write(type(instance), instance=instance)
    save = save_of(instance, using)
    if save is not None and save.before is not None:
        # What the instance writes from here on is another save's.
        scope_of(using).save = None
    elif not get_settings().capture_queries:
        record_after_write(sender, instance, created)


_STEPS: tuple[tuple[type, str, Callable[..., Any]], ...] = (
    (models.Model, "save_base", wrap_save_base),
    (models.Model, "_save_parents", wrap_save_parents),
    (models.Model, "_save_table", wrap_save_table),
    (models.Model, "_do_update", wrap_do_update),
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
            self._connect(sender, plans)

    def admit(self, registry: Registry, model: type[models.Model]) -> None:
        """Connect the class alone."""
        self._connect(model, registry.senders.get(model, ()))

    def _connect(self, sender: type[models.Model], plans: Sequence[ModelPlan]) -> None:
        if not any(plan.by_event[EventType.CREATE] or plan.by_event[EventType.UPDATE] for plan in plans):
            return
        pre_save.connect(on_pre_save, sender=sender, weak=False, dispatch_uid=UID)
        connect_first(post_save, on_post_save, sender, UID)
        _senders.add(sender)
        for owner, name, wrap in _STEPS:
            patch_once(owner, name, wrap)

    def disconnect(self) -> None:
        """Record no saves, and leave no receiver behind."""
        for sender in _senders:
            pre_save.disconnect(sender=sender, dispatch_uid=UID)
            post_save.disconnect(sender=sender, dispatch_uid=UID)
        _senders.clear()
