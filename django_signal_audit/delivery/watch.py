"""Watching those who send: claims are lengthened while a message is under way, and no longer than it may take."""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple, Self

from django.db import Error, connections

from django_signal_audit.delivery import outbox
from django_signal_audit.models import Notification
from django_signal_audit.transient import log_error

logger = logging.getLogger("django_signal_audit")

# How often is looked.
TICK_SECONDS = 0.25
# What was claimed together with a message that takes longer than that is given back for others to send.
PATIENCE_SECONDS = 0.5


class Work(NamedTuple):
    """What a thread does right now: since when by ``time.monotonic()``, and how many seconds it may take.

    ``is_noted`` is set once it has noted what became of the row, and calls those who want to know.
    """

    row: Notification
    since: float
    seconds: float
    is_sending: bool
    is_noted: bool = False


class Flight:
    """What one thread does, and what it has claimed and not begun. Another one looks at it from time to time."""

    def __init__(self) -> None:
        self.work: Work | None = None
        self.waiting: deque[Notification] = deque()
        # Its message was taken away from it, as there was no answer in time.
        self.is_lost = False

    @contextmanager
    def preparing(self, row: Notification) -> Iterator[None]:
        """Note that a row is the thread's while the block runs: who gets it is found out, and it is rendered."""
        self.is_lost = False
        self.work = Work(row, time.monotonic(), outbox.LEASE.total_seconds(), is_sending=False)
        try:
            yield
        finally:
            self.work = None

    def sending(self, row: Notification, seconds: float) -> None:
        """Note that the message of a row is given to its channel now, which may take so many seconds."""
        self.work = Work(row, time.monotonic(), seconds, is_sending=True)

    @contextmanager
    def telling(self, row: Notification) -> Iterator[None]:
        """Note that receivers are told what became of a row while the block runs: it may take as long as the send."""
        before = self.work
        seconds = before.seconds if before else outbox.LEASE.total_seconds()
        self.work = Work(row, time.monotonic(), seconds, is_sending=False, is_noted=True)
        try:
            yield
        finally:
            self.work = before

    def next(self) -> Notification | None:
        """Return what is to be begun now, None if nothing waits any more: who watches may have given it back."""
        try:
            return self.waiting.popleft()
        except IndexError:
            return None

    def give_back(self) -> None:
        """Give back what was claimed and not begun; what the database can't note now lapses, and is nobody's here."""
        rows = list(iter(self.next, None))
        outbox.release(rows)


TakeAway = Callable[[Work], bool]


def look_at(flight: Flight, take_away: TakeAway) -> None:
    """Lengthen the claim of what a thread does, or end it if it takes too long.

    Args:
        flight: What the thread does.
        take_away: Notes that there was no answer in time; returns False if it came after all.

    """
    work = flight.work
    if work is None or flight.is_lost:
        return
    elapsed = time.monotonic() - work.since
    if elapsed >= work.seconds:
        flight.is_lost = work.is_noted or take_away(work)
    elif not work.is_noted and outbox.is_half_over(work.row):
        outbox.hold(work.row)
    if elapsed >= PATIENCE_SECONDS:
        flight.give_back()


class Watch:
    """A thread that looks at one other. A process that is stopped or killed lengthens no claim."""

    def __init__(self, using: str, flight: Flight, take_away: TakeAway) -> None:
        self._using, self._flight, self._take_away = using, flight, take_away
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if can_share(self._using):
            self._thread = threading.Thread(target=self._run, name="audit-watch", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stop.wait(tick()):
                look_or_log(self._flight, self._take_away, self._using)
        finally:
            connections.close_all()


def look_or_log(flight: Flight, take_away: TakeAway, using: str) -> None:
    """Look at a thread; what the database cannot do now is tried again at the next look."""
    try:
        look_at(flight, take_away)
    except Error as error:
        log_error(error, 'The database "%s" cannot be used; a claim is not lengthened', using, level=logging.WARNING)
        connections[using].close()


def tick() -> float:
    """Return how many seconds pass between two looks."""
    return min(TICK_SECONDS, outbox.LEASE / dt.timedelta(seconds=6))


def can_share(using: str) -> bool:
    """Return whether another thread sees the rows: not those of a test's open transaction, nor of one in memory."""
    connection: Any = connections[using]
    is_in_memory = connection.vendor == "sqlite" and connection.is_in_memory_db()
    return not connection.in_atomic_block and not is_in_memory
