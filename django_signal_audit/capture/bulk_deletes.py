"""DELETEs: the rows are read right before they go, a batch at a time, and recorded right after."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.changes import Change, M2MChange, field_change
from django_signal_audit.recorder import record_changes
from django_signal_audit.rules.plans import ModelPlan

from .compilers import DeleteStatement
from .deletions import DeletionScope, Doomed, current_deletion
from .extensions import members_left, survivors
from .images import Image, Spool
from .memberships import sorted_keys
from .phantom_rows import restrict_to_locked_rows
from .raw_images import RawImageReader
from .selects import raw_rows
from .transactions import lock_database, rollback_on_error, write_transaction


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


def _execute(statement: DeleteStatement, reader: RawImageReader, spool: Spool) -> Any:
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
    scope = current_deletion()
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


def _noted(plan: ModelPlan, pk: Any, scope: DeletionScope | None) -> Doomed:
    if scope is None:
        return Doomed(Source.BULK)
    return scope.doomed.get((plan.model, pk)) or Doomed(scope.source_of_delete(plan.model))


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
