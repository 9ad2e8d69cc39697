"""What ``audit_deliver`` does besides delivering.

Beside it, it seals events and keeps the counts of the dashboard up to date. Instead of it, it shows how that goes,
tests a channel, or discards what waits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace

from django.core.management.base import CommandError
from django.db import connections, transaction
from django.db.models import Model
from django.utils import translation
from django.utils.translation import gettext as _
from tabulate import tabulate

from django_signal_audit.channels import get_channel
from django_signal_audit.channels.base import Channel, Message, Text
from django_signal_audit.context.scopes import context_scope
from django_signal_audit.delivery import identity, outbox
from django_signal_audit.delivery.recipients import ACTOR, GROUP, SUPERUSERS, USER, single_user, user_by_key
from django_signal_audit.delivery.redaction import describe
from django_signal_audit.delivery.statistics import collect_statistics, lateness, long_sends, troubled_channels
from django_signal_audit.delivery.turns import serving
from django_signal_audit.delivery.unknown import left_to_others
from django_signal_audit.delivery.watch import can_share
from django_signal_audit.delivery.worker import transmit
from django_signal_audit.enums import Level, Source
from django_signal_audit.events.changes import Change
from django_signal_audit.events.documents import printable
from django_signal_audit.events.keys import new_uid
from django_signal_audit.evidence.anchoring import keep_sealing, late_anchors
from django_signal_audit.evidence.config import get_evidence
from django_signal_audit.exceptions import InvalidSettings, SignalAuditError
from django_signal_audit.management.stopping import answer_within
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.models.events import utc_now
from django_signal_audit.models.notifications import new_message_id
from django_signal_audit.models.rollups import has_rollups
from django_signal_audit.models.tenants import tenant_of_tables
from django_signal_audit.recorder import record_changes
from django_signal_audit.reports.rollups import roll_up
from django_signal_audit.rules.durations import parse_duration

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


# What the test messages call their rule.
TEST = "test"


def stats(using: str) -> str:
    """Return how many notifications are in which status, and what hangs."""
    found = collect_statistics(using)
    age = "none" if found.oldest is None else f"due for {found.oldest.total_seconds():.0f} s"
    return _text(
        [
            tabulate(found.by_status.items(), headers=("status", "count")),
            f"oldest pending: {age}",
            f"pending in a digest: {found.collecting}",
            f"skipped by a throttle: {found.throttled}",
            f"skipped by a preference: {found.unwanted}",
            f"expired leases: {found.lapsed}",
            *_trouble(using),
        ]
    )


def health(using: str, max_age: str, only: Collection[str] = (), without: Collection[str] = ()) -> tuple[str, bool]:
    """Return how late the oldest notification is, what hangs and which anchors fail, and whether that is too bad.

    Args:
        using: The database.
        max_age: How late a notification may be.
        only: The channels that are looked at, all if there are none.
        without: Channels that are not.

    """
    is_served = serving(only, without)
    late, limit, refusal = lateness(using, is_served), parse_duration(max_age), identity.refusal(using)
    lines = [f"the oldest has been due for {late.total_seconds():.0f} s" if late else "nothing is due"]
    lines += [f"nothing is sent: {refusal}"] if refusal else []
    is_left = any(left.is_alarming for left in left_to_others(using) if is_served(left.channel))
    unanchored = [] if limit is None else list(late_anchors(using, limit))
    is_bad = bool(refusal or unanchored) or is_left or (limit is not None and late > limit)
    return _text([*lines, *_trouble(using), *unanchored]), is_bad


def _trouble(using: str) -> Iterator[str]:
    yield from troubled_channels(using)
    yield from map(str, long_sends(using))
    yield from map(str, left_to_others(using))


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def discard_pending(using: str, only: Collection[str], without: Collection[str]) -> int:
    """Skip all that waits, of these channels or of all but those, which is an event; return how much that was."""
    with transaction.atomic(using=using):
        count = outbox.discard(using, only, without)
        if count:
            data = {"count": count, "channels": sorted(only), "except": sorted(without)}
            given = {key: value for key, value in data.items() if value}
            change = Change(
                event_type="notifications_discarded",
                source=Source.MANUAL,
                using=using,
                data=given,
                level=Level.WARNING.value,
            )
            record_changes([change], using)
    return count


def test_channel(alias: str, to: str, using: str) -> str:
    """Send a test message by a channel, and return what is to be said of it.

    Raises:
        CommandError: It could not be sent, and why.
        NoAnswerError: There is no answer in the channel's ``SEND_TIMEOUT``.

    """
    try:
        channel = get_channel(alias)
        user, recipient = _recipient(channel, to)
        message = _message(channel, user, recipient)
    except SignalAuditError as error:
        raise CommandError(str(error)) from error
    _transmit(channel, message, using)
    if channel.keeps_message:
        _keep(message, using)
    to_whom = f" to {printable(recipient)}" if recipient else ""
    return f'Sent{to_whom} by channel "{alias}".'


def _transmit(channel: Channel, message: Message, using: str) -> None:
    seconds, problem = channel.send_timeout, f'The channel "{channel.alias}" could not send: '

    def send() -> None:
        try:
            transmit(channel, message, using)
        except Exception as error:
            raise CommandError(problem + printable(describe(error, channel))) from error

    answer_within(seconds, send, using, f"{problem}no answer in {seconds:g} s; it may have been sent")


def _recipient(channel: Channel, to: str) -> tuple[Model | None, str]:
    """Return the user who gets a test message, if it is one, and the address."""
    user = None
    if to in (ACTOR, SUPERUSERS) or to.startswith(GROUP):
        msg = f'A test message goes to one recipient: --to takes an address or "user:NAME", not "{to}".'
        raise InvalidSettings(msg)
    if to.startswith(USER):
        user = single_user(to, [])
    elif to and channel.recipients_are_users:
        user = user_by_key(to)
    if user is None and (to.startswith(USER) or (to and channel.recipients_are_users)):
        hint = "" if to.startswith(USER) else f' For a username, write "{USER}{to}".'
        msg = f'There is no user "{to.removeprefix(USER)}".{hint}'
        raise InvalidSettings(msg)
    recipient = channel.address(user) if user is not None else to
    if not recipient and (channel.needs_recipient or to):
        whom = f"{USER}NAME" if channel.recipients_are_users else "ADDRESS"
        msg = f'The user {to} has no address for the channel "{channel.alias}".' if to else f"Say to whom: --to {whom}."
        raise InvalidSettings(msg)
    return user, recipient


def _message(channel: Channel, user: Model | None, recipient: str) -> Message:
    event = AuditEvent(uid=new_uid(), recorded_at=utc_now(), event_type=TEST, source=Source.MANUAL.value)
    with translation.override(channel.language(user)):
        text = Text(
            subject=_("Test message of the channel “%(channel)s”") % {"channel": channel.alias},
            body=_("This channel works: somebody tried it with audit_deliver --test. Nothing else has happened."),
        )
        message = Message(
            id=new_message_id(),
            event=event,
            events=[event],
            rule=TEST,
            channel=channel.alias,
            recipient=recipient,
            attempt=1,
            text=text,
        )
        return replace(message, html=channel.html(message))


def _keep(message: Message, using: str) -> None:
    """Leave a message where its recipient reads it."""
    Notification.objects.using(using).create(
        tenant=tenant_of_tables(),
        rule=message.rule,
        channel=message.channel,
        recipient=message.recipient,
        message_id=message.id,
        status=Notification.STATUS.sent,
        attempts=1,
        sent_at=utc_now(),
        data={"subject": message.subject, "body": message.body},
    )
