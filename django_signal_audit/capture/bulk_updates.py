"""UPDATEs that no save makes: QuerySet.update, bulk_update, SET_NULL and its kin, reverse managers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

from django.db import models

from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.changes import Change, FieldChange
from django_signal_audit.recorder import one_call, record_changes
from django_signal_audit.rules.plans import ModelPlan

from .compilers import UpdateStatement
from .deletions import current_deletion
from .images import CHUNK, Image, Spool
from .inheritance import with_tables
from .key_updates import move_and_record, moves_keys
from .phantom_rows import restrict_to_locked_rows
from .raw_images import RawImageReader
from .rows import current, rows_of
from .selects import raw_rows
from .transactions import is_single_writer, lock_database, rollback_on_error, write_transaction


def update_and_record(statement: UpdateStatement, plans: Sequence[ModelPlan]) -> Any:
    """Run an UPDATE and record the rows it changed.

    Args:
        statement: The UPDATE.
        plans: The plans that the table's rows may belong to, the most derived first.

    """
    fields = {field for field, _ in statement.values()}
    moved = next((plan for plan in plans if plan.model is statement.model and moves_keys(statement, plan)), None)
    if moved is not None:
        with write_transaction(statement.using):
            lock_database(statement.using)
            return move_and_record(statement, moved)
    watching = [(plan, names) for plan in plans if (names := _affected(plan, fields))]
    if not watching:
        return statement.execute()
    with write_transaction(statement.using), one_call(statement.using):
        lock_database(statement.using)
        stored = with_tables([plan for plan, _ in watching], statement.using)
        targets = [_Target(plan, names, statement) for plan, names in watching if plan in stored]
        try:
            for target in targets:
                target.look()
            if any(target.plan.model is statement.model for target in targets):
                for target in targets:
                    target.look_for_newcomers()
            result = _execute(statement, targets)
            scope = current_deletion()
            source = Source.BULK if scope is None else scope.source_of_update(fields)
            seen: set[tuple[type[models.Model], Any]] = set()
            with rollback_on_error(statement.using):
                for target in targets:
                    target.record(source, seen)
        finally:
            for target in targets:
                target.before.close()
        return result


def _affected(plan: ModelPlan, fields: set[Any]) -> frozenset[str]:
    """Return the watched fields that an UPDATE of these fields may change, generated columns among them."""
    names = plan.names_for(EventType.UPDATE)
    updated = {name for name in names if plan.all_fields.get(name) in fields}
    generated = {name for name in names if isinstance(plan.all_fields.get(name), models.GeneratedField)}
    return frozenset(updated | generated)


def _execute(statement: UpdateStatement, targets: Sequence[_Target]) -> Any:
    """Run the statement on the rows that were looked at; those of other models are named by their own tables."""
    for target in targets:
        if target.plan.model is statement.model:
            return restrict_to_locked_rows(statement, target.before.count, target.keys)
    return statement.execute()


class _Target:
    """The rows of one plan's model that an UPDATE concerns."""

    def __init__(self, plan: ModelPlan, names: frozenset[str], statement: UpdateStatement) -> None:
        self.plan = plan
        self.names = names
        self.statement = statement
        self.reader = RawImageReader(plan, statement.using)
        own = set(self.reader.fields)
        self.fields = {name: field for name, field in plan.all_fields.items() if name in names and field in own}
        # Unwatched columns that change with them matter to the text of the object.
        updated = [field for field, _ in statement.values() if field in own]
        self.touched = dict.fromkeys([*self.fields.values(), *updated])
        self.before = Spool()

    def look(self) -> None:
        """Read the rows as they are, under lock."""
        table, own = self.statement.model, self.plan.model
        if own is table and not own._meta.parents and self.statement.is_simple():
            self.before.extend(raw_rows(self.statement.reading(self.reader.attnames), self.statement.using))
        else:
            self.before.extend(self.reader.images(self._concerned(self.reader.rows())))

    def look_for_newcomers(self) -> None:
        """Read the children's rows that came along with their parents' rows after the former were looked for.

        The parents' rows are locked by now. SQLite has one writer.
        """
        using, own = self.statement.using, self.plan.model
        if own is self.statement.model or not issubclass(own, self.statement.model) or is_single_writer(using):
            return
        rows = self._concerned(current(rows_of(own, using), using)).values_list("pk", flat=True)
        # Most often nobody came, and keys that are many need not be held.
        if sum(1 for _ in rows.iterator(chunk_size=CHUNK)) > self.before.count:
            new = set(rows).difference(self.keys())
            self.before.extend(self.reader.images(self.reader.rows().filter(pk__in=new)))

    def _concerned(self, rows: models.QuerySet[Any, Any]) -> models.QuerySet[Any, Any]:
        table, own = self.statement.model, self.plan.model
        lookup = selected = "pk"
        if issubclass(own, table) and own is not table and table._meta.pk is not None:
            lookup = table._meta.pk.name  # a child's row, found by its parent's key
        elif issubclass(table, own) and own is not table and own._meta.pk is not None:
            selected = own._meta.pk.name  # a parent's row, whose key the child's row has
        return rows.filter(**{f"{lookup}__in": self.statement.matching(selected)})

    def keys(self) -> Iterator[Any]:
        """Return the keys of the rows that were read."""
        return (self.reader.key(image) for chunk in self.before for image in chunk)

    def record(self, source: Source, seen: set[tuple[type[models.Model], Any]]) -> None:
        """Read the rows again and record the differences, but for those that a more derived plan has recorded."""
        for chunk in self.before:
            after = self.reader.again(chunk, self.touched)
            found = [
                (new, changed)
                for old, new in zip(chunk, after, strict=True)
                if new is not None
                and (not seen or (self.plan.model, self.reader.key(old)) not in seen)
                and (changed := self.reader.differences(self.fields, old, new))
            ]
            for image in chunk if self.plan.model._meta.parents else ():
                seen |= self.reader.parents(image)
            record_changes(self._changes(found, source), self.statement.using)

    def _changes(self, found: Sequence[tuple[Image, Mapping[str, FieldChange]]], source: Source) -> list[Change]:
        """Return the changes of rows, given as what each is now and what of it changed."""
        # Only conditions ask for more of the object than its text.
        is_wanted = EventType.UPDATE in self.plan.conditional
        texts: Iterable[str | None] = repeat(None) if is_wanted else self.reader.texts([new for new, _ in found])
        return [
            Change(
                event_type=EventType.UPDATE,
                source=source,
                using=self.statement.using,
                model=self.plan.model,
                pk=self.reader.key(new),
                instance=self.reader.instance(new) if is_wanted else None,
                object_repr=text,
                fields=changed,
            )
            for (new, changed), text in zip(found, texts, strict=False)
        ]
