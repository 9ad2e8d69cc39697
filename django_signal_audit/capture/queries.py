"""Capture of queries: which tables are watched, and by what, when CAPTURE_QUERIES is on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from itertools import chain
from typing import Any

from django.apps import apps
from django.db import models
from django.db.models.deletion import Collector

from django_signal_audit.capture.before_images import is_a_saves_own, read_again
from django_signal_audit.capture.bulk_writes import insert_and_record, update_and_record
from django_signal_audit.capture.compilers import (
    DeleteStatement,
    InsertStatement,
    TableWatcher,
    UpdateStatement,
    install,
)
from django_signal_audit.capture.deletes import note_doomed
from django_signal_audit.capture.hooks import patch_once, self_check
from django_signal_audit.capture.images import Image, RawImageReader, Spool
from django_signal_audit.capture.inheritance import members_left, survivors
from django_signal_audit.capture.m2m import delete_through_rows, insert_through_rows, update_through_rows
from django_signal_audit.capture.phantom_rows import restrict_to_locked_rows
from django_signal_audit.capture.rows import raw_rows
from django_signal_audit.capture.scope import DeletionScope, DoomedObject, scope_of
from django_signal_audit.capture.sources.base import CaptureSource, register_source
from django_signal_audit.capture.stored_values import unseen_problems
from django_signal_audit.capture.through_rows import WatchedM2M, sorted_keys, watched_m2m_fields
from django_signal_audit.capture.transactions import lock_database, rollback_on_error, write_transaction
from django_signal_audit.conf import get_settings
from django_signal_audit.context.scopes import is_suspended
from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.changes import Change, M2MChange, field_change
from django_signal_audit.models.tables import is_ready
from django_signal_audit.problems import Problem
from django_signal_audit.recorder import one_call, record_changes
from django_signal_audit.rules.patterns import watchable_fields, watchable_members
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.rules.registry import Registry


def delete_and_record(statement: DeleteStatement, plan: ModelPlan) -> Any:
    """Run a DELETE on the plan's own table and record the rows that went."""
    reader = RawImageReader(plan, statement.using)
    spool = Spool()
    with write_transaction(statement.using):
        try:
            result = _execute(statement, reader, spool)
            with rollback_on_error(statement.using):
                for chunk in spool:
                    record_changes(_deletes(reader, chunk), statement.using)
        finally:
            spool.close()
        return result


def _execute(statement: DeleteStatement, reader: RawImageReader, spool: Spool) -> object:
    """Run the statement, and leave the images of the rows it deleted in the spool."""
    if not reader.plan.model._meta.parents and statement.can_return():
        spool.extend(statement.execute_returning_raw(reader.fields))
        return spool.count
    lock_database(statement.using)
    spool.extend(_images(statement, reader))
    return restrict_to_locked_rows(statement, spool.count, lambda: map(reader.key, chain.from_iterable(spool)))


def _images(statement: DeleteStatement, reader: RawImageReader) -> Iterable[Image]:
    if not reader.plan.model._meta.parents and statement.is_simple():
        return raw_rows(statement.reading(reader.attnames, deleting=True), statement.using)
    return reader.images(reader.rows(deleting=True).filter(pk__in=statement.matching()))


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
    """Return the texts of the objects of which pre_delete told none, by the identity of the image."""
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

    def on_insert(self, statement: InsertStatement) -> Any:
        """Record the rows of the model's own plan."""
        if is_a_saves_own(statement):
            return _execute_own(statement)
        if self.own is None or not self.own.by_event[EventType.CREATE] or not _records(self.own, statement.using):
            return statement.execute()
        return insert_and_record(statement, self.own)

    def on_update(self, statement: UpdateStatement) -> Any:
        """Record the rows, each under its most derived plan."""
        if is_a_saves_own(statement):
            return _execute_own(statement)
        plans = [plan for plan in self.plans if plan.by_event[EventType.UPDATE] and _records(plan, statement.using)]
        return update_and_record(statement, plans) if plans else statement.execute()

    def on_delete(self, statement: DeleteStatement) -> Any:
        """Record the rows of the model's own plan; a child's have gone before."""
        if self.own is None or not self.own.by_event[EventType.DELETE] or not _records(self.own, statement.using):
            return statement.execute()
        return delete_and_record(statement, self.own)


