"""Waiting for work: until a commit says that there is some, where the database can, and for a while elsewhere."""

from __future__ import annotations

import logging
import selectors
import threading
import time
from types import TracebackType
from typing import Any, Self

from django.db import Error, connections

from .entries import SIGNAL

logger = logging.getLogger("django_signal_audit")

# How soon a signal to stop is seen while we listen.
_SLICE = 0.5


class Listener:
    """Listens on a connection of its own to PostgreSQL (psycopg 3); elsewhere it sleeps.

    A notice that is missed costs the interval of the polls: while nobody was connected, or behind a pooler that hands
    each transaction another connection.
    """

    def __init__(self, using: str) -> None:
        self._using = using
        self._connection: Any = None

    def __enter__(self) -> Self:
        self._connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._close()

    def wait(self, seconds: float, stop: threading.Event) -> None:
        """Return when there may be work, after so many seconds, or once ``stop`` is set."""
        if self._connection is None:
            stop.wait(seconds)
            self._connect()
            return
        end = time.monotonic() + seconds
        while not stop.is_set() and (left := end - time.monotonic()) > 0:
            if self._hears(min(left, _SLICE)):
                return

    def _connect(self) -> None:
        ours: Any = connections[self._using]
        # psycopg 2 does not tell a connection's notices from other reasons to read it.
        if ours.vendor != "postgresql" or ours.Database.__name__ != "psycopg":
            return
        fresh = ours.copy()
        # A connection of the pool would go back to it and go on listening there.
        fresh.settings_dict["OPTIONS"].pop("pool", None)
        try:
            fresh.ensure_connection()
            # Without a handler, psycopg would keep them all for one that may come.
            fresh.connection.add_notify_handler(lambda _: None)
            with fresh.cursor() as cursor:
                cursor.execute(f"LISTEN {SIGNAL}")
        except Error:
            fresh.close()
            logger.warning('Cannot listen to the database "%s"; polling goes on.', self._using, exc_info=True)
            return
        self._connection = fresh

    def _hears(self, seconds: float) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self._connection.connection.fileno(), selectors.EVENT_READ)
            if not selector.select(seconds):
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
