"""Delivery: claims what is due, sends it, and notes on each row what became of it."""

from __future__ import annotations

import datetime as dt
import logging
import random
import threading
import time
from asyncio import CancelledError
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.dispatch import Signal

from django_signal_audit.channels import get_channel
from django_signal_audit.channels.base import Channel, Message
from django_signal_audit.context.scopes import delivering
from django_signal_audit.delivery import digests, outbox
from django_signal_audit.delivery.fanout import log_skip, resolve
from django_signal_audit.delivery.identity import may_send
from django_signal_audit.delivery.order import is_any_ordered, is_ordered, must_wait
from django_signal_audit.delivery.outbox import LeaseLost
from django_signal_audit.delivery.preferences import Preferences
from django_signal_audit.delivery.recipients import load_users
from django_signal_audit.delivery.redaction import describe
from django_signal_audit.delivery.rendering import NotKnownHere, entry_of, render
from django_signal_audit.delivery.turns import BATCH_SIZE, Turn, Turns
from django_signal_audit.delivery.watch import Flight, Watch, Work
from django_signal_audit.events.documents import printable, safe_str
from django_signal_audit.events.keys import MAX_LENGTH
from django_signal_audit.exceptions import GiveUp, RetryLater, Unreachable
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.models.events import utc_now
from django_signal_audit.signals import notification_failed, notification_sent

logger = logging.getLogger("django_signal_audit")


# SQLite limits the parameters of a statement, and a digest may have any number of events.
CHUNK = 500


class Loaded:
    """The events and users of the rows of one batch."""

    def __init__(self, rows: Sequence[Notification], using: str) -> None:
        self.users = load_users(rows)
        self.preferences = Preferences(self.users)
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
            # Nothing is given up by what was read for many at once.
            found = [self._single[row.event]] if row.event in self._single else self._fetch([row.event])
        if not found:
            msg = "Its events are no longer in the audit log."
            raise GiveUp(msg)
        return found

    def _fetch(self, uids: Sequence[UUID | str]) -> list[AuditEvent]:
        found: list[AuditEvent] = []
        for start in range(0, len(uids), CHUNK):
            found += AuditEvent.of_all_tenants.using(self._using).filter(uid__in=uids[start : start + CHUNK])
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
        try:
            send(message)
        except _ends() as error:
            # It would end the thread, or the request, and leave the message claimed.
            msg = f"{type(error).__name__} {safe_str(error)}".strip()
            raise RuntimeError(msg) from error


def _ends() -> tuple[type[BaseException], ...]:
    """Return what a channel raises by mistake that is no ``Exception``.

    An exit is meant where signals are handled, as in the processes of web servers.
    """
    is_main = threading.current_thread() is threading.main_thread()
    return (CancelledError,) if is_main else (CancelledError, SystemExit)


@contextmanager
def intercepted(sink: Sink) -> Iterator[None]:
    """Give every message to the sink in place of its channel, in all threads."""
    _sinks.append(sink)
    try:
        yield
    finally:
        _sinks.remove(sink)


# Seconds after which what was sent has to be noted, if another message follows.
LATEST = 0.2
STATUS = Notification.STATUS


@dataclass(slots=True)
class DeliveryReport:
    """How many messages were tried, and what became of them.

    ``left`` are those of rules, channels or templates that this process doesn't know, ``lost`` are those another worker
    had taken over, ``collected`` those that wait for the end of a digest's window, became part of one, or wait for
    another message.
    """

    attempted: int = 0
    sent: int = 0
    failed: int = 0
    dead: int = 0
    skipped: int = 0
    left: int = 0
    lost: int = 0
    collected: int = 0

    def add(self, other: DeliveryReport) -> None:
        """Count what another report counts too."""
        for item in fields(self):
            setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))

    def since(self, earlier: DeliveryReport) -> DeliveryReport:
        """Return what was added to an earlier report."""
        counts = {item.name: getattr(self, item.name) - getattr(earlier, item.name) for item in fields(self)}
        return DeliveryReport(**counts)