@dataclass(frozen=True, slots=True)
class ThroughTable:
    """The table of an automatic through model."""

    watched: WatchedM2M

    def on_insert(self, statement: InsertStatement) -> Any:
        """Record the pairs that came."""
        return insert_through_rows(statement, self.watched) if is_ready(statement.using) else statement.execute()

    def on_update(self, statement: UpdateStatement) -> Any:
        """Record the pairs that changed."""
        return update_through_rows(statement, self.watched) if is_ready(statement.using) else statement.execute()

    def on_delete(self, statement: DeleteStatement) -> Any:
        """Record the pairs that went."""
        return delete_through_rows(statement, self.watched) if is_ready(statement.using) else statement.execute()


def _execute_own(statement: InsertStatement | UpdateStatement) -> object:
    """Run a statement of a save, which records itself."""
    read_again(statement.using)
    return statement.execute()


def _records(plan: ModelPlan, using: str) -> bool:
    return is_ready(using) and not is_suspended(plan.model)


_watchers: dict[Model, TableWatcher] = {}


def watcher_of(model: Model) -> TableWatcher | None:
    """Return what watches the table of a model, a proxy's being its concrete model's; None for most."""
    if not _watchers:
        return None
    concrete = model._meta.concrete_model or model
    if concrete in _watchers:
        return _watchers[concrete]
    if model._meta.apps is not apps:
        return _historical_watcher(concrete)
    return None


def _historical_watcher(model: Model) -> TableWatcher | None:
    """Return a watcher for a model as a data migration sees it: same label, the fields of its day."""
    for known, watcher in _watchers.items():
        if known._meta.label_lower != model._meta.label_lower:
            continue
        if not isinstance(watcher, RowTable):
            return watcher
        if watcher.own is None:
            return None
        plan = replace(
            watcher.own,
            model=model,
            all_fields=watchable_fields(model),
            all_members=watchable_members(model),
            descendants=(),
        )
        return RowTable(model, plan, (plan,))
    return None


def _wrap_bulk(original: Callable[..., object]) -> Callable[..., object]:
    """Return a bulk method of QuerySet whose batches are one call."""

    @wraps(original)
    def bulk(self: Any, *args: object, **kwargs: object) -> Any:
        if watcher_of(self.model) is None:
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
        if not _watchers or not _concerns(self):
            return original(self)
        deletion = DeletionScope(self)
        with write_transaction(self.using), one_call(self.using), scope_of(self.using).within(deletion=deletion):
            note_doomed(deletion)
            result = original(self)
            if deletion.kept:
                record_changes(survivors(deletion.kept, self.using), self.using)
            return result

    return delete


def _concerns(collector: Any) -> bool:
    models_touched = [
        *collector.data,
        *(rows.model for rows in collector.fast_deletes),
        *(field.model for field, _ in collector.field_updates),
    ]
    return any(watcher_of(model) is not None for model in models_touched)


@register_source
class QuerySource(CaptureSource):
    """Hooks the query compilers for the tables that rules concern."""

    def connect(self, registry: Registry) -> None:
        """Watch the tables of ruled models, their parents' and those of their m2m fields."""
        if self_check():
            return
        # Without any rules too: tables may be guarded.
        install(watcher_of)
        if not get_settings().capture_queries or not registry.plans:
            return
        for name in ("bulk_create", "bulk_update"):
            patch_once(models.QuerySet, name, _wrap_bulk)
        patch_once(Collector, "delete", _wrap_collector)
        _watchers.update(_row_tables(registry))
        _watchers.update({one.through: ThroughTable(one) for one in watched_m2m_fields(registry)})

    def disconnect(self) -> None:
        """Watch nothing. The hook itself stays, and lets everything pass."""
        _watchers.clear()

    def problems(self) -> list[Problem]:
        """Report compilers that the hook cannot see."""
        return unseen_problems() if get_settings().capture_queries else []


def _row_tables(registry: Registry) -> dict[Model, RowTable]:
    tables: dict[Model, RowTable] = {}
    for model in registry.plans:
        for table in (model, *model._meta.get_parent_list()):
            plans = {plan.model: plan for plan in registry.plans.values() if issubclass(plan.model, table)}
            # Rows of an unruled model in between belong to its nearest ruled parents.
            plans |= {plan.model: plan for plan in registry.senders.get(table, ())}
            ordered = sorted(plans.values(), key=lambda plan: -len(plan.model._meta.get_parent_list()))
            tables[table] = RowTable(table, registry.plans.get(table), tuple(ordered))
    return tables
