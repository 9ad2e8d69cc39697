"""Saves: checked in pre_save against the stored row, recorded in post_save, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from dataclasses import field as attribute
from functools import wraps
from typing import Any, TypeAlias

from django.db import models, router
from django.db.models.signals import post_save, pre_save

from django_signal_audit.changes import Change, FieldChange, MembersChange
from django_signal_audit.conf import get_settings
from django_signal_audit.enums import EventType, Source
from django_signal_audit.recorder import record_changes, recorded_count
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.rules.registry import Registry, get_registry
from django_signal_audit.rules.targets import Field, concrete
from django_signal_audit.storage import is_ready
from django_signal_audit.suspension import is_suspended

from .base import CaptureSource, register_source
from .extensions import may_extend, members_brought
from .internals import Patches, connect_first
from .lineage import owner_of
from .recollection import recorded_row
from .rows import Row, differences, read_row, row_key, rows_of, stored_key, written_row
from .transactions import all_or_nothing, write_transaction

UID = "django_signal_audit.saves"
Fields: TypeAlias = Mapping[str, Field]


@dataclass(slots=True)
class Before:
    """What was found of one plan's row before the save: ``row`` is None if there was none."""

    plan: ModelPlan
    # None for a row whose key the database is still to give.
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
    force_insert: bool = False
    force_update: bool = False
    before: list[Before] = attribute(default_factory=list)
    # Is the next pre_save the one that Django sends for this save? Others are sent by hand.
    is_awaited: bool = True
    # Between our pre_save and our post_save: the statements of the instance are the save's own.
    is_running: bool = False
    # Did it come past the wrapper, which would have taken it off again?
    is_foreign: bool = False
    using: str = ""
    # What had been recorded when the rows were read.
    count: int = 0
    # From our pre_save to our post_save. Receivers that are called after it run outside, as they do without us: there,
    # an error of the database that they handle must not take the save along.
    transaction: ExitStack = attribute(default_factory=ExitStack)


def _pending(instance: models.Model) -> PendingSave | None:
    return getattr(instance._state, "audit_save", None)


def _set_pending(instance: models.Model, pending: PendingSave | None) -> None:
    instance._state.audit_save = pending  # type: ignore[attr-defined]


def is_being_saved(instance: models.Model) -> bool:
    """Tell whether the receivers record what is being written of the instance."""
    pending = _pending(instance)
    return pending is not None and pending.is_running


def look_again(instance: models.Model) -> None:
    """Read the rows anew if anything was recorded since pre_save: a receiver after ours may have written them."""
    pending = _pending(instance)
    if pending is None or pending.count == recorded_count():
        return
    for before in pending.before:
        if before.was_read:
            before.row = read_row(before.plan.model, before.pk, before.fields, pending.using)


def wrap_save_base(original: Callable[..., None]) -> Callable[..., None]:
    """Return ``save_base`` with its receivers' transaction, which ends with it at the latest."""

    @wraps(original)
    def save_base(
        self: models.Model,
        raw: bool = False,
        force_insert: Any = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Any = None,
    ) -> None:
        using = using or router.db_for_write(type(self), instance=self)
        outer = _pending(self)
        pending = PendingSave(outer, force_insert=bool(force_insert), force_update=force_update)
        _set_pending(self, pending)
        try:
            with pending.transaction:
                original(
                    self,
                    raw=raw,
                    force_insert=force_insert,
                    force_update=force_update,
                    using=using,
                    update_fields=update_fields,
                )
        finally:
            _set_pending(self, outer)

    return save_base


def check_before_save(
    sender: type[models.Model],
    instance: models.Model,
    raw: bool = False,
    using: str = "",
    update_fields: Any = None,
    **_: Any,
) -> None:
    """Read the stored values of the watched fields that this save writes (receiver of pre_save).

    Projects send the signal by hand, with what arguments they like, around an UPDATE of their own.
    """
    pending = _pending(instance)
    if raw or pending is None or not pending.is_awaited:
        # Fixtures call Model.save_base past the wrapper, once for every table. The query hook records what they and
        # others write.
        if get_settings().capture_queries:
            return
        pending = PendingSave(outer=pending, is_foreign=True)
        _set_pending(instance, pending)
    pending.is_awaited, pending.is_running = False, True
    using = using or router.db_for_write(sender, instance=instance)
    if not pending.is_foreign:
        pending.transaction.enter_context(write_transaction(using))
    pending.before = []
    for plan in get_registry().senders.get(sender, ()):
        if is_ready(using) and not is_suspended(plan.model):
            before = _look(plan, instance, pending, using, raw=raw, update_fields=update_fields)
            before.is_own = raw or not pending.is_foreign
            before.may_extend = bool(plan.model._meta.parents) and may_extend(instance, plan.model)
            pending.before.append(before)
    pending.using, pending.count = using, recorded_count()


def _look(
    plan: ModelPlan, instance: models.Model, pending: PendingSave, using: str, *, raw: bool, update_fields: Any
) -> Before:
    pk = row_key(instance, plan.model)
    if _is_insert(plan, instance, pending, raw=raw):
        return Before(plan, pk, {}, None, was_read=False)
    owner = owner_of(plan, pk, using)
    fields = _written_fields(owner.plan, instance, update_fields)
    if not fields:
        return Before(plan, pk, {}, None, was_read=False)
    row = read_row(owner.plan.model, owner.pk, fields, using)
    key = owner.pk if row is None or not instance._state.adding else stored_key(owner.plan.model, owner.pk, using)
    return Before(owner.plan, key, fields, row, was_read=True)