def deliver(
    using: str = DEFAULT_DB_ALIAS,
    ids: Iterable[int] | None = None,
    limit: int | None = None,
    deadline: float | None = None,
    *,
    turns: Turns | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_attempt: Callable[[], object] = lambda: None,
) -> DeliveryReport:
    """Send what is due until nothing is, outside any transaction; one that fails never stops the others.

    All of it happens in the thread of the caller, one message after another.

    Args:
        using: The database of the outbox.
        ids: Only these rows, and the ones they expand to; those that were tried before are left to a worker.
        limit: Try at most so many messages.
        deadline: Begin no message after this moment of ``time.monotonic()``.
        turns: What is to be sent in which order, if it is not all that is due.
        should_stop: Begin no message once this returns True.
        on_attempt: Called as each message begins.

    """

    def is_over() -> bool:
        is_late = deadline is not None and time.monotonic() >= deadline
        return is_late or should_stop() or (limit is not None and sender.report.attempted >= limit)

    if not (_sinks or may_send(using)):
        return DeliveryReport()
    turns = turns or Turns(using, first=BATCH_SIZE, limit=limit)
    sender = Sender(using, is_over, on_attempt, turns)
    with Watch(using, sender.flight, sender.take_away):
        if ids is None:
            _send_all(sender, turns)
        else:
            _send_these(sender, deque(ids), limit)
    return sender.report


def _send_all(sender: Sender, turns: Turns) -> None:
    while not sender.is_over() and (turn := turns.take()) is not None:
        sender.take_turn(turn, turns)


def _send_these(sender: Sender, queue: deque[int], limit: int | None) -> None:
    sender.new_ids, must_order = queue, is_any_ordered()
    sender.breakers.refresh()
    while queue and not sender.is_over():
        size = BATCH_SIZE if limit is None else min(BATCH_SIZE, limit - sender.report.attempted)
        ids = [queue.popleft() for _ in range(min(size, len(queue)))]
        batch = outbox.claim(sender.using, limit=size, ids=ids, is_ordered=must_order, without=sender.breakers.shut)
        if batch:
            sender.send_batch(batch)
        if any(row.order_no for row in batch):
            # Others may have waited for these.
            queue.extend(sorted(set(ids) - {row.pk for row in batch}))


