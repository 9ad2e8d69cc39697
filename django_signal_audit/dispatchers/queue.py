"""What dispatchers for task queues have in common: one task per commit, which carries nothing but where to look."""

from __future__ import annotations

import logging
import threading
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from typing import ClassVar

from django_signal_audit.context.scopes import suspended
from django_signal_audit.delivery.worker import deliver
from django_signal_audit.dispatchers.base import after_commit
from django_signal_audit.models import Notification
from django_signal_audit.models.events import utc_now

from .base import Dispatcher

logger = logging.getLogger("django_signal_audit")

LIMIT = 100


class _Wake:
    """The wake of one transaction, shared by all that its writes registered."""

    def __init__(self) -> None:
        self.is_spent = False


class _Wakes(threading.local):
    """The wakes of this thread, and so of its connections, by database."""

    def __init__(self) -> None:
        self.open: dict[str, _Wake] = {}

    def current(self, using: str) -> _Wake:
        wake = self.open.get(using)
        if wake is None or wake.is_spent:
            wake = self.open[using] = _Wake()
        return wake


class QueueDispatcher(Dispatcher):
    """Has a task queue deliver: after each commit that wrote notifications, one task is enqueued.

    The queue only wakes. What is due, its retries and its states are in the outbox, so a task that is lost, or runs
    twice, does no harm.
    """

    # How many messages one task tries at most. What is more is for the next, which other workers may take.
    limit: ClassVar[int] = LIMIT

    def __init__(self) -> None:
        self._wakes = _Wakes()

    @abstractmethod
    def enqueue(self, using: str) -> None:
        """Enqueue one task that calls ``drain``, with the alias of the database and the limit."""

    def wake(self, using: str, ids: Sequence[int]) -> None:
        """Enqueue one task after the commit, however often this is called in the transaction."""
        if not ids:
            return
        # Each call registers: the first one's savepoint may roll back, and then a later one is what is left.
        wake = self._wakes.current(using)

        def enqueue_once() -> None:
            if not wake.is_spent:
                wake.is_spent = True
                self.try_to_enqueue(using)

        after_commit(enqueue_once, using)

    def try_to_enqueue(self, using: str) -> None:
        """Enqueue a task; one that cannot be is logged."""
        try:
            # Queues that keep their tasks in the database write: a rule that notifies would enqueue again.
            with suspended():
                self.enqueue(using)
        except Exception:
            logger.exception("No task could be enqueued: the notifications wait for the next sweep, or for a worker.")

    def drain(self, using: str, limit: int) -> dict[str, int]:
        """Deliver what is due, at most ``limit`` messages, and return how many came to what end.

        Where more is due, one further task is enqueued, at the first message and not at the last: so another worker
        can help. One that comes to no message enqueues none, or a fault in the database would multiply tasks.
        """
        others = _Others(self, using, limit)
        report = deliver(using, limit=limit, on_attempt=others.call_if_needed)
        if report.attempted >= limit:
            others.call()
        return asdict(report)


class _Others:
    """Calls for another task, once."""

    def __init__(self, dispatcher: QueueDispatcher, using: str, limit: int) -> None:
        self.dispatcher, self.using, self.limit = dispatcher, using, limit
        self.is_asked = self.is_called = False

    def call_if_needed(self) -> None:
        if not self.is_asked:
            self.is_asked = True
            if _is_more_due(self.using, self.limit):
                self.call()

    def call(self) -> None:
        if not self.is_called:
            self.is_called = True
            self.dispatcher.try_to_enqueue(self.using)


def _is_more_due(using: str, limit: int) -> bool:
    status = Notification.STATUS
    waiting = Notification.objects.using(using).of_status(status.pending, status.failed, status.claimed)
    return waiting.filter(available_at__lte=utc_now()).order_by().values("pk")[:limit].count() >= limit
