"""Delivering right after the commit, in the thread that made it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from django.db import connections

from django_signal_audit.delivery.worker import deliver
from django_signal_audit.dispatchers.base import after_commit

from .base import Dispatcher

MAX_MESSAGES = 20
MAX_SECONDS = 2.0


class Budget:
    """What one commit may deliver. Its time runs from the first callback of it."""

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


class Commit:
    """The notifications of one transaction: they are claimed together, which costs little more than one does.

    Args:
        budget: What may be delivered of them.

    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.ids: list[int] = []
        self.callbacks: set[Callable[..., object]] = set()
        self.is_spent = False

    def take(self, ids: Sequence[int], using: str) -> Sequence[int]:
        """Return what is to be delivered by one of the callbacks, whose own rows are ``ids``."""
        if connections[using].run_on_commit:
            # A test runs some of the callbacks by itself and leaves all of them registered: each has its own rows.
            return ids
        if self.is_spent:
            return ()
        self.is_spent = True
        return self.ids


class _Commits(threading.local):
    """The commits to come of this thread, and so of its connections."""

    def __init__(self) -> None:
        # By database: of the transaction under way.
        self.open: dict[str, Commit] = {}
        # The budget of the callback that is running. What a reaction changes is delivered on the same budget, so that a
        # reaction that sets off itself comes to an end.
        self.running: Budget | None = None

    def current(self, using: str) -> Commit:
        """Return the commit that a callback registered now belongs to."""
        commit = self.open.get(using)
        # Without any of its callbacks it was another transaction's, which has committed or rolled back.
        hooks = reversed(connections[using].run_on_commit)
        if commit is None or not any(hook[1] in commit.callbacks for hook in hooks):
            commit = self.open[using] = Commit(self.running or Budget())
        return commit

    @contextmanager
    def run(self, budget: Budget) -> Iterator[None]:
        outer, self.running = self.running, budget
        try:
            yield
        finally:
            self.running = outer


_commits = _Commits()


class OnCommitDispatcher(Dispatcher):
    """Delivers after commit, at once, in the same thread: at most 20 messages or 2 seconds per commit.

    The rest, and what fails, is for a worker. A message that has begun is not interrupted: give mail servers and the
    like a timeout.
    """

    def wake(self, using: str, ids: Sequence[int]) -> None:
        """Register the delivery with the transaction; if it or its savepoint rolls back, so does that."""
        if not ids:
            return
        # Each call registers: the savepoint of the first one may roll back. Rows that went with it are just not found.
        kept, commit = tuple(ids), _commits.current(using)
        commit.ids += kept

        # A function, as Django 5.2 asks a callback that raised for its name and a partial has none.
        def deliver_committed() -> None:
            _deliver(using, commit.take(kept, using), commit.budget)

        commit.callbacks.add(deliver_committed)
        after_commit(deliver_committed, using)


def _deliver(using: str, ids: Sequence[int], budget: Budget) -> None:
    budget.start()
    if budget.is_spent() or not ids:
        return
    with _commits.run(budget):
        deliver(
            using,
            ids=ids,
            limit=budget.messages,
            deadline=budget.deadline,
            should_stop=budget.is_spent,
            on_attempt=budget.spend,
        )
