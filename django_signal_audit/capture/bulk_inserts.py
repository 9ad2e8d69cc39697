"""INSERTs that no save makes: bulk_create in all its forms, and fixtures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Any

from django.db import connections, models

from django_signal_audit.capture.compilers import InsertStatement, Rows
from django_signal_audit.capture.images import Image, ImageReader, chunks
from django_signal_audit.capture.inheritance import Owner, inherited_members, owner_of, taken_over
from django_signal_audit.capture.phantom_rows import last_recorded_values, recorded_keys
from django_signal_audit.capture.rows import certainties_of, differences, rows_of
from django_signal_audit.capture.stored_values import NOT_KNOWN, Certainty, certainty, stored_values
from django_signal_audit.capture.tables import converted, is_converted, is_formatted, table_of
from django_signal_audit.capture.transactions import lock_database, rollback_on_error, write_transaction
from django_signal_audit.capture.unreadable import Unreadable
from django_signal_audit.capture.whole_rows import WholeRows, record_whole_rows
from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.changes import Change, field_change
from django_signal_audit.recorder import may_record_rows, record_changes
from django_signal_audit.rules.plans import ModelPlan


def insert_and_record(statement: InsertStatement, plan: ModelPlan) -> object:
    """Run an INSERT into the plan's own table and record the rows it wrote."""
    with write_transaction(statement.using):
        if statement.updates_conflicts:
            return _Upsert(statement, plan).run()
        reader = ImageReader(plan, statement.using)
        if not statement.can_return:
            result = statement.execute()
            with rollback_on_error(statement.using):
                images = _images_by_key(reader, [obj.pk for obj in statement.objs])
        elif statement.ignores_conflicts or plan.model._meta.parents or is_formatted(plan.model):
            result, images = _execute_insert(statement, reader)
        else:
            result, images = _Insert(statement, reader).run()
        with rollback_on_error(statement.using):
            _record_creates(reader, images)
        return result


class _Insert:
    """An INSERT of all its objects. It returns only the columns whose values the objects do not have."""

    def __init__(self, statement: InsertStatement, reader: ImageReader) -> None:
        self.statement = statement
        self.reader = reader
        self.vendor = connections[statement.using].vendor
        kinds = {obj.__class__ for obj in statement.objs}
        # Objects of several classes, proxies among them, are rare: the database is asked.
        self.certain: dict[str, Certainty] = {}
        if len(kinds) == 1:
            kind = kinds.pop()
            keys = {field.name: certainty(field, kind, statement.using) for field in self._keys()}
            self.certain = keys | certainties_of(reader.plan, kind, statement.using)

    def run(self) -> tuple[Rows, list[Image]]:
        """Run the statement; return what Django wants of it, and the images of its rows."""
        untold = self._untold()
        if not self.statement.returning and not untold:
            columns: dict[Any, Sequence[Any]] = {
                field: self._told(field, self.statement.objs) for field in self.reader.fields
            }
            if not any(NOT_KNOWN in column for column in columns.values()):
                # What returns nothing may be run by those who may write rows and not read them.
                return self.statement.execute(), self._images(columns)
        returned = list(dict.fromkeys([*self._keys(), *self.statement.returning, *untold]))
        rows = self.statement.execute_returning(returned)
        columns = dict[Any, Sequence[Any]](zip(returned, zip(*rows, strict=True), strict=False))
        wanted = [self._given(field, columns[field]) for field in self.statement.returning] if rows else []
        result = list(zip(*wanted, strict=True))
        if len(rows) == len(self.statement.objs):
            told = {
                field: self._told(field, self.statement.objs) for field in self.reader.fields if field not in columns
            }
            if not any(NOT_KNOWN in column for column in told.values()):
                return result, self._images(columns | told)
        keys = zip(*(columns.get(field, ()) for field in self._keys()), strict=True)
        with rollback_on_error(self.statement.using):
            return result, _images_by_key(self.reader, [key if len(key) > 1 else key[0] for key in keys])

    def _images(self, columns: Mapping[object, Sequence[object]]) -> list[Image]:
        return list(zip(*(columns[field] for field in self.reader.fields), strict=True))

    def _given(self, field: Any, column: Sequence[Any]) -> Sequence[Any]:
        """Return what Django wants of a column: what objects have for its values."""
        using = self.statement.using
        return [converted(field, value, using) for value in column] if is_converted(field, using) else column

    def _keys(self) -> Sequence[Any]:
        return self.reader.plan.model._meta.pk_fields

    def _untold(self) -> list[object]:
        """Return the columns that are not inserted, or whose value the first object does not have."""
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
    if is_formatted(reader.plan.model):
        local = _needed(statement, reader.plan)
    rows = statement.execute_returning(local)
    result = _for_django(rows, local, statement)
    if len(local) == len(reader.fields):
        return result, rows
    keys = [local.index(field) for field in _table_model(reader.plan)._meta.pk_fields]
    with rollback_on_error(statement.using):
        return result, _images_by_key(reader, [row[keys[0]] for row in rows])


