"""Statements that PostgreSQL's server keeps: psycopg 3 prepares them at their second use, around our own calls alone.

psycopg keeps statements by names of its own. Behind a pooler these may be another client's, so the first statement of a
connection asks whether the server's process is the one that the driver connected to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from time import monotonic
from typing import Any

from django.db import DatabaseError
from django.db.backends.base.operations import BaseDatabaseOperations

# What gives the number of the server's process.
PROCESS = "pg_backend_pid()"
_DJANGOS_CURSORS = "django.db.backends.postgresql.base"
_PLAN_SECONDS = 300


def may_prepare(connection: Any) -> bool | None:
    """Return whether the server may keep statements of a connection, None if nothing has asked for its process yet."""
    raw, is_direct = vars(connection).get("audit_prepares") or (None, False)
    return is_direct if raw is not None and raw is connection.connection else None


def note_process(connection: Any, process: int) -> None:
    """Note which process of the server has answered a connection."""
    raw = connection.connection
    is_direct = process == raw.info.backend_pid and raw.cursor_factory.__module__ == _DJANGOS_CURSORS
    vars(connection)["audit_prepares"] = (raw, is_direct)


def prepare_no_more(connection: Any) -> None:
    """Send the statements of a connection as text from now on."""
    vars(connection)["audit_prepares"] = (connection.connection, False)


def is_lost(error: Exception) -> bool:
    """Return whether a prepared statement isn't there any more, after DISCARD ALL, or gives other columns now."""
    return getattr(error.__cause__, "sqlstate", None) in ("26000", "0A000")


@contextmanager
def executed(connection: Any, sql: str, params: Sequence[Any], *, is_prepared: bool) -> Iterator[Any]:
    """Run a statement, and yield its cursor."""
    with connection.cursor() as cursor:
        if is_prepared:
            cursor.cursor = _prepared_cursor()(cursor.cursor.connection)
            # A plan that was made for a small table has to end some day.
            sql = f"{sql} /* {int(monotonic() // _PLAN_SECONDS)} */"
        cursor.execute(sql, params)
        if is_prepared and connection.queries_logged:
            _tell_log(connection, cursor, sql, params)
        yield cursor


def change(connection: Any, sql: str, params: Sequence[Any]) -> int:
    """Run a statement that changes rows, outside of any transaction, and return how many it has changed.

    Args:
        connection: A connection by psycopg 3 that commits each statement.
        sql: It ends with ``RETURNING``, and what ``PROCESS`` is.
        params: Its parameters.

    """
    connection.ensure_connection()
    is_known = may_prepare(connection)
    if is_known:
        try:
            with executed(connection, sql, params, is_prepared=True) as cursor:
                return int(cursor.rowcount)
        except DatabaseError as error:
            if not is_lost(error):
                raise
            prepare_no_more(connection)
    with executed(connection, sql, params, is_prepared=False) as cursor:
        if is_known is None and (row := cursor.fetchone()):
            note_process(connection, row[0])
        return int(cursor.rowcount)


def _tell_log(connection: Any, cursor: object, sql: str, params: Sequence[Any]) -> None:
    """Give Django's log of queries the text of a prepared statement, which it lacks before Django 6.1."""
    entry = connection.queries_log[-1] if connection.queries_log else {}
    if entry.get("sql", "") is None:
        entry["sql"] = BaseDatabaseOperations.last_executed_query(connection.ops, cursor, sql, params)


@cache
def _prepared_cursor() -> Any:
    """Return the class of cursors that prepare a statement at its second use."""
    psycopg = import_module("psycopg")

    class PreparedCursor(psycopg.Cursor):  # type: ignore[name-defined,misc]
        def execute(self, query: Any, params: Any = None, **kwargs: Any) -> Any:
            connection = self.connection
            # Around this call alone: Django's own statements must not be kept.
            before, connection.prepare_threshold = connection.prepare_threshold, 1
            try:
                return super().execute(query, params, **kwargs)
            finally:
                connection.prepare_threshold = before

    return PreparedCursor
