"""INSERTs that no save makes: bulk_create in all its forms, and fixtures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import repeat
from operator import or_
from typing import Any

from django.db import connections, models
from django.db.models import F, Value

from django_signal_audit.capture.compilers import InsertStatement, Rows, UpdateStatement
from django_signal_audit.capture.images import CHUNK, Image, ImageReader, RawImageReader, Spool, chunks
from django_signal_audit.capture.inheritance import Owner, inherited_members, owner_of, with_tables
from django_signal_audit.capture.phantom_rows import last_recorded_values, recorded_keys, restrict_to_locked_rows
from django_signal_audit.capture.rows import certainties_of, current, differences, raw_rows, rows_of
from django_signal_audit.capture.scope import scope_of
from django_signal_audit.capture.stored_values import NOT_KNOWN, stored_values
from django_signal_audit.capture.tables import converted, is_converted, stored, table_of
from django_signal_audit.capture.transactions import (
    is_single_writer,
    lock_database,
    rollback_on_error,
    write_transaction,
)
from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.changes import Change, FieldChange, field_change
from django_signal_audit.recorder import one_call, record_changes
from django_signal_audit.rules.plans import ModelPlan


def insert_and_record(statement: InsertStatement, plan: ModelPlan) -> Any:
    """Run an INSERT into the plan's own table and record the rows it wrote."""
    with write_transaction(statement.using):
        if statement.updates_conflicts:
            return _Upsert(statement, plan).run()
        reader = ImageReader(plan, statement.using)
        if not statement.can_return:
            result = statement.execute()
            with rollback_on_error(statement.using):
                images = _images_by_key(reader, [obj.pk for obj in statement.objs])
        elif statement.ignores_conflicts or plan.model._meta.parents:
            result, images = _execute_insert(statement, reader)
        else:
            result, images = _Insert(statement, reader).run()
        with rollback_on_error(statement.using):
            record_changes([_create(reader, image) for image in images], statement.using)
        return result


class _Insert:
    """An INSERT of all its objects, of which only those columns are returned that the objects do not tell."""

    def __init__(self, statement: InsertStatement, reader: ImageReader) -> None:
        self.statement = statement
        self.reader = reader
        self.vendor = connections[statement.using].vendor
        kinds = {obj.__class__ for obj in statement.objs}
        # Objects of several classes, proxies among them, are rare: the database is asked.
        self.certain = certainties_of(reader.plan, kinds.pop(), statement.using) if len(kinds) == 1 else {}

    def run(self) -> tuple[Rows, list[Image]]:
        """Run the statement; return what Django wants of it, and the images of its rows."""
        returned = list(dict.fromkeys([*self._keys(), *self.statement.returning, *self._untold()]))
        rows = self.statement.execute_returning(returned)
        columns: dict[Any, Sequence[Any]] = dict(zip(returned, zip(*rows, strict=True), strict=False))
        wanted = [self._given(field, columns[field]) for field in self.statement.returning] if rows else []
        result = list(zip(*wanted, strict=True))
        if len(rows) == len(self.statement.objs):
            told = {
                field: self._told(field, self.statement.objs) for field in self.reader.fields if field not in columns
            }
            if not any(NOT_KNOWN in column for column in told.values()):
                columns |= told
                return result, list(zip(*(columns[field] for field in self.reader.fields), strict=True))
        keys = zip(*(columns.get(field, ()) for field in self._keys()), strict=True)
        with rollback_on_error(self.statement.using):
            return result, _images_by_key(self.reader, [key if len(key) > 1 else key[0] for key in keys])

    def _given(self, field: Any, column: Sequence[Any]) -> Sequence[Any]:
        """Return what Django wants of a column: what objects have for its values."""
        using = self.statement.using
        return [converted(field, value, using) for value in column] if is_converted(field, using) else column

    def _keys(self) -> Sequence[Any]:
        return self.reader.plan.model._meta.pk_fields

    def _untold(self) -> list[object]:
        """Return the columns that are not inserted, or of which the first object does not tell what they will hold."""
        given = set(self.statement.query.fields)
        sample = self.statement.objs[:1]
        return [field for field in self.reader.fields if field not in given or NOT_KNOWN in self._told(field, sample)]

    def _told(self, field: Any, objs: Sequence[models.Model]) -> list[object]:
        """Return what a column holds according to the objects, NOT_KNOWN where they cannot tell."""
        name, certain = field.attname, self.certain.get(field.name, (field, None))
        return stored_values(certain, [obj.__dict__.get(name, NOT_KNOWN) for obj in objs], self.vendor)


