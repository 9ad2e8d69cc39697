"""Errors of the database that pass: deadlocks, lock timeouts, serialization failures and lost connections."""

from __future__ import annotations

import logging
import sqlite3

from django.db import Error, InterfaceError, OperationalError

logger = logging.getLogger("django_signal_audit")

# Classes of SQLSTATE: connection exceptions, transaction rollbacks, and what an operator did to the server.
_STATES = ("08", "40", "55P03", "57")
_MYSQL_NUMBERS = {1020, 1205, 1213, 2006, 2013, 3572, 4031}
_SQLITE_CODES = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def is_transient(error: BaseException) -> bool:
    """Return whether the same transaction may well succeed when it is run again: applications repeat it."""
    if not isinstance(error, Error):
        return False
    cause: object = error.__cause__
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    if state is not None:
        return str(state).startswith(_STATES)
    code = getattr(cause, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in _SQLITE_CODES
    number = error.args[0] if error.args else None
    if isinstance(number, int):
        return number in _MYSQL_NUMBERS
    # Drivers of PostgreSQL give no state when there is no server to ask.
    return isinstance(error, (InterfaceError, OperationalError)) and type(cause).__module__.startswith("psycopg")


def log_error(error: BaseException, message: str, *args: object, level: int = logging.ERROR) -> None:
    """Log what a long-running process survives: in one line if the database is away, else with the traceback.

    Args:
        error: The error, which is being handled.
        message: What follows from it, without a full stop.
        *args: The values for the message.
        level: The level of the log.

    """
    if isinstance(error, (OperationalError, InterfaceError)):
        logger.log(level, f"{message}: %s", *args, " ".join(str(error).split()))
    else:
        logger.log(level, f"{message}.", *args, exc_info=error)
