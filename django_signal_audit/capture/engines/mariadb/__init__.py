"""MariaDB: the rows of a save and its event in as few packets as can be, and the events of many rows made by SQL.

A new row whose values are certain travels with its event, in one packet with BEGIN and COMMIT. Its uid and moment are
made once the row is written. An UPDATE travels with the query for the old values ahead of it, under the same lock. The
portable way compares and describes them, and the event travels with COMMIT. Whatever isn't held here goes the portable
way from its statement on.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import EmptyResultSet
from django.db import DatabaseError, connections, models
from django.utils.translation import gettext as _

from django_signal_audit.capture.before_images import note_row, written_by
from django_signal_audit.capture.compilers import InsertStatement, UpdateStatement
from django_signal_audit.capture.engines import LEFT
from django_signal_audit.capture.hooks import is_plain
from django_signal_audit.capture.new_rows import described_save, is_clear, stored_values_of, text_of_new
from django_signal_audit.capture.packets import COMMIT, Result, Statement, fits, send, takes_packets
from django_signal_audit.capture.rows import row_query
from django_signal_audit.capture.scope import Fields, SaveScope
from django_signal_audit.capture.stored_values import NOT_KNOWN, certainty
from django_signal_audit.capture.tables import is_formatted, table_of
from django_signal_audit.capture.transactions import write_transaction
from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.changes import Change
from django_signal_audit.events.insert import EventRow, insert_row, insert_statement, prepared_row
from django_signal_audit.events.secret_fields import has_secret_key, masked_fields
from django_signal_audit.events.values import plain_field
from django_signal_audit.models import AuditEvent
from django_signal_audit.recorder import described, fail, notify, record_changes
from django_signal_audit.rules.matching import Match
from django_signal_audit.rules.plans import ModelPlan

from .sets import INTEGERS, update_many


class Engine:
    """Writes saves of one row, and UPDATEs of many."""

    writes_saves = True
    writes_sets = True

    def refusal(self, plan: ModelPlan, kind: type[models.Model], using: str, *, is_many: bool = False) -> str:
        """Return why writes of objects of a class are left to the portable way; empty if they are not."""
        if not takes_packets(connections[using]):
            return _("a connection without multi_statements")
        return _refusal_of_many(plan, using) if is_many else ""

    def run(self, statement: InsertStatement | UpdateStatement, save: SaveScope) -> Any:
        """Run the statement of a save, write its event with it, and return what Django wants of it; or LEFT."""
        if save.transaction is None or not _is_managed(save.using):
            return LEFT
        [plan] = save.plans or ()
        save.record = partial(record, plan, save.transaction)
        if isinstance(statement, InsertStatement):
            return insert(statement, plan, save) if plan.by_event[EventType.CREATE] else statement.execute()
        return update(statement, plan, save) if plan.by_event[EventType.UPDATE] else statement.execute()

    def run_many(self, statement: UpdateStatement, plan: ModelPlan, source: Source) -> Any:
        """Run an UPDATE of many rows, write their events, and return what Django wants of it; or LEFT."""
        return update_many(statement, plan, source) if _is_managed(statement.using) else LEFT


def _is_managed(using: str) -> bool:
    """Return whether a connection takes packets now, and Django knows whether a transaction is open."""
    connection = connections[using]
    return (connection.in_atomic_block or connection.get_autocommit()) and takes_packets(connection)


def _refusal_of_many(plan: ModelPlan, using: str) -> str:
    keys = plan.model._meta.pk_fields
    wrong = {
        _("times without a zone"): not settings.USE_TZ or bool(connections[using].settings_dict.get("TIME_ZONE")),
        _("a primary key other than one number"): len(keys) > 1 or not isinstance(plain_field(keys[0]), INTEGERS),
        _("a primary key that is a secret"): has_secret_key(plan.model) or bool(masked_fields(plan.model)),
        _("the rule key include"): bool(plan.included),
        _("a tenant that another table names"): plan.tenant is not None,
        _("conditions"): EventType.UPDATE in plan.conditional,
        _("generated columns"): bool(plan.generated),
        _("columns that a SELECT formats"): is_formatted(plan.model) or not is_plain(plan.model),
        _("triggers, rules, or no plain table"): not table_of(plan.model, using).is_plain,
    }
    return next((reason for reason, holds in wrong.items() if holds), "")


# The server's clock once the row is written. Where the application's is far from it, somebody has set that one: a test
# that travels in time, most likely. All calls in one statement give the same.
_AT = "IF(ABS(TIMESTAMPDIFF(SECOND, %s, UTC_TIMESTAMP(6))) <= 60, UTC_TIMESTAMP(6), %s)"
# A UUIDv7 of that moment: 48 bits of milliseconds, the version, 12 bits of what is below, and what is random.
_UID = (
    f"LOWER(CONCAT(INSERT(LPAD(HEX(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', {_AT}) * 512 DIV 125), 15, '0'),"
    " 13, 0, '7'), %s))"
)
_UID_AS_TEXT = f"INSERT(INSERT(INSERT(INSERT({_UID}, 21, 0, '-'), 17, 0, '-'), 13, 0, '-'), 9, 0, '-')"


def insert(statement: InsertStatement, plan: ModelPlan, save: SaveScope) -> Any:
    """Write a new row and its event."""
    row_statement = statement.compiled()
    found = _event_of_new_row(statement, plan, save)
    if found is None or save.transaction is None:
        return LEFT
    row, match = found
    using, key = save.using, save.instance.__dict__.get(_key(plan).attname)
    save.transaction.open()
    is_last = save.transaction.ends_here and not match.notify
    event = _event_statement(row, using, is_key_known=key is not None, is_returned=bool(match.notify))
    statements = [(_returning(statement, row_statement[0]), row_statement[1]), event, *[COMMIT] * is_last]
    if not fits(*statements):
        return LEFT
    results: list[Result] = []
    try:
        if not send(using, statements, results):
            return LEFT
    except DatabaseError as error:
        if len(results) == 1:
            fail(f"The event of a new row of {plan.model._meta.label}", error)
        raise
    save.transaction.is_committed = is_last
    uid, name = results[1].rows[0] if match.notify else (row.uid, row.object_id)
    notify(UUID(str(uid)), (plan.label, str(name)), match, using)
    return statement.result_of(results[0].rows[0] if statement.returning else ())


def _event_of_new_row(statement: InsertStatement, plan: ModelPlan, save: SaveScope) -> tuple[EventRow, Match] | None:
    """Return the event and what the rules make of it; None if it can't be told before the row is there."""
    is_usual = len(statement.objs) == 1 and not statement.query.on_conflict and statement.can_return
    if not is_usual or not _may_be_known(plan, save.using):
        return None
    has_key = _has_certain_key(plan, save)
    # The tag of a secret needs the key of its row.
    if has_key is None or not (has_key or plan.secret.isdisjoint(plan.names_for(EventType.CREATE))):
        return None
    stored = stored_values_of(save.instance, plan, plan.fields_for(EventType.CREATE), save.using)
    text = None if stored is None else text_of_new(save.instance, plan, save.using)
    if stored is None or text is None:
        return None
    found = described_save(save, plan, EventType.CREATE, stored, text)
    is_told = found is not None and (has_key or all(map(is_clear, found[0].changes.values())))
    return found if is_told else None


