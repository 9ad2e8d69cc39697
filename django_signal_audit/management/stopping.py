"""Ending a command in time: signals ask one that runs for long to end, and nothing that hangs keeps it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from contextvars import copy_context
from types import FrameType
from typing import TypeVar

from django.db import connections

from django_signal_audit.delivery.watch import can_share

logger = logging.getLogger("django_signal_audit")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# What noting and closing may take at the end, besides the time for what is being sent.
CLOSING_SECONDS = 1.5
# What a logger may take that hangs as well.
_LAST_WORDS_SECONDS = 0.2

T = TypeVar("T")


class NoAnswerError(Exception):
    """Something that a command waits for takes too long. A thread still waits for it."""


def answer_within(seconds: float, function: Callable[[], T], using: str, message: str) -> T:
    """Return what a function returns, called in a thread of its own that nobody waits for any longer than that.

    Where another thread would see another database, as in a test's transaction, it is called here, without a limit.

    Args:
        seconds: How long it may take.
        function: What is called.
        using: The database that it reads and writes.
        message: What the error says.

    Raises:
        NoAnswerError: It takes longer.

    """
    if using not in connections or not can_share(using):
        return function()
    answer: Future[T] = Future()

    def call() -> None:
        try:
            try:
                found = function()
            finally:
                connections.close_all()
        except BaseException as error:  # noqa: BLE001  # it is raised where the answer is waited for
            answer.set_exception(error)
        else:
            answer.set_result(found)

    threading.Thread(target=copy_context().run, args=(call,), name="audit-answer", daemon=True).start()
    if not wait([answer], seconds).done:
        raise NoAnswerError(message)
    return answer.result()


@contextmanager
def stop_signals(grace: float | None = None) -> Iterator[threading.Event]:
    """Return an event that the first SIGTERM or SIGINT sets; the second acts as it would without us.

    Args:
        grace: How many seconds the block may go on after that, and a little longer. Then the process is ended: a
            database that does not answer is waited for in the main thread too, which nothing else gets out of there.

    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()
        restore()

    with _ending_in_time(grace):
        for number in before:
            signal.signal(number, end)
        try:
            yield stop
        finally:
            restore()


@contextmanager
def _ending_in_time(grace: float | None) -> Iterator[None]:
    """End the process if the block goes on for too long after a signal."""
    if grace is None:
        yield
        return
    # Python writes the signals there at once; its handlers wait for a library that is waiting for a database.
    hearing, told = socket.socketpair()
    told.setblocking(False)
    over = threading.Event()
    before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=_end, args=(hearing, over, grace), name="audit-end", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        told.close()
        thread.join()
        hearing.close()


def _end(hearing: socket.socket, over: threading.Event, grace: float) -> None:
    while numbers := hearing.recv(64):
        if not any(number in numbers for number in _SIGNALS):
            continue
        if not over.wait(grace + CLOSING_SECONDS):
            said = ("Something does not answer, the database or an anchor; what this worker has claimed lapses.",)
            last_words = threading.Thread(target=logger.error, args=said, daemon=True)
            last_words.start()
            last_words.join(_LAST_WORDS_SECONDS)
            os._exit(1)
        return
