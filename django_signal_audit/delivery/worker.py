"""Delivery: claims what is due, sends it, and notes on each row what became of it."""

from __future__ import annotations

import datetime as dt
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS, Error, connections, transaction

from django_signal_audit.channels import get_channel
from django_signal_audit.channels.base import Channel, Message
from django_signal_audit.context.scopes import delivering
from django_signal_audit.delivery import digests, outbox
from django_signal_audit.delivery.fanout import log_skip, resolve
from django_signal_audit.delivery.outbox import LeaseLost
from django_signal_audit.delivery.recipients import Resolved, load_users
from django_signal_audit.delivery.redaction import describe
from django_signal_audit.delivery.rendering import render
from django_signal_audit.events.documents import printable
from django_signal_audit.events.keys import MAX_LENGTH
from django_signal_audit.exceptions import GiveUp, RetryLater, Unreachable
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.models.events import utc_now
from django_signal_audit.signals import notification_failed, notification_sent

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


# SQLite limits the parameters of a statement, and a digest may have any number of events.
CHUNK = 500


class Loaded:
    """The events and users of the rows of one batch."""

    def __init__(self, rows: Sequence[Notification], using: str) -> None:
        self.users = load_users(rows)
        self._using = using
        events = self._fetch([row.event for row in rows if row.event is not None])
        self._single = {event.uid: event for event in events}

    def events(self, row: Notification) -> list[AuditEvent]:
        """Return what the row describes, oldest first.

        Raises:
            GiveUp: The events are gone from the audit log, so there is nothing to tell.

        """
        if row.event is None:
            # Only when its turn comes: the events of a whole batch of digests might not fit into memory.
            found = self._fetch(row.event_uids)
        else:
            found = [self._single[row.event]] if row.event in self._single else []
        if not found:
            msg = "Its events are no longer in the audit log."
            raise GiveUp(msg)
        return found

    def _fetch(self, uids: Sequence[UUID | str]) -> list[AuditEvent]:
        found: list[AuditEvent] = []
        for start in range(0, len(uids), CHUNK):
            found += AuditEvent.objects.using(self._using).filter(uid__in=uids[start : start + CHUNK])
        return sorted(found, key=lambda event: event.pk)


# 20 s, 80 s, 5 min, 21 min, 85 min, 5.7 h, 23 h, 24 h, 24 h: ten attempts in some three days, a weekend and more.
MAX_ATTEMPTS = 10
FIRST_SECONDS = 20.0
FACTOR = 4.0
LONGEST_SECONDS = 86_400.0
JITTER = 0.2

_rng = random.Random()  # noqa: S311  # it spreads retries, it guards nothing


def delay(attempt: int, rng: random.Random = _rng) -> float:
    """Return the seconds to wait after the attempt of that number, counted from 1, has failed.

    The wait grows exponentially and varies by 20 % either way, so that what failed together is not retried together.
    """
    exponent = min(max(attempt, 1) - 1, MAX_ATTEMPTS)
    return min(FIRST_SECONDS * FACTOR**exponent, LONGEST_SECONDS) * rng.uniform(1 - JITTER, 1 + JITTER)


def next_wait(attempt: int, asked: float | None, rng: random.Random = _rng) -> float | None:
    """Return the seconds until the next attempt, None if that was the last.

    Args:
        attempt: The number of the attempt that failed.
        asked: The wait the receiver asked for, kept as it is up to a day; None if it did not.
        rng: The source of the jitter.

    """
    if attempt >= MAX_ATTEMPTS:
        return None
    # A wait that is negative or not a number is no answer.
    if asked is not None and asked >= 0:
        return min(asked, LONGEST_SECONDS)
    return delay(attempt, rng)


Sink = Callable[[Message], None]

_sinks: list[Sink] = []


def transmit(channel: Channel, message: Message, using: str) -> None:
    """Send the message, or raise as the channel does."""
    send = _sinks[-1] if _sinks else channel.send
    # Inside a test case's transaction an error of the database would otherwise end all that follows.
    nested = connections[using].in_atomic_block
    with transaction.atomic(using=using) if nested else nullcontext():
        send(message)


@contextmanager
def intercepted(sink: Sink) -> Iterator[None]:
    """Give every message to the sink in place of its channel, in all threads."""
    _sinks.append(sink)
    try:
        yield
    finally:
        _sinks.remove(sink)


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
                with delivering(row.generation):
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
        if row.digest_window:
            if not digests.park(row, resolved.recipient):
                raise LeaseLost
            return False
        digests.admit(row, resolved.recipient)
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
        with delivering(row.generation):
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