def _may_be_known(plan: ModelPlan, using: str) -> bool:
    is_secret = has_secret_key(plan.model) or len(plan.model._meta.pk_fields) > 1
    is_wanted = plan.included or plan.tenant or EventType.CREATE in plan.conditional
    has_usual_times = settings.USE_TZ and not connections[using].settings_dict.get("TIME_ZONE")
    return has_usual_times and not is_secret and not is_wanted


def _key(plan: ModelPlan) -> Any:
    return plan.model._meta.pk_fields[0]


def _has_certain_key(plan: ModelPlan, save: SaveScope) -> bool | None:
    """Return whether the object has the primary key that its row will have; None if nobody knows before."""
    field, key = _key(plan), save.instance.__dict__.get(_key(plan).attname)
    if key is None:
        kind = table_of(plan.model, save.using).columns.get(str(field.column).lower(), "")
        return False if kind.endswith("auto_increment") else None
    name = ("key", type(save.instance), save.using)
    if name not in plan.certainties:
        plan.certainties[name] = certainty(field, type(save.instance), save.using)
    plain, rule = plan.certainties[name]
    stored = NOT_KNOWN if rule is None else rule(plain, key, "mysql")
    # The column may hold an equal key in another form, such as 1.50 for 1.5.
    return True if stored is not NOT_KNOWN and repr(stored) == repr(key) else None


