"""What a save finds of its rows, and what it changed of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from types import SimpleNamespace
from typing import Any

from django.db import models

from django_signal_audit.capture.compilers import InsertStatement, UpdateStatement
from django_signal_audit.capture.hooks import keeps_values, writes_as_told
from django_signal_audit.capture.images import Image, ImageReader
from django_signal_audit.capture.inheritance import (
    Owner,
    inherited_members,
    may_extend,
    own_links,
    owner_of,
    relinked,
    taken_over,
)
from django_signal_audit.capture.phantom_rows import last_recorded_values
from django_signal_audit.capture.rows import (
    differences,
    gives_other_keys,
    read_row,
    row_key,
    rows_of,
    stored_key,
    written_row,
)
from django_signal_audit.capture.scope import BeforeImage, Fields, Row, SaveScope, scope_of
from django_signal_audit.context.scopes import is_suspended
from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.changes import Change, M2MChange, field_change
from django_signal_audit.models.tables import is_ready
from django_signal_audit.rules.patterns import concrete
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.rules.registry import get_registry


def is_a_saves_own(statement: InsertStatement | UpdateStatement) -> bool:
    """Return whether a statement is the one of the save under way, which records it."""
    save = scope_of(statement.using).save
    if save is None or save.writing is not concrete(statement.model) or not save.is_prepared:
        return False
    if isinstance(statement, InsertStatement):
        return len(statement.objs) == 1 and statement.objs[0] is save.instance
    is_own, save.is_updating = save.is_updating, False
    return is_own


def read_again(using: str) -> None:
    """Read the rows of the save under way anew if anything was recorded since: what runs between may write them."""
    scope = scope_of(using)
    save = scope.save
    if save is None or save.count == scope.recorded:
        return
    for before in save.before or ():
        if before.was_read:
            before.row = read_row(before.plan.model, before.pk, before.fields, using)


# How often the owner of a row is read while others change it.
_ATTEMPTS = 5


def choose_plans(save: SaveScope, using: str, update_fields: Collection[str] | None) -> None:
    """Choose the plans that a save concerns, those with an audited field that it names, and note what it may write.

    Without ``update_fields``, a save names every field, and may create rows. The database is not asked for anything:
    the transaction of the save has not begun.
    """
    instance = save.instance
    # The model or its manager may write more than the save names, or something else than the object has.
    save.writes_more = save.writes_more or not writes_as_told(type(instance), using)
    save.may_create = update_fields is None or save.writes_more
    if save.writes_more:
        update_fields = {field.name for field in instance._meta.concrete_fields}
    save.using, save.update_fields = using, update_fields
    save.plans = [
        plan
        for plan in get_registry().senders.get(type(instance), ())
        if not is_suspended(plan.model)
        # A raw save writes no parent's table.
        and (not save.raw or plan.model is concrete(type(instance)))
        and (
            update_fields is None
            or save.writes_more
            or _named_fields(plan, instance, update_fields)
            or _named_links(plan, update_fields)
        )
    ]


def read_before_save(save: SaveScope, using: str, update_fields: Collection[str] | None) -> None:
    """Read the stored values of the audited fields that a save is about to write, under lock."""
    if save.plans is None or save.using != using:
        choose_plans(save, using, update_fields)
    save.before = before_all = []
    instance = save.instance
    for plan in save.plans or ():
        if not is_ready(using):
            break
        before = _before_image(plan, save)
        before.image = _linked_image(before, save)
        before.may_extend = bool(plan.model._meta.parents) and may_extend(instance, plan.model)
        # A fixture's instance knows its own table's columns only.
        before.is_own = not (save.writes_more or (save.raw and plan.model._meta.parents))
        before_all.append(before)
    save.count = scope_of(using).recorded


def written_by(save: SaveScope, plan: ModelPlan) -> tuple[object, Fields]:
    """Return the primary key of the row that a save is about to update, and the audited fields that it writes."""
    return row_key(save.instance, plan.model), _written_fields(plan, save.instance, save.update_fields)


def note_row(save: SaveScope, plan: ModelPlan, pk: object, fields: Fields, row: Row | None) -> None:
    """Note what was read of the row that a save updates, None if there is none, as ``read_before_save`` would."""
    adding = save.instance._state.adding
    key = pk if row is None else stored_key(plan, pk, save.using, is_given=adding)
    save.before = [BeforeImage(plan, key, fields, row, was_read=True)]
    save.count = scope_of(save.using).recorded


def _before_image(plan: ModelPlan, save: SaveScope) -> BeforeImage:
    instance = save.instance
    keys = instance if save.raw else _synced(instance, plan.model)
    if _is_insert(plan, keys, save):
        return BeforeImage(plan, None, {}, None, was_read=False)
    owner, fields, row = _read_owner(plan, row_key(keys, plan.model), save)
    # Only a save of some fields updates the parents' rows where the child's is gone.
    is_partial = row is None and save.update_fields is not None and bool(plan.model._meta.parents)
    parts = _parent_images(plan, save) if is_partial else None
    if not fields and not _may_be_new(owner.plan, save) and not _named_links(owner.plan, save.update_fields):
        return BeforeImage(plan, owner.pk, {}, None, was_read=False, parts=parts or None)
    key = owner.pk if row is None else stored_key(owner.plan, owner.pk, save.using, is_given=instance._state.adding)
    return BeforeImage(owner.plan, key, fields, row, was_read=True, parts=parts)


def _read_owner(plan: ModelPlan, pk: object, save: SaveScope) -> tuple[Owner, Fields, Row | None]:
    """Read the row, and that of the child that extends it: that may come or go until one of them is locked."""
    owner = owner_of(plan, pk, save.using)
    fields, row = _read(owner, save)
    for _ in range(_ATTEMPTS if plan.descendants and fields else 0):
        is_settled = (owner.plan is plan) == (row is None)
        found = owner if is_settled else owner_of(plan, pk, save.using)
        if found == owner:
            break
        owner = found
        fields, row = _read(owner, save)
    return owner, fields, row


def _parent_images(plan: ModelPlan, save: SaveScope) -> Sequence[BeforeImage]:
    """Read the parents' rows of a child's row that is not there: the instance may be older than its deletion."""
    senders = get_registry().senders
    plans = {found.model: found for parent in plan.model._meta.parents for found in senders.get(parent, ())}
    found = [
        _before_image(found, save)
        for found in plans.values()
        if not save.raw and found.by_event[EventType.UPDATE] and not is_suspended(found.model)
    ]
    for before in found:
        before.is_part, before.is_own = True, not save.writes_more
    return [before for before in found if before.was_read or before.parts]


def _linked_image(before: BeforeImage, save: SaveScope) -> Image | None:
    """Return all columns of a child's row that the save may give to other parents' rows, None for most rows."""
    if not before.was_read or not _named_links(before.plan, save.update_fields):
        return None
    return ImageReader(before.plan, save.using).by_key([before.pk]).get(before.pk)


def _named_links(plan: ModelPlan, update_fields: Collection[str] | None) -> list[models.Field[Any, Any]]:
    """Return the links to parents' rows, other than the key, that a save names."""
    links = own_links(plan.model)
    if update_fields is None:
        return links
    return [link for link in links if _is_named(link, update_fields)]


