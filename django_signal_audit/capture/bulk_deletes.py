"""DELETEs: the rows are read right before they go, a batch at a time, and recorded right after."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

from django_signal_audit.changes import Change, FieldChange, MembersChange
from django_signal_audit.enums import EventType, Source
from django_signal_audit.recorder import record_changes
from django_signal_audit.rules.plans import ModelPlan

from .compilers import DeleteStatement
from .deletions import Doomed, current_deletion
from .images import CHUNK, Image, ImageReader, Spool
from .memberships import sorted_keys
from .strangers import execute_on_known
from .transactions import all_or_nothing, lock_database, write_transaction


def delete_and_record(statement: DeleteStatement, plan: ModelPlan) -> Any:
    """Run a DELETE on the plan's own table and record the rows that went."""
    reader = ImageReader(plan, statement.using)
    spool = Spool()
    with write_transaction(statement.using):
        lock_database(statement.using)
        try:
            result = _execute(statement, reader, spool)
            with all_or_nothing(statement.using):
                for chunk in spool:
                    changes = [_delete(reader, image) for image in chunk]
                    record_changes([change for change in changes if change is not None], statement.using)
        finally:
            spool.close()
        return result


def _execute(statement: DeleteStatement, reader: ImageReader, spool: Spool) -> Any:
    """Run the statement, and leave the images of the rows it deleted in the spool."""
    if not reader.plan.model._meta.parents and statement.can_return():
        spool.extend(statement.execute_returning(reader.fields))
        return spool.count
    spool.extend(_images(statement, reader))
    return execute_on_known(statement, spool.count, lambda: map(reader.key, chain.from_iterable(spool)))


def _images(statement: DeleteStatement, reader: ImageReader) -> Iterable[Image]:
    if not reader.plan.model._meta.parents and statement.is_simple():
        return statement.read(reader.attnames, deleting=True)
    rows = reader.rows(deleting=True).filter(pk__in=statement.matching())
    return rows.iterator(chunk_size=CHUNK)


def _delete(reader: ImageReader, image: Image) -> Change | None:
    plan, pk = reader.plan, reader.key(image)
    scope = current_deletion()
    noted = Doomed(Source.BULK)
    if scope is not None:
        if (plan.model, pk) in scope.covered:
            return None
        scope.covered |= reader.parents(image)
        noted = scope.doomed.get((plan.model, pk), Doomed(Source.CASCADE))
    names = plan.names_for(EventType.DELETE)
    return Change(
        event_type=EventType.DELETE,
        source=noted.source,
        using=reader.using,
        model=plan.model,
        pk=pk,
        instance=reader.instance(image) if noted.instance is None else noted.instance,
        object_repr=noted.object_repr,
        fields={name: FieldChange(old=value, new=None) for name, value in reader.row(image, names).items()},
        members={
            name: MembersChange(removed=sorted_keys(member for _, member in pairs))
            for name, pairs in noted.members.items()
        },
    )
