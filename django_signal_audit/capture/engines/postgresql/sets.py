"""UPDATEs of many rows: of values that SQL can tell, and of objects whose text is what a column holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db import connections, models

from django_signal_audit.capture.compilers import UpdateParts, UpdateStatement
from django_signal_audit.capture.engines import LEFT
from django_signal_audit.capture.images import text_attribute
from django_signal_audit.capture.rows import certainties_of, unique_fields
from django_signal_audit.capture.scope import scope_of
from django_signal_audit.capture.stored_values import certainty
from django_signal_audit.capture.transactions import write_transaction
from django_signal_audit.conf import get_settings
from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.changes import Change, FieldChange
from django_signal_audit.events.insert import EventRow
from django_signal_audit.events.secret_fields import masked_fields
from django_signal_audit.events.secret_texts import may_name_secrets
from django_signal_audit.events.values import plain_field
from django_signal_audit.models.events import REPR_LENGTH
from django_signal_audit.recorder import described, notify, one_call
from django_signal_audit.rules.matching import Match
from django_signal_audit.rules.plans import ModelPlan

from .columns import INTEGERS, C, Column, Field, Telling, is_silent, telling_of, tenant_sql
from .statements import GIVEN, MADE, PARTS, Composed, event_params, event_sql, json_object, names_of, run

# Whatever an expression makes of these, SQL can describe it.
_COMPUTABLE = (*INTEGERS, models.BooleanField, models.UUIDField, models.DecimalField)
_MADE_HERE = ("object_repr", "changes")
# A row whose primary key another transaction has changed meanwhile is locked and not found again: an error, then.
_RACE = (
    "(SELECT CASE WHEN count(*) IN (0, (SELECT count(*) FROM o)) THEN 0"
    " ELSE ('primary keys have changed meanwhile, run it again; rows left: ' || count(*))::int END FROM n)"
)
_EVENTS = ("(SELECT array_agg(uid) FROM e)", "(SELECT array_agg(object_id) FROM e)")
_COUNTS = ("(SELECT count(*) FROM o)", "(SELECT count(*) FROM n)", _RACE)


def update_many(statement: UpdateStatement, plan: ModelPlan, source: Source) -> Any:
    """Change rows, write their events, and return what Django wants of it; or LEFT, with nothing written."""
    values, using = dict(statement.values()), statement.using
    fields = [field for field in plan.fields_for(EventType.UPDATE).values() if field in values]
    tellings = [_telling(field, values[field], plan, using) for field in fields]
    columns = [_column(field, one, using) for field, one in zip(fields, tellings, strict=True) if one]
    text, hidden = _text_field(plan, using), _hidden_fields(plan)
    if text is None or hidden is None or len(columns) < len(fields):
        return LEFT
    if not values.keys().isdisjoint(hidden) or (text in values and (hidden or not _is_silent_text(values[text]))):
        return LEFT
    found = _event(plan, fields, source, using) if statement.counts_rows() and statement.is_simple() else None
    parts = None if found is None else statement.parts()
    # An expression may name another table, which must not be taken for a part of ours.
    if found is None or parts is None or any(f'"{part}"' in parts.change + parts.condition for part in PARTS):
        return LEFT
    has_strong_lock = not unique_fields(plan.model).isdisjoint(values)
    texts = _Text(_column(text, None, using).name, text in values, [_column(one, None, using).name for one in hidden])
    lock = "UPDATE" if has_strong_lock else "NO KEY UPDATE"
    sql = _sql(plan, using, columns, texts, parts, lock=lock, returns=bool(found[1].notify))
    *told, moment = event_params(found[0], using, *_made_here(plan))
    params = [*parts.condition_params, *parts.change_params, moment, *told]
    count = _write(sql, params, plan, found[1], using)
    return LEFT if count is None else statement.result_of_count(count)


def _made_here(plan: ModelPlan) -> tuple[str, ...]:
    """Return the columns of the events that the statement fills from the rows."""
    return (*_MADE_HERE, "tenant") if plan.tenant else _MADE_HERE


def _write(sql: str, params: list[Any], plan: ModelPlan, match: Match, using: str) -> int | None:
    """Run the statement, notify of its events, and return the number of its rows; None if it has written nothing."""
    columns = (*_COUNTS, *(_EVENTS if match.notify else ()))
    with write_transaction(using, is_open=bool(match.notify)), one_call(using):
        given = run(Composed(sql, columns, "", params), plan.model, using, may_prepare=False)
        if given is None or given[0] != given[1]:
            return None
        scope_of(using).recorded += 1
        for uid, object_id in zip(*(events or () for events in given[len(_COUNTS) :]), strict=True):
            notify(uid, (plan.label, object_id), match, using)
        return int(given[1])


def _telling(field: Field, value: Any, plan: ModelPlan, using: str) -> Telling | None:
    """Return how SQL describes a column that is given a value, None if it can't."""
    if field.name in plan.secret or certainties_of(plan, plan.model, using)[field.name][1] is None:
        return None
    telling = telling_of(field)
    if telling is None:
        return None
    if hasattr(value, "resolve_expression"):
        return telling if isinstance(plain_field(field), _COMPUTABLE) else None
    return telling if telling.tells(value, get_settings().max_value_bytes) else None


