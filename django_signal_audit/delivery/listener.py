"""Waiting for work: until a commit says that there is some, where the database can, and for a while elsewhere."""

from __future__ import annotations

import logging
import selectors
import threading
import time
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from django.db import Error, connections

from django_signal_audit.delivery.pending import SIGNAL
from django_signal_audit.transient import log_error

logger = logging.getLogger("django_signal_audit")

# How soon a signal to stop is seen while we listen.
_SLICE = 0.5
# Seconds between two tries to connect.
_RECONNECT_SECONDS = 5.0
# Seconds that a notice may take from one connection to another.
_PATIENCE = 2.0


class Listener:
    """Listens on a connection of its own to PostgreSQL (psycopg 3); elsewhere it sleeps.

    A notice that is missed costs the interval of the polls: while nobody was connected, or behind a pooler that hands
    each transaction another connection.
    """

    def __init__(self, using: str) -> None:
        self._using = using
        self._connection: Any = None
        self._is_pooled = False
        self._next_try = 0.0

    def __enter__(self) -> Self:
        self._connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._close()

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        """Return whether there may be work: after so many seconds, or once ``stop`` is set, nobody knows."""
        if self._connection is None:
            stop.wait(seconds)
            self._connect()
            return False
        end = time.monotonic() + seconds
        while not stop.is_set() and (left := end - time.monotonic()) > 0:
            if self._hears(min(left, _SLICE)):
                return True
        return False

    def _connect(self) -> None:
        ours: Any = connections[self._using]
        # psycopg 2 does not tell a connection's notices from other reasons to read it.
        if ours.vendor != "postgresql" or ours.Database.__name__ != "psycopg":
            return
        if self._is_pooled or time.monotonic() < self._next_try:
            return
        fresh = _copy(ours)
        try:
            fresh.ensure_connection()
            if self._is_ours_alone(fresh):
                with fresh.cursor() as cursor:
                    cursor.execute(f"LISTEN {SIGNAL}")
                self._connection = fresh
                return
        except Error as error:
            self._next_try = time.monotonic() + _RECONNECT_SECONDS
            message = 'Cannot LISTEN on the database "%s"; falling back to polling'
            log_error(error, message, self._using, level=logging.WARNING)
        fresh.close()

    def _is_ours_alone(self, fresh: Any) -> bool:
        """Return whether notices reach a connection while it is idle.

        A pooler such as PgBouncer in transaction mode lends us a connection of its own for each statement. If that
        listened, it would go on for others, and we would hear nothing. So a name that nobody else uses is tried.
        """
        probe, heard = f"{SIGNAL}_{uuid4().hex}", threading.Event()

        def hear(notice: Any) -> None:
            if notice.channel == probe:
                heard.set()

        # Without a handler, psycopg would keep all notices for one that may come.
        fresh.connection.add_notify_handler(hear)
        with fresh.cursor() as cursor:
            cursor.execute(f"LISTEN {probe}")
        # Told from another connection: the pooler may run both statements by the same one.
        other = _copy(fresh)
        try:
            with other.cursor() as cursor:
                cursor.execute("SELECT pg_notify(%s, '')", [probe])
        finally:
            other.close()
        is_told = _is_readable(fresh, _PATIENCE)
        with fresh.cursor() as cursor:
            # It takes the notice from the connection.
            cursor.execute(f"UNLISTEN {probe}")
        if is_told and heard.is_set():
            return True
        self._is_pooled = True
        logger.warning(
            'The database "%s" is reached through a pooler that assigns connections per transaction, so '
            "LISTEN doesn't work; falling back to polling.",
            self._using,
        )
        return False

    def _hears(self, seconds: float) -> bool:
        if not _is_readable(self._connection, seconds):
            return False
        try:
            # It takes the notices from the connection, and fails if what came was the end of it.
            with self._connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except Error:
            logger.warning('The database "%s" ended the connection we listened on.', self._using)
            self._close()
        return True

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _copy(connection: Any) -> Any:
    """Return another connection to the same database, of no pool: there it would go on listening for others."""
    fresh = connection.copy()
    fresh.settings_dict["OPTIONS"].pop("pool", None)
    return fresh


def _is_readable(connection: Any, seconds: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(connection.connection.fileno(), selectors.EVENT_READ)
        return bool(selector.select(seconds))
