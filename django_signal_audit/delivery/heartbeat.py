"""A send that takes long keeps its claim: a thread lengthens it for as long as the send goes on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from django.db import Error, connections

from django_signal_audit.models import Notification

from . import outbox

logger = logging.getLogger("django_signal_audit")


class Renewal:
    """Looks six times per lease which row is being sent; a process that is stopped or killed renews nothing."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._row: Notification | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        # What a test's open transaction holds, no other connection could lengthen.
        if not connections[self._using].in_atomic_block:
            self._thread = threading.Thread(target=self._run, name="audit-renewal", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    @contextmanager
    def of(self, row: Notification) -> Iterator[None]:
        """Keep the claim of a row while the block runs."""
        self._row = row
        try:
            yield
        finally:
            self._row = None

    def _run(self) -> None:
        step = outbox.LEASE.total_seconds() / 6
        try:
            while not self._stop.wait(step):
                row = self._row
                if row is not None and outbox.is_half_over(row):
                    self._renew(row)
        finally:
            connections.close_all()

    def _renew(self, row: Notification) -> None:
        try:
            outbox.hold(row)
        except Error:
            logger.warning("The lease of notification %s cannot be renewed; trying again.", row.pk, exc_info=True)
            connections[self._using].close()
