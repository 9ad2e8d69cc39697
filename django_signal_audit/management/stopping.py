"""Ending a command that runs for long: signals ask it to, and nothing that hangs keeps it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger("django_signal_audit")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# What noting and closing may take at the end, besides the time for what is being sent.
CLOSING_SECONDS = 1.5
# What a logger may take that hangs as well.
_LAST_WORDS_SECONDS = 0.2


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
