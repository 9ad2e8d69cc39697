"""Savepoints around the project's own code, set only if that code queries the database."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType

from django.db import Error, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper


class OwnQueries:
    """Keeps a query that fails inside from ending the transactions around it; a context manager.

    A savepoint does that. It costs two round trips, so it is set before the first query, and most blocks have none.
    Texts of objects are asked for in such blocks, and a generator would cost more than most texts do.
    """

    __slots__ = ("_blocks", "_connections")

    def __init__(self, among: Iterable[BaseDatabaseWrapper]) -> None:
        self._connections = [connection for connection in among if _can_be_lost(connection)]
        self._blocks: list[_Block] = []

    def __enter__(self) -> None:
        self._blocks = [_Block(connection) for connection in self._connections]
        for block in self._blocks:
            block.connection.execute_wrappers.append(block)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for block in self._blocks:
            block.connection.execute_wrappers.pop()
        for block in self._blocks:
            if error is None:
                block.end()
            elif isinstance(error, Exception):
                block.roll_back()


def own_queries_anywhere() -> OwnQueries:
    """Return the block for every database that has a transaction open here."""
    return OwnQueries(connections.all(initialized_only=True))


def own_queries(using: str) -> OwnQueries:
    """Return the block for one database."""
    return OwnQueries([connections[using]])


class _Block:
    """Sets a savepoint before the first query of a connection (a wrapper of its queries)."""

    __slots__ = ("connection", "has_begun", "savepoint")

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection, self.savepoint, self.has_begun = connection, "", False

    def __call__(self, execute: Callable[..., object], sql: str, params: object, many: bool, context: object) -> object:
        if not self.has_begun:
            self.has_begun = True
            # Django 6.1 gave it a new name and warns of the old one.
            create: Callable[..., str] = getattr(transaction, "savepoint_create", None) or transaction.savepoint
            self.savepoint = create(using=self.connection.alias)
        return execute(sql, params, many, context)

    def end(self) -> None:
        if self.connection.needs_rollback:
            self.roll_back()
        elif self.savepoint:
            try:
                transaction.savepoint_commit(self.savepoint, using=self.connection.alias)
            except Error:
                # The block has passed over an error that PostgreSQL ends a transaction for.
                self.roll_back()

    def roll_back(self) -> None:
        self.connection.needs_rollback = False
        if self.savepoint:
            transaction.savepoint_rollback(self.savepoint, using=self.connection.alias)


def _can_be_lost(connection: BaseDatabaseWrapper) -> bool:
    """Return whether a transaction is open that a failing query would end, and that hasn't ended already."""
    if connection.needs_rollback:
        return False
    return connection.in_atomic_block or (connection.connection is not None and not connection.get_autocommit())