def _is_insert(plan: ModelPlan, instance: models.Model, pending: PendingSave, *, raw: bool) -> bool:
    """Tell whether Django is sure to insert: it asks the same questions before it tries an update."""
    held = [instance.__dict__.get(field.attname) for field in plan.model._meta.pk_fields]
    if any(value is None or hasattr(value, "resolve_expression") for value in held):
        return True
    if concrete(type(instance)) is not plan.model:
        return False  # a parent's row may exist even where the child's is inserted
    if pending.force_insert:
        return True
    has_default = all(field.has_default() or field.has_db_default() for field in plan.model._meta.pk_fields)
    return instance._state.adding and has_default and not raw and not pending.force_update


def _written_fields(plan: ModelPlan, instance: models.Model, update_fields: Any) -> Fields:
    """Return the watched fields that the save writes, with the generated columns that follow them."""
    watched = plan.fields_for(EventType.UPDATE)
    if not isinstance(instance, plan.model):
        # A parent's part of the row.
        watched = {name: field for name, field in watched.items() if field in instance._meta.concrete_fields}
    if update_fields is not None:
        return {
            name: field
            for name, field in watched.items()
            if name in update_fields or field.attname in update_fields or name in plan.generated
        }
    held = instance.__dict__
    return {name: field for name, field in watched.items() if field.attname in held or name in plan.generated}


def record_after_save(sender: type[models.Model], instance: models.Model, created: bool = False, **_: Any) -> None:
    """Record what the save changed (receiver of post_save)."""
    pending = _pending(instance)
    if pending is None or not pending.is_running:
        return  # a post_save that somebody sent by hand, or one that the query hook has dealt with
    before, pending.before, pending.is_running = pending.before, [], False
    using = pending.using
    if pending.is_foreign:
        _set_pending(instance, pending.outer)
    with all_or_nothing(using):
        changes = [_change(item, instance, created, using, own=item.plan.model is concrete(sender)) for item in before]
        record_changes([change for change in changes if change is not None], using)
    pending.transaction.close()


def _change(before: Before, instance: models.Model, created: bool, using: str, *, own: bool) -> Change | None:
    plan, pk = before.plan, before.pk
    event_type = EventType.UPDATE
    members: dict[str, MembersChange] = {}
    if created if own else before.row is None:
        event_type, pk = EventType.CREATE, row_key(instance, plan.model)
        fields = plan.fields_for(event_type)
        if not plan.by_event[event_type]:
            return None
        new = _stored(before, instance, pk, fields, using)
        changed = {name: FieldChange(old=None, new=new[name]) for name in fields if name in new}
        if before.may_extend:
            members = members_brought(plan, pk, plan.names_for(event_type), using)
    elif not before.was_read:
        return None
    else:
        new = _stored(before, instance, pk, before.fields, using)
        # Somebody may have inserted the row after we looked and before Django wrote.
        old = recorded_row(plan, pk, new, using) if before.row is None else before.row
        changed = differences(before.fields, old, new)
        if not changed:
            return None
    return Change(
        event_type=event_type,
        source=Source.ORM,
        using=using,
        model=plan.model,
        pk=pk,
        instance=_of_model(instance, plan, pk, using),
        fields=changed,
        members=members,
    )


def _stored(before: Before, instance: models.Model, pk: Any, fields: Fields, using: str) -> Row:
    """Return what the row holds now."""
    if before.is_own:
        return written_row(instance, before.plan, pk, fields, using)
    return read_row(before.plan.model, pk, fields, using) or {}


def _of_model(instance: models.Model, plan: ModelPlan, pk: Any, using: str) -> models.Model | None:
    """Return the object that the event is about: the instance, or the child's of which it is the parent's part."""
    return instance if isinstance(instance, plan.model) else rows_of(plan.model, using).filter(pk=pk).first()


@register_source
class SaveSource(CaptureSource):
    """Connects the save receivers to the ruled models, their proxies and children, and wraps their ``save_base``."""

    def __init__(self) -> None:
        self._patches = Patches()
        self._senders: list[type[models.Model]] = []

    def connect(self, registry: Registry) -> None:
        """Connect every class that may save a ruled row."""
        for sender, plans in registry.senders.items():
            if not any(plan.by_event[EventType.CREATE] or plan.by_event[EventType.UPDATE] for plan in plans):
                continue
            pre_save.connect(check_before_save, sender=sender, weak=False, dispatch_uid=UID)
            connect_first(post_save, record_after_save, sender, UID)
            self._patches.replace(sender, "save_base", wrap_save_base)
            self._senders.append(sender)

    def disconnect(self) -> None:
        """Leave no receiver and no wrapper behind."""
        for sender in self._senders:
            pre_save.disconnect(sender=sender, dispatch_uid=UID)
            post_save.disconnect(sender=sender, dispatch_uid=UID)
        self._senders.clear()
        self._patches.undo()