def _column(field: Field, telling: Telling | None, using: str) -> Column:
    return Column(connections[using].ops.quote_name(str(field.column)), field.name, telling, "")


def _event(plan: ModelPlan, fields: Sequence[Field], source: Source, using: str) -> tuple[EventRow, Match] | None:
    """Return what the events of all rows share; None if some rule wants another one for some of them."""
    names = {field.name for field in fields}
    if not all(item.names.issuperset(names) for item in plan.by_event[EventType.UPDATE]):
        return None
    changes = dict.fromkeys(names, FieldChange(None, None))
    change = Change(event_type=EventType.UPDATE, source=source, using=using, model=plan.model, fields=changes)
    return described(change, "")


def _text_field(plan: ModelPlan, using: str) -> Field | None:
    """Return the field whose column is the text of a model's objects, None if it may be something else."""
    known: dict[str, Field | None] = plan.certainties.setdefault("text field", {})
    if using not in known:
        known[using] = _find_text_field(plan.model, using)
    return known[using]


def _find_text_field(model: type[models.Model], using: str) -> Field | None:
    name = text_attribute(model)
    named = [field for field in model._meta.concrete_fields if field.attname == name]
    if not named or not isinstance(named[0], (models.CharField, models.TextField)):
        return None
    is_certain = named[0].name not in masked_fields(model) and certainty(named[0], model, using)[1] is not None
    return named[0] if is_certain else None


def _hidden_fields(plan: ModelPlan) -> Sequence[Field] | None:
    """Return the fields whose values no text may have in it; None if SQL can't look for them."""
    masked = masked_fields(plan.model)
    fields = [field for field in plan.model._meta.concrete_fields if field.name in masked]
    return fields if all(isinstance(field, (models.CharField, models.TextField)) for field in fields) else None


def _is_silent_text(value: object) -> bool:
    return value.__class__ is str and len(str(value)) <= REPR_LENGTH and not may_name_secrets(str(value))


class _Text(NamedTuple):
    """The column that has the texts of objects."""

    column: str
    # Does the statement set it?
    is_set: bool
    # The columns whose values it may not have in it.
    hidden: Sequence[str]


def _sql(
    plan: ModelPlan, using: str, columns: Sequence[Column], text: _Text, parts: UpdateParts, *, lock: str, returns: bool
) -> str:
    """Return what the statement is made of."""
    table, key = names_of(plan, using)
    places = list(enumerate(columns))
    old = "".join(f", {table}.{column.name} AS o{at}" for at, column in places)
    old += "".join(f", {table}.{name} AS h{at}" for at, name in enumerate(text.hidden))
    new = "".join(f", o.o{at}, {table}.{column.name} AS n{at}" for at, column in places)
    told = [column.is_old_told(f"b.o{at}") for at, column in places]
    told += [] if text.is_set else [is_silent("b.text", REPR_LENGTH)]
    told += [f"coalesce(strpos(b.text {C}, nullif(b.h{at} {C}, '')), 0) = 0" for at in range(len(text.hidden))]
    tenant = f", {tenant_sql(plan, using)} AS tenant" if plan.tenant else ""
    differs = " OR ".join(column.differs(f"n.o{at}", f"n.n{at}") for at, column in places)
    changes = json_object([column.difference(f"n.o{at}", f"n.n{at}") for at, column in places])
    return (
        f"o AS (SELECT {table}.{key} AS key{old}, {table}.{text.column} AS text FROM {table}{parts.condition}"
        f" ORDER BY {table}.{key} FOR {lock}), "
        f"n AS ({parts.change} FROM o WHERE {table}.{key} = o.key"
        f" AND NOT EXISTS (SELECT FROM o b WHERE NOT ({' AND '.join(filter(None, told))}))"
        f" RETURNING o.key{new}, {table}.{text.column} AS object_repr{tenant}), "
        f"m AS MATERIALIZED ({MADE} FROM (SELECT n.key, n.object_repr{', n.tenant' * bool(tenant)},"
        f" jsonb_strip_nulls({changes}) AS changes"
        f" FROM n WHERE {differs} ORDER BY n.key OFFSET 0) n, {GIVEN} OFFSET 0) n), "
        f"e AS ({event_sql(using, *_made_here(plan), first='SELECT uid FROM m LIMIT 1')} FROM m q"
        # Only notifications ask for them, and those of a million rows would wait in a file.
        f"{' RETURNING uid, object_id' * returns})"
    )
