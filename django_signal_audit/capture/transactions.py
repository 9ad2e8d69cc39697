"""One transaction around a write and its event, that waits for locks as the plain write would."""

from __future__ import annotations

from typing import Any, Self

from django.db import connections, transaction

from django_signal_audit.capture.packets import beginning_late, ending
from django_signal_audit.models.tables import LOCKING_STATEMENT


class write_transaction:  # noqa: N801  # reads as the statement it is: with write_transaction(...)
    """Opens a transaction if there is none, and ends it.

    Inside the caller's transaction nothing is opened: an exception that the caller handles there, such as one of its
    own pre_save receivers, must leave its transaction as it would without us.

    Args:
        using: The database.
        is_open: Whether it begins with the block, or when ``open`` is called; ``close`` ends it before the block does.

    """

    __slots__ = ("_atomic", "_is_open", "_using", "is_committed")

    def __init__(self, using: str, *, is_open: bool = True) -> None:
        self._using = using
        self._is_open = is_open
        self._atomic: transaction.Atomic | None = None
        # Has its last statement taken the COMMIT along?
        self.is_committed = False

    @property
    def ends_here(self) -> bool:
        """Return whether it is open, and is no part of the caller's."""
        return self._atomic is not None and not connections[self._using].savepoint_ids

    def open(self) -> None:
        """Begin it."""
        connection = connections[self._using]
        if connection.in_atomic_block:
            return
        if connection.vendor == "sqlite" and not connection.get_autocommit():
            _begin(connection)
        atomic = transaction.atomic(using=self._using)
        with beginning_late(connection):
            atomic.__enter__()
        self._atomic = atomic

    def close(self, *error: Any) -> None:
        """Commit it, or roll it back because of an error."""
        atomic, self._atomic = self._atomic, None
        if atomic is not None:
            with ending(connections[self._using], is_committed=self.is_committed):
                atomic.__exit__(*(error or (None, None, None)))

    def __enter__(self) -> Self:
        """Begin the block."""
        if self._is_open:
            self.open()
        return self

    def __exit__(self, *error: object) -> None:
        """End what is still open."""
        self.close(*error)


def _begin(connection: Any) -> None:
    """Begin the transaction that the caller ends by hand: else our savepoint would be one, and its release the end."""
    with connection.cursor() as cursor:
        if not connection.connection.in_transaction:
            cursor.execute(f"BEGIN {transaction_mode(connection)}")


def transaction_mode(connection: Any) -> str:
    """Return how transactions on a SQLite database begin; empty where it is left to SQLite."""
    return str(connection.settings_dict.get("OPTIONS", {}).get("transaction_mode") or "").upper()


class rollback_on_error:  # noqa: N801  # reads as the statement it is: with rollback_on_error(...)
    """Mark the transaction for rollback if a block fails that follows a write: the write must not stay without it.

    The caller may catch the exception and go on in the transaction, which cannot commit then.
    """

    __slots__ = ("_using",)

    def __init__(self, using: str) -> None:
        self._using = using

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        """Mark the transaction if the block failed."""
        if kind is None:
            return
        connection: Any = connections[self._using]
        if connection.in_atomic_block:
            connection.needs_rollback, connection.rollback_exc = True, error


def is_single_writer(using: str) -> bool:
    """Return whether nobody else can write while a transaction that has locked the database is open."""
    return connections[using].vendor == "sqlite"


def lock_database(using: str) -> None:
    """Take the write lock of a SQLite database before the first read of a transaction that is going to write.

    A transaction that began by reading gets "database is locked" at once when it wants to write after somebody else
    did, however long its timeout; the plain write begins by writing, and waits. A write that concerns no row does the
    same for us. With ``transaction_mode`` IMMEDIATE or EXCLUSIVE the transaction holds the lock from its beginning.
    """
    connection = connections[using]
    if connection.vendor != "sqlite":
        return
    if transaction_mode(connection) in ("IMMEDIATE", "EXCLUSIVE") and connection.in_atomic_block:
        return
    with connection.cursor() as cursor:
        cursor.execute(LOCKING_STATEMENT)