def _returning(statement: InsertStatement, sql: str) -> str:
    if not statement.returning:
        return sql
    quote = connections[statement.using].ops.quote_name
    return f"{sql} RETURNING {', '.join(quote(str(field.column)) for field in statement.returning)}"


def _event_statement(row: EventRow, using: str, *, is_key_known: bool, is_returned: bool) -> Statement:
    """Return the INSERT of an event whose uid, moment and, if it is not known, key are for the server to find."""
    values = dict(zip(EventRow._fields, prepared_row(row, using), strict=True))
    moment, tail = values["recorded_at"], row.uid.hex[16:]
    uid = (moment, moment, tail)
    is_first = row.correlation_id == str(row.uid)
    made = {"uid": uid, "recorded_at": uid[:2]}
    if is_first:
        made["correlation_id"] = uid
    if not is_key_known:
        made["object_id"] = ()
    params = [one for name, value in values.items() for one in made.get(name, (value,))]
    return _event_sql(using, is_key_known, is_first, is_returned), params


@lru_cache(64)
def _event_sql(using: str, is_key_known: bool, is_first: bool, is_returned: bool) -> str:
    quote = connections[using].ops.quote_name
    made = {"uid": _UID, "recorded_at": _AT}
    if is_first:
        made["correlation_id"] = _UID_AS_TEXT
    if not is_key_known:
        made["object_id"] = "LAST_INSERT_ID()"
    columns, values = map(quote, EventRow._fields), (made.get(name, "%s") for name in EventRow._fields)
    table = quote(AuditEvent._meta.db_table)
    returning = f" RETURNING {quote('uid')}, {quote('object_id')}" if is_returned else ""
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(values)}){returning}"


def update(statement: UpdateStatement, plan: ModelPlan, save: SaveScope) -> Any:
    """Read the row under the lock that the UPDATE takes, change it, and leave it to the portable way to compare."""
    pk, fields = written_by(save, plan)
    if not fields or not statement.counts_rows() or not _are_readable(plan, fields, save.using):
        return LEFT
    try:
        sql, params = statement.compiled()
    except EmptyResultSet:
        return LEFT
    if not sql or not fits((sql, params)) or save.transaction is None:
        return LEFT
    # A query with a lock can't be compiled outside of a transaction.
    save.transaction.open()
    query = row_query(plan.model, pk, fields.values(), save.using)
    if query is None:
        return LEFT
    results: list[Result] = []
    if not send(save.using, [(query.sql, query.params(pk)), (sql, params)], results):
        return LEFT
    values = query.values(next(iter(results[0].rows), None))
    note_row(save, plan, pk, fields, None if values is None else dict(zip(fields, values, strict=True)))
    return statement.result_of_count(results[1].rowcount)


def _are_readable(plan: ModelPlan, fields: Fields, using: str) -> bool:
    """Return whether the driver can read whatever these columns hold: not hours beyond a day."""
    types = table_of(plan.model, using).columns
    return not any(
        types.get(str(field.column).lower(), "time").partition("(")[0] == "time" for field in fields.values()
    )


def record(plan: ModelPlan, transaction: write_transaction, changes: Sequence[Change], using: str) -> None:
    """Write the event of a save; if it's the last statement of a transaction, with COMMIT."""
    is_wanted = any(rule.notify for rule in plan.rules) or plan.included or plan.tenant
    if len(changes) != 1 or is_wanted or not transaction.ends_here:
        record_changes(changes, using)
        return
    found = described(changes[0], None)
    if found is None:
        return
    results: list[Result] = []
    row, match = found
    try:
        if send(using, [insert_statement(row, using), COMMIT], results):
            transaction.is_committed = True
        else:
            insert_row(row, using)
    except DatabaseError as error:
        if results:
            raise
        fail(f'The event "{row.event_type}" of {plan.model._meta.label} {row.object_id}', error)
    notify(row.uid, (plan.label, row.object_id), match, using)
