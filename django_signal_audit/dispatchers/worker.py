"""Leaving all to ``manage.py audit_deliver``."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Dispatcher


class WorkerDispatcher(Dispatcher):
    """Wakes nobody: PostgreSQL notifies workers when the rows commit; elsewhere they find them at their next poll."""

    workers_listen = True

    def wake(self, using: str, ids: Sequence[int]) -> None:
        """Leave the rows where they are."""
