"""UPDATEs of many rows: the old values wait in a temporary table, and one INSERT makes the events of what differs.

The first packet locks the rows and reads them into the table. It tells whether SQL can describe their values; if not,
the portable way has to do it. The second packet changes these rows and no others, and writes the events.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from django.db import DatabaseError, connections, models

from django_signal_audit.capture.compilers import UpdateParts, UpdateStatement
from django_signal_audit.capture.engines import LEFT
from django_signal_audit.capture.images import text_attribute
from django_signal_audit.capture.packets import COMMIT, Result, Statement, fits, send
from django_signal_audit.capture.rows import reads_the_present
from django_signal_audit.capture.scope import scope_of
from django_signal_audit.capture.stored_values import certainty
from django_signal_audit.capture.transactions import rollback_on_error, write_transaction
from django_signal_audit.conf import get_settings
from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.changes import Change, FieldChange
from django_signal_audit.events.insert import EventRow, prepared_row
from django_signal_audit.events.masking import has_secrets
from django_signal_audit.events.secret_texts import OPENINGS
from django_signal_audit.events.values import plain_field
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.events import REPR_LENGTH
from django_signal_audit.models.fields import codec_of
from django_signal_audit.recorder import described, fail, notify, one_call
from django_signal_audit.rules.matching import Match
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.transient import is_transient

Field: TypeAlias = "models.Field[Any, Any]"
INTEGERS = (models.IntegerField, models.AutoField)
# Whatever an expression makes of these, SQL can describe it.
_COMPUTABLE = (*INTEGERS, models.BooleanField, models.DecimalField)
_TEXTS = (models.CharField, models.TextField)
_BEFORE, _KEY, _KEYS = "django_signal_audit_before", "django_signal_audit_key", "django_signal_audit_keys"
_DROP: Statement = (f"DROP TEMPORARY TABLE IF EXISTS {_BEFORE}, {_KEYS}", ())


class _Telling(NamedTuple):
    """How SQL describes the values of a column: ``{0}`` stands for a value. NULL gives NULL."""

    json: str
    # Can an old value be told so?
    condition: str = "TRUE"
    # Can a new one?
    tells: Callable[[Any, int], bool] = lambda _value, _limit: True


def _is_plain_text(value: Any, limit: int) -> bool:
    return len(str(value)) * 4 <= limit and not has_secrets(str(value), is_column=True)


def _is_in_range(value: Any, _limit: int) -> bool:
    return isinstance(value, dt.date) and 1 < value.year < 9999


_IN_RANGE = "{0} BETWEEN '0001-01-02' AND '9999-12-30'"
_MOMENT = (
    "CONCAT('\"', DATE_FORMAT({0}, IF(MICROSECOND({0}) = 0, '%%Y-%%m-%%dT%%H:%%i:%%s', '%%Y-%%m-%%dT%%H:%%i:%%s.%%f')),"
    " '+00:00\"')"
)
# In which nothing has to be hidden, and that isn't longer than a number of characters.
_SILENT = (
    "CHAR_LENGTH({0}) <= %d AND {0} NOT REGEXP '[:=]|--' AND INSTR({0}, CHAR(0)) = 0"
    f" AND HEX(LEFT({{0}}, 1)) NOT IN ({', '.join(repr(one.encode().hex().upper()) for one in sorted(OPENINGS))})"
    " AND LOWER(LEFT({0}, 6)) NOT IN ('bearer', 'basic ')"
)


def _telling_of(field: Field, limit: int) -> _Telling | None:
    plain: Any = plain_field(field)
    if isinstance(plain, INTEGERS):
        return _Telling("{0}")
    if isinstance(plain, models.BooleanField):
        return _Telling("CASE {0} WHEN 0 THEN 'false' WHEN 1 THEN 'true' END", "{0} IN (0, 1)")
    if isinstance(plain, models.DecimalField):
        return _Telling("CONCAT('\"', {0}, '\"')")
    if isinstance(plain, _TEXTS):
        return _Telling("JSON_QUOTE(CONVERT({0} USING utf8mb4))", _SILENT % (limit // 4), _is_plain_text)
    if isinstance(plain, models.DateTimeField):
        return _Telling(_MOMENT, _IN_RANGE, _is_in_range)
    if isinstance(plain, models.DateField):
        return _Telling("CONCAT('\"', DATE_FORMAT({0}, '%%Y-%%m-%%d'), '\"')", _IN_RANGE, _is_in_range)
    return None


class _Column(NamedTuple):
    """An audited column that the UPDATE sets."""

    # Quoted.
    name: str
    field: str
    telling: _Telling

    def difference(self, old: str, new: str) -> str:
        """Return the JSON of the change with a comma ahead of it, an empty text if there is none."""
        one, other = (f"IFNULL({self.telling.json.format(value)}, 'null')" for value in (old, new))
        name = self.field.replace("%", "%%")
        return f"IF({same(old, new)}, '', CONCAT(', \"{name}\": [', {one}, ', ', {other}, ']'))"


def same(old: str, new: str) -> str:
    """Return the condition that two values are the same: to collations, different texts may be equal."""
    return f"BINARY {old} <=> BINARY {new}"


class _Update(NamedTuple):
    """An UPDATE, and what has to be known for its events."""

    plan: ModelPlan
    using: str
    parts: UpdateParts
    columns: Sequence[_Column]
    # The quoted name of the column that has the texts of objects.
    text: str
    # Whether a locking read looks at no other rows than the UPDATE.
    locks_its_own: bool

    def quoted(self, name: object) -> str:
        """Return a quoted name."""
        return str(connections[self.using].ops.quote_name(str(name)))

    @property
    def table(self) -> str:
        """Return the quoted name of the table."""
        return self.quoted(self.plan.model._meta.db_table)

    @property
    def key(self) -> str:
        """Return the name of the key's column."""
        return f"{self.table}.{self.quoted(self.plan.model._meta.pk_fields[0].column)}"


