"""A worker's threads: each sends what its turns give it, and the thread that made them looks after all.

Every thread has database connections of its own and closes them at its end. One whose message has had its time is
lost: it cannot be stopped from outside, so another takes its place, and it ends by itself if it ever comes back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import copy_context
from types import TracebackType
from typing import Self

from django.db import Error, connections

from django_signal_audit.delivery.listener import Listener
from django_signal_audit.delivery.turns import SLOW_SECONDS, Turn, Turns
from django_signal_audit.delivery.watch import PATIENCE_SECONDS, look_or_log, tick
from django_signal_audit.delivery.worker import DeliveryReport, Sender
from django_signal_audit.transient import log_error

logger = logging.getLogger("django_signal_audit")

# While something is being sent, how often is looked for what else is due.
LOOK_SECONDS = 0.5
# Seconds after which a thread tries again what the database could not do.
PAUSE_SECONDS = 1.0
# A worker that has lost so many threads for each of its own ends; a new process has none of them.
MOST_LOST = 2
STOPPED = "the worker was stopped before there was an answer"


class Pool:
    """Threads that send until they are stopped; use it as a context manager.

    Args:
        turns: What is whose turn.
        on_attempt: Called as each message begins.

    """

    def __init__(self, turns: Turns, on_attempt: Callable[[], object] = lambda: None) -> None:
        self.turns, self.using, self.on_attempt = turns, turns.using, on_attempt
        self.stopping = threading.Event()
        # What went wrong in a thread, the last of it.
        self.error: Exception | None = None
        self._done = DeliveryReport()
        self._workers: list[_Worker] = []
        self._lost: list[_Worker] = []
        self._counting = threading.Lock()

    def __enter__(self) -> Self:
        for _ in range(self.turns.threads):
            self._add()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.stop(0.0)

    @property
    def report(self) -> DeliveryReport:
        """Return what became of all messages so far."""
        total = DeliveryReport()
        with self._counting:
            for part in (self._done, *(worker.report for worker in self._workers)):
                total.add(part)
        return total

    @property
    def hanging(self) -> int:
        """Return how many threads were lost and have not come back."""
        self._lost = [worker for worker in self._lost if worker.thread.is_alive()]
        return len(self._lost)

    @property
    def is_spent(self) -> bool:
        """Return whether so many threads are lost that the process should make room for another."""
        return self.hanging >= MOST_LOST * self.turns.threads

    def drain(self, stop: threading.Event) -> None:
        """Send until nothing is due, or until ``stop`` is set."""
        last = time.monotonic()
        self.turns.refresh()
        while not (stop.is_set() or self.is_spent or self.error) and not self.turns.wait_until_idle(tick()):
            self.look()
            if time.monotonic() - last > LOOK_SECONDS:
                last = time.monotonic()
                self.turns.refresh()

    def watch(self, listener: Listener, interval: float, stop: threading.Event, on_idle: Callable[[], object]) -> None:
        """Send what becomes due, until ``stop`` is set.

        Args:
            listener: What tells of commits.
            interval: How many seconds may pass without a look where nothing tells.
            stop: Ends it.
            on_idle: Called when all is sent.

        """
        due, limit = 0.0, self.turns.left
        while not (stop.is_set() or self.is_spent):
            if time.monotonic() >= due:
                self.turns.left = limit
                self._refresh()
                due = time.monotonic() + interval
            is_idle = self.turns.is_idle
            if is_idle:
                on_idle()
            left = max(due - time.monotonic(), 0.0)
            if listener.wait(left if is_idle else min(left, tick()), stop):
                due = 0.0
            elif not is_idle:
                due = min(due, time.monotonic() + LOOK_SECONDS)
            self.look()

    def _refresh(self) -> None:
        try:
            self.turns.refresh()
        except Error as error:
            # What was claimed lapses and is sent then. The next look opens a new connection.
            log_error(error, 'The database "%s" cannot be used; trying again', self.using)
            connections[self.using].close_if_unusable_or_obsolete()

    def look(self) -> None:
        """Lengthen the claims of what is being sent, and replace the threads whose message has had its time.

        Where all that a channel may use are at messages of others that take long, there are more.
        """
        slow = 0
        for worker in list(self._workers):
            look_or_log(worker.flight, worker.take_away, self.using)
            work = worker.flight.work
            if work is not None and time.monotonic() - work.since > SLOW_SECONDS:
                slow += 1
                self.turns.note_slow(work.row.channel, time.monotonic() - work.since)
            if worker.flight.is_lost or not worker.thread.is_alive():
                self._replace(worker)
        while (count := self.turns.missing(slow)) and all(self._add() for _ in range(count)):
            pass

    def leave(self, worker: _Worker) -> bool:
        """Let a thread that has nothing to do go, if there are more than there should be."""
        with self._counting:
            if len(self._workers) <= self.turns.threads:
                return False
            self._workers.remove(worker)
            self._done.add(worker.report)
            self.turns.note_threads(len(self._workers))
            return True

    def _replace(self, worker: _Worker) -> None:
        with self._counting:
            if worker not in self._workers:
                return
            self._workers.remove(worker)
            worker.is_replaced = True
            self._done.add(worker.report)
            self.turns.note_threads(len(self._workers))
        if worker.turn is not None:
            self.turns.give_back(worker.turn, claimed=worker.turn.size, tried=worker.turn.size, seconds=None)
        if worker.thread.is_alive():
            self._lost.append(worker)
            alias = worker.turn.alias if worker.turn else ""
            logger.error('A thread that sends by channel "%s" does not come back; another takes its place.', alias)
        if len(self._workers) < self.turns.threads:
            self._add()

    def _add(self) -> bool:
        if self.stopping.is_set() or self.is_spent:
            return False
        worker = _Worker(self)
        with self._counting:
            self._workers.append(worker)
            self.turns.note_threads(len(self._workers))
        worker.thread.start()
        return True

    def stop(self, grace: float) -> None:
        """End the threads after their present messages; what takes longer than ``grace`` seconds is noted as failed."""
        self.stopping.set()
        self.turns.wake_all()
        end = time.monotonic() + grace
        while (alive := self._alive()) and time.monotonic() < end:
            self.look()
            alive[0].thread.join(min(tick(), max(end - time.monotonic(), 0.0)))
        # Those that wait for a turn, or are between two statements, end in this moment.
        last = time.monotonic() + tick()
        for worker in alive:
            worker.thread.join(max(last - time.monotonic(), 0.0))
            self._abandon(worker)

    def _alive(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.thread.is_alive()]

    def _abandon(self, worker: _Worker) -> None:
        if not worker.thread.is_alive():
            return
        try:
            if (work := worker.flight.work) is not None:
                worker.flight.is_lost = worker.take_away(work, STOPPED)
            worker.flight.give_back()
        except Error as error:
            log_error(error, "What a thread was sending cannot be noted; its claim lapses")
        self._replace(worker)


class _Queue:
    """Lets threads pass one at a time. Those that hang on their way are waited for once, and not by each that comes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextmanager
    def one_at_a_time(self) -> Iterator[None]:
        while not (lock := self._lock).acquire(timeout=PATIENCE_SECONDS):
            if self._lock is lock:
                self._lock = threading.Lock()
        try:
            yield
        finally:
            lock.release()


