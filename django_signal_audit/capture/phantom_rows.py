"""Strangers: rows that begin to match a statement after the rows it concerns were looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from django.db import transaction

from django_signal_audit.exceptions import EventNotWritten

from .compilers import DeleteStatement, UpdateStatement
from .transactions import is_single_writer

Statement: TypeAlias = UpdateStatement | DeleteStatement

# More keys than this are not named in a statement.
_NAMED = 20_000


def restrict_to_locked_rows(statement: Statement, count: int, keys: Callable[[], Iterable[Any]]) -> Any:
    """Run a statement on the rows that were looked at, and on no others.

    The rows are locked, but others may insert some that match as well, or put back one that was there before. SQLite
    has one writer.

    Args:
        statement: The statement.
        count: How many rows were looked at.
        keys: Returns their primary keys.

    """
    if is_single_writer(statement.using):
        return statement.execute()
    if count <= _NAMED:
        statement.restrict(list(keys()))
        result = statement.execute()
        # Django's own DELETE of nothing is not run either, and counts for 0.
        return 0 if result is None else result
    result = statement.execute()
    if isinstance(result, int) and result != count:
        transaction.set_rollback(True, using=statement.using)
        msg = (
            f"A write to {count} {statement.model._meta.label} rows met {result}: others wrote rows that match while "
            "it was looking. Nothing was changed; run it again, or in a stricter isolation level."
        )
        raise EventNotWritten(msg)
    return result
