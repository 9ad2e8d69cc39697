"""The parts of a composed statement: the INSERT of its events, and how it is sent."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from django.db import DatabaseError, ProgrammingError, connections, models

from django_signal_audit.events import prepared
from django_signal_audit.events.insert import EventRow, prepared_row
from django_signal_audit.models import AuditEvent
from django_signal_audit.recorder import fail
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.transient import is_transient

# What the parts of a statement are called.
PARTS = frozenset({"o", "n", "m", "e", "g", "q"})
# A function takes a hundred arguments, two for each of its pairs.
_PAIRS = 50
# A UUIDv7 of the moment "at": 48 bits of milliseconds, the version, 12 bits of what is below, and what is random.
_UID = (
    "(overlay(lpad(to_hex((extract(epoch FROM at) * 4096000)::bigint), 15, '0') PLACING '7' FROM 13 FOR 0)"
    " || substr(gen_random_uuid()::text, 20))::uuid"
)
# The server's clock, read once the row is locked. Where the application's is far from it, somebody has set that one: a
# test that travels in time, most likely.
_MOMENT_OF_EVENT = (
    "CASE WHEN clock_timestamp() BETWEEN g.at - interval '1 min' AND g.at + interval '1 min'"
    " THEN clock_timestamp() ELSE g.at END"
)
MADE = f"SELECT *, {_UID} AS uid FROM (SELECT {_MOMENT_OF_EVENT} AS at, n.*"
GIVEN = "(SELECT %s::timestamptz AS at OFFSET 0) g"


def json_object(pairs: Sequence[str]) -> str:
    """Return the JSON object of names and values, given as two arguments each."""
    chunks = [pairs[at : at + _PAIRS] for at in range(0, max(len(pairs), 1), _PAIRS)]
    return " || ".join(f"jsonb_build_object({', '.join(chunk)})" for chunk in chunks)


def names_of(plan: ModelPlan, using: str) -> tuple[str, str]:
    """Return the quoted names of the table and of its key."""
    quote = connections[using].ops.quote_name
    return quote(plan.model._meta.db_table), quote(str(plan.model._meta.pk_fields[0].column))


_TOLD_HERE = {"uid": "q.uid", "recorded_at": "q.at", "object_id": "q.key::text"}
_CASTS = {"rules": "jsonb", "changes": "jsonb", "data": "jsonb", "context": "jsonb", "signature": "bigint"}


@lru_cache(64)
def event_sql(using: str, *given: str, first: str = "q.uid") -> str:
    """Return the INSERT of events, to be continued by ``FROM`` what has their uids, moments and keys.

    Args:
        using: The database.
        given: The columns that it has as well.
        first: The uid of the first event of the call, which the others belong to.

    """
    quote = connections[using].ops.quote_name
    told = {**_TOLD_HERE, "correlation_id": f"coalesce(%s::text, ({first})::text)"}
    told |= {name: f"q.{name}" for name in given}
    values = [told.get(name) or f"%s::{_CASTS.get(name, 'text')}" for name in EventRow._fields]
    columns = ", ".join(map(quote, EventRow._fields))
    return f"INSERT INTO {quote(AuditEvent._meta.db_table)} ({columns}) SELECT {', '.join(values)}"


def event_params(row: EventRow, using: str, *given: str) -> list[Any]:
    """Return the parameters of the INSERT, and the moment that the application's clock shows."""
    is_first = row.correlation_id == str(row.uid)
    values = dict(zip(EventRow._fields, prepared_row(row, using), strict=True))
    if is_first:
        values["correlation_id"] = None
    told = [value for name, value in values.items() if name not in _TOLD_HERE and name not in given]
    return [*told, values["recorded_at"]]


def run(
    written: Composed, model: type[models.Model], using: str, *, may_prepare: bool = True
) -> tuple[Any, ...] | None:
    """Return what the statement gives; None if it failed, and the portable way is to find out the cause.

    Inside a transaction the error is the last that can be known, so it is told apart by what it names.
    """
    try:
        return written.execute(using, may_prepare=may_prepare)
    except DatabaseError as error:
        if is_transient(error):
            raise
        connection = connections[using]
        # A transaction that somebody else ends is lost with the statement.
        if connection.get_autocommit() and not connection.in_atomic_block:
            return None
        told = str(getattr(getattr(error.__cause__, "diag", None), "message_primary", error))
        table = model._meta.db_table.rpartition(".")[2].strip('"')
        if isinstance(error, ProgrammingError) and table not in told and not prepared.is_lost(error):
            fail(f"The event of a write to {model._meta.label}", error)
        raise


class Composed(NamedTuple):
    """A statement that is made of several."""

    parts: str
    columns: tuple[str, ...]
    source: str
    params: list[Any]

    def execute(self, using: str, *, may_prepare: bool = True) -> tuple[Any, ...]:
        """Run it, and return the one row that it gives."""
        connection = connections[using]
        connection.ensure_connection()
        is_known = prepared.may_prepare(connection)
        if is_known is not None:
            try:
                return self._run(connection, self.columns, is_prepared=is_known and may_prepare)
            except DatabaseError as error:
                if prepared.is_lost(error):
                    prepared.prepare_no_more(connection)
                raise
        *row, process = self._run(connection, (*self.columns, prepared.PROCESS), is_prepared=False)
        prepared.note_process(connection, process)
        return tuple(row)

    def _run(self, connection: Any, columns: Sequence[str], *, is_prepared: bool) -> tuple[Any, ...]:
        sql = f"WITH {self.parts} SELECT {', '.join(columns)}{self.source}"
        with prepared.executed(connection, sql, self.params, is_prepared=is_prepared) as cursor:
            row: tuple[Any, ...] = cursor.fetchone()
            return row