def _execute_insert(statement: InsertStatement, reader: ImageReader) -> tuple[Rows, list[Image]]:
    """Return what Django wants of the statement, and the images of the rows that were really inserted."""
    local = [field for field in reader.fields if field.model._meta.concrete_model is _table_model(reader.plan)]
    rows = statement.execute_returning(local)
    result = _for_django(rows, local, statement)
    if len(local) == len(reader.fields):
        return result, rows
    keys = [local.index(field) for field in _table_model(reader.plan)._meta.pk_fields]
    with rollback_on_error(statement.using):
        return result, _images_by_key(reader, [row[keys[0]] for row in rows])


def _for_django(rows: Rows, fields: Sequence[object], statement: InsertStatement) -> Rows:
    """Return what Django wants of rows of these fields: what objects have for their values."""
    wanted = [(fields.index(field), field) for field in statement.returning]
    odd = {field for _, field in wanted if is_converted(field, statement.using)}

    def of_object(field: object, value: object) -> Any:
        return converted(field, value, statement.using) if field in odd else value

    return [tuple(of_object(field, row[at]) for at, field in wanted) for row in rows] if wanted else []


def _table_model(plan: ModelPlan) -> type[models.Model]:
    return plan.model._meta.concrete_model or plan.model


def _images_by_key(reader: ImageReader, pks: Sequence[object]) -> list[Image]:
    found: dict[Any, Image] = {}
    for chunk in chunks(pks):
        found |= reader.by_key(chunk)
    return [found[pk] for pk in pks if pk in found]


def _create(reader: ImageReader, image: Image) -> Change:
    plan, pk = reader.plan, reader.key(image)
    names = plan.names_for(EventType.CREATE)
    return Change(
        event_type=EventType.CREATE,
        source=Source.BULK,
        using=reader.using,
        model=plan.model,
        pk=pk,
        instance=reader.instance(image),
        fields={name: field_change((None, value)) for name, value in reader.row(image, names).items()},
        # A fixture's row extends its parents' rows.
        members=inherited_members(plan, pk, names, reader.using) if plan.model._meta.parents else {},
    )


