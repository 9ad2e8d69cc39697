"""Saves: checked in pre_save against the stored row, recorded in post_save, in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.db import models, router
from django.db.models.signals import post_save, pre_save

from django_signal_audit.changes import Change, MembersChange, field_change
from django_signal_audit.conf import get_settings
from django_signal_audit.enums import EventType, Source
from django_signal_audit.recorder import record_changes, recorded_count
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.rules.registry import Registry, get_registry
from django_signal_audit.rules.targets import concrete
from django_signal_audit.storage import is_ready
from django_signal_audit.suspension import is_suspended

from .base import CaptureSource, register_source
from .extensions import may_extend, members_brought
from .internals import Patches, connect_first, keeps_values, writes_as_told
from .lineage import Owner, owner_of
from .pending_saves import Before, Fields, PendingSave, pending_save, set_pending_save
from .recollection import recorded_row
from .rows import Row, differences, read_row, row_key, rows_of, stored_key, written_row
from .transactions import all_or_nothing, write_transaction

UID = "django_signal_audit.saves"


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
        outer = pending_save(self)
        transaction = write_transaction(using, is_open=False)
        pending = PendingSave(outer, transaction, bool(force_insert), force_update)
        set_pending_save(self, pending)
        try:
            with transaction:
                original(
                    self,
                    raw=raw,
                    force_insert=force_insert,
                    force_update=force_update,
                    using=using,
                    update_fields=update_fields,
                )
        finally:
            set_pending_save(self, outer)

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
    pending = pending_save(instance)
    if raw or pending is None or not pending.is_awaited:
        # Fixtures call Model.save_base past the wrapper, once for every table. The query hook records what they and
        # others write.
        if get_settings().capture_queries:
            return
        using = using or router.db_for_write(sender, instance=instance)
        pending = PendingSave(pending, write_transaction(using), is_foreign=True)
        set_pending_save(instance, pending)
    pending.is_awaited, pending.is_running = False, True
    using = using or router.db_for_write(sender, instance=instance)
    if not pending.is_foreign:
        pending.transaction.open()
    pending.before = before_all = []
    pending.writes_more = not writes_as_told(type(instance), using)
    if pending.writes_more:
        update_fields = {field.name for field in sender._meta.concrete_fields}  # whatever was asked for
    for plan in get_registry().senders.get(sender, ()):
        if is_ready(using) and not is_suspended(plan.model):
            before = _look(plan, instance, pending, using, raw=raw, update_fields=update_fields)
            before.is_own = raw or not (pending.is_foreign or pending.writes_more)
            before.may_extend = bool(plan.model._meta.parents) and may_extend(instance, plan.model)
            before_all.append(before)
    pending.using, pending.count = using, recorded_count()


def _look(
    plan: ModelPlan, instance: models.Model, pending: PendingSave, using: str, *, raw: bool, update_fields: Any
) -> Before:
    if _is_insert(plan, instance, pending, raw=raw):
        return Before(plan, None, {}, None, was_read=False)
    pk = row_key(instance, plan.model)
    owner = owner_of(plan, pk, using)
    fields, row = _read(owner, instance, update_fields, using)
    if plan.descendants and row is not None and owner.plan is plan:
        # It may have come after we asked, along with a child's row. Now that it is locked, nobody takes it away.
        owner = owner_of(plan, pk, using)
        if owner.plan is not plan:
            fields, row = _read(owner, instance, update_fields, using)
    if not fields:
        return Before(plan, pk, {}, None, was_read=False)
    key = owner.pk if row is None or not instance._state.adding else stored_key(owner.plan.model, owner.pk, using)
    return Before(owner.plan, key, fields, row, was_read=True)


def _read(owner: Owner, instance: models.Model, update_fields: Any, using: str) -> tuple[Fields, Row | None]:
    """Return the watched fields of the owner's plan that the save writes, and what the row holds of them."""
    fields = _written_fields(owner.plan, instance, update_fields)
    return fields, read_row(owner.plan.model, owner.pk, fields, using) if fields else None


def _is_insert(plan: ModelPlan, instance: models.Model, pending: PendingSave, *, raw: bool) -> bool:
    """Tell whether Django is sure to insert: it asks the same questions before it tries an update."""
    held = instance.__dict__
    for field in plan.model._meta.pk_fields:
        value = held.get(field.attname)
        if value is None or hasattr(value, "resolve_expression"):
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
    # A deferred field is left out by Django too; a descriptor may keep the value of another elsewhere.
    held, kind = instance.__dict__, type(instance)
    return {
        name: field
        for name, field in watched.items()
        if field.attname in held or name in plan.generated or not keeps_values(kind, field)
    }


def record_after_save(sender: type[models.Model], instance: models.Model, created: bool = False, **_: Any) -> None:
    """Record what the save changed (receiver of post_save)."""
    pending = pending_save(instance)
    if pending is None or not pending.is_running:
        return  # a post_save that somebody sent by hand, or one that the query hook has dealt with
    before, pending.before, pending.is_running = pending.before, (), False
    using = pending.using
    if pending.is_foreign:
        set_pending_save(instance, pending.outer)
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
        changed = {name: field_change((None, new[name])) for name in fields if name in new}
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
