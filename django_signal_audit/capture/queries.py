"""Capture of queries: which tables are audited, and what records the writes to them, if CAPTURE_QUERIES is on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from itertools import chain
from typing import Any

from django.apps import apps
from django.db import models
from django.db.models.deletion import Collector
from django.db.models.sql import DeleteQuery

from django_signal_audit.capture.before_images import is_a_saves_own, read_again, read_before_save
from django_signal_audit.capture.bulk_inserts import insert_and_record
from django_signal_audit.capture.bulk_updates import update_and_record
from django_signal_audit.capture.compilers import (
    DeleteStatement,
    InsertStatement,
    TableHandler,
    UpdateStatement,
    install,
)
from django_signal_audit.capture.deletes import note_doomed
from django_signal_audit.capture.engines import LEFT, one_row_engine
from django_signal_audit.capture.hooks import patch_once, self_check
from django_signal_audit.capture.images import (
    CHUNK_BYTES,
    Image,
    RawImageReader,
    Spool,
    needed_columns,
    size_of,
    text_attribute,
)
from django_signal_audit.capture.inheritance import members_left, survivors
from django_signal_audit.capture.m2m import delete_through_rows, insert_through_rows, update_through_rows
from django_signal_audit.capture.phantom_rows import restrict_to_locked_rows
from django_signal_audit.capture.row_statements import compile_insert
from django_signal_audit.capture.scope import DeletedBatch, DeletionScope, DoomedObject, scope_of
from django_signal_audit.capture.sources.base import CaptureSource, register_source
from django_signal_audit.capture.stored_values import unseen_problems
from django_signal_audit.capture.through_rows import M2MRelation, audited_m2m_fields, sorted_keys, through_of
from django_signal_audit.capture.transactions import lock_database, rollback_on_error, write_transaction
from django_signal_audit.capture.whole_rows import WholeRows, record_whole_rows
from django_signal_audit.conf import get_settings
from django_signal_audit.context.scopes import is_suspended
from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.changes import Change, M2MChange, field_change
from django_signal_audit.models.renames import current_label
from django_signal_audit.models.tables import is_ready
from django_signal_audit.problems import Problem
from django_signal_audit.recorder import may_record_rows, one_call, record_changes
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.rules.registry import Registry, get_registry


def delete_and_record(statement: DeleteStatement, plan: ModelPlan) -> object:
    """Run a DELETE on the plan's own table and record the rows that went."""
    deletion = scope_of(statement.using).deletion
    is_one = deletion is not None and len(deletion.doomed) == 1
    if deletion is not None and is_one and may_record_rows(plan, EventType.DELETE):
        engine = one_row_engine(plan, plan.model, statement.using)
        result = LEFT if engine is None else engine.delete(statement, plan, deletion.doomed)
        if result is not LEFT:
            return result
    # Of a row that is gone, nothing can be read later: what texts need has to be known for certain.
    names = plan.names_for(EventType.DELETE)
    only = None if is_one or not text_attribute(plan.model) else needed_columns(plan, EventType.DELETE, names)
    reader = RawImageReader(plan, statement.using, only)
    with write_transaction(statement.using):
        result, spool = _execute(statement, reader)
        try:
            with rollback_on_error(statement.using):
                for chunk in spool:
                    _gather_or_record(reader, chunk)
        finally:
            spool.close()
        return result


def _execute(statement: DeleteStatement, reader: RawImageReader) -> tuple[object, Spool]:
    """Run the statement, and return what Django wants of it with the images of the rows it deleted."""
    has_parents = bool(reader.plan.model._meta.parents)
    if not has_parents and statement.can_return():
        spool = Spool.of(statement.execute_returning_raw(reader.fields))
        return spool.count, spool
    lock_database(statement.using)
    is_simple = not has_parents and statement.is_simple()
    query = statement.reading(reader.attnames, deleting=True) if is_simple else None
    spool = reader.spooled(reader.rows(deleting=True).filter(pk__in=statement.matching()), query)
    return restrict_to_locked_rows(statement, spool.count, lambda: map(reader.key, chain.from_iterable(spool))), spool


# Rows of a batch whose events are written together.
_TOGETHER = 2_000