def _synced(instance: models.Model, model: type[models.Model]) -> Any:
    """Return the parts of a key as the save is going to write them: a child's link follows its parent's key."""
    if not concrete(type(instance))._meta.parents:
        return instance
    return SimpleNamespace(**{field.attname: _synced_value(instance, field) for field in model._meta.pk_fields})


def _synced_value(instance: models.Model, field: Any) -> object:
    value = None
    if getattr(field.remote_field, "parent_link", False):
        value = _synced_value(instance, field.target_field)
    if value is None:
        value = getattr(instance, field.attname)
    if value is None:
        link = concrete(type(instance))._meta.get_ancestor_link(field.model)
        value = None if link is None else getattr(instance, link.attname)
    return value


def _read(owner: Owner, save: SaveScope) -> tuple[Fields, Row | None]:
    """Return the audited fields of the owner's plan that the save writes, and what the row holds of them."""
    fields = _written_fields(owner.plan, save.instance, save.update_fields)
    is_asked_for = fields or _may_be_new(owner.plan, save)
    if not is_asked_for:
        return fields, None
    model, held = owner.plan.model, save.instance.__dict__
    named = {field.attname for field in model._meta.concrete_fields if _is_named(field, save.update_fields)}
    has_other_keys = gives_other_keys(model, owner.pk, {name: held[name] for name in named & held.keys()}, save.using)
    return fields, read_row(model, owner.pk, fields, save.using, deleting=has_other_keys)


def _is_named(field: models.Field[Any, Any], update_fields: Collection[str] | None) -> bool:
    return update_fields is None or field.name in update_fields or field.attname in update_fields


def _may_be_new(plan: ModelPlan, save: SaveScope) -> bool:
    """Return whether only the table tells if the save creates the row: Django tells it of the instance's own alone."""
    is_part = concrete(type(save.instance)) is not plan.model
    return is_part and save.may_create and bool(plan.by_event[EventType.CREATE])