class _Upsert:
    """An INSERT that updates the rows that exist."""

    def __init__(self, statement: InsertStatement, plan: ModelPlan) -> None:
        self.statement = statement
        self.plan = plan
        self.reader = ImageReader(plan, statement.using)
        self.tells_updates = table_of(plan.model, statement.using).has_system_columns

    def run(self) -> Any:
        """Run the statement and record what it inserted and what it updated."""
        before = self._existing()
        if not self.statement.can_return:
            result = self.statement.execute()
            # Without RETURNING the keys are those the objects have, or had before.
            pks = list(dict.fromkeys([*before, *(obj.pk for obj in self.statement.objs if obj.pk is not None)]))
            with rollback_on_error(self.statement.using):
                written = [(image, False) for image in _images_by_key(self.reader, pks)]
        else:
            rows = self.statement.execute_returning(self.reader.fields, "(xmax <> 0)" if self.tells_updates else "")
            result = _for_django(rows, self.reader.fields, self.statement)
            written = self._once(rows)
            if not self.tells_updates:
                written = self._with_newcomers(before, written)
        with rollback_on_error(self.statement.using):
            changes = [self._change(before, image, was_there) for image, was_there in written]
            record_changes([change for change in changes if change is not None], self.statement.using)
        return result

    def _once(self, rows: Rows) -> list[tuple[Image, bool]]:
        """Return each row that was written once, as it was left, and whether it was there.

        Where several objects of a call are in each other's way, a row is returned as often as it was written.
        """
        width = len(self.reader.fields)
        written = {self.reader.key(row[:width]): (row[:width], bool(row[width:] and row[width])) for row in rows}
        return list(written.values())

    def _with_newcomers(
        self, before: dict[object, Image], written: list[tuple[Image, bool]]
    ) -> list[tuple[Image, bool]]:
        """Return the rows with what the audit log says of those that nobody found there and the database tells not of.

        The one who inserted a row between our look and our statement has committed, with the event of it.
        """
        new = [pk for image, _ in written if (pk := self.reader.key(image)) not in before]
        known = recorded_keys(self.plan, new, self.statement.using)
        return [(image, self.reader.key(image) in known) for image, _ in written]

    def _existing(self) -> dict[object, Image]:
        """Return the images of the rows that the statement will find in its way, locked."""
        lock_database(self.statement.using)
        found: dict[Any, Image] = {}
        for chunk in chunks(self.statement.objs, 100):
            conditions = [condition for obj in chunk for condition in self._identities(obj)]
            if conditions:
                rows = self.reader.rows().filter(reduce(or_, conditions))
                found |= {self.reader.key(image): image for image in rows}
        return found

    def _identities(self, obj: models.Model) -> Iterable[models.Q]:
        """Return the conditions by which a row would be in the way of this object."""
        for fields in self._unique_sets():
            values = {field.attname: getattr(obj, field.attname) for field in fields}
            if all(value is not None and not hasattr(value, "resolve_expression") for value in values.values()):
                yield models.Q(**values)

    def _unique_sets(self) -> list[Sequence[Any]]:
        if self.statement.unique_fields:
            return [self.statement.unique_fields]
        meta = self.plan.model._meta
        sets: list[Sequence[Any]] = [[field] for field in meta.concrete_fields if field.unique]
        names = [*meta.unique_together, *(constraint.fields for constraint in meta.total_unique_constraints)]
        sets += [[meta.get_field(name) for name in group] for group in names]
        return [*sets, list(meta.pk_fields)]

    def _change(self, before: dict[object, Image], image: Image, was_there: bool) -> Change | None:
        pk, using = self.reader.key(image), self.statement.using
        if pk not in before and not was_there:
            return _create(self.reader, image)
        # A multi-table child's row may extend the one that was there.
        owner = owner_of(self.plan, pk, using)
        names = owner.plan.names_for(EventType.UPDATE)
        new = self.reader.row(image, names)
        old = self.reader.row(before[pk], names) if pk in before else last_recorded_values(*owner, new, using)
        fields = {name: field for name, field in self.plan.all_fields.items() if name in names}
        changed = differences(fields, old, new)
        if not changed:
            return None
        return Change(
            event_type=EventType.UPDATE,
            source=Source.BULK,
            using=using,
            model=owner.plan.model,
            pk=owner.pk,
            instance=self._object(owner, image),
            fields=changed,
        )

    def _object(self, owner: Owner, image: Image) -> models.Model | None:
        if owner.plan is self.plan:
            return self.reader.instance(image)
        return rows_of(owner.plan.model, self.statement.using).filter(pk=owner.pk).first()


def moves_keys(statement: UpdateStatement, plan: ModelPlan) -> bool:
    """Return whether an UPDATE sets a column of the primary key of the plan's rows."""
    return any(field in plan.model._meta.pk_fields for field, _ in statement.values())