def _gather_or_record(reader: RawImageReader, chunk: Sequence[Image]) -> None:
    deletion = scope_of(reader.using).deletion
    batch = None if deletion is None else deletion.batch
    is_other = batch is not None and batch.reader is not None and batch.reader.plan is not reader.plan
    # What needs more than the rows may find it in rows that are about to go.
    if batch is None or is_other or not _needs_rows_alone(reader.plan):
        _record_deletes(reader, chunk)
        return
    batch.reader = reader
    batch.images += chunk
    batch.size += size_of(chunk)
    if len(batch.images) >= _TOGETHER or batch.size >= CHUNK_BYTES:
        _record_batch(batch)


def _needs_rows_alone(plan: ModelPlan) -> bool:
    return not plan.model._meta.parents and may_record_rows(plan, EventType.DELETE)


def _record_batch(batch: DeletedBatch) -> None:
    if batch.reader is not None and batch.images:
        images, batch.images, batch.size = batch.images, [], 0
        with rollback_on_error(batch.reader.using):
            _record_deletes(batch.reader, images)


def _record_deletes(reader: RawImageReader, chunk: Sequence[Image]) -> None:
    plan, scope = reader.plan, scope_of(reader.using).deletion
    keys = reader.keys(chunk)
    noted = [_noted(plan, key, scope) for key in keys]
    if not _needs_rows_alone(plan) or (scope is not None and scope.covered) or any(one.members for one in noted):
        record_changes(_deletes(reader, chunk), reader.using)
        return
    unknown = [at for at, one in enumerate(noted) if one.object_repr is None]
    asked = dict(zip(unknown, reader.texts([chunk[at] for at in unknown]), strict=True))
    texts = [asked[at] if one.object_repr is None else one.object_repr for at, one in enumerate(noted)]
    columns = reader.columns(chunk, plan.names_for(EventType.DELETE))
    rows = WholeRows(keys, texts, [one.source for one in noted], columns)
    record_whole_rows(plan, EventType.DELETE, rows, reader.using)


def _deletes(reader: RawImageReader, chunk: Sequence[Image]) -> list[Change]:
    changes = []
    scope = scope_of(reader.using).deletion
    texts = _texts(reader, chunk, scope)
    for image in chunk:
        if scope is not None and (reader.plan.model, reader.key(image)) in scope.covered:
            continue
        parents = reader.parents(image)
        kept = {parent for parent in parents if scope is None or not scope.takes(parent[0])}
        changes.append(_delete(reader, image, scope, text=texts.get(id(image)), loses_parents=bool(kept)))
        if scope is None:
            changes += survivors(kept, reader.using)
        else:
            scope.covered |= parents - kept
            scope.kept |= kept
    return changes


def _noted(plan: ModelPlan, pk: object, scope: DeletionScope | None) -> DoomedObject:
    if scope is None:
        return DoomedObject(Source.BULK)
    return scope.doomed.get((plan.model, pk)) or DoomedObject(scope.source_of_delete(plan.model))


def _texts(reader: RawImageReader, chunk: Sequence[Image], scope: DeletionScope | None) -> dict[int, str]:
    """Return the texts of the objects that pre_delete gave no text for, by the identity of the image."""
    plan = reader.plan
    if EventType.DELETE in plan.conditional:
        return {}  # conditions ask for the object itself
    images = [image for image in chunk if _noted(plan, reader.key(image), scope).object_repr is None]
    return dict(zip(map(id, images), reader.texts(images), strict=True))


def _delete(
    reader: RawImageReader, image: Image, scope: DeletionScope | None, *, text: str | None, loses_parents: bool
) -> Change:
    plan, pk = reader.plan, reader.key(image)
    noted = _noted(plan, pk, scope)
    names = plan.names_for(EventType.DELETE)
    members = {
        name: M2MChange(removed=sorted_keys(member for _, member in noted.members[name]))
        for name in plan.all_members
        if name in noted.members
    }
    if loses_parents:
        members |= members_left(reader, image, names)
    is_wanted = EventType.DELETE in plan.conditional
    return Change(
        event_type=EventType.DELETE,
        source=noted.source,
        using=reader.using,
        model=plan.model,
        pk=pk,
        instance=reader.instance(image) if is_wanted and noted.instance is None else noted.instance,
        object_repr=text if noted.object_repr is None else noted.object_repr,
        fields={name: field_change((value, None)) for name, value in reader.row(image, names).items()},
        members=members,
    )


