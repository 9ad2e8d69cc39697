"""What else is one row: the deletion of an object that is in memory, and the related objects that a manager adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db import connections, models
from django.db.models.signals import m2m_changed

from django_signal_audit.capture.compilers import DeleteStatement, InsertStatement
from django_signal_audit.capture.engines import LEFT
from django_signal_audit.capture.new_rows import stored_values_of
from django_signal_audit.capture.scope import DoomedObject, Identity
from django_signal_audit.capture.tables import table_of
from django_signal_audit.capture.through_rows import M2MRelation, sorted_keys
from django_signal_audit.context.scopes import is_suspended
from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.changes import Change, M2MChange, field_change
from django_signal_audit.events.payloads import may_query, text_of
from django_signal_audit.events.secret_fields import is_masked
from django_signal_audit.events.values import plain_field
from django_signal_audit.recorder import described, notify
from django_signal_audit.rules.plans import ModelPlan

from .columns import INTEGERS, C, tenant_sql
from .saves import given_by, returned_for
from .statements import GIVEN, MADE, PARTS, Composed, event_params, event_sql, names_of, run

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
    return _write(change, noted.object_repr, parts, [*params, *values], given_by(tenant)) or LEFT


@lru_cache(512)
def _delete_parts(
    using: str, delete: str, names: tuple[str, str], compared: Sequence[tuple[str, str]], tenant: str
) -> str:
    table, key = names
    is_known = "".join(
        f" AND {table}.{name}::text {C} IS NOT DISTINCT FROM (%s::{kind})::text" for name, kind in compared
    )
    return (
        f"n AS ({delete}{is_known} RETURNING {table}.{key} AS key{returned_for(tenant)}), "
        f"e AS ({event_sql(using, *given_by(tenant))} FROM ({MADE} FROM n, {GIVEN} OFFSET 0) n OFFSET 0) q"
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
