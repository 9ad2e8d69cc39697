"""Savepoints around the project's own code, set only if that code queries the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import connections, transaction


@contextmanager
def own_queries_anywhere() -> Iterator[None]:
    """Do what ``own_queries`` does for every database that has a transaction open here."""
    with ExitStack() as stack:
        for connection in connections.all(initialized_only=True):
            if connection.in_atomic_block:
                stack.enter_context(own_queries(connection.alias))
        yield


@contextmanager
def own_queries(using: str) -> Iterator[None]:
    """Keep a query that fails inside from ending the transaction around it.

    A savepoint does that. It costs two round trips, so it is set before the first query, and most blocks have none.
    """
    savepoints: list[str] = []
    is_first = True

    def set_savepoint(execute: Callable[..., object], sql: str, params: object, many: bool, context: object) -> Any:
        nonlocal is_first
        if is_first:
            is_first = False
            savepoints.append(_create_savepoint(using))
        return execute(sql, params, many, context)

    connection = connections[using]
    if not connection.in_atomic_block:
        yield
        return
    try:
        with connection.execute_wrapper(set_savepoint):
            yield
        if savepoints:
            transaction.savepoint_commit(savepoints[0], using=using)
    except Exception:
        if transaction.get_rollback(using=using):
            transaction.set_rollback(False, using=using)
        if savepoints:
            transaction.savepoint_rollback(savepoints[0], using=using)
        raise


def _create_savepoint(using: str) -> str:
    # Django 6.1 gave it a new name and warns of the old one.
    create: Callable[..., str] = getattr(transaction, "savepoint_create", None) or transaction.savepoint
    return create(using=using)