Model = type[models.Model]


@dataclass(frozen=True, slots=True)
class RowTable:
    """A table with rows of ruled models: the model's own, and children's that extend them."""

    model: Model
    own: ModelPlan | None
    # All plans whose rows have a part in this table, the most derived first.
    plans: tuple[ModelPlan, ...]

    def on_insert(self, statement: InsertStatement) -> object:
        """Record the rows of the model's own plan."""
        if is_a_saves_own(statement):
            return _execute_own(statement)
        if self.own is None or not self.own.by_event[EventType.CREATE] or not _records(self.own, statement.using):
            return statement.execute()
        return insert_and_record(statement, self.own)

    def on_update(self, statement: UpdateStatement) -> object:
        """Record the rows, each under its most derived plan."""
        if is_a_saves_own(statement):
            return _execute_own(statement)
        plans = [plan for plan in self.plans if plan.by_event[EventType.UPDATE] and _records(plan, statement.using)]
        return update_and_record(statement, plans) if plans else statement.execute()

    def on_delete(self, statement: DeleteStatement) -> object:
        """Record the rows of the model's own plan; a child's have gone before."""
        if self.own is None or not self.own.by_event[EventType.DELETE] or not _records(self.own, statement.using):
            return statement.execute()
        return delete_and_record(statement, self.own)


@dataclass(frozen=True, slots=True)
class ThroughTable:
    """The table of an automatic through model."""

    relation: M2MRelation

    def on_insert(self, statement: InsertStatement) -> object:
        """Record the pairs that came."""
        return insert_through_rows(statement, self.relation) if is_ready(statement.using) else statement.execute()

    def on_update(self, statement: UpdateStatement) -> object:
        """Record the pairs that changed."""
        return update_through_rows(statement, self.relation) if is_ready(statement.using) else statement.execute()

    def on_delete(self, statement: DeleteStatement) -> object:
        """Record the pairs that went."""
        return delete_through_rows(statement, self.relation) if is_ready(statement.using) else statement.execute()


def _execute_own(statement: InsertStatement | UpdateStatement) -> object:
    """Run a statement of a save: by an engine that writes the event along, or between a look and the save's record."""
    if isinstance(statement, InsertStatement):
        compile_insert(statement)
    save = scope_of(statement.using).save
    if save is not None and save.engine is not None and save.before is None:
        result = save.engine.run(statement, save)
        if result is not LEFT:
            return result
        if save.transaction is not None:
            save.transaction.open()
        read_before_save(save, statement.using, save.update_fields)
    read_again(statement.using)
    return statement.execute()


def _records(plan: ModelPlan, using: str) -> bool:
    return is_ready(using) and not is_suspended(plan.model)


_handlers: dict[Model, TableHandler] = {}


def handler_of(model: Model) -> TableHandler | None:
    """Return what records writes to the table of a model, for a proxy to that of its concrete model; None for most."""
    if not _handlers:
        return None
    concrete = model._meta.concrete_model or model
    if concrete in _handlers:
        return _handlers[concrete]
    if model._meta.apps is not apps:
        return _historical_handler(concrete)
    return None


def _historical_handler(model: Model) -> TableHandler | None:
    """Return a handler for a model as a data migration sees it: same label or a former one, the fields of its day."""
    label = current_label(model._meta.label_lower)
    for known, handler in _handlers.items():
        if known._meta.label_lower == label:
            plan = get_registry().historical_plan(model) if isinstance(handler, RowTable) and handler.own else None
            return handler if not isinstance(handler, RowTable) else RowTable(model, plan, (plan,)) if plan else None
    owner: Any = model._meta.auto_created
    owners = get_registry().historical_plan(owner) if owner else None
    if owners is None or not owners.by_event[EventType.M2M]:
        return None
    # The through model of a model that was renamed.
    names = owners.names_for(EventType.M2M)
    found = (field for name, field in owners.all_members.items() if name in names and through_of(field) is model)
    return next((ThroughTable(M2MRelation(field, (owners,))) for field in found), None)


def _wrap_bulk(original: Callable[..., object]) -> Callable[..., object]:
    """Return a bulk method of QuerySet whose batches are one call."""

    @wraps(original)
    def bulk(self: Any, *args: object, **kwargs: object) -> Any:
        if handler_of(self.model) is None:
            return original(self, *args, **kwargs)
        self._for_write = True
        using = self.db
        with write_transaction(using), one_call(using):
            return original(self, *args, **kwargs)

    return bulk