def move_and_record(statement: UpdateStatement, plan: ModelPlan) -> Any:
    """Run an UPDATE that sets primary keys, in the transaction that is open, and record what went and came."""
    reader = ImageReader(plan, statement.using)
    width = len(reader.fields)
    expressions = _new_keys(statement, plan)
    rows = reader.rows(deleting=True).filter(pk__in=statement.matching())
    looked = list(stored(rows.annotate(**expressions).values_list(*reader.attnames, *expressions)))
    before = {reader.key(row): row[:width] for row in looked}
    new_keys = [row[width] if len(expressions) == 1 else tuple(row[width:]) for row in looked]
    result = restrict_to_locked_rows(statement, len(before), lambda: before)
    after: dict[Any, Image] = {}
    for chunk in chunks(new_keys):
        after |= reader.by_key(chunk)
    # By the keys that the rows have now: an expression may give them in another form.
    pairs = [(old, reader.key(after[new])) for old, new in zip(before, new_keys, strict=True) if new in after]
    moved = [(old, new) for old, new in pairs if old != new]
    with rollback_on_error(statement.using):
        gone = [_went(reader, old, before[old]) for old, _ in moved]
        come = [_came(reader, new, after[new]) for _, new in moved]
        stayed = [_stayed(reader, old, before[old], after[old]) for old, new in pairs if old == new]
        record_changes([*gone, *come, *filter(None, stayed)], statement.using)
    return result


def _new_keys(statement: UpdateStatement, plan: ModelPlan) -> dict[str, object]:
    """Return the expressions that give the columns of the key which a row is going to have."""
    values = dict(statement.values())
    found: dict[str, Any] = {}
    for position, field in enumerate(plan.model._meta.pk_fields):
        value = values.get(field, F(field.attname))
        is_expression = hasattr(value, "resolve_expression")
        # A value is sent as the statement sends it, by a field like the key's own.
        expression = value if is_expression else Value(value, output_field=_plain(field))
        found[f"audit_key_{position}"] = models.ExpressionWrapper(expression, output_field=_plain(field))
    return found


def _plain(field: Any) -> Any:
    """Return a field of the column's kind that is nobody's: expressions may not have a model's own as their output."""
    target = field.target_field if field.is_relation else field
    return target.clone() if not isinstance(target, models.AutoField) else models.BigIntegerField()


def _went(reader: ImageReader, pk: object, image: Image) -> Change:
    row = reader.row(image, reader.plan.names_for(EventType.DELETE))
    return _change(reader, EventType.DELETE, pk, image, {name: FieldChange(value, None) for name, value in row.items()})


def _came(reader: ImageReader, pk: object, image: Image) -> Change:
    row = reader.row(image, reader.plan.names_for(EventType.CREATE))
    return _change(reader, EventType.CREATE, pk, image, {name: FieldChange(None, value) for name, value in row.items()})


def _stayed(reader: ImageReader, pk: object, old: Image, new: Image) -> Change | None:
    names = reader.plan.names_for(EventType.UPDATE)
    fields = {name: field for name, field in reader.plan.all_fields.items() if name in names}
    changed = differences(fields, reader.row(old, names), reader.row(new, names))
    return _change(reader, EventType.UPDATE, pk, new, changed) if changed else None


def _change(
    reader: ImageReader, event_type: EventType, pk: object, image: Image, fields: dict[str, FieldChange]
) -> Change:
    return Change(
        event_type=event_type,
        source=Source.BULK,
        using=reader.using,
        model=reader.plan.model,
        pk=pk,
        instance=reader.instance(image),
        fields=fields,
    )


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
            deletion = scope_of(statement.using).deletion
            source = Source.BULK if deletion is None else deletion.source_of_update(fields)
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


def _execute(statement: UpdateStatement, targets: Sequence[_Target]) -> object:
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

    def _concerned(self, rows: models.QuerySet[Any, object]) -> models.QuerySet[Any, object]:
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

    def record(self, source: Source, seen: set[tuple[type[models.Model], object]]) -> None:
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
