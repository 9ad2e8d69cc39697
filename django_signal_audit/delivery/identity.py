"""Which database this is: workers send nothing from a copy of the one that they are meant to send from.

What is confirmed stands in the database itself, so a copy brings it along, and is told by another host, name or server.
The first one that delivers confirms it, as there is nothing yet that could be a copy.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from django.db import DatabaseError, connections, transaction

from django_signal_audit.conf import get_settings, on_settings_changed
from django_signal_audit.models import ConfirmedDatabase
from django_signal_audit.models.events import utc_now

logger = logging.getLogger("django_signal_audit")

NOT_ENABLED = 'SIGNAL_AUDIT["ENABLED"] is False'
# Of the databases that this process has asked about: those it sends from, and those it has complained of.
_confirmed: set[str] = set()
_refused: set[str] = set()


def forget() -> None:
    """Ask again which databases are confirmed."""
    _confirmed.clear()
    _refused.clear()


on_settings_changed(forget)


def obstacle(using: str) -> str:
    """Return why nothing is sent from a database now, ``""`` if nothing is in the way.

    A database that is confirmed is asked once per process.
    """
    if not get_settings().enabled:
        return NOT_ENABLED
    if using in _confirmed:
        return ""
    problem = refusal(using)
    if not problem:
        if not ConfirmedDatabase.objects.using(using).exists():
            confirm(using)
        _confirmed.add(using)
    return problem


def may_send(using: str) -> bool:
    """Return whether messages are sent from a database now; log once why not."""
    problem = obstacle(using)
    if problem and using not in _refused:
        _refused.add(using)
        level = logging.INFO if problem == NOT_ENABLED else logging.ERROR
        logger.log(level, "Nothing is sent: %s.", problem)
    return not problem


def refusal(using: str) -> str:
    """Return why a database is not sent from, ``""`` if it is confirmed, or if none is that it could be a copy of."""
    name = identity(using)
    known = dict(ConfirmedDatabase.objects.using(using).order_by("confirmed_at").values_list("key", "name"))
    if not known or _key(name) in known:
        return ""
    return (
        f"this database is {name}, and messages were sent from {' and '.join(known.values())}. It may be a copy. "
        "For a copy, run audit_deliver --discard-pending first. To send from it, run audit_deliver --confirm-database"
    )


def confirm(using: str) -> str:
    """Note that messages are sent from this database, and return its identity."""
    name = identity(using)
    row = ConfirmedDatabase(key=_key(name), name=name, confirmed_at=utc_now())
    ConfirmedDatabase.objects.using(using).bulk_create([row], ignore_conflicts=True)
    forget()
    return name


def identity(using: str) -> str:
    """Return what a database is told from its copies by: host and name, and on PostgreSQL the server's own number."""
    connection = connections[using]
    settings = connection.settings_dict
    if connection.vendor == "sqlite":
        name = str(settings["NAME"])
        is_file = not connection.is_in_memory_db()  # type: ignore[attr-defined]
        return f"{Path(name).resolve() if is_file else name} (SQLite)"
    where = f'"{_database_name(using)}" at "{settings["HOST"] or "localhost"}"'
    return f"{where} ({', '.join(filter(None, (connection.display_name, _server(using))))})"


def _database_name(using: str) -> str:
    # The settings may leave it to a service file.
    function = "current_database" if connections[using].vendor == "postgresql" else "database"
    with connections[using].cursor() as cursor:
        cursor.execute(f"SELECT {function}()")
        return str(cursor.fetchone()[0])


def _server(using: str) -> str:
    """Return what a restored dump has another of, ``""`` where there is no such thing or nobody may ask."""
    if connections[using].vendor != "postgresql":
        return ""
    sql = "SELECT system_identifier, oid FROM pg_control_system(), pg_database WHERE datname = current_database()"
    try:
        with transaction.atomic(using=using), connections[using].cursor() as cursor:
            cursor.execute(sql)
            return "/".join(map(str, cursor.fetchone()))
    except DatabaseError:
        return ""


def _key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
