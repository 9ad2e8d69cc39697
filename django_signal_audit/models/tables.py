"""Whether a database has a table yet: this package's own, and those of children's models."""

from __future__ import annotations

import logging

from django.db import DatabaseError, OperationalError, connections, models, router, transaction

from . import AuditEvent

logger = logging.getLogger("django_signal_audit")

# Takes the write lock of a SQLite database.
LOCKING_STATEMENT = f'UPDATE "{AuditEvent._meta.db_table}" SET id = id WHERE 0'  # noqa: S608  # our own table's name

_QUOTES = frozenset('"`')
# What the databases say of a table, a schema or a database that is not there.
_MISSING_STATES = {"42P01", "3F000"}
_MISSING_NUMBERS = {1049, 1146}
_MISSING_TEXTS = ("no such table", "unknown database")

_ready: set[tuple[str, str]] = set()
_warned: set[tuple[str, str]] = set()
# What was found on a database; what was not found is asked for again.
_tables: dict[tuple[str, str], set[str]] = {}


def is_ready(using: str) -> bool:
    """Return whether events can be written on a database.

    They cannot while it is being migrated and our tables are still to come; what is saved then goes unrecorded, as
    without the package, and a warning says so once. A database that the routers keep our tables from counts as ready:
    writing there fails, as it should.
    """
    key = _key(using)
    if key in _ready:
        return True
    if router.allow_migrate_model(using, AuditEvent) and not _has_events(using):
        if key not in _warned:
            _warned.add(key)
            logger.warning('Changes on database "%s" are not audited until "migrate" has made the tables.', using)
        return False
    _ready.add(key)
    return True


def _has_events(using: str) -> bool:
    """Return whether the table of the events is there.

    On SQLite a write is tried: a question would be the first read of a transaction that is going to write, which is
    then refused as soon as somebody else writes in between. See ``capture.transactions.lock_database``.
    """
    connection = connections[using]
    if connection.vendor != "sqlite":
        return has_table(AuditEvent, using)
    with connection.cursor() as cursor:
        try:
            cursor.execute(LOCKING_STATEMENT)
        except OperationalError as error:
            if "no such table" in str(error):
                return False
            raise
    return True


def has_table(model: type[models.Model], using: str) -> bool:
    """Return whether the table or view of a model is there.

    It may not be: its migration has yet to run, or nobody migrates it (``managed = False``). The first question on a
    database costs a query, and so does every one whose answer is no.
    """
    name, known = model._meta.db_table.casefold(), _tables.setdefault(_key(using), set())
    if name in known or not _QUOTES.isdisjoint(name):  # quotes name a table of another schema
        return True
    connection = connections[using]
    with connection.cursor() as cursor:
        known |= {found.casefold() for found in connection.introspection.table_names(cursor, include_views=True)}
    return name in known


def table_exists(model: type[models.Model], using: str) -> bool:
    """Return whether the table or view of a model can be read, in whatever schema and however its name is written.

    The database is asked with a query of its own each time: it alone knows what a quoted name leads to.
    """
    connection = connections[using]
    table = connection.ops.quote_name(model._meta.db_table)
    try:
        with transaction.atomic(using=using), connection.cursor() as cursor:
            cursor.execute(f"SELECT 1 FROM {table} WHERE 1 = 0")  # noqa: S608  # the project's own table's name
    except DatabaseError as error:
        if _says_missing(error):
            return False
        raise
    return True


def _says_missing(error: DatabaseError) -> bool:
    cause = error.__cause__
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    number = error.args[0] if error.args else None
    return state in _MISSING_STATES or number in _MISSING_NUMBERS or any(text in str(error) for text in _MISSING_TEXTS)


def _key(using: str) -> tuple[str, str]:
    return using, str(connections[using].settings_dict["NAME"])
