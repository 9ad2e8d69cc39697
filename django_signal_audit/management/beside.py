"""What a delivery worker does beside delivering: it seals events, and keeps the counts of the dashboard up to date."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import connections

from django_signal_audit.context.scopes import context_scope
from django_signal_audit.delivery.watch import can_share
from django_signal_audit.evidence.anchoring import keep_sealing
from django_signal_audit.evidence.config import get_evidence
from django_signal_audit.models.rollups import has_rollups
from django_signal_audit.reports.rollups import roll_up

INTERVAL_SECONDS = 60.0
# How long the end waits for a batch that is being sealed, and for what is being counted. The next process does what is
# cut off.
_LAST_BATCH_SECONDS = 5.0
_LAST_COUNT_SECONDS = 2.0


@contextmanager
def sealing_beside(using: str) -> Iterator[None]:
    """Keep sealing while the block runs, if EVIDENCE wants the delivery worker to."""

    def seal(stop: threading.Event) -> None:
        with context_scope(command="audit_deliver"):
            keep_sealing(using, stop)

    with _beside(seal, "audit-sealer", _LAST_BATCH_SECONDS, wanted=get_evidence().in_worker and can_share(using)):
        yield


@contextmanager
def rolling_up_beside(using: str) -> Iterator[None]:
    """Keep the counts of the dashboard up to date while the block runs, if the database has a table for them."""

    def keep(stop: threading.Event) -> None:
        while not stop.is_set():
            roll_up(using)
            # No connection is held in between.
            connections.close_all()
            stop.wait(INTERVAL_SECONDS)

    with _beside(keep, "audit-roll-up", _LAST_COUNT_SECONDS, wanted=has_rollups(using)):
        yield


@contextmanager
def _beside(run: Callable[[threading.Event], None], name: str, last_seconds: float, *, wanted: bool) -> Iterator[None]:
    """Run something in a thread while the block runs, if it is wanted.

    Args:
        run: Called in the thread. It returns when the event that it is given is set.
        name: The thread's name.
        last_seconds: How long the end of the block waits for the thread.
        wanted: Whether to run it.

    """
    if not wanted:
        yield
        return
    stop = threading.Event()

    def target() -> None:
        try:
            run(stop)
        finally:
            connections.close_all()

    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(last_seconds)