def _wrap_collector(original: Callable[..., object]) -> Callable[..., object]:
    """Return ``Collector.delete`` as one call that its statements can look up."""

    @wraps(original)
    def delete(self: Any) -> Any:
        if not _handlers or not _concerns(self):
            return original(self)
        deletion = DeletionScope(self)
        with write_transaction(self.using), one_call(self.using), scope_of(self.using).within(deletion=deletion):
            note_doomed(deletion)
            result = original(self)
            if deletion.kept:
                record_changes(survivors(deletion.kept, self.using), self.using)
            return result

    return delete


def _wrap_batch(original: Callable[..., object]) -> Callable[..., object]:
    """Return ``DeleteQuery.delete_batch``, whose statements delete a hundred rows each, with their events together.

    Nobody's code runs between them.
    """

    @wraps(original)
    def delete_batch(self: Any, pk_list: Any, using: str) -> Any:
        deletion = scope_of(using).deletion
        if deletion is None or handler_of(self.model) is None:
            return original(self, pk_list, using)
        outer, deletion.batch = deletion.batch, DeletedBatch()
        try:
            result = original(self, pk_list, using)
            _record_batch(deletion.batch)
        finally:
            deletion.batch = outer
        return result

    return delete_batch


def _concerns(collector: Any) -> bool:
    models_touched = [
        *collector.data,
        *(rows.model for rows in collector.fast_deletes),
        *(field.model for field, _ in collector.field_updates),
    ]
    return any(handler_of(model) is not None for model in models_touched)


@register_source
class QuerySource(CaptureSource):
    """Hooks the query compilers for the tables that rules concern."""

    def connect(self, registry: Registry) -> None:
        """Record writes to the tables of audited models, of their parents and of their m2m fields."""
        if not _can_hook():
            return
        # Without any rules too: tables may be guarded.
        install(handler_of)
        if not get_settings().capture_queries or not registry.plans:
            return
        for name in ("bulk_create", "bulk_update"):
            patch_once(models.QuerySet, name, _wrap_bulk)
        patch_once(Collector, "delete", _wrap_collector)
        patch_once(DeleteQuery, "delete_batch", _wrap_batch)
        _handlers.update(_row_tables(registry, registry.plans))
        _handlers.update({one.through: ThroughTable(one) for one in audited_m2m_fields(registry)})

    def admit(self, registry: Registry, model: Model) -> None:
        """Record writes to the tables of the model, of its parents and of m2m fields, which may be theirs."""
        if not _handlers:
            super().admit(registry, model)
            return
        _handlers.update(_row_tables(registry, [model] if model in registry.plans else []))
        _handlers.update({one.through: ThroughTable(one) for one in audited_m2m_fields(registry)})

    def disconnect(self) -> None:
        """Record nothing. The hook stays, and passes everything on."""
        _handlers.clear()

    def problems(self) -> list[Problem]:
        """Report compilers that the hook cannot see."""
        return unseen_problems() if get_settings().capture_queries else []


@cache
def _can_hook() -> bool:
    """Return whether Django is as the hook relies on: that does not change with the settings."""
    return not self_check()


def _row_tables(registry: Registry, models_of: Iterable[Model]) -> dict[Model, RowTable]:
    """Return the tables of models that rules name."""
    tables: dict[Model, RowTable] = {}
    for model in models_of:
        for table in (model, *model._meta.get_parent_list()):
            plans = {plan.model: plan for plan in _plans_below(registry, table)}
            # Rows of an unruled model in between belong to its nearest ruled parents.
            plans |= {plan.model: plan for plan in registry.senders.get(table, ())}
            ordered = sorted(plans.values(), key=lambda plan: -len(plan.model._meta.get_parent_list()))
            tables[table] = RowTable(table, registry.plans.get(table), tuple(ordered))
    return tables


def _plans_below(registry: Registry, table: Model) -> list[ModelPlan]:
    """Return the plans of a table's own model and of those whose rows extend its rows."""
    own = registry.plans.get(table)
    if own is not None:
        return [own, *own.descendants]
    return [plan for plan in registry.plans.values() if issubclass(plan.model, table)]
