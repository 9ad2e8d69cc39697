"""UPDATEs of primary keys: the row goes under its old key and comes under its new one."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import F, Value

from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.changes import Change, FieldChange
from django_signal_audit.recorder import record_changes
from django_signal_audit.rules.plans import ModelPlan

from .columns import stored
from .compilers import UpdateStatement
from .images import Image, ImageReader, chunks
from .phantom_rows import restrict_to_locked_rows
from .rows import differences
from .transactions import rollback_on_error


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
    pairs = [(old, new) for old, new in zip(before, new_keys, strict=True) if new in after]
    moved = [(old, new) for old, new in pairs if old != new]
    with rollback_on_error(statement.using):
        gone = [_went(reader, old, before[old]) for old, _ in moved]
        come = [_came(reader, new, after[new]) for _, new in moved]
        stayed = [_stayed(reader, old, before[old], after[old]) for old, new in pairs if old == new]
        record_changes([*gone, *come, *filter(None, stayed)], statement.using)
    return result


def _new_keys(statement: UpdateStatement, plan: ModelPlan) -> dict[str, Any]:
    """Return the expressions that give the columns of the key which a row is going to have."""
    values = dict(statement.values())
    found: dict[str, Any] = {}
    for position, field in enumerate(plan.model._meta.pk_fields):
        value = values.get(field, F(field.attname))
        is_expression = hasattr(value, "resolve_expression")
        expression = value if is_expression else Value(field.to_python(value))
        found[f"audit_key_{position}"] = models.ExpressionWrapper(expression, output_field=_plain(field))
    return found


def _plain(field: Any) -> Any:
    """Return a field of the column's kind that is nobody's: expressions may not have a model's own as their output."""
    target = field.target_field if field.is_relation else field
    return target.clone() if not isinstance(target, models.AutoField) else models.BigIntegerField()


def _went(reader: ImageReader, pk: Any, image: Image) -> Change:
    row = reader.row(image, reader.plan.names_for(EventType.DELETE))
    return _change(reader, EventType.DELETE, pk, image, {name: FieldChange(value, None) for name, value in row.items()})


def _came(reader: ImageReader, pk: Any, image: Image) -> Change:
    row = reader.row(image, reader.plan.names_for(EventType.CREATE))
    return _change(reader, EventType.CREATE, pk, image, {name: FieldChange(None, value) for name, value in row.items()})


def _stayed(reader: ImageReader, pk: Any, old: Image, new: Image) -> Change | None:
    names = reader.plan.names_for(EventType.UPDATE)
    fields = {name: field for name, field in reader.plan.all_fields.items() if name in names}
    changed = differences(fields, reader.row(old, names), reader.row(new, names))
    return _change(reader, EventType.UPDATE, pk, new, changed) if changed else None


def _change(
    reader: ImageReader, event_type: EventType, pk: Any, image: Image, fields: dict[str, FieldChange]
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
