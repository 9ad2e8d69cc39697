"""Which databases the package supports: what a database does differently goes unrecorded without a word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

from django_signal_audit.problems import Problem
from django_signal_audit.rules.registry import get_registry

SUPPORTED = "PostgreSQL, MariaDB or SQLite"
# Their names, by ``connection.vendor``. Backends that wrap one of Django's own have its vendor.
_NAMES = {"mysql": "MySQL", "oracle": "Oracle", "microsoft": "SQL Server", "cockroachdb": "CockroachDB"}
_DUMMY = "django.db.backends.dummy"
# Seconds to wait for a server that has to be asked what it is.
_PATIENCE = 3


def database_problems(databases: Sequence[str] | None = None) -> Iterator[Problem]:
    """Report databases that may hold audited rows and are not supported.

    Args:
        databases: Their aliases; all if None.

    """
    for alias in databases or connections:
        connection = connections[alias]
        name = _unsupported(connection) if _holds_audited_rows(alias) else ""
        if name:
            yield Problem(
                "E029",
                f'DATABASES["{alias}"]["ENGINE"]',
                f"is {connection.settings_dict['ENGINE']!r}, and {name} is not supported: changes would go unrecorded.",
                f"Use {SUPPORTED}, or keep the audited models from this database by a database router.",
            )


def _holds_audited_rows(alias: str) -> bool:
    return any(
        router.allow_migrate_model(alias, model) or router.db_for_write(model) == alias
        for model in get_registry().plans
    )


def _unsupported(connection: BaseDatabaseWrapper) -> str:
    """Return the name of the database if it is not supported, ``""`` if it is or if it cannot be known."""
    if connection.vendor in ("postgresql", "sqlite") or connection.settings_dict["ENGINE"] == _DUMMY:
        return ""
    if connection.vendor == "mysql" and _is_mariadb(connection) is not False:
        return ""
    name = getattr(type(connection), "display_name", None)  # where it is a property, it may ask the server
    return _NAMES.get(connection.vendor) or (name if isinstance(name, str) else connection.vendor)


def _is_mariadb(connection: BaseDatabaseWrapper) -> bool | None:
    """Return whether the server is MariaDB, None if it does not answer: MySQL has the same backend in Django.

    An open connection is asked. Otherwise one is made for the question, which does not wait for long.
    """
    if connection.connection is not None:
        return _ask(connection)
    probe = connection.copy()
    probe.settings_dict["OPTIONS"] = {"connect_timeout": _PATIENCE, **probe.settings_dict.get("OPTIONS", {})}
    try:
        return _ask(probe)
    finally:
        probe.close()


def _ask(connection: BaseDatabaseWrapper) -> bool | None:
    try:
        return bool(connection.mysql_is_mariadb)  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001  # the server is away, or tests forbid queries: checks have to go on without it
        return None
