"""Leaving all to ``manage.py audit_deliver``."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Dispatcher


class WorkerDispatcher(Dispatcher):
    """Wakes nobody: a worker hears of the rows when they commit (PostgreSQL), or finds them when it polls next."""

    workers_listen = True

    def wake(self, using: str, ids: Sequence[int]) -> None:
        """Leave the rows where they are."""