class _Worker(Sender):
    """One of the threads."""

    # SQLite has one writer at a time, and threads that wait for its lock do not get it in turn.
    _writing = _Queue()

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool.using, lambda: pool.stopping.is_set() or self.is_replaced, pool.on_attempt, pool.turns)
        self.pool = pool
        self.is_replaced = False
        self.turn: Turn | None = None
        connection = connections[pool.using]
        self._is_sqlite = connection.vendor == "sqlite"
        self._is_pooled = bool(connection.settings_dict["OPTIONS"].get("pool"))
        # What is written while something is sent belongs to the command, or to whatever else began this.
        self.thread = threading.Thread(target=copy_context().run, args=(self._run,), name="audit-sender", daemon=True)

    def asking_database(self) -> AbstractContextManager[object]:
        """Return what is held while the outbox is read and written."""
        return self._writing.one_at_a_time() if self._is_sqlite else nullcontext()

    def before_send(self) -> None:
        """Hold no connection while a message is sent."""
        self._return_connection()

    def _return_connection(self) -> None:
        """Give the connection back to its pool, which may have fewer than there are threads."""
        if self._is_pooled:
            connections[self.using].close()

    def _run(self) -> None:
        try:
            while not self.is_over():
                self._work()
                if self.turn is None and self.pool.leave(self):
                    break
        finally:
            connections.close_all()

    def _work(self) -> None:
        try:
            self.turn = self.pool.turns.take()
            if self.turn is None:
                self._return_connection()
                self.turn = self.pool.turns.take(wait=PAUSE_SECONDS)
            if self.turn is not None:
                self.take_turn(self.turn, self.pool.turns)
        except Exception as error:  # noqa: BLE001  # it is logged with its traceback
            # What was claimed lapses and is sent then. The next turn opens a new connection.
            log_error(error, 'A thread failed at the database "%s"; it tries again', self.using)
            self.pool.error = error
            connections[self.using].close_if_unusable_or_obsolete()
            self.pool.stopping.wait(PAUSE_SECONDS)
