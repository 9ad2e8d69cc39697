"""SQLite: UPDATEs of many rows, and one INSERT of their events.

The old values wait in a temporary table, and the INSERT compares them with what the UPDATE left. What differs is
described by the functions that the portable way calls, which SQLite calls here. Nobody else writes meanwhile. Whatever
goes wrong is undone, and the portable way is to find out the cause.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from django.db import DatabaseError, connections, models, transaction
from django.utils.translation import gettext as _

from django_signal_audit.capture.compilers import InsertStatement, UpdateParts, UpdateStatement
from django_signal_audit.capture.engines import LEFT
from django_signal_audit.capture.hooks import is_plain, plain_object
from django_signal_audit.capture.images import text_attribute
from django_signal_audit.capture.rows import converters_of, same
from django_signal_audit.capture.scope import SaveScope, scope_of
from django_signal_audit.capture.tables import is_formatted, table_of
from django_signal_audit.capture.transactions import lock_database, write_transaction
from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.changes import Change, FieldChange
from django_signal_audit.events.documents import clean_text
from django_signal_audit.events.insert import EventRow, prepared_row
from django_signal_audit.events.keys import uid_step
from django_signal_audit.events.payloads import text_of
from django_signal_audit.events.secret_fields import has_secret_key, masked_fields
from django_signal_audit.events.secret_texts import may_name_secrets
from django_signal_audit.events.values import plain_field
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.events import REPR_LENGTH
from django_signal_audit.recorder import described, notify, one_call, shortened
from django_signal_audit.rules.matching import Match
from django_signal_audit.rules.plans import ModelPlan

Field: TypeAlias = "models.Field[Any, Any]"
INTEGERS = (models.IntegerField, models.AutoField)
# Their converters read what is stored as well as what the driver makes of it.
_READABLE = (
    *INTEGERS,
    models.BooleanField,
    models.DecimalField,
    models.FloatField,
    models.CharField,
    models.TextField,
    models.UUIDField,
    models.DateField,
    models.DateTimeField,
    models.TimeField,
)
# Fewer rows are read and written faster the portable way.
FEW = 50
# So many descriptions of changes are kept, to be used again for rows that change alike.
_KEPT = 10_000


class Engine:
    """Writes UPDATEs of many rows. Saves are as fast the portable way."""

    writes_saves = False
    writes_sets = True

    def refusal(self, plan: ModelPlan, kind: type[models.Model], using: str, *, is_many: bool = False) -> str:
        """Return why UPDATEs are left to the portable way; empty if they are not."""
        keys, table = plan.model._meta.pk_fields, table_of(plan.model, using)
        wrong = {
            _("a primary key other than one number"): len(keys) > 1 or not isinstance(plain_field(keys[0]), INTEGERS),
            _("a primary key that is a secret"): has_secret_key(plan.model) or bool(masked_fields(plan.model)),
            _("the rule key include"): bool(plan.included),
            _("a tenant that another table names"): plan.tenant is not None,
            _("conditions"): EventType.UPDATE in plan.conditional,
            _("generated columns"): bool(plan.generated),
            _("columns that a SELECT formats"): is_formatted(plan.model) or not is_plain(plan.model),
            _("triggers, rules, or no plain table"): not table.is_plain or "%" in plan.model._meta.db_table,
        }
        return next((reason for reason, holds in wrong.items() if holds), "")

    def run(self, statement: InsertStatement | UpdateStatement, save: SaveScope) -> Any:
        """Leave saves to the portable way."""
        return LEFT

    def run_many(self, statement: UpdateStatement, plan: ModelPlan, source: Source) -> Any:
        """Run an UPDATE of many rows, write their events, and return what Django wants of it; or LEFT."""
        update = _update_of(statement, plan) if _may_be_held(statement, plan) and _are_many(statement) else None
        if update is None:
            return LEFT
        using = statement.using
        with write_transaction(using), one_call(using):
            lock_database(using)
            found = _event(update, source)
            if found is None:
                return LEFT
            try:
                with transaction.atomic(using=using):
                    count, told = _write(update, *found)
            except DatabaseError:
                return LEFT
            scope_of(using).recorded += 1
            for uid, name in told:
                notify(uid, (plan.label, name), found[1], using)
        return statement.result_of_count(count)


class _Update(NamedTuple):
    """An UPDATE, and what has to be known for its events."""

    plan: ModelPlan
    using: str
    parts: UpdateParts
    # The audited fields that it sets, and the one that is the text of an object.
    fields: Sequence[Field]
    text: Field

    @property
    def columns(self) -> list[str]:
        """Return the quoted names of the columns of the fields."""
        return [self.quoted(field.column) for field in self.fields]

    def quoted(self, name: object) -> str:
        """Return a quoted name."""
        return str(connections[self.using].ops.quote_name(str(name)))

    @property
    def table(self) -> str:
        """Return the quoted name of the table."""
        return self.quoted(self.plan.model._meta.db_table)

    @property
    def key(self) -> str:
        """Return the quoted name of the key's column."""
        return self.quoted(self.plan.model._meta.pk_fields[0].column)

    @property
    def before(self) -> str:
        """Return the name of the table for the old values. It stays: SQLite drops none while something is read."""
        return f"temp.django_signal_audit_before_{len(self.fields)}"


