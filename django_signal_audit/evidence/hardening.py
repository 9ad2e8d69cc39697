"""Hardening: the statements after which the application can only add to the audit log, and what is still open."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_signal_audit.conf import get_settings
from django_signal_audit.evidence.config import PATH, get_evidence
from django_signal_audit.evidence.sealing import RECEIPT_EVENT, unsealed
from django_signal_audit.evidence.verification import is_late
from django_signal_audit.models import AuditCheckpoint, AuditEvent
from django_signal_audit.models.guards import guarded_tables, guarding, guards_of, quoted_tables, unguarding
from django_signal_audit.models.tables import has_table
from django_signal_audit.problems import Problem

_ROLE = re.compile(r"[\w.$-]+(@[\w.%:-]+)?")
# What MariaDB says of rights: those of the user, and of the roles in force. DROP is what it wants for TRUNCATE.
_NAME = r"(?:`(?P<{0}>(?:[^`]|``)+)`|\*)"
_GRANT = re.compile(rf"GRANT (?P<rights>.+) ON {_NAME.format('database')}\.{_NAME.format('table')} TO ")
# All rights on a table of MariaDB but those to read it and to add to it.
_TAKEN = "UPDATE, DELETE, CREATE, DROP, REFERENCES, INDEX, ALTER, CREATE VIEW, SHOW VIEW, TRIGGER, DELETE HISTORY"
_CHANGES = re.compile(r"\b(ALL PRIVILEGES|UPDATE|DELETE|DROP)\b")


def is_role(text: str) -> bool:
    """Return whether a text can be the name of a role: on MariaDB with the host, ``app@localhost``."""
    return _ROLE.fullmatch(text) is not None


def statements(using: str, role: str) -> list[str]:
    """Return what makes the triggers and, for a role, the grants.

    Args:
        using: The database.
        role: The role of the application; ``""`` for the triggers alone.

    """
    connection = connections[using]
    grants = {"postgresql": _grants_postgresql, "mysql": _grants_mariadb}.get(connection.vendor)
    return [*guarding(connection), *(grants(connection, role) if grants and role else ())]


def _grants_postgresql(connection: BaseDatabaseWrapper, role: str) -> Iterator[str]:
    quote = connection.ops.quote_name
    schema, name = quote(_one(connection, "SELECT current_schema()")), quote(role)
    tables = ", ".join(map(quote, guarded_tables()))
    with_partitions = ", ".join(quoted_tables(connection))
    yield f"GRANT USAGE ON SCHEMA {schema} TO {name}"
    yield f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {name}"
    yield f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {name}"
    yield f"REVOKE ALL ON {with_partitions} FROM PUBLIC, {name}"
    yield f"GRANT SELECT, INSERT ON {tables} TO {name}"


def _grants_mariadb(connection: BaseDatabaseWrapper, role: str) -> Iterator[str]:
    quote = connection.ops.quote_name
    user, _, host = role.partition("@")
    name, database = f"'{user}'@'{host or '%'}'", quote(str(connection.settings_dict["NAME"]))
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
    # What is granted comes first: an application that is at work is never without a right that it keeps.
    for table in tables:
        on_table = f"ON {database}.{quote(table)}"
        if table in guarded_tables():
            yield f"GRANT SELECT, INSERT {on_table} TO {name}"
            yield f"REVOKE {_TAKEN} {on_table} FROM {name}"
        else:
            yield f"GRANT SELECT, INSERT, UPDATE, DELETE {on_table} TO {name}"
    # What is granted on a whole database can't be taken from one of its tables. Only administrators see the rights of
    # others, and a right that nobody has can't be revoked: so one is granted.
    yield f"GRANT SELECT ON {database}.* TO {name}"
    yield f"REVOKE ALL PRIVILEGES ON {database}.* FROM {name}"


def _one(connection: BaseDatabaseWrapper, sql: str, *values: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return str(cursor.fetchone()[0])


def may_change(using: str) -> bool:
    """Return whether the database lets this process change or delete what is only added to."""
    connection = connections[using]
    if connection.vendor == "postgresql":
        ask = (
            "SELECT has_table_privilege(current_user, %s, 'UPDATE, DELETE, TRUNCATE') "
            "OR has_any_column_privilege(current_user, %s, 'UPDATE') "
            # Whoever may become the owner may do all that.
            "OR pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = %s::regclass), 'MEMBER')"
        )
        return any(_one(connection, ask, *[table] * 3) == "True" for table in quoted_tables(connection))
    if connection.vendor == "mysql":
        with connection.cursor() as cursor:
            cursor.execute("SHOW GRANTS")
            grants = [found for (text,) in cursor.fetchall() if (found := _GRANT.match(text))]
        return any(_is_of_log(grant, connection) and _CHANGES.search(grant["rights"]) for grant in grants)
    return len(guards_of(connection)) < len(unguarding(connection))


def _is_of_log(grant: re.Match[str], connection: BaseDatabaseWrapper) -> bool:
    """Return whether rights are on tables that are only added to; those on databases may be of a pattern."""
    if grant["table"] not in (None, *guarded_tables()):
        return False
    return grant["database"] is None or _one(connection, "SELECT DATABASE() LIKE %s", grant["database"]) == "1"


def hardening_problems(databases: Iterable[str]) -> Iterator[Problem]:
    """Report databases that let the application delete events, and events that should be sealed by now."""
    if not get_settings().evidence:
        return
    for using in databases:
        if not has_table(AuditEvent, using) or not has_table(AuditCheckpoint, using):
            continue
        path = f'DATABASES["{using}"]'
        if may_change(using):
            message = "lets the application change or delete audit events, or their leaves and checkpoints."
            hint = "Run manage.py audit_harden; on PostgreSQL and MariaDB with --role, for a role that owns no tables."
            yield Problem("W068", path, message, hint)
        waiting = unsealed(using).exclude(event_type=RECEIPT_EVENT)
        if waiting.exists() and is_late(using, waiting):
            seconds = int(get_evidence().interval.total_seconds())
            message = f"has events that have waited for more than {seconds} s to be sealed ({PATH})."
            yield Problem("W069", path, message, "Run manage.py audit_deliver --watch or audit_seal --watch.")
