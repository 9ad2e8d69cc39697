"""Help for the tests of projects: which events were recorded, which messages would have been sent.

All of it works inside ``TestCase``, where commit hooks never run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Max, Model, QuerySet

from django_signal_audit.delivery.worker import intercepted
from django_signal_audit.dispatchers import replaced_dispatcher
from django_signal_audit.models.notifications import NotificationQuerySet

from .channels.base import Message
from .delivery.worker import deliver
from .dispatchers import WorkerDispatcher
from .events.keys import object_id
from .models import AuditEvent, Notification
from .signals import event_recorded

__all__ = ["FakeNotifications", "capture_events", "drain", "fake_notifications"]


@contextmanager
def capture_events() -> Iterator[list[AuditEvent]]:
    """Return a list that fills with the events recorded inside, those of a transaction that rolls back among them."""
    events: list[AuditEvent] = []

    def note(event: AuditEvent, **_: object) -> None:
        events.append(event)

    event_recorded.connect(note)
    try:
        yield events
    finally:
        event_recorded.disconnect(note)


def drain(using: str = DEFAULT_DB_ALIAS) -> int:
    """Deliver what is due until nothing is, by the real channels, and return how many messages were sent."""
    return deliver(using).sent


class FakeNotifications:
    """The messages that notifications written since would have sent, rendered and kept here instead."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._start = self._newest(Notification.objects.using(using))
        self._sent: list[Message] = []

    @property
    def sent(self) -> list[Message]:
        """Return all messages so far, in the order they were sent."""
        self.deliver()
        return self._sent

    def deliver(self) -> None:
        """Deliver, into this fake, the notifications that are due."""
        while ids := list(self._rows().of_status(Notification.STATUS.pending).values_list("pk", flat=True)):
            if not deliver(self._using, ids=ids).attempted:
                return  # not due yet

    def assert_sent(
        self,
        rule: str | None = None,
        *,
        channel: str | None = None,
        to: str | Model | None = None,
        subject: str | None = None,
        times: int | None = None,
    ) -> list[Message]:
        """Fail unless such a message was sent, and return those that were.

        Args:
            rule: The name of the rule.
            channel: The alias of the channel.
            to: The recipient: an address, or a user, however the channel names them.
            subject: A part of the subject.
            times: How many there must be exactly; at least one if it is not said.

        """
        found = [
            message
            for message in self.sent
            if rule in (None, message.rule)
            and channel in (None, message.channel)
            and (to is None or message.recipient in _addresses(to))
            and (subject is None or subject in message.subject)
        ]
        if len(found) != times if times is not None else not found:
            wanted = {"rule": rule, "channel": channel, "to": to, "subject": subject}
            asked = ", ".join(f"{name}={value!r}" for name, value in wanted.items() if value is not None)
            count = "at least one message" if times is None else f"{times} message{'' if times == 1 else 's'}"
            raise AssertionError(f"Expected {count} ({asked or 'any'}), found {len(found)}.\n{self._describe()}")
        return found

    def assert_nothing_sent(self) -> None:
        """Fail if any message was sent."""
        if self.sent:
            raise AssertionError(f"Expected no message, found {len(self._sent)}.\n{self._describe()}")

    def receive(self, message: Message) -> None:
        """Take a message in place of its channel."""
        # Have its text made now: a test may change what that depends on before it looks.
        str(message.body)
        self._sent.append(message)

    @staticmethod
    def _newest(rows: QuerySet[Notification]) -> int:
        return rows.aggregate(newest=Max("id"))["newest"] or 0

    def _rows(self) -> NotificationQuerySet:
        # What a test's preparation left undelivered is not what it asks about.
        return Notification.objects.using(self._using).filter(pk__gt=self._start).order_by("pk")

    def _describe(self) -> str:
        lines = [f"  {item.rule} → {item.channel} {item.recipient}: {item.subject}" for item in self._sent]
        unsent = self._rows().exclude(status=Notification.STATUS.sent)
        lines += [f"  {row}: {row.status} {row.last_error}".rstrip() for row in unsent]
        return "\n".join(["Notifications:", *(lines or ["  none"])])


def _addresses(to: str | Model) -> set[str]:
    if isinstance(to, str):
        return {to}
    name_of_field = getattr(type(to), "get_email_field_name", lambda: "email")()
    return {object_id(to.pk), str(getattr(to, name_of_field, ""))} - {""}


@contextmanager
def fake_notifications(using: str = DEFAULT_DB_ALIAS) -> Iterator[FakeNotifications]:
    """Send nothing inside: messages are rendered and collected, and can be asserted on.

    Notifications written before are left alone. Those written inside and not asked about are delivered, into the
    fake, at the end.
    """
    fake = FakeNotifications(using)
    with ExitStack() as stack:
        stack.enter_context(replaced_dispatcher(WorkerDispatcher()))
        stack.enter_context(intercepted(fake.receive))
        yield fake
        if not connections[using].needs_rollback:
            fake.deliver()