def update_many(statement: UpdateStatement, plan: ModelPlan, source: Source) -> Any:
    """Change rows, write their events, and return what Django wants of it; or LEFT, with nothing written."""
    update, using = _update_of(statement, plan), statement.using
    if update is None:
        return LEFT
    with write_transaction(using) as transaction, one_call(using):
        count = _lock(update)
        # The moment of the events follows the locks.
        found = None if count is None else _event(update, source)
        if count is None or found is None:
            return LEFT
        if count:
            is_last = transaction.ends_here and not found[1].notify
            _write(update, *found, is_last=is_last)
            transaction.is_committed = is_last
    return statement.result_of_count(count)


def _update_of(statement: UpdateStatement, plan: ModelPlan) -> _Update | None:
    """Return what there is to do; None if the portable way has to do it."""
    values, using = dict(statement.values()), statement.using
    attribute, connection = text_attribute(plan.model), connections[using]
    text = next((one for one in plan.model._meta.concrete_fields if one.attname == attribute), None)
    is_usual = statement.counts_rows() and statement.is_simple() and not statement.concerns_one_row()
    if not isinstance(text, _TEXTS) or not is_usual:
        return None
    columns = [
        _column(one, values[one], plan, using) for one in plan.fields_for(EventType.UPDATE).values() if one in values
    ]
    told = [one for one in columns if one is not None]
    has_expressions = any(hasattr(value, "resolve_expression") for value in values.values())
    # An UPDATE of two tables may set columns in another order than one of one table.
    is_told = len(told) == len(columns) and not (has_expressions and len(values) > 1) and text not in values
    parts = statement.parts() if is_told and certainty(text, plan.model, using)[1] is not None else None
    table = connection.ops.quote_name(plan.model._meta.db_table)
    if (
        parts is None
        or not parts.change.startswith(f"UPDATE {table} SET ")
        or "SELECT" in parts.change + parts.condition
    ):
        return None
    if codec_of(using, str(connection.settings_dict["NAME"]), AuditEvent._meta.db_table):
        return None
    locks_its_own = statement.names_its_rows() or not reads_the_present(using)
    return _Update(plan, using, parts, told, connection.ops.quote_name(str(text.column)), locks_its_own)


def _column(field: Field, value: Any, plan: ModelPlan, using: str) -> _Column | None:
    """Return a column that is given a value; None if SQL can't describe it."""
    limit = get_settings().max_value_bytes
    telling = (
        None
        if field.name in plan.secret or certainty(field, plan.model, using)[1] is None
        else _telling_of(field, limit)
    )
    if telling is None:
        return None
    if hasattr(value, "resolve_expression"):
        is_told = isinstance(plain_field(field), _COMPUTABLE)
    else:
        is_told = value is None or telling.tells(value, limit)
    return _Column(connections[using].ops.quote_name(str(field.column)), field.name, telling) if is_told else None


def _event(update: _Update, source: Source) -> tuple[EventRow, Match] | None:
    """Return what the events of all rows share; None if some rule wants another one for some of them."""
    plan, names = update.plan, {one.field for one in update.columns}
    if not all(item.names.issuperset(names) for item in plan.by_event[EventType.UPDATE]):
        return None
    changes = dict.fromkeys(names, FieldChange(None, None))
    change = Change(event_type=EventType.UPDATE, source=source, using=update.using, model=plan.model, fields=changes)
    return described(change, "")


