"""Keeping the counts of the dashboard up to date, beside the delivery or after it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DatabaseError, InterfaceError, connections

from django_signal_audit.models.rollups import has_rollups
from django_signal_audit.reports.rollups import keep_all

logger = logging.getLogger("django_signal_audit")

INTERVAL_SECONDS = 60.0
# How long the end waits for what is being counted. What is cut off is counted by the next process.
_LAST_SECONDS = 2.0


def roll_up(using: str) -> None:
    """Bring the counts up to date; what fails is logged, and the next view counts."""
    try:
        keep_all(using)
    except (DatabaseError, InterfaceError):
        logger.exception('The counts of the dashboard could not be kept on the database "%s".', using)
        connections[using].close_if_unusable_or_obsolete()


@contextmanager
def rolling_up_beside(using: str) -> Iterator[None]:
    """Keep the counts up to date in a thread of its own while the block runs."""
    if not has_rollups(using):
        yield
        return
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            roll_up(using)
            # No connection is held in between.
            connections.close_all()
            stop.wait(INTERVAL_SECONDS)

    thread = threading.Thread(target=run, name="audit-roll-up", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_LAST_SECONDS)
