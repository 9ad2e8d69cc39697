"""Statements that travel together to MariaDB: in autocommit, most of a write's time is spent on the way.

MariaDB runs the statements of one packet in order, and none after one that fails. A transaction begins in one packet
with its first statement, and may end in one with its last. Django's cursors send a packet as one statement: execute
wrappers and the log of queries see it, and errors are those of Django.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from operator import length_hint
from typing import Any, NamedTuple, TypeAlias

from django.db import DatabaseError, IntegrityError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_signal_audit.conf import get_settings
from django_signal_audit.events.insert import MAX_STATEMENT_LENGTH

Statement: TypeAlias = "tuple[str, Sequence[Any]]"

COMMIT: Statement = ("COMMIT", ())
_MULTI_STATEMENTS = 1 << 16
_SYNTAX_ERROR = 1064


class Result(NamedTuple):
    """What one statement of a packet gave."""

    rowcount: int
    rows: Sequence[tuple[Any, ...]]


def takes_packets(connection: Any) -> bool:
    """Return whether a connection takes several statements in one packet, and may be sent them."""
    if connection.vendor != "mysql" or get_settings().engine != "auto":
        return False
    connection.ensure_connection()
    raw = connection.connection
    return (
        bool(getattr(raw, "client_flag", 0) & _MULTI_STATEMENTS)
        and connection.mysql_is_mariadb
        and vars(connection).get("audit_refuses_packets") is not raw
        # Cursors of other kinds may not call execute wrappers.
        and type(connection).make_cursor is BaseDatabaseWrapper.make_cursor
    )


def fits(*statements: Statement) -> bool:
    """Return whether the statements together are no longer than a server takes for certain."""
    return sum(length_hint(value, 0) for _, params in statements for value in params) < MAX_STATEMENT_LENGTH


def send(using: str, statements: Sequence[Statement], results: list[Result]) -> bool:
    """Send statements in one packet.

    Args:
        using: The database.
        statements: Each with its parameters.
        results: What each of them gave is added here; after an error, of those before the one that failed.

    Returns:
        False if the server refuses packets: it has run nothing then.

    """
    connection = connections[using]
    packet = _Packet([*chain(*(params for _, params in statements))], results)
    sql = "; ".join(sql for sql, _ in statements)
    with connection.cursor() as cursor, connection.execute_wrapper(packet):
        try:
            cursor.execute(sql, packet.params)
        except DatabaseError as error:
            if packet.has_run or not _is_refused(error, connection):
                raise
            return False
    return True


def _is_refused(error: Exception, connection: Any) -> bool:
    """Return whether the server did not take a packet for one, and note that of the connection."""
    if error.args[:1] != (_SYNTAX_ERROR,):
        return False
    vars(connection)["audit_refuses_packets"] = connection.connection
    return True


class _Cursor:
    """Stands in for the driver's cursor while one statement runs. No wrapper can send another one in between."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def go_on(self) -> bool:
        """Go to the result of the next statement; return False if there is none."""
        try:
            return bool(self._cursor.nextset())
        except Exception as error:
            # As Django's cursor does it for the first one.
            if error.args and error.args[0] in self._cursor.codes_for_integrityerror:
                raise IntegrityError(*error.args) from error
            raise


class _Replacing:
    """An execute wrapper that replaces the cursor for the statements that it runs."""

    def replacement(self, cursor: Any, params: Any) -> Any:
        """Return the cursor to run a statement with these parameters."""
        raise NotImplementedError

    def __call__(self, execute: Any, sql: str, params: Any, many: object, context: dict[str, Any]) -> Any:
        outer = context["cursor"]
        inner = outer.cursor
        outer.cursor = self.replacement(inner, params)
        try:
            return execute(sql, params, many, context)
        finally:
            outer.cursor = inner


class _Packet(_Replacing):
    """Takes the results of several statements."""

    def __init__(self, params: list[Any], results: list[Result]) -> None:
        self.params = params
        self.results = results
        # Was the first statement accepted? The others are not looked at before it has run.
        self.has_run = False

    def replacement(self, cursor: Any, params: Any) -> Any:
        """Return one that takes them, for the packet alone: other wrappers may send statements of their own."""
        return _PacketCursor(cursor, self) if params is self.params else cursor


class _PacketCursor(_Cursor):
    def __init__(self, cursor: Any, packet: _Packet) -> None:
        super().__init__(cursor)
        self._packet = packet

    def execute(self, sql: str, params: Any = None) -> None:
        """Run the statements."""
        self._cursor.execute(sql, params)
        self._packet.has_run = True
        while True:
            rows = self._cursor.fetchall() if self._cursor.description else ()
            self._packet.results.append(Result(self._cursor.rowcount, rows))
            if not self.go_on():
                return


class _LateBegin(_Replacing):
    """Sends BEGIN in one packet with the first statement of a transaction."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.is_waiting = False

    def wait(self) -> None:
        """Wait for the first statement."""
        self.connection.execute_wrappers.append(self)
        self.is_waiting = True

    def stop(self) -> None:
        """Wait no longer."""
        self.connection.execute_wrappers.remove(self)
        self.is_waiting = False

    def replacement(self, cursor: Any, params: Any) -> Any:
        """Return one that sends it, if nobody else has when the statement runs."""
        return _BeginningCursor(cursor, self)


class _BeginningCursor(_Cursor):
    def __init__(self, cursor: Any, begin: _LateBegin) -> None:
        super().__init__(cursor)
        self._begin = begin

    def execute(self, sql: str, params: Any = None) -> None:
        """Run BEGIN, if it is still waiting, and the statement, whose result is left for the sender."""
        if self._begin.is_waiting and self._run_both(sql, params):
            return
        self._cursor.execute(sql, params)

    def executemany(self, sql: str, params: Any) -> None:
        """Run BEGIN, if it is still waiting, on its own: the driver may make many statements of this one."""
        if self._begin.is_waiting:
            self._run_alone()
        self._cursor.executemany(sql, params)

    def _run_both(self, sql: str, params: Any) -> bool:
        try:
            self._cursor.execute(f"BEGIN; {sql}", params)
        except Exception as error:
            # A statement that the driver refuses is not the first.
            if not _is_refused(error, self._begin.connection):
                raise
            self._run_alone()
            return False
        self._begin.stop()
        self.go_on()
        return True

    def _run_alone(self) -> None:
        self._cursor.execute("BEGIN")
        self._begin.stop()


@contextmanager
def beginning_late(connection: Any) -> Iterator[None]:
    """Let the transaction that a block begins begin with its first statement, where the database takes packets."""
    if not connection.get_autocommit() or not takes_packets(connection):
        yield
        return
    own = vars(connection)
    # Django calls this instead of turning autocommit off, and turns it on at the end, which sends nothing then.
    own["_start_transaction_under_autocommit"] = _LateBegin(connection).wait
    try:
        yield
    finally:
        del own["_start_transaction_under_autocommit"]


@contextmanager
def ending(connection: Any, *, is_committed: bool) -> Iterator[None]:
    """Let the transaction that a block ends send no COMMIT if it has been sent, or if there was no first statement."""
    begin = next((one for one in connection.execute_wrappers if isinstance(one, _LateBegin)), None)
    if begin is not None:
        begin.stop()
    if begin is None and not is_committed:
        yield
        return
    own = vars(connection)
    own["_commit"] = lambda: None
    try:
        yield
    finally:
        del own["_commit"]
