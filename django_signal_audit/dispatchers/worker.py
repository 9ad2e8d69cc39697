"""Leaving all to ``manage.py audit_deliver``."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Dispatcher


class WorkerDispatcher(Dispatcher):
    """Wakes nobody: a worker finds the rows when it polls next."""

    def wake(self, using: str, ids: Sequence[int]) -> None:
        """Leave the rows where they are."""
