"""UPDATEs that no save makes: of many rows, of a queryset, of what a deletion sets to null."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import repeat
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connections, models
from django.db.models import F, Value
from django.db.models.functions import Cast

from django_signal_audit.capture.compilers import UpdateStatement
from django_signal_audit.capture.engines import LEFT, engine_of
from django_signal_audit.capture.images import (
    CHUNK,
    Image,
    ImageReader,
    RawImageReader,
    Spool,
    chunks,
    needed_columns,
    replaced,
)
from django_signal_audit.capture.inheritance import own_links, plans_with_rows, relinked, with_tables
from django_signal_audit.capture.phantom_rows import restrict_to_locked_rows
from django_signal_audit.capture.rows import current, differences, is_one_of, reads_the_present, rows_of
from django_signal_audit.capture.scope import scope_of
from django_signal_audit.capture.tables import stored, table_of
from django_signal_audit.capture.transactions import (
    is_single_writer,
    lock_database,
    rollback_on_error,
    write_transaction,
)
from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.changes import Change, FieldChange, RowChange
from django_signal_audit.events.keys import object_id
from django_signal_audit.exceptions import EventNotWritten
from django_signal_audit.recorder import may_record_rows, one_call, record_changes, record_rows
from django_signal_audit.rules.plans import ModelPlan


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
    with rollback_on_error(statement.using):
        after = _by_new_key(reader, new_keys)
        # By the keys that the rows have now: an expression may give them in another form.
        pairs = [(old, reader.key(after[new])) for old, new in zip(before, new_keys, strict=True) if new in after]
        if len(pairs) < len(before):
            _fail_to_follow(reader, zip(before, new_keys, strict=True), after)
        now = {reader.key(image): image for image in after.values()}
        moved = [(old, new) for old, new in pairs if old != new]
        gone = [_went(reader, old, before[old]) for old, _ in moved]
        come = [_came(reader, new, now[new]) for _, new in moved]
        stayed = [_stayed(reader, old, before[old], now[old]) for old, new in pairs if old == new]
        record_changes([*gone, *come, *filter(None, stayed)], statement.using)
    return result


def _by_new_key(reader: ImageReader, keys: Sequence[object]) -> dict[object, Image]:
    """Return the rows by the keys that they were given."""
    found: dict[Any, Image] = {}
    for chunk in chunks(keys):
        found |= reader.by_key(chunk)
    # SQLite keeps more digits than Django reads: such a row is found by what it was given alone.
    for key in keys:
        if key not in found and len(rows := [*reader.by_key([key]).values()]) == 1:
            found[key] = rows[0]
    return found


def _fail_to_follow(reader: ImageReader, pairs: Iterable[tuple[object, object]], after: Mapping[object, Image]) -> None:
    """Refuse an UPDATE that gave rows keys by which they cannot be found: their history would end without a word."""
    lost, new = next((old, new) for old, new in pairs if new not in after)
    msg = (
        f"{reader.plan.label} {object_id(lost)} is not given another primary key: its event could not be recorded, "
        f"because no row has the new key {object_id(new)}. Set the key to a plain value."
    )
    raise EventNotWritten(msg)


def _new_keys(statement: UpdateStatement, plan: ModelPlan) -> dict[str, object]:
    """Return the expressions that give the columns of the key which a row is going to have."""
    values = dict(statement.values())
    found: dict[str, Any] = {}
    for position, field in enumerate(plan.model._meta.pk_fields):
        value = values.get(field, F(field.attname))
        if hasattr(value, "prepare_database_save"):
            value = value.prepare_database_save(field)
        if not hasattr(value, "resolve_expression"):
            # A value is sent as the statement sends it.
            value = Value(field.get_db_prep_save(value, connections[statement.using]))
        # The column rounds a value, or takes another type for its own.
        target = _plain(field)
        is_cast = connections[statement.using].vendor != "sqlite" and isinstance(target, _CAST)
        cast = Cast if is_cast else models.ExpressionWrapper
        found[f"audit_key_{position}"] = cast(value, output_field=target)
    return found


# An expression may give another type than the column has, or more digits.
_CAST = (models.DateField, models.TimeField, models.DecimalField)


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
    affected = [(plan, names) for plan in plans if (names := _affected(plan, fields))]
    if not affected:
        return statement.execute()
    deletion = scope_of(statement.using).deletion
    source = Source.BULK if deletion is None else deletion.source_of_update(fields)
    result = _update_by_engine(statement, affected[0][0], source) if len(affected) == 1 else LEFT
    return _update_portably(statement, affected, source) if result is LEFT else result


def _update_by_engine(statement: UpdateStatement, plan: ModelPlan, source: Source) -> object:
    engine = None
    if plan.model is statement.model:
        engine = engine_of(plan, plan.model, statement.using, is_many=True)
    return LEFT if engine is None else engine.run_many(statement, plan, source)


def _update_portably(
    statement: UpdateStatement, affected: Sequence[tuple[ModelPlan, frozenset[str]]], source: Source
) -> object:
    with write_transaction(statement.using), one_call(statement.using):
        lock_database(statement.using)
        stored = with_tables([plan for plan, _ in affected], statement.using)
        with_rows = _plans_with_rows(statement, stored)
        targets = [_Target(plan, names, statement) for plan, names in affected if plan in with_rows]
        try:
            for target in targets:
                target.look()
            if any(target.plan.model is statement.model for target in targets):
                for target in targets:
                    target.look_for_newcomers()
                targets = _with_newcomers(statement, affected, stored, targets)
            result = _execute(statement, targets)
            seen: set[tuple[type[models.Model], Any]] = set()
            with rollback_on_error(statement.using):
                for target in targets:
                    target.record(source, seen)
        finally:
            for target in targets:
                target.before.close()
        return result


def _plans_with_rows(statement: UpdateStatement, plans: Sequence[ModelPlan]) -> list[ModelPlan]:
    """Return the plans whose rows the statement may concern; most children of a parent have none of them."""
    children = [plan for plan in plans if issubclass(plan.model, statement.model) and plan.model is not statement.model]
    if len(children) < 2:
        return list(plans)
    try:
        _, params = statement.matching().get_compiler(statement.using).as_sql()
    except EmptyResultSet:
        return [plan for plan in plans if plan not in children]
    found = plans_with_rows(
        children,
        lambda plan: _concerned(statement, plan.model, rows_of(plan.model, statement.using)),
        statement.model,
        statement.using,
        width=len(params),
    )
    return [plan for plan in plans if plan in found or plan not in children]


def _with_newcomers(
    statement: UpdateStatement,
    affected: Sequence[tuple[ModelPlan, frozenset[str]]],
    plans: Sequence[ModelPlan],
    targets: Sequence[_Target],
) -> list[_Target]:
    """Return the targets with those of children that had no rows before, in the order of the plans."""
    known = {target.plan.model: target for target in targets}
    if len(known) < len(plans) and not is_single_writer(statement.using):
        with_rows = _plans_with_rows(statement, plans)
        for plan, names in affected:
            if plan in with_rows and plan.model not in known:
                known[plan.model] = _Target(plan, names, statement)
                known[plan.model].look()
    return [known[plan.model] for plan, _ in affected if plan.model in known]


def _concerned(
    statement: UpdateStatement, model: type[models.Model], rows: models.QuerySet[Any, Any]
) -> models.QuerySet[Any, Any]:
    """Return those of the rows of a model, which are parts of the same objects, that a statement concerns."""
    table = statement.model
    lookup = selected = "pk"
    if issubclass(model, table) and model is not table and table._meta.pk is not None:
        lookup = table._meta.pk.name  # a child's row, found by its parent's key
    elif issubclass(table, model) and model is not table and model._meta.pk is not None:
        selected = model._meta.pk.name  # a parent's row, whose key the child's row has
    return rows.filter(**{f"{lookup}__in": statement.matching(selected)})


# So many rows are held in memory.
_MOST_RETURNED = 20_000


def _affected(plan: ModelPlan, fields: set[Any]) -> frozenset[str]:
    """Return the audited fields that an UPDATE of these fields may change, generated columns among them."""
    names = plan.names_for(EventType.UPDATE)
    updated = {name for name in names if plan.all_fields.get(name) in fields}
    generated = {name for name in names if isinstance(plan.all_fields.get(name), models.GeneratedField)}
    if not fields.isdisjoint(own_links(plan.model)):
        return names  # other parents' rows come with other values
    return frozenset(updated | generated)


def _execute(statement: UpdateStatement, targets: Sequence[_Target]) -> object:
    """Run the statement on the rows that were looked at; those of other models are named by their own tables."""
    for target in targets:
        if target.plan.model is statement.model:
            if len(targets) == 1 and target.may_return():
                statement.return_columns(target.returned)
            return restrict_to_locked_rows(statement, target.before.count, target.keys)
    return statement.execute()


class _Target:
    """The rows of one plan's model that an UPDATE concerns."""

    def __init__(self, plan: ModelPlan, names: frozenset[str], statement: UpdateStatement) -> None:
        self.plan = plan
        self.names = names
        self.statement = statement
        self.reader = RawImageReader(plan, statement.using, needed_columns(plan, EventType.UPDATE, names))
        own = set(self.reader.fields)
        self.fields = {name: field for name, field in plan.all_fields.items() if name in names and field in own}
        # Columns that aren't audited and change with them matter to the text of the object.
        updated = [field for field, _ in statement.values() if field in own]
        self.is_relinked = not set(updated).isdisjoint(own_links(plan.model))
        self.touched = dict.fromkeys(self.reader.fields if self.is_relinked else [*self.fields.values(), *updated])
        self.before = Spool()

    def look(self) -> None:
        """Read the rows as they are, under lock."""
        table, own = self.statement.model, self.plan.model
        is_simple = own is table and not own._meta.parents and self.statement.is_simple()
        query: Any = self.statement.reading(self.reader.attnames) if is_simple else None
        keys = self._keys_to_lock()
        every = self.reader.rows(deleting=self.statement.changes_keys())
        rows = self._concerned(every) if keys is None else every.filter(pk__in=keys)
        if query is not None and keys is not None:
            query.add_q(is_one_of(own, keys, self.statement.using))
        self.before = self.reader.spooled(rows, query)

    def _keys_to_lock(self) -> list[object] | None:
        """Return the keys of the rows where they have to be known before any is locked, None elsewhere.

        MariaDB's UPDATE passes over the locked rows of others that its condition leaves out. Its locking reads wait for
        every row that they look at.
        """
        using = self.statement.using
        if connections[using].vendor != "mysql" or not reads_the_present(using) or self.statement.names_its_rows():
            return None
        keys = self._concerned(rows_of(self.plan.model, using).order_by()).values_list("pk", flat=True)
        found = list(keys[: _MOST_RETURNED + 1])
        return found if len(found) <= _MOST_RETURNED else None

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
        return _concerned(self.statement, self.plan.model, rows)

    def keys(self) -> Iterator[Any]:
        """Return the keys of the rows that were read."""
        return (self.reader.key(image) for chunk in self.before for image in chunk)

    def record(self, source: Source, seen: set[tuple[type[models.Model], object]]) -> None:
        """Read the rows again and record the differences, but for those that a more derived plan has recorded."""
        for chunk in self.before:
            after = self._after(chunk)
            if self.is_relinked:
                after = self._without_relinked(chunk, after, source)
            found = [
                (new, changed)
                for old, new in zip(chunk, after, strict=True)
                if new is not None
                and (not seen or (self.plan.model, self.reader.key(old)) not in seen)
                and (changed := self.reader.differences(self.fields, old, new))
            ]
            for image in chunk if self.plan.model._meta.parents else ():
                seen |= self.reader.parents(image)
            self._record(found, source)

    def may_return(self) -> bool:
        """Return whether the UPDATE itself may give the rows that it leaves: not so many that they need a spool."""
        return (
            self.before.count <= _MOST_RETURNED
            and not self.plan.model._meta.parents
            and table_of(self.plan.model, self.statement.using).is_plain
        )

    @property
    def returned(self) -> list[Any]:
        """Return the columns that it is to give: the key, and what it may have changed."""
        return [*self.plan.model._meta.pk_fields, *self.touched]

    @cached_property
    def _left(self) -> dict[tuple[object, ...], Image]:
        """Return what the UPDATE gave, by the key as the driver gives it."""
        width = len(self.plan.model._meta.pk_fields)
        return {row[:width]: row[width:] for row in self.statement.rows or ()}

    def _after(self, chunk: list[Image]) -> list[Image | None]:
        """Return the rows as they are now; they are read unless the UPDATE gave all of them."""
        keys = [tuple(image[at] for at in self.reader.key_positions) for image in chunk]
        if not all(key in self._left for key in keys):
            return self.reader.again(chunk, self.touched)
        positions = [self.reader.position[field.attname] for field in self.touched]
        return [replaced(image, positions, self._left[key]) for image, key in zip(chunk, keys, strict=True)]

    def _without_relinked(self, old: list[Image], new: list[Image | None], source: Source) -> list[Image | None]:
        """Record the rows that have other parents' rows now, and return None for them."""
        rest: list[Image | None] = []
        for before, after in zip(old, new, strict=True):
            changes = [] if after is None else relinked(self.reader, before, after, source)
            record_changes(changes, self.statement.using)
            rest.append(None if changes else after)
        return rest

    def _record(self, found: Sequence[tuple[Image, dict[str, FieldChange]]], source: Source) -> None:
        if not may_record_rows(self.plan, EventType.UPDATE):
            record_changes(self._changes(found, source), self.statement.using)
            return
        texts = self.reader.texts([new for new, _ in found])
        rows = [
            RowChange(self.reader.key(new), text, source, changed)
            for (new, changed), text in zip(found, texts, strict=True)
        ]
        record_rows(self.plan, EventType.UPDATE, rows, self.statement.using)

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
                row=self.reader.row(new, self.plan.included) if self.plan.included else {},
            )
            for (new, changed), text in zip(found, texts, strict=False)
        ]