def _may_be_held(statement: UpdateStatement, plan: ModelPlan) -> bool:
    if statement.concerns_one_row():
        return False
    return bool(text_attribute(plan.model)) and statement.counts_rows() and statement.is_simple()


def _update_of(statement: UpdateStatement, plan: ModelPlan) -> _Update | None:
    """Return what there is to do; None if the portable way has to do it."""
    given = {one for one, _ in statement.values()}
    fields = [one for one in plan.fields_for(EventType.UPDATE).values() if one in given]
    name = text_attribute(plan.model)
    text = next((one for one in plan.model._meta.concrete_fields if one.attname == name), None)
    if text is None or not isinstance(text, (models.CharField, models.TextField)):
        return None
    if plan.secret.intersection(one.name for one in fields):
        return None
    types = table_of(plan.model, statement.using).columns
    if not all(_is_readable(one, types, statement.using) for one in (*fields, text)):
        return None
    parts = statement.parts()
    return None if parts is None else _Update(plan, statement.using, parts, fields, text)


def _is_readable(one: Field, types: Any, using: str) -> bool:
    plain, column = plain_field(one), str(one.column)
    # The driver converts columns by the types they were declared with.
    is_declared = types.get(column.lower(), "").lower() == str(one.db_type(connections[using])).lower()
    is_djangos = type(plain).__module__.startswith("django.db.models.fields")
    return is_declared and is_djangos and isinstance(plain, _READABLE) and "%" not in column


def _are_many(statement: UpdateStatement) -> bool:
    """Return whether there seem to be many rows. Asked past Django's cursors, as projects count their queries."""
    found, connection = statement.condition(), connections[statement.using]
    if found is None:
        return False
    if connection.in_atomic_block:
        lock_database(statement.using)
    connection.ensure_connection()
    condition = f" WHERE {found[0]}" if found[0] else ""
    table = connection.ops.quote_name(statement.model._meta.db_table)
    sql = f"SELECT count(*) FROM (SELECT 1 FROM {table}{condition} LIMIT {FEW + 1})"
    cursor = connection.connection.cursor()
    try:
        with connection.wrap_database_errors:
            rows = cursor.execute(sql.replace("%s", "?").replace("%%", "%"), tuple(found[1])).fetchall()
    except DatabaseError:
        return False
    finally:
        cursor.close()
    return int(rows[0][0]) > FEW


def _event(update: _Update, source: Source) -> tuple[EventRow, Match] | None:
    """Return what the events of all rows share; None if some rule wants another one for some of them."""
    plan, names = update.plan, {one.name for one in update.fields}
    if not all(item.names.issuperset(names) for item in plan.by_event[EventType.UPDATE]):
        return None
    changes = dict.fromkeys(names, FieldChange(None, None))
    change = Change(event_type=EventType.UPDATE, source=source, using=update.using, model=plan.model, fields=changes)
    return described(change, "")


def _write(update: _Update, row: EventRow, match: Match) -> tuple[int, list[tuple[UUID, str]]]:
    """Run the statements, and return the number of rows and what is to be notified of: uids and names of rows."""
    parts, columns = update.parts, update.columns
    functions = _functions(update.using)
    functions.begin(update, row)
    places = range(len(columns))
    with connections[update.using].cursor() as cursor:
        names = "".join(f", c{at}" for at in places)
        cursor.execute(f"CREATE TABLE IF NOT EXISTS {update.before} (key INTEGER PRIMARY KEY{names})")
        read = "".join(f", {update.table}.{column}" for column in columns)
        rows = f"SELECT {update.table}.{update.key}{read} FROM {update.table}{parts.condition}"
        cursor.execute(f"INSERT INTO {update.before} {rows}", parts.condition_params)
        cursor.execute(
            f"{parts.change} WHERE {update.table}.{update.key} IN (SELECT key FROM {update.before})",
            parts.change_params,
        )
        count = cursor.rowcount
        cursor.execute(*_events(update, row, notifies=bool(match.notify)))
        cursor.execute(f"DELETE FROM {update.before}")
    return count, functions.told


# A text that needs no function: printable ASCII that is short enough, begins with a letter or a digit, and names no
# secret. Those that begin as a header may do are left to the function, too.
_IS_PLAIN_TEXT = (
    "typeof({0}) = 'text' AND {0} GLOB '[0-9A-Za-z]*' AND {0} NOT GLOB '*[^ -9;<>-~]*' AND {0} NOT GLOB '*--*'"
    # What looks at a text ends at its first NUL.
    f" AND {{0}} NOT GLOB '[Bb][AaEe]*' AND length({{0}}) <= {REPR_LENGTH} AND instr({{0}}, char(0)) = 0"
)


