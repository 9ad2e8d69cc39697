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


def _trigger(table: str, action: str) -> str:
    return f"{NAME}_{table.rpartition('_')[2]}_{action.lower()}"


def guarding(connection: BaseDatabaseWrapper) -> list[str]:
    """Return the statements that make the triggers."""
    quote = connection.ops.quote_name
    pairs = [(table, action, quote(_trigger(table, action))) for table in guarded_tables() for action in _ACTIONS]
    begin = [f"CREATE TRIGGER {name} BEFORE {action} ON {quote(table)}" for table, action, name in pairs]
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
    return [*unguarding(connection), *(f"{start} {body}" for start in begin)]


def unguarding(connection: BaseDatabaseWrapper) -> list[str]:
    """Return the statements that remove the triggers, if they are there."""
    quote = connection.ops.quote_name
    of_table = connection.vendor == "postgresql"
    return [
        f"DROP TRIGGER IF EXISTS {quote(_trigger(table, action))}" + (f" ON {quote(table)}" if of_table else "")
        for table in guarded_tables()
        for action in _ACTIONS
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