def _lock(update: _Update) -> int | None:
    """Lock the rows, read their old values, and return how many they are; None if SQL can't describe all of them."""
    table, parts = update.table, update.parts
    statements: list[Statement] = []
    source = table
    if not update.locks_its_own:
        # A locking read would wait for every row that it looks at.
        keys = f"SELECT {update.key} AS {_KEY} FROM {table}{parts.condition}"
        statements.append((f"CREATE OR REPLACE TEMPORARY TABLE {_KEYS} ENGINE=Aria {keys}", parts.condition_params))
        source = f"{_KEYS} STRAIGHT_JOIN {table} ON {update.key} = {_KEYS}.{_KEY}"
    read = "".join(f", {table}.{column.name} AS c{at}" for at, column in enumerate(update.columns))
    read += f", {table}.{update.text} AS object_repr"
    rows = f"SELECT {update.key} AS {_KEY}{read} FROM {source}{parts.condition} FOR UPDATE"
    create = f"CREATE OR REPLACE TEMPORARY TABLE {_BEFORE} (PRIMARY KEY ({_KEY})) ENGINE=Aria {rows}"
    statements.append((create, parts.condition_params))
    told = [f"(c{at} IS NULL OR {one.telling.condition.format(f'c{at}')})" for at, one in enumerate(update.columns)]
    told.append(f"object_repr IS NOT NULL AND {_SILENT.format('object_repr') % REPR_LENGTH}")
    statements.append((f"SELECT COUNT(*), COUNT(IF({' AND '.join(told)}, 1, NULL)) FROM {_BEFORE}", ()))
    results: list[Result] = []
    try:
        if not fits(*statements) or not send(update.using, statements, results):
            return None
    except DatabaseError as error:
        if is_transient(error):
            raise
        # Nothing was written, and the portable way is to find out the cause.
        return None
    [(count, count_of_told)] = results[-1].rows
    if count != count_of_told or not count:
        send(update.using, [_DROP], results)
    return int(count) if count == count_of_told else None


def _write(update: _Update, row: EventRow, match: Match, *, is_last: bool) -> None:
    """Change the rows that are locked, write their events, and notify of them."""
    parts, table, using = update.parts, update.table, update.using
    change = parts.change.removeprefix(f"UPDATE {table} SET ")
    set_columns = f"UPDATE {_BEFORE} STRAIGHT_JOIN {table} ON {update.key} = {_BEFORE}.{_KEY} SET {change}"
    results: list[Result] = []
    with rollback_on_error(using):
        try:
            events = _events(update, row, returns=bool(match.notify))
            send(using, [(set_columns, parts.change_params), events, _DROP, *[COMMIT] * is_last], results)
        except DatabaseError as error:
            if len(results) != 1:
                raise
            fail(f"The events of an update of {update.plan.model._meta.label}", error)
        scope_of(using).recorded += 1
        for uid, name in results[1].rows if match.notify else ():
            notify(UUID(str(uid)), (update.plan.label, str(name)), match, using)


# So many hexadecimal digits of a uid count its events: 60 bits, all of them random.
_COUNTED = 15


def _events(update: _Update, row: EventRow, *, returns: bool) -> Statement:
    """Return the INSERT of the events."""
    quote, places = update.quoted, list(enumerate(update.columns))
    digits = row.uid.hex
    number = f"LPAD(LOWER(HEX(%s + ROW_NUMBER() OVER (ORDER BY o.{_KEY}) - 1)), {_COUNTED}, '0')"
    differences = ", ".join(one.difference(f"o.c{at}", f"n.{one.name}") for at, one in places)
    made: dict[str, tuple[str, Sequence[Any]]] = {
        "uid": (f"CONCAT(%s, {number})", (digits[:-_COUNTED], int(digits[-_COUNTED:], 16))),
        "object_id": (f"o.{_KEY}", ()),
        "object_repr": ("o.object_repr", ()),
        "changes": (f"CONCAT('{{', SUBSTR(CONCAT({differences}), 3), '}}')", ()),
    }
    values = dict(zip(EventRow._fields, prepared_row(row, update.using), strict=True))
    told = {name: made.get(name, ("%s", (value,))) for name, value in values.items()}
    differs = " OR ".join(f"NOT ({same(f'o.c{at}', f'n.{one.name}')})" for at, one in places)
    key = quote(update.plan.model._meta.pk_fields[0].column)
    sql = (
        f"INSERT INTO {quote(AuditEvent._meta.db_table)} ({', '.join(map(quote, told))})"
        f" SELECT {', '.join(expression for expression, _ in told.values())}"
        f" FROM {_BEFORE} o STRAIGHT_JOIN {update.table} n ON n.{key} = o.{_KEY} WHERE {differs} ORDER BY o.{_KEY}"
        f"{' RETURNING uid, object_id' * returns}"
    )
    return sql, [param for _, params in told.values() for param in params]