def _needed(statement: InsertStatement, plan: ModelPlan) -> list[Any]:
    """Return the columns to return if the others have to be read by a SELECT: the keys, and what Django wants."""
    return list(dict.fromkeys([*_table_model(plan)._meta.pk_fields, *statement.returning]))


def _for_django(rows: Rows, fields: Sequence[object], statement: InsertStatement) -> Rows:
    """Return what Django wants of rows of these fields: what objects have for their values."""
    wanted = [(fields.index(field), field) for field in statement.returning]
    odd = {field for _, field in wanted if is_converted(field, statement.using)}

    def of_object(field: object, value: object) -> object:
        return converted(field, value, statement.using) if field in odd else value

    return [tuple(of_object(field, row[at]) for at, field in wanted) for row in rows] if wanted else []


def _table_model(plan: ModelPlan) -> type[models.Model]:
    return plan.model._meta.concrete_model or plan.model


def _images_by_key(reader: ImageReader, pks: Sequence[object]) -> list[Image]:
    found: dict[Any, Image] = {}
    for chunk in chunks(pks):
        found |= reader.by_key(chunk)
    return [found[pk] for pk in pks if pk in found]


def _record_creates(reader: ImageReader, images: Sequence[Image]) -> None:
    plan, using = reader.plan, reader.using
    if plan.model._meta.parents or not may_record_rows(plan, EventType.CREATE):
        record_changes([change for image in images for change in _creates(reader, image)], using)
        return
    if not images:
        return
    columns = reader.columns(images, plan.names_for(EventType.CREATE))
    rows = WholeRows(reader.keys(images), reader.texts(images), [Source.BULK] * len(images), columns)
    record_whole_rows(plan, EventType.CREATE, rows, using)


def _creates(reader: ImageReader, image: Image) -> list[Change]:
    """Return the creation of a row, after the ends of the histories of parents' rows that it takes over."""
    ends = taken_over(reader.plan, reader.key(image), reader.using) if reader.plan.model._meta.parents else []
    return [*ends, _create(reader, image)]


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
            fields = self._fields_to_return(before)
            rows = self.statement.execute_returning(fields, "(xmax <> 0)" if self.tells_updates else "")
            result = _for_django(rows, fields, self.statement)
            written = self._once(rows, fields)
            if not self.tells_updates:
                written = self._with_newcomers(before, written)
        with rollback_on_error(self.statement.using):
            changes = [self._change(before, image, was_there) for image, was_there in written]
            record_changes([change for change in changes if change is not None], self.statement.using)
        return result

    def _fields_to_return(self, before: dict[object, Image]) -> list[Any]:
        """Return the columns that the statement is to return: the keys first if it can't return all of them."""
        is_unreadable = any(isinstance(value, Unreadable) for image in before.values() for value in image)
        if is_unreadable or is_formatted(self.plan.model):
            return _needed(self.statement, self.plan)
        return list(self.reader.fields)

    def _once(self, rows: Rows, fields: Sequence[object]) -> list[tuple[Image, bool]]:
        """Return each row that was written once, as it was left, and whether it was there.

        Where several objects of a call are in each other's way, a row is returned as often as it was written.
        """
        width = len(fields)
        told = [(row[:width], bool(row[width:] and row[width])) for row in rows]
        if width == len(self.reader.fields):
            return list({self.reader.key(image): (image, was_there) for image, was_there in told}.values())
        count = len(self.plan.model._meta.pk_fields)
        were_there = {row[:count] if count > 1 else row[0]: was_there for row, was_there in told}
        with rollback_on_error(self.statement.using):
            return [(image, were_there[self.reader.key(image)]) for image in _images_by_key(self.reader, [*were_there])]

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
                found |= {self.reader.key(image): image for image in self.reader.read(rows)}
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
