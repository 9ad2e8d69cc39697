"""Delivering right after the commit, in the thread that made it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from django_signal_audit.delivery.worker import deliver
from django_signal_audit.dispatchers.base import after_commit

from .base import Dispatcher

MAX_MESSAGES = 20
MAX_SECONDS = 2.0


class Budget:
    """What one commit may deliver. All callbacks of a transaction share one; its time runs from the first of them."""

    def __init__(self) -> None:
        self.messages = MAX_MESSAGES
        self.deadline: float | None = None

    def start(self) -> None:
        """Let the time run, unless it does already."""
        if self.deadline is None:
            self.deadline = time.monotonic() + MAX_SECONDS

    def spend(self) -> None:
        """Count one message."""
        self.messages -= 1

    def is_spent(self) -> bool:
        """Return whether messages or time have run out."""
        return self.messages <= 0 or (self.deadline is not None and time.monotonic() >= self.deadline)


class _Budgets(threading.local):
    """The budgets of this thread, and so of its connections."""

    def __init__(self) -> None:
        # By database: of the transaction under way. One that rolled back leaves its budget whole for the next.
        self.open: dict[str, Budget] = {}
        # Of the callback that is running. What a reaction changes is delivered on the same budget, so that a reaction
        # that sets off itself comes to an end.
        self.running: Budget | None = None

    def current(self, using: str) -> Budget:
        """Return the budget that a callback registered now is to share."""
        if self.running is not None:
            return self.running
        budget = self.open.get(using)
        if budget is None or budget.deadline is not None:
            budget = self.open[using] = Budget()
        return budget

    @contextmanager
    def run(self, budget: Budget) -> Iterator[None]:
        outer, self.running = self.running, budget
        try:
            yield
        finally:
            self.running = outer


_budgets = _Budgets()


class OnCommitDispatcher(Dispatcher):
    """Delivers after commit, at once, in the same thread: at most 20 messages or 2 seconds per commit.

    The rest, and what fails, is for a worker. A message that has begun is not interrupted: give mail servers and the
    like a timeout.
    """

    def wake(self, using: str, ids: Sequence[int]) -> None:
        """Register the delivery with the transaction; if it or its savepoint rolls back, so does that."""
        if not ids:
            return
        kept, budget = tuple(ids), _budgets.current(using)

        # A function, as Django 5.2 asks a callback that raised for its name and a partial has none.
        def deliver_committed() -> None:
            _deliver(using, kept, budget)

        after_commit(deliver_committed, using)


def _deliver(using: str, ids: Sequence[int], budget: Budget) -> None:
    budget.start()
    if budget.is_spent():
        return
    with _budgets.run(budget):
        deliver(
            using,
            ids=ids,
            limit=budget.messages,
            deadline=budget.deadline,
            should_stop=budget.is_spent,
            on_attempt=budget.spend,
        )
