"""Delivery: claims what is due, sends it, and notes on each row what became of it."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import DEFAULT_DB_ALIAS

from django_signal_audit.channels.base import Channel, Message
from django_signal_audit.channels.registry import get_channel
from django_signal_audit.context.recursion import delivering
from django_signal_audit.events.keys import MAX_LENGTH
from django_signal_audit.events.safe_text import printable
from django_signal_audit.exceptions import GiveUp, RetryLater, Unreachable
from django_signal_audit.models import Notification
from django_signal_audit.models.events import utc_now
from django_signal_audit.signals import notification_failed, notification_sent

from . import digests, outbox, throttles
from .errors import describe
from .fanout import LeaseLost
from .heartbeat import Renewal
from .prefetch import Loaded
from .recipients import resolve
from .rendering import render
from .retry import MAX_ATTEMPTS, next_wait
from .skips import log_skip
from .targets import Resolved
from .transport import transmit

logger = logging.getLogger("django_signal_audit")

BATCH_SIZE = 100
# Seconds after which what was sent has to be noted, if another message follows.
LATEST = 0.2
STATUS = Notification.STATUS


@dataclass(slots=True)
class DeliveryReport:
    """How many messages were tried, and what became of them.

    ``lost`` are those another worker had taken over, ``collected`` those that wait for the end of a digest's window
    or became part of one.
    """

    attempted: int = 0
    sent: int = 0
    failed: int = 0
    dead: int = 0
    skipped: int = 0
    lost: int = 0
    collected: int = 0


def deliver(
    using: str = DEFAULT_DB_ALIAS,
    ids: Iterable[int] | None = None,
    limit: int | None = None,
    deadline: float | None = None,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    on_attempt: Callable[[], object] = lambda: None,
) -> DeliveryReport:
    """Send what is due until nothing is, outside any transaction; one that fails never stops the others.

    Args:
        using: The database of the outbox.
        ids: Only these rows, and the ones they expand to; those that were tried before are left to a worker.
        limit: Try at most so many messages.
        deadline: Begin no message after this moment of ``time.monotonic()``.
        should_stop: Begin no message once this returns True.
        on_attempt: Called as each message begins.

    """
    delivery = _Delivery(using, ids, should_stop, on_attempt)
    delivery.limit, delivery.deadline = limit, deadline
    return delivery.run()


class _Delivery:
    """One call of ``deliver``: its limits, and its report so far."""

    limit: int | None = None
    deadline: float | None = None

    def __init__(
        self, using: str, ids: Iterable[int] | None, should_stop: Callable[[], bool], on_attempt: Callable[[], object]
    ) -> None:
        self.using = using
        self.queue = None if ids is None else deque(ids)
        self.should_stop = should_stop
        self.on_attempt = on_attempt
        self.report = DeliveryReport()
        self._renewal = Renewal(using)
        # Sent by channels that may repeat, and not noted yet, since when.
        self._unnoted: list[tuple[Notification, dict[str, Any]]] = []
        self._first = 0.0

    def run(self) -> DeliveryReport:
        with self._renewal:
            while not self._is_over():
                batch = self._claim()
                if batch:
                    self._deliver_batch(batch)
                elif not self.queue:
                    break
        return self.report

    def _is_over(self) -> bool:
        if self.limit is not None and self.report.attempted >= self.limit:
            return True
        return self.should_stop() or (self.deadline is not None and time.monotonic() >= self.deadline)

    def _claim(self) -> list[Notification]:
        size = BATCH_SIZE if self.limit is None else min(BATCH_SIZE, self.limit - self.report.attempted)
        if self.queue is None:
            return outbox.claim(self.using, limit=size)
        ids = [self.queue.popleft() for _ in range(min(size, len(self.queue)))]
        return outbox.claim(self.using, limit=size, ids=ids) if ids else []

    def _deliver_batch(self, batch: Sequence[Notification]) -> None:
        waiting = deque(batch)
        try:
            loaded = Loaded(batch, self.using)
            while waiting and not self._is_over():
                row = waiting.popleft()
                with delivering(row.data):
                    self._deliver_one(row, loaded)
        finally:
            self._note_all()
            outbox.release(waiting)

    def _deliver_one(self, row: Notification, loaded: Loaded) -> None:
        self.report.attempted += 1
        self.on_attempt()
        channel: Channel | None = None
        try:
            if outbox.is_half_over(row) and not outbox.hold(row):
                raise LeaseLost
            if row.attempts > MAX_ATTEMPTS:
                raise GiveUp(f"It was started {MAX_ATTEMPTS} times, and the last worker never finished it.")
            channel = get_channel(row.channel)
            self._note_before(channel)
            message = self._send(row, channel, loaded)
        except LeaseLost:
            self._lose(row)
        except Unreachable as error:
            self._skip(row, error, channel)
        except GiveUp as error:
            self._fail(row, error, channel, wait=None)
        except Exception as error:  # noqa: BLE001  # a channel may raise anything, and the other messages go on
            asked = error.seconds if isinstance(error, RetryLater) else None
            self._fail(row, error, channel, wait=next_wait(row.attempts, asked))
        else:
            self._note(row, message, channel)

    def _send(self, row: Notification, channel: Channel, loaded: Loaded) -> Message | None:
        if row.digest_key and not digests.close(row):
            return None
        events = loaded.events(row)
        resolved = resolve(row, channel, events, loaded.users)
        if self.queue is not None:
            self.queue.extend(resolved.new_ids)
        if not self._admit(row, resolved):
            return None
        message = render(row, resolved.events, resolved.recipient, channel, resolved.user)
        with self._renewal.of(row):
            transmit(channel, message, self.using)
        return message

    def _admit(self, row: Notification, resolved: Resolved) -> bool:
        """Return whether the message goes out now, and not with others at the end of a window."""
        if "digest" in row.data:
            if not digests.park(row, resolved.recipient):
                raise LeaseLost
            return False
        throttles.admit(row, resolved.recipient)
        return True

    def _note(self, row: Notification, message: Message | None, channel: Channel) -> None:
        if message is None:
            self.report.collected += 1
            return
        changes: dict[str, Any] = {"sent_at": utc_now(), "last_error": "", "recipient": message.recipient[:MAX_LENGTH]}
        if channel.keeps_message or channel.is_repeatable:  # those that are noted together change the same columns
            kept = {"subject": message.subject, "body": message.body} if channel.keeps_message else {}
            changes["data"] = {**row.data, **kept}
        if channel.is_repeatable:
            self._first = self._first if self._unnoted else time.monotonic()
            self._unnoted.append((row, changes))
        else:
            self._tell(row, outbox.finish(row, STATUS.sent, **changes))

    def _note_before(self, channel: Channel) -> None:
        """Note what was sent, before something begins that may take long, and every now and then."""
        if self._unnoted and (not channel.is_repeatable or time.monotonic() - self._first > LATEST):
            self._note_all()

    def _note_all(self) -> None:
        """Note what channels that may repeat have sent."""
        if not self._unnoted:
            return
        rows, changes = zip(*self._unnoted, strict=True)
        self._unnoted = []
        for row, is_held in zip(rows, outbox.finish_all(rows, STATUS.sent, changes), strict=True):
            self._tell(row, is_held)

    def _tell(self, row: Notification, is_held: bool) -> None:
        if not is_held:
            self._lose(row)
            return
        self.report.sent += 1
        with delivering(row.data):
            notification_sent.send_robust(Notification, notification=row)

    def _skip(self, row: Notification, reason: Unreachable, channel: Channel | None) -> None:
        if not outbox.finish(row, STATUS.skipped, last_error=describe(reason, channel)):
            self._lose(row)
            return
        self.report.skipped += 1
        log_skip(row)

    def _fail(self, row: Notification, error: Exception, channel: Channel | None, wait: float | None) -> None:
        changes: dict[str, Any] = {"last_error": describe(error, channel)}
        status = STATUS.dead if wait is None else STATUS.failed
        if wait is not None:
            changes["available_at"] = utc_now() + dt.timedelta(seconds=wait)
        if not outbox.finish(row, status, **changes):
            self._lose(row)
            return
        if wait is None:
            self.report.dead += 1
            logger.error("Notification %s (%s) was given up: %s", row.pk, *_line(row))
        else:
            self.report.failed += 1
            name, why = _line(row)
            logger.warning("Notification %s (%s) failed, next in %.0f s: %s", row.pk, name, wait, why)
        notification_failed.send_robust(Notification, notification=row, error=error, final=wait is None)

    def _lose(self, row: Notification) -> None:
        self.report.lost += 1
        logger.warning(
            "Notification %s (%s) was taken over by another worker; this result is dropped.", row.pk, _line(row)[0]
        )


def _line(row: Notification) -> tuple[str, str]:
    """Return what a row is called and what went wrong with it, fit for a line of a log."""
    return printable(str(row)), printable(row.last_error)