def _events(update: _Update, row: EventRow, *, notifies: bool) -> tuple[str, list[Any]]:
    """Return the INSERT of the events, and its parameters."""
    quote, places = update.quoted, list(enumerate(update.columns))
    made = {
        "uid": f"django_signal_audit_uid({'q.object_id' if notifies else ''})",
        "object_id": "q.object_id",
        "object_repr": "q.object_repr",
        "changes": "q.changes",
    }
    values = dict(zip(EventRow._fields, prepared_row(row, update.using), strict=True))
    pairs = "".join(f", o.c{at}, n.{column}" for at, column in places)
    text = f"n.{quote(update.text.column)}"
    differs = " OR ".join(f"o.c{at} IS NOT n.{column} COLLATE BINARY" for at, column in places)
    sql = (
        f"INSERT INTO {quote(AuditEvent._meta.db_table)} ({', '.join(map(quote, values))})"
        f" SELECT {', '.join(made.get(name, '%s') for name in values)} FROM ("
        f"SELECT CAST(o.key AS TEXT) AS object_id,"
        f" CASE WHEN {_IS_PLAIN_TEXT.format(text)} THEN {text} ELSE django_signal_audit_text(o.key, {text}) END"
        " AS object_repr,"
        f" django_signal_audit_changes(o.key{pairs}) AS changes"
        f" FROM {update.before} o CROSS JOIN {update.table} n ON n.{update.key} = o.key"
        # The limit keeps the functions from being called twice.
        f" WHERE {differs} ORDER BY o.key LIMIT -1 OFFSET 0) q WHERE q.changes IS NOT NULL"
    )
    return sql, [value for name, value in values.items() if name not in made]


@dataclass
class _Functions:
    """What SQLite calls for each row."""

    update: Any = None
    # The next uid.
    number: int = 0
    told: list[tuple[UUID, str]] = field(default_factory=list)
    columns: Sequence[tuple[Field, Callable[[Any], Any] | None, Any]] = ()
    # The JSON by the old and new values; None if it may depend on the key, as the tag of a secret in a text does.
    known: dict[object, str | None] | None = None

    def begin(self, update: _Update, row: EventRow) -> None:
        """Describe the rows of an UPDATE from now on."""
        self.update, self.told = update, []
        # Outside any scope, the first uid is the id that the events of a call share.
        self.number = row.uid.int
        plan = update.plan
        has_texts = any(isinstance(plain_field(one), (models.CharField, models.TextField)) for one in update.fields)
        self.known = None if has_texts else {}
        converters = converters_of(plan.model, [one.attname for one in update.fields], update.using)
        self.columns = [
            (one, _checked(one, converters.get(at)), plan.serializers[one.name]) for at, one in enumerate(update.fields)
        ]

    def uid(self, *names: str) -> str:
        """Return the uid of the next event; that of a row with a name is notified of."""
        number = self.number
        self.number += uid_step()
        for name in names:
            self.told.append((UUID(int=number), name))
        return f"{number:032x}"

    def text(self, key: object, value: object) -> str:
        """Return the text of an object that a column holds."""
        if value.__class__ is str and not may_name_secrets(str(value)):
            return shortened(clean_text(str(value)))
        model, text = self.update.plan.model, self.update.text
        held = {model._meta.pk_fields[0].attname: key, text.attname: value}
        return shortened(text_of(plain_object(model, self.update.using, held)))

    def changes(self, key: object, *values: Any) -> str | None:
        """Return the JSON of what differs, None if nothing does."""
        if self.known is None:
            return self._described(key, values)
        # Numbers of other types, and -0.0, are equal and not the same.
        name = repr(values) if 0 in values else (*values, *map(type, values))
        found = self.known.get(name, "")
        if found == "":
            if len(self.known) >= _KEPT:
                self.known.clear()
            found = self.known[name] = self._described(key, values)
        return found

    def _described(self, key: object, values: Sequence[Any]) -> str | None:
        found = {}
        for (one, convert, keep), old, new in zip(self.columns, values[::2], values[1::2], strict=True):
            if old.__class__ is new.__class__ and old == new:
                continue
            before, after = (old, new) if convert is None else (convert(old), convert(new))
            if not same(one, before, after):
                found[one.name] = [
                    None if before is None else keep(before, key),
                    None if after is None else keep(after, key),
                ]
        return json.dumps(found) if found else None


def _checked(one: Field, convert: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    """Return what converts the values of a column; the driver has an opinion on odd booleans."""
    if not isinstance(plain_field(one), models.BooleanField):
        return convert

    def flag(value: Any) -> bool | None:
        if value not in (None, 0, 1):
            msg = f"{value!r} is neither 0 nor 1"
            raise ValueError(msg)
        return None if value is None else bool(value)

    return flag


def _functions(using: str) -> _Functions:
    """Return what a connection's functions do. They are made once: SQLite replaces none while something is read."""
    connection = connections[using]
    connection.ensure_connection()
    known: tuple[object, _Functions] = vars(connection).get("audit_functions") or (None, _Functions())
    if known[0] is not connection.connection:
        known = vars(connection)["audit_functions"] = (connection.connection, _Functions())
        for name in ("uid", "text", "changes"):
            connection.connection.create_function(f"django_signal_audit_{name}", -1, getattr(known[1], name))
    return known[1]