def _is_insert(plan: ModelPlan, keys: object, save: SaveScope) -> bool:
    """Return whether Django is sure to insert: it asks the same questions before it tries an update."""
    instance = save.instance
    for field in plan.model._meta.pk_fields:
        value = getattr(keys, field.attname)
        if value is None or hasattr(value, "resolve_expression"):
            return True
    if concrete(type(instance)) is not plan.model:
        return False  # a parent's row may exist even where the child's is inserted
    if save.force_insert:
        return True
    has_default = all(field.has_default() or field.has_db_default() for field in plan.model._meta.pk_fields)
    return instance._state.adding and has_default and not save.raw and not save.force_update


def _named_fields(plan: ModelPlan, instance: models.Model, update_fields: Collection[str] | None) -> Fields:
    """Return the audited fields that the save names, with the generated columns that follow them."""
    audited = plan.fields_for(EventType.UPDATE)
    if not isinstance(instance, plan.model):
        # A parent's part of the row.
        audited = {name: field for name, field in audited.items() if field in instance._meta.concrete_fields}
    if update_fields is None:
        return audited
    return {name: field for name, field in audited.items() if _is_named(field, update_fields) or name in plan.generated}


def _written_fields(plan: ModelPlan, instance: models.Model, update_fields: Collection[str] | None) -> Fields:
    """Return those of them that the save writes."""
    named = _named_fields(plan, instance, update_fields)
    if update_fields is not None:
        return named
    # A deferred field is left out by Django too; a descriptor may keep the value of another elsewhere.
    held, kind = instance.__dict__, type(instance)
    return {
        name: field
        for name, field in named.items()
        if field.attname in held or name in plan.generated or not keeps_values(kind, field)
    }


def changes_of(
    found: Sequence[BeforeImage], instance: models.Model, sender: type[models.Model], using: str, *, created: bool
) -> list[Change]:
    """Return what a save changed of the rows that were looked at before it."""
    changes: list[Change | None] = []
    for before in found:
        own = before.plan.model is sender
        if before.parts is not None and not created and read_row(before.plan.model, before.pk, {}, using) is None:
            changes += changes_of(before.parts, instance, sender, using, created=False)
        elif moved := _relinked(before, instance, using):
            changes += moved
        else:
            change = _change(before, instance, created, using, own=own)
            if change is not None and change.event_type == EventType.CREATE and before.may_extend:
                changes += taken_over(before.plan, change.pk, using)
            changes.append(change)
    return [change for change in changes if change is not None]


def _relinked(before: BeforeImage, instance: models.Model, using: str) -> list[Change]:
    if before.image is None:
        return []
    reader = ImageReader(before.plan, using)
    now = reader.by_key([before.pk]).get(before.pk)
    if now is None:
        return []
    return relinked(reader, before.image, now, Source.ORM, _object(before, instance, before.pk, using))


def _change(before: BeforeImage, instance: models.Model, created: bool, using: str, *, own: bool) -> Change | None:
    plan, pk = before.plan, before.pk
    event_type = EventType.UPDATE
    members: dict[str, M2MChange] = {}
    if created if own else _is_new(before):
        event_type, pk = EventType.CREATE, stored_key(plan, row_key(instance, plan.model), using)
        fields = plan.fields_for(event_type)
        if not plan.by_event[event_type]:
            return None
        new = _stored(before, instance, pk, fields, using)
        changed = {name: field_change((None, new[name])) for name in fields if name in new}
        if before.may_extend:
            members = inherited_members(plan, pk, plan.names_for(event_type), using)
    elif not before.was_read:
        return None
    else:
        new = _stored(before, instance, pk, before.fields, using)
        # Somebody may have inserted the row after we looked and before Django wrote.
        old = last_recorded_values(plan, pk, new, using) if before.row is None else before.row
        changed = differences(before.fields, old, new)
        if not changed:
            return None
    return Change(
        event_type=event_type,
        source=Source.ORM,
        using=using,
        model=plan.model,
        pk=pk,
        instance=_object(before, instance, pk, using),
        fields=changed,
        members=members,
        row=new if plan.included else {},
    )


def _is_new(before: BeforeImage) -> bool:
    """Return whether a save created the row of a parent."""
    return before.row is None and (before.was_read or before.pk is None)


def _stored(before: BeforeImage, instance: models.Model, pk: object, fields: Fields, using: str) -> Row:
    """Return what the row holds now."""
    if before.is_own:
        return written_row(instance, before.plan, pk, fields, using)
    return read_row(before.plan.model, pk, fields, using) or {}


def _object(before: BeforeImage, instance: models.Model, pk: object, using: str) -> models.Model | None:
    """Return the object that the event is about: the instance, unless that stands for more or less than the row."""
    model = before.plan.model
    if isinstance(instance, model) and not before.is_part:
        return instance
    return rows_of(model, using).filter(pk=pk).first()