class Sender:
    """Sends what a thread has claimed, one message after another, and counts what became of it.

    Args:
        using: The database of the outbox.
        is_over: Begin no message once this returns True.
        on_attempt: Called as each message begins.
        turns: What knows the breakers of the channels, and what the settings don't know.

    """

    def __init__(self, using: str, is_over: Callable[[], bool], on_attempt: Callable[[], object], turns: Turns) -> None:
        self.using, self.is_over, self.on_attempt = using, is_over, on_attempt
        self.breakers, self.unknown = turns.breakers, turns.unknown
        self.report = DeliveryReport()
        self.flight = Flight()
        # Takes the rows that a row expands to, if they are to be sent by the same call.
        self.new_ids: deque[int] | None = None
        # Sent by channels that may repeat, and not noted yet, since when.
        self._unnoted: list[tuple[Notification, dict[str, Any]]] = []
        self._first = 0.0

    def asking_database(self) -> AbstractContextManager[object]:
        """Return what is held while the outbox is read and written; a message is sent outside of it."""
        return nullcontext()

    def before_send(self) -> None:
        """Do what is to be done right before a message is given to its channel; nothing unless overridden."""

    def take_turn(self, turn: Turn, turns: Turns) -> None:
        """Claim what a turn says, and send it."""
        claimed, before, begin = 0, self.report.attempted, time.monotonic()
        try:
            with self.asking_database():
                batch = outbox.claim(
                    self.using,
                    limit=turn.size,
                    channel=turn.alias,
                    statuses=turn.statuses,
                    is_ordered=is_ordered(turn.alias),
                    unknown=self.unknown.rules_of(turn.alias),
                    favoured=turn.favoured,
                )
            claimed = len(batch)
            if batch:
                self.send_batch(batch)
        finally:
            tried = self.report.attempted - before
            seconds = (time.monotonic() - begin) / tried if tried else None
            turns.give_back(turn, claimed=claimed, tried=tried, seconds=seconds)

    def send_batch(self, batch: Sequence[Notification]) -> None:
        """Send rows that are claimed, and give back those that are not begun."""
        self.flight.waiting.extend(batch)
        try:
            with self.asking_database():
                loaded = Loaded(batch, self.using)
            while not self.is_over() and (row := self.flight.next()) is not None:
                if reason := self.unknown.reason(row):
                    self._leave(row, reason)
                    continue
                if not self.breakers.may_send(row.channel):
                    outbox.release([row])
                    continue
                with delivering(row.generation), self.flight.preparing(row):
                    self._deliver_one(row, loaded)
                self.breakers.end_try(row.channel)
        finally:
            with self.asking_database():
                try:
                    self._note_all()
                finally:
                    self.flight.give_back()

    def _deliver_one(self, row: Notification, loaded: Loaded) -> None:
        self.report.attempted += 1
        self.on_attempt()
        channel: Channel | None = None
        try:
            _begin(row)
            channel = get_channel(row.channel)
            message = self._send(row, channel, loaded)
        except LeaseLost:
            self._lose(row)
        except NotKnownHere as error:
            self._leave(row, self.unknown.note_channel(row.channel, str(error)))
        except Unreachable as error:
            self._skip(row, error, channel)
        except GiveUp as error:
            self._fail(row, error, channel, wait=None)
        except Exception as error:  # noqa: BLE001  # a channel may raise anything, and the other messages go on
            asked = error.seconds if isinstance(error, RetryLater) else None
            self._fail(row, error, channel, wait=next_wait(row.attempts, asked))
        else:
            with self.asking_database():
                is_held = self._note(row, message, channel)
            if is_held is not None:
                self._tell(row, is_held)

    def _send(self, row: Notification, channel: Channel, loaded: Loaded) -> Message | None:
        with self.asking_database():
            self._note_before(channel)
            message = self._prepare(row, channel, loaded)
        if message is not None:
            self.before_send()
            self.flight.sending(row, channel.send_timeout)
            self._transmit(row, channel, message)
        return message

    def _transmit(self, row: Notification, channel: Channel, message: Message) -> None:
        begin = time.monotonic()
        try:
            transmit(channel, message, self.using)
        except GiveUp:
            # It is the message that is wrong.
            self.breakers.note_success(row.channel)
            raise
        except Exception as error:
            with self.asking_database():
                self.breakers.note_failure(row, error, channel, time.monotonic() - begin)
            raise
        self.breakers.note_success(row.channel)

    def _prepare(self, row: Notification, channel: Channel, loaded: Loaded) -> Message | None:
        """Return the message, None if it does not go out now, but with others or after another."""
        if row.digest_key and not digests.close(row):
            return None
        events = loaded.events(row)
        resolved = resolve(row, channel, events, loaded.users)
        if self.new_ids is not None:
            self.new_ids.extend(resolved.new_ids)
        if row.digest_window:
            if not digests.park(row, resolved.recipient):
                raise LeaseLost
            return None
        wanted = loaded.preferences.apply(row, resolved, channel, entry_of(row))
        if wanted is None:
            return None
        if must_wait(row):
            outbox.release([row])
            return None
        digests.admit(row, resolved.recipient)
        return render(row, wanted.events, wanted.recipient, channel, wanted.user)

    def _note(self, row: Notification, message: Message | None, channel: Channel) -> bool | None:
        """Note that a message was sent; return whether the row was still held, None if that is not known yet."""
        if message is None:
            self.report.collected += 1
            return None
        changes: dict[str, Any] = {"last_error": "", "recipient": message.recipient[:MAX_LENGTH]}
        if channel.keeps_message or channel.is_repeatable:
            kept = {"subject": message.subject, "body": message.body} if channel.keeps_message else {}
            changes["data"] = {**row.data, **kept}
        if not channel.is_repeatable:  # those that are noted together change the same columns
            changes = {name: value for name, value in changes.items() if getattr(row, name) != value}
        changes["sent_at"] = utc_now()
        if channel.is_repeatable:
            self._first = self._first if self._unnoted else time.monotonic()
            self._unnoted.append((row, changes))
            return None
        return outbox.finish(row, STATUS.sent, **changes)

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
            with delivering(row.generation):
                self._tell(row, is_held)

    def _tell(self, row: Notification, is_held: bool) -> None:
        if not is_held:
            self._lose(row)
            return
        self.report.sent += 1
        self._call(notification_sent, row)

    def _skip(self, row: Notification, reason: Unreachable, channel: Channel | None) -> None:
        if not outbox.finish(row, STATUS.skipped, last_error=describe(reason, channel)):
            self._lose(row)
            return
        self.report.skipped += 1
        log_skip(row)

    def _leave(self, row: Notification, reason: str) -> None:
        outbox.leave(row, reason)
        self.report.left += 1

    def _fail(self, row: Notification, error: Exception, channel: Channel | None, wait: float | None) -> None:
        with self.asking_database():
            is_held = self._note_failure(row, error, channel, wait)
        if is_held:
            self._call(notification_failed, row, error=error, final=wait is None)
        else:
            self._lose(row)

    def _call(self, signal: Signal, row: Notification, **what: object) -> None:
        """Tell receivers what became of a row. One that hangs holds its thread, as a send that hangs does."""
        if signal.has_listeners(Notification):
            with self.flight.telling(row):
                signal.send_robust(Notification, notification=row, **what)

    def _note_failure(self, row: Notification, error: Exception, channel: Channel | None, wait: float | None) -> bool:
        changes: dict[str, Any] = {"last_error": describe(error, channel)}
        status = STATUS.dead if wait is None else STATUS.failed
        if wait is not None:
            changes["available_at"] = utc_now() + dt.timedelta(seconds=wait)
        if not outbox.finish(row, status, **changes):
            return False
        if wait is None:
            self.report.dead += 1
            logger.error("Notification %s (%s) was given up: %s", row.pk, *_line(row))
        else:
            self.report.failed += 1
            name, why = _line(row)
            logger.warning("Notification %s (%s) failed, next in %.0f s: %s", row.pk, name, wait, why)
        return True

    def take_away(self, work: Work, reason: str = "") -> bool:
        """Note that there was no answer in time, called by the thread that watches; False if there was one after all.

        Receivers may hang too, so a thread of their own calls them.
        """
        text = reason or f"no answer in {work.seconds:g} s"
        error = RetryLater(f"{text}; it may have been sent" if work.is_sending else f"{text} while it was prepared")
        wait = next_wait(work.row.attempts, None)
        if not self._note_failure(work.row, error, None, wait):
            return False
        is_failure = work.is_sending and not reason
        threading.Thread(target=self._tell_late, args=(work, error, wait is None, is_failure), daemon=True).start()
        return True

    def _tell_late(self, work: Work, error: Exception, is_final: bool, is_failure: bool) -> None:
        try:
            if is_failure:
                self.breakers.note_failure(work.row, error, None, work.seconds)
            notification_failed.send_robust(Notification, notification=work.row, error=error, final=is_final)
        finally:
            connections.close_all()

    def _lose(self, row: Notification) -> None:
        self.report.lost += 1
        who = "has had its time" if self.flight.is_lost else "was taken over by another worker"
        logger.warning("Notification %s (%s) %s; this result is dropped.", row.pk, _line(row)[0], who)


def _begin(row: Notification) -> None:
    """Make sure that a row may be sent: it is held for long enough, and hasn't been the end of several workers."""
    if outbox.is_half_over(row) and not outbox.hold(row):
        raise LeaseLost
    if row.attempts > MAX_ATTEMPTS:
        msg = f"It was started {MAX_ATTEMPTS} times, and the last worker never finished it."
        raise GiveUp(msg)


def _line(row: Notification) -> tuple[str, str]:
    """Return what a row is called and what went wrong with it, fit for a line of a log."""
    return printable(str(row)), printable(row.last_error)
