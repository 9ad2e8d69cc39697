"""Pools of connections: whether the one of a database has enough of them for the threads of a worker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.db import connections, router

from django_signal_audit.dispatchers import get_dispatcher
from django_signal_audit.dispatchers.queue import QueueDispatcher
from django_signal_audit.models import Notification
from django_signal_audit.problems import Problem
from django_signal_audit.rules.registry import get_registry

# Of messages that a worker sends at a time, unless it is told otherwise.
DEFAULT_CONCURRENCY = 4
# The command itself, what it seals, and the counts that it keeps.
_BESIDES = 3
# What psycopg_pool has unless it is told otherwise.
_DEFAULT_SIZE = 4


def pool_problems() -> Iterator[Problem]:
    """Yield the databases whose pool is too small for a worker as it is by default."""
    if not any(rule.notify for rule in get_registry().rules):
        return
    if isinstance(get_dispatcher(), QueueDispatcher):
        return  # its tasks have one thread
    for alias in connections:
        if router.allow_migrate_model(alias, Notification) and (problem := pool_problem(alias, DEFAULT_CONCURRENCY)):
            yield problem


def pool_problem(using: str, threads: int) -> Problem | None:
    """Return that a database has a pool, and fewer connections in it than so many threads and the command need."""
    size, needed = _size(using), threads + _BESIDES
    if size is None or size >= needed:
        return None
    connections_ = "connection" if size == 1 else "connections"
    message = (
        f"has at most {size} {connections_}, and audit_deliver with --concurrency {threads} needs {needed}: "
        "its threads wait for each other."
    )
    fewer = f", or run audit_deliver with --concurrency {size - _BESIDES}" if size > _BESIDES else ""
    hint = f'Write "pool": {{"max_size": {needed}}}, or more{fewer}.'
    return Problem("W094", f'DATABASES["{using}"]["OPTIONS"]["pool"]', message, hint)


def _size(using: str) -> int | None:
    """Return how many connections the pool of a database has at most, None if there is no pool that we know."""
    connection = connections[using]
    pool: Any = connection.settings_dict.get("OPTIONS", {}).get("pool")
    if connection.vendor != "postgresql" or not pool:
        return None
    options = pool if isinstance(pool, Mapping) else {}
    smallest = options.get("min_size", _DEFAULT_SIZE)
    size = options.get("max_size")
    found = smallest if size is None else size
    # What is no number fails where the pool is made.
    return found if isinstance(found, int) else None
