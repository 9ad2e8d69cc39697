"""Deletes: their objects are noted for the hook at the query compilers, which records the rows.

Without that hook, the row is read in pre_delete and recorded in post_delete, in the transaction of the deletion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import models
from django.db.models.signals import post_delete, pre_delete

from django_signal_audit.capture.hooks import connect_first
from django_signal_audit.capture.images import ImageReader, chunks
from django_signal_audit.capture.inheritance import is_most_derived
from django_signal_audit.capture.rows import read_row, row_key, stored_key
from django_signal_audit.capture.scope import DeletionScope, DoomedObject, Notes, Row, are_kin
from django_signal_audit.capture.sources.base import CaptureSource, register_source
from django_signal_audit.capture.through_rows import members_of
from django_signal_audit.conf import get_settings
from django_signal_audit.context.scopes import is_suspended
from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.changes import Change, M2MChange, field_change
from django_signal_audit.events.object_texts import texts_of
from django_signal_audit.events.payloads import text_of
from django_signal_audit.models.tables import is_ready
from django_signal_audit.recorder import record_changes
from django_signal_audit.rules.patterns import concrete
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.rules.registry import Registry, get_registry

UID = "django_signal_audit.deletes"
# Django always tells what the deletion was asked for on, if only None; who sends the signals by hand does not, and
# deletes nothing or by other means.
NOT_TOLD = object()


@dataclass(frozen=True, slots=True)
class DoomedRow:
    """A row that is about to go, as it was."""

    plan: ModelPlan
    pk: Any
    row: Row
    members: dict[str, tuple[Any, ...]]
    object_repr: str
    source: Source


_doomed: Notes[DoomedRow] = Notes()


def note_doomed(deletion: DeletionScope) -> None:
    """Note the objects that a deletion is about to take, for the query hook, also where the signals are muted."""
    registry, collector = get_registry(), deletion.collector
    for model, instances in collector.data.items():
        plan = registry.plan_for(model)
        if plan is None or not plan.by_event[EventType.DELETE]:
            continue
        found = _complete(plan, list(instances), collector.using)
        origin = collector.origin
        # Of a queryset's rows, the class tells.
        shared = _source(found[0], origin) if found and isinstance(origin, models.QuerySet) else None
        for instance, text in zip(found, texts_of(found), strict=True):
            noted = DoomedObject(shared or _source(instance, origin), instance, text)
            pk = stored_key(plan, row_key(instance, plan.model), collector.using)
            deletion.doomed[plan.model, pk] = noted


def _complete(plan: ModelPlan, objects: list[models.Model], using: str) -> list[models.Model]:
    """Return the objects with all their columns: Django loads but the keys of what goes by cascade."""
    deferred = [one.pk for one in objects if one.get_deferred_fields()]
    if not deferred:
        return objects
    reader = ImageReader(plan, using)
    images = [image for keys in chunks(deferred) for image in reader.by_key(keys).values()]
    found = {reader.key(image): reader.instance(image) for image in images}
    return [found.get(one.pk, one) for one in objects]


def look_before_delete(
    sender: type[models.Model], instance: models.Model, using: str = "", origin: object = NOT_TOLD, **_: object
) -> None:
    """Read the row and its m2m members (receiver of pre_delete)."""
    plan = get_registry().plan_for(sender)
    if origin is NOT_TOLD or plan is None:
        return
    if is_suspended(plan.model) or not is_ready(using):
        return
    pk = stored_key(plan, row_key(instance, plan.model), using)
    # A ruled child's row is deleted with it, and the event is the child's.
    if is_most_derived(plan, pk, using):
        doomed = _read_doomed(plan, instance, pk, using, origin)
        if doomed is not None:
            _doomed.put(instance, doomed)


def _read_doomed(plan: ModelPlan, instance: models.Model, pk: object, using: str, origin: object) -> DoomedRow | None:
    names = plan.names_for(EventType.DELETE)
    fields = {name: field for name, field in plan.all_fields.items() if name in names}
    row = read_row(plan.model, pk, fields, using, deleting=True)
    if row is None:
        return None  # somebody else deleted it, and theirs is the event
    members = {name: members_of(field, plan, pk, using) for name, field in plan.all_members.items() if name in names}
    return DoomedRow(plan, pk, row, members, text_of(instance), _source(instance, origin))


def _source(instance: models.Model, origin: Any) -> Source:
    """Tell how the deletion came to this row: asked for it, for a queryset of its kind, or for what it hangs on."""
    if isinstance(origin, models.QuerySet):
        return Source.BULK if are_kin(type(instance), origin.model) else Source.CASCADE
    if origin is None or origin is instance:
        return Source.ORM
    return Source.ORM if are_kin(type(instance), type(origin)) and _same_row(instance, origin) else Source.CASCADE


def _same_row(instance: models.Model, origin: models.Model) -> bool:
    """Return whether both are the same row, or a parent's and a child's row of one object."""
    base = concrete(type(origin)) if isinstance(instance, concrete(type(origin))) else concrete(type(instance))
    return bool(row_key(instance, base) == row_key(origin, base))


def record_after_delete(sender: type[models.Model], instance: models.Model, using: str = "", **_: object) -> None:
    """Record that the row is gone (receiver of post_delete)."""
    doomed = _doomed.take(instance)
    if doomed is not None:
        record_changes([_change(doomed, instance, using)], using)


def _change(doomed: DoomedRow, instance: models.Model, using: str) -> Change:
    return Change(
        event_type=EventType.DELETE,
        source=doomed.source,
        using=using,
        model=doomed.plan.model,
        pk=doomed.pk,
        instance=instance,
        object_repr=doomed.object_repr,
        fields={name: field_change((value, None)) for name, value in doomed.row.items()},
        members={name: M2MChange(removed=keys) for name, keys in doomed.members.items() if keys},
    )


@register_source
class DeleteSource(CaptureSource):
    """Connects the delete receivers to the ruled models and their proxies, if queries aren't captured.

    Else they are not needed, and Django keeps its fast deletes: a model with a receiver has all its rows loaded.
    Children without a rule need none: Django deletes the parent's row with theirs and says so.
    """

    def __init__(self) -> None:
        self._senders: list[type[models.Model]] = []

    def connect(self, registry: Registry) -> None:
        """Connect every class that stands for the rows of a ruled model."""
        for sender in () if get_settings().capture_queries else registry.senders:
            plan = registry.plan_for(sender)
            if plan is not None and plan.by_event[EventType.DELETE]:
                pre_delete.connect(look_before_delete, sender=sender, weak=False, dispatch_uid=UID)
                connect_first(post_delete, record_after_delete, sender, UID)
                self._senders.append(sender)

    def disconnect(self) -> None:
        """Leave no receiver behind."""
        for sender in self._senders:
            pre_delete.disconnect(sender=sender, dispatch_uid=UID)
            post_delete.disconnect(sender=sender, dispatch_uid=UID)
        self._senders.clear()
