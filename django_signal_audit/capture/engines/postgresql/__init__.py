"""PostgreSQL: the change of rows and their events in one statement.

Django's statement becomes a CTE that returns the rows, and the events are inserted from that: their moments and uids
are taken after the rows are locked. An UPDATE reads the old values first, under the lock that it takes anyway. Where a
value needs more than SQL can tell, such as the tag of a secret, the statement finds that out before it writes, and
writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connections, models
from django.db.models.signals import m2m_changed
from django.utils.translation import gettext as _

from django_signal_audit.capture.compilers import DeleteStatement, InsertStatement, UpdateStatement
from django_signal_audit.capture.engines import LEFT
from django_signal_audit.capture.new_rows import described_save, is_clear, stored_values_of, text_of_new
from django_signal_audit.capture.scope import DoomedObject, Identity, SaveScope
from django_signal_audit.capture.tables import is_formatted, table_of
from django_signal_audit.capture.through_rows import M2MRelation, sorted_keys
from django_signal_audit.conf import get_settings
from django_signal_audit.context.scopes import is_suspended
from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.changes import Change, M2MChange, field_change
from django_signal_audit.events.payloads import may_query, text_of
from django_signal_audit.events.secret_fields import has_secret_key, is_masked
from django_signal_audit.events.values import plain_field
from django_signal_audit.recorder import described, notify
from django_signal_audit.rules.matching import Match
from django_signal_audit.rules.plans import ModelPlan

from .columns import INTEGERS, C, Column, columns_of, tenant_sql
from .sets import update_many
from .statements import GIVEN, MADE, PARTS, Composed, event_params, event_sql, json_object, names_of, run


class Engine:
    """Writes saves of one row: INSERTs whose values are certain, UPDATEs whose old values SQL can tell."""

    writes_saves = True
    writes_sets = True

    def refusal(self, plan: ModelPlan, kind: type[models.Model], using: str, *, is_many: bool = False) -> str:
        """Return why writes of objects of a class are left to the portable way; empty if they are not."""
        keys = plan.model._meta.pk_fields
        key = plain_field(keys[0])
        wrong = {
            _("a driver other than psycopg 3"): not _has_psycopg3(using),
            _("times without a zone"): not settings.USE_TZ or bool(connections[using].settings_dict.get("TIME_ZONE")),
            _("a primary key other than one number or UUID"): len(keys) > 1
            or not isinstance(key, (*INTEGERS, models.UUIDField)),
            _("a primary key that is a secret"): has_secret_key(plan.model),
            _("the rule key include"): any(rule.include for rule in plan.rules),
            _("a tenant that another table names"): tenant_sql(plan, using) is None,
            _("conditions"): bool(plan.conditional & {EventType.CREATE, EventType.UPDATE}),
            _("generated columns"): bool(plan.generated),
            _("columns that a SELECT formats"): is_formatted(plan.model),
            _("triggers, rules, or no plain table"): not table_of(plan.model, using).is_plain,
            _("row-level security, or no right to read the table"): not table_of(plan.model, using).is_readable,
            _("a table that is called as a part of the statement"): plan.model._meta.db_table in PARTS,
        }
        return next((reason for reason, holds in wrong.items() if holds), "")

    def run(self, statement: InsertStatement | UpdateStatement, save: SaveScope) -> Any:
        """Run the statement of a save, write its event with it, and return what Django wants of it; or LEFT."""
        [plan] = save.plans or ()
        if isinstance(statement, InsertStatement):
            return insert(statement, plan, save) if plan.by_event[EventType.CREATE] else statement.execute()
        return update(statement, plan, save) if plan.by_event[EventType.UPDATE] else statement.execute()

    def run_many(self, statement: UpdateStatement, plan: ModelPlan, source: Source) -> Any:
        """Run an UPDATE of many rows, write their events with it, and return what Django wants of it; or LEFT."""
        return update_many(statement, plan, source)

    def delete(self, statement: DeleteStatement, plan: ModelPlan, doomed: Mapping[Identity, DoomedObject]) -> Any:
        """Delete a row whose object is known, write its event with it, and return the number of rows; or LEFT."""
        return delete(statement, plan, doomed)

    def add_members(self, statement: InsertStatement, relation: M2MRelation, instance: models.Model) -> Any:
        """Insert the pairs of a manager's call, write their event with them, and return Django's result; or LEFT."""
        return add_members(statement, relation, instance)


def _has_psycopg3(using: str) -> bool:
    connections[using].ensure_connection()
    return hasattr(connections[using].connection, "pgconn")


# A query returns 1,664 columns: these are two for each one that is compared, and some more.
_MOST_COLUMNS = 800
_COUNTS = ("(SELECT count(*) FROM o)", "(SELECT count(*) FROM n)", "(SELECT uid FROM e)", "(SELECT object_id FROM e)")


def insert(statement: InsertStatement, plan: ModelPlan, save: SaveScope) -> Any:
    """Write a new row: all values are known but that of the key, so the JSON of the event is made here."""
    # The tag of a secret needs the key of its row.
    if len(statement.objs) != 1 or statement.query.on_conflict or plan.secret & plan.names_for(EventType.CREATE):
        return LEFT
    sql, params = statement.compiled()
    stored = stored_values_of(save.instance, plan, plan.fields_for(EventType.CREATE), save.using)
    text = None if stored is None else text_of_new(save.instance, plan, save.using)
    if stored is None or text is None:
        return LEFT
    found = described_save(save, plan, EventType.CREATE, stored, text)
    if found is None or not all(map(is_clear, found[0].changes.values())):
        return LEFT
    row, match = found
    table, key = names_of(plan, save.using)
    quote = connections[save.using].ops.quote_name
    returning = tuple(f"{table}.{quote(str(field.column))}" for field in statement.returning)
    is_usual = set(statement.returning) <= {plan.model._meta.pk}
    tenant = tenant_sql(plan, save.using) or ""
    parts = _insert_parts(save.using, sql, f"{table}.{key}", returning, tenant)
    # A key that another session gives another type meanwhile would end a prepared statement, and the transaction.
    columns = (*(f"n.r{at}{'::text' * is_usual}" for at in range(len(returning))), "e.uid", "e.object_id")
    written = Composed(parts, columns, " FROM n, e", [*params, *event_params(row, save.using, *_given_by(tenant))])
    with _notifying(save, plan, match) as tell:
        given = run(written, plan.model, save.using, may_prepare=is_usual)
        if given is None:
            return LEFT
        tell(*given[-2:])
    returned = given[:-2]
    if is_usual:
        key_type = UUID if isinstance(plain_field(plan.model._meta.pk_fields[0]), models.UUIDField) else int
        returned = tuple(map(key_type, returned))
    return statement.result_of(returned)


def update(statement: UpdateStatement, plan: ModelPlan, save: SaveScope) -> Any:
    """Change a row: what differs from the old values, and what it was, is for the database to tell."""
    table, key = names_of(plan, save.using)
    sql, params = statement.compiled()
    tail = f" WHERE {table}.{key} = %s"
    values = statement.values()
    is_usual = sql.startswith(f"UPDATE {table} SET ") and sql.endswith(tail)
    given = _given(values, params[:-1])
    if not is_usual or given is None or not statement.counts_rows():
        return LEFT
    columns = columns_of(plan, type(save.instance), save.using, [field for field, _ in values])
    audited = [name for name in plan.fields_for(EventType.UPDATE) if name in given]
    # Which of the fields differ is for the database to find, so every rule has to ask for every one of them.
    is_for_all = all(item.names.issuperset(audited) for item in plan.by_event[EventType.UPDATE])
    limit = get_settings().max_value_bytes
    if not audited or not is_for_all or len(columns) > _MOST_COLUMNS:
        return LEFT
    if not all(column.tells(given[column.field][0], limit) for column in columns):
        return LEFT
    found = described_save(save, plan, EventType.UPDATE, dict.fromkeys(audited), None)
    if found is None:
        return LEFT
    row, match = found
    # A row isn't even locked if something changes by which others may refer to it.
    keys, compared = (
        [param for one in columns if one.is_key is is_key for param in one.params(*given[one.field], limit)]
        for is_key in (True, False)
    )
    tenant = tenant_sql(plan, save.using) or ""
    parts = _update_parts(save.using, sql.removesuffix(tail), (table, key), tuple(columns), tenant)
    told = event_params(row, save.using, "changes", *_given_by(tenant))
    written = Composed(parts, _COUNTS, "", [params[-1], *keys, *params[:-1], *compared, *told])
    with _notifying(save, plan, match) as tell:
        there, count, uid, object_id = run(written, plan.model, save.using) or (None, 0, None, "")
        if there != count or (keys and not there):
            return LEFT
        tell(uid, object_id)
    return statement.result_of_count(count)


def _given(values: Sequence[tuple[Any, Any]], params: Sequence[Any]) -> dict[str, tuple[Any, Any]] | None:
    """Return the value and the parameter of each field, by its name; None if there are expressions among the values."""
    if any(hasattr(value, "resolve_expression") for _, value in values):
        return None
    # Before Django 6.1, NULL is written into the statement.
    has_nulls = len(params) < len(values)
    if len(params) != sum(value is not None or not has_nulls for _, value in values):
        return None
    rest = iter(params)
    return {field.name: (value, None if has_nulls and value is None else next(rest)) for field, value in values}


def _given_by(tenant: str) -> tuple[str, ...]:
    """Return the column of the event that the statement fills from the row."""
    return ("tenant",) if tenant else ()


def _returned_for(tenant: str) -> str:
    """Return what RETURNING names for that column."""
    return f", {tenant} AS tenant" if tenant else ""


@lru_cache(512)
def _insert_parts(using: str, insert: str, key: str, returning: tuple[str, ...], tenant: str) -> str:
    returned = "".join(f", {column} AS r{at}" for at, column in enumerate(returning)) + _returned_for(tenant)
    return (
        f"n AS ({insert} RETURNING {key} AS key{returned}), "
        f"e AS ({event_sql(using, *_given_by(tenant))} FROM ({MADE} FROM n, {GIVEN} OFFSET 0) n OFFSET 0) q"
        " RETURNING uid, object_id)"
    )


@lru_cache(512)
def _update_parts(using: str, update: str, names: tuple[str, str], columns: tuple[Column, ...], tenant: str) -> str:
    (table, key), places = names, list(enumerate(columns))
    old = "".join(f", {column.name} AS o{at}" for at, column in places if not column.is_key)
    told = [(at, column) for at, column in places if not column.has_to_stay]
    # Qualified, as the table may have columns of these names.
    both = "".join(f", {table}.{column.name} AS n{at}, o.o{at}" for at, column in told) + _returned_for(tenant)
    stays = "".join(f" AND {column.is_told(column.name)}" for column in columns if column.is_key)
    rest = [column.is_told(f"o.o{at}") for at, column in places if not column.is_key]
    conditions = [f"{table}.{key} = o.key", *filter(None, rest)]
    changes = json_object([column.difference(f"n.o{at}", f"n.n{at}") for at, column in told])
    return (
        f"o AS (SELECT {key} AS key{old} FROM {table} WHERE {key} = %s{stays} FOR NO KEY UPDATE), "
        f"n AS ({update} FROM o WHERE {' AND '.join(conditions)} RETURNING o.key{both}), "
        f"e AS ({event_sql(using, 'changes', *_given_by(tenant))} FROM ({MADE}, jsonb_strip_nulls({changes})"
        f" AS changes FROM n, {GIVEN} OFFSET 0) n OFFSET 0) q WHERE q.changes <> '{{}}' RETURNING uid, object_id)"
    )


@contextmanager
def _notifying(save: SaveScope, plan: ModelPlan, match: Match) -> Iterator[Callable[[Any, str], None]]:
    """Give what notifies of the event that a statement wrote, in one transaction with it."""
    if match.notify and save.transaction is not None:
        save.transaction.open()

    def tell(uid: Any, object_id: str) -> None:
        if uid is not None:
            notify(uid, (plan.label, object_id), match, save.using)

    yield tell


_WRITTEN = ("(SELECT count(*) FROM n)", "(SELECT uid FROM e)", "(SELECT object_id FROM e)")
# More come in several statements, and each would write an event.
_MOST_MEMBERS = 500


def delete(statement: DeleteStatement, plan: ModelPlan, doomed: Mapping[Identity, DoomedObject]) -> Any:
    """Delete a row if it holds what its object has: the JSON of the event is made of that, here."""
    table, key = names_of(plan, statement.using)
    sql, params = statement.compiler.as_sql()
    if sql != f"DELETE FROM {table} WHERE {table}.{key} IN (%s)" or len(params) != 1:
        return LEFT
    noted = doomed.get((plan.model, params[0]))
    fields = plan.fields_for(EventType.DELETE)
    if noted is None or noted.instance is None or EventType.DELETE in plan.conditional:
        return LEFT
    stored = stored_values_of(noted.instance, plan, fields, statement.using)
    if stored is None:
        return LEFT
    connection = connections[statement.using]
    quote = connection.ops.quote_name
    compared = tuple((quote(str(field.column)), str(field.db_type(connection))) for field in fields.values())
    values = [field.get_db_prep_save(stored[name], connection) for name, field in fields.items()]
    members = {name: M2MChange(removed=sorted_keys(one for _, one in lost)) for name, lost in noted.members.items()}
    change = Change(
        event_type=EventType.DELETE,
        source=noted.source,
        using=statement.using,
        model=plan.model,
        pk=params[0],
        instance=noted.instance,
        fields={name: field_change((value, None)) for name, value in stored.items()},
        members={name: members[name] for name in plan.all_members if name in members},
    )
    tenant = tenant_sql(plan, statement.using) or ""
    parts = _delete_parts(statement.using, sql, (table, key), compared, tenant)
    # None of them: somebody has changed the row since the object was loaded.
    return _write(change, noted.object_repr, parts, [*params, *values], _given_by(tenant)) or LEFT


@lru_cache(512)
def _delete_parts(
    using: str, delete: str, names: tuple[str, str], compared: Sequence[tuple[str, str]], tenant: str
) -> str:
    table, key = names
    # CAST, because -32768::smallint, as drivers write it, is the negative of what is too large for a smallint.
    is_known = "".join(
        f" AND {table}.{name}::text {C} IS NOT DISTINCT FROM CAST(%s AS {kind})::text" for name, kind in compared
    )
    return (
        f"n AS ({delete}{is_known} RETURNING {table}.{key} AS key{_returned_for(tenant)}), "
        f"e AS ({event_sql(using, *_given_by(tenant))} FROM ({MADE} FROM n, {GIVEN} OFFSET 0) n OFFSET 0) q"
        " RETURNING uid, object_id)"
    )


def add_members(statement: InsertStatement, relation: M2MRelation, instance: models.Model) -> Any:
    """Insert the pairs of one owner: which of them are new is for the database to find."""
    [plan] = relation.plans
    keys = [getattr(one, relation.member_link.attname) for one in statement.objs]
    if not _are_told(statement, relation, instance) or not {int, UUID}.issuperset(map(type, keys)):
        return LEFT
    quote = connections[statement.using].ops.quote_name
    change = Change(
        event_type=EventType.M2M,
        source=Source.ORM,
        using=statement.using,
        model=plan.model,
        pk=instance.pk,
        instance=instance,
        members={relation.field.name: M2MChange(added=sorted_keys(keys))},
    )
    sql, params = statement.compiled()
    columns = quote(relation.owner_link.column), quote(relation.member_link.column)
    parts = _members_parts(statement.using, sql, relation.field.name, *columns)
    return LEFT if _write(change, text_of(instance), parts, params, ("changes",)) is LEFT else []


def _are_told(statement: InsertStatement, relation: M2MRelation, instance: models.Model) -> bool:
    """Return whether the pairs are all that the call of a manager writes, and SQL can describe them."""
    [plan] = relation.plans
    owner, member = relation.owner_link, relation.member_link
    table = table_of(relation.through, statement.using)
    return (
        len(statement.objs) <= _MOST_MEMBERS
        and not statement.returning
        and owner.target_field is plan.model._meta.pk
        and {getattr(one, owner.attname) for one in statement.objs} == {instance.pk}
        and not relation.is_symmetrical
        and isinstance(plain_field(member.target_field), (*INTEGERS, models.UUIDField))
        and not is_masked(member.target_field)
        and not m2m_changed.has_listeners(relation.through)
        # What a text asks for may be the related objects.
        and not may_query(instance)
        and not is_suspended(plan.model)
        and plan.tenant is None
        and EventType.M2M not in plan.conditional
        and table.is_plain
        and table.is_readable
        and relation.through._meta.db_table not in PARTS
    )


@lru_cache(512)
def _members_parts(using: str, insert: str, field: str, owner: str, member: str) -> str:
    name = field.replace("%", "%%").replace("'", "''")
    changes = f"jsonb_build_object('{name}', jsonb_build_object('added', n.added, 'removed', '[]'::jsonb))"
    added = "(SELECT owner AS key, jsonb_agg(member ORDER BY member) AS added FROM n GROUP BY owner) n"
    return (
        f"n AS ({insert} RETURNING {owner} AS owner, {member} AS member), "
        f"e AS ({event_sql(using, 'changes')} FROM ({MADE}, {changes} AS changes FROM {added}, {GIVEN} OFFSET 0) n"
        " OFFSET 0) q RETURNING uid, object_id)"
    )


def _write(change: Change, text: str | None, parts: str, params: Sequence[Any], given: tuple[str, ...]) -> Any:
    """Run a statement with the event of its change, and return how many rows it wrote; or LEFT."""
    found = described(change, text)
    if found is None or change.model is None:
        return LEFT
    row, match = found
    written = Composed(parts, _WRITTEN, "", [*params, *event_params(row, change.using, *given)])
    told = run(written, change.model, change.using)
    if told is None:
        return LEFT
    count, uid, object_id = told
    if uid is not None:
        notify(uid, (row.model, object_id), match, change.using)
    return count
