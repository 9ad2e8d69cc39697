"""Triggers that refuse to change or delete what is sealed, and how pruning and erasing get past them.

They stop accidents and other people's SQL. The owner of the tables can drop them: the evidence shows that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from django.apps import apps
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

NAME = "dsa_guard"
_ALLOWS = "django_signal_audit.allows"
_MESSAGE = "The audit log is only added to: prune it with audit_prune, erase personal data with audit_erase."
_GUARDED = ("auditevent", "auditleaf", "auditcheckpoint", "auditreceipt", "auditprune")
_ACTIONS = ("UPDATE", "DELETE")


def guarded_tables() -> tuple[str, ...]:
    """Return the tables that are only added to."""
    config = apps.get_app_config("django_signal_audit")
    return tuple(config.get_model(name)._meta.db_table for name in _GUARDED)


def quoted_tables(connection: BaseDatabaseWrapper) -> list[str]:
    """Return the names, as SQL has them, of the tables that are only added to, and of their partitions.

    On PostgreSQL the rows of a partition can be changed by its own name, where neither the triggers nor the rights of
    its table are asked for.
    """
    tables = list(map(connection.ops.quote_name, guarded_tables()))
    if connection.vendor != "postgresql":
        return tables
    sql = (
        "WITH RECURSIVE found(id) AS (SELECT unnest(%s::regclass[])::oid "
        "UNION SELECT inhrelid FROM pg_inherits JOIN found ON inhparent = id) "
        "SELECT id::regclass::text FROM found WHERE id <> ALL(%s::regclass[]::oid[]) ORDER BY id"
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(name)::text FROM unnest(%s::text[]) AS name", [tables])
        there = [name for (name,) in cursor.fetchall() if name]
        cursor.execute(sql, [there, there])
        return [*tables, *(name for (name,) in cursor.fetchall())]


def _triggers(connection: BaseDatabaseWrapper) -> list[tuple[str, str, str]]:
    """Return the table, the action and the name of each trigger."""
    quote = connection.ops.quote_name
    own = dict(zip(map(quote, guarded_tables()), _GUARDED, strict=True))
    # A statement of SQLite that replaces a row counts as no deletion, unless the connection asks for that.
    actions = (*_ACTIONS, "INSERT") if connection.vendor == "sqlite" else _ACTIONS
    return [
        (table, action, quote(f"{NAME}_{own.get(table, 'partition')}_{action.lower()}"))
        for table in quoted_tables(connection)
        for action in actions
    ]


def guarding(connection: BaseDatabaseWrapper) -> list[str]:
    """Return the statements that make the triggers."""
    triggers = _triggers(connection)
    begin = [f"CREATE TRIGGER {name} BEFORE {action} ON {table}" for table, action, name in triggers]
    if connection.vendor == "postgresql":
        function = (
            f"CREATE OR REPLACE FUNCTION {NAME}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"IF current_setting('{_ALLOWS}', true) IS DISTINCT FROM 'on' THEN RAISE EXCEPTION "
            f"'{_MESSAGE}' USING ERRCODE = 'insufficient_privilege'; END IF; RETURN NULL; END $$"
        )
        each = [f"{start} FOR EACH STATEMENT EXECUTE FUNCTION {NAME}()" for start in begin]
        return [*unguarding(connection), function, *each]
    if connection.vendor == "mysql":
        body = (
            "FOR EACH ROW BEGIN IF @dsa_allows IS NULL THEN "
            f"SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{_MESSAGE}'; END IF; END"
        )
    else:
        body = f"BEGIN SELECT RAISE(ABORT, '{_MESSAGE}'); END"
        begin = [
            f"{start} {_when_it_replaces(connection, table)}" if action == "INSERT" else start
            for start, (table, action, _name) in zip(begin, triggers, strict=True)
        ]
    return [*unguarding(connection), *(f"{start} {body}" for start in begin)]


def _when_it_replaces(connection: BaseDatabaseWrapper, table: str) -> str:
    """Return the condition under which a row that is inserted on SQLite would take the place of another one."""
    quote = connection.ops.quote_name
    models = map(apps.get_app_config("django_signal_audit").get_model, _GUARDED)
    [model] = [model for model in models if quote(model._meta.db_table) == table]
    keys = [[field.name] for field in model._meta.local_fields if field.unique]
    keys += [list(constraint.fields) for constraint in model._meta.total_unique_constraints]
    column = {field.name: quote(str(field.column)) for field in model._meta.local_fields}
    columns = [[column[name] for name in key] for key in keys]
    same = [" AND ".join(f"{name} = NEW.{name}" for name in key) for key in columns]
    if model._meta.auto_field:
        # What the database is to number itself is -1 here.
        number = column[model._meta.auto_field.name]
        same[0] = f"{number} = NEW.{number} AND NEW.{number} <> -1"
    return f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {' OR '.join(same)})"  # noqa: S608  # our own names


def unguarding(connection: BaseDatabaseWrapper) -> list[str]:
    """Return the statements that remove the triggers, if they are there."""
    of_table = connection.vendor == "postgresql"
    return [
        f"DROP TRIGGER IF EXISTS {name}" + (f" ON {table}" if of_table else "")
        for table, _action, name in _triggers(connection)
    ]


@contextmanager
def changes_allowed(using: str) -> Iterator[None]:
    """Let the block change and delete what the triggers guard, in a transaction."""
    with transaction.atomic(using=using, savepoint=False):
        yield from _allow(connections[using])


def _allow(connection: BaseDatabaseWrapper) -> Iterator[None]:
    if connection.vendor == "postgresql":
        # For the rest of the transaction: the code that opened it trusts what is in it.
        _execute(connection, [f"SELECT set_config('{_ALLOWS}', 'on', true)"])
        yield
    elif connection.vendor == "mysql":
        _execute(connection, ["SET @dsa_allows = 1"])
        try:
            yield
        finally:
            _execute(connection, ["SET @dsa_allows = NULL"])
    else:
        # Nothing tells a trigger who asks. It is away for the transaction, in which nobody else writes.
        made = guards_of(connection)
        _execute(connection, unguarding(connection) if made else [])
        yield
        _execute(connection, made)


def guards_of(connection: BaseDatabaseWrapper) -> list[str]:
    """Return the statements of the triggers that a SQLite database has."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name LIKE %s", [f"{NAME}_%"])
        return [row[0] for row in cursor.fetchall()]


def _execute(connection: BaseDatabaseWrapper, statements: Sequence[str]) -> None:
    if statements:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
