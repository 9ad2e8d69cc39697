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
# What changes or takes away rows; DROP is what MariaDB wants for TRUNCATE.
_MAY_CHANGE = (
    "SELECT COUNT(*) FROM information_schema.{}_privileges "
    "WHERE privilege_type IN ('DELETE', 'UPDATE', 'DROP') AND grantee = %s"
)
_MAY_ON_DATABASE = (
    "SELECT COUNT(*) FROM information_schema.schema_privileges WHERE grantee = %s AND table_schema = DATABASE()"
)


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
    if int(_one(connection, _MAY_ON_DATABASE, name)):
        # What is granted on a whole database cannot be taken from one of its tables.
        yield f"REVOKE ALL PRIVILEGES ON {database}.* FROM {name}"
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
    for table in tables:
        rights = "SELECT, INSERT" if table in guarded_tables() else "SELECT, INSERT, UPDATE, DELETE"
        yield f"GRANT {rights} ON {database}.{quote(table)} TO {name}"


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
        user, _, host = _one(connection, "SELECT CURRENT_USER()").rpartition("@")
        tables = ", ".join(f"'{table}'" for table in guarded_tables())
        return any(
            int(_one(connection, f"{_MAY_CHANGE.format(kind)}{where}", f"'{user}'@'{host}'"))
            for kind, where in (
                ("user", ""),
                ("schema", " AND DATABASE() LIKE table_schema"),  # rights may be on databases of a pattern
                ("table", f" AND table_schema = DATABASE() AND table_name IN ({tables})"),
                ("column", f" AND table_schema = DATABASE() AND table_name IN ({tables})"),
            )
        )
    return len(guards_of(connection)) < len(unguarding(connection))


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
