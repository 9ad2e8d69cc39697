"""Notifications made by hand, and the functions their channels call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django_signal_audit.channels.base import Message
from django_signal_audit.dispatchers import get_dispatcher
from django_signal_audit.exceptions import GiveUp, RetryLater
from django_signal_audit.models import AuditEvent, Notification

HERE = "tests.notices"
CALLABLE = "django_signal_audit.channels.callable.CallableChannel"
EMAIL = "django_signal_audit.channels.email.EmailChannel"
INBOX = "django_signal_audit.channels.inbox.InboxChannel"
LOG = "django_signal_audit.channels.log.LogChannel"

received: list[Message] = []


def take(message: Message) -> None:
    received.append(message)


async def take_async(message: Message) -> None:
    received.append(message)


def boom(message: Message) -> None:
    raise ValueError(f"no way to {message.recipient}")


def later(message: Message) -> None:
    raise RetryLater(90)


def never(message: Message) -> None:
    raise GiveUp("the account is closed")


@contextmanager
def receiving() -> Iterator[list[Message]]:
    received.clear()
    yield received
    received.clear()


def calling(target: str, **options: Any) -> dict[str, Any]:
    return {"BACKEND": CALLABLE, "OPTIONS": {"target": f"{HERE}.{target}", **options}}


def audit_settings(channels: Mapping[str, Any] | None = None, **rule: Any) -> dict[str, Any]:
    """Return SIGNAL_AUDIT with one rule, "watch", for an event nothing sends by itself."""
    names = ("take", "take_async", "boom", "later", "never")
    # Most tests are about users who may view nothing, and not about that.
    everyday = {name: calling(name, check_permission=False) for name in names}
    return {
        "RULES": [{"name": "watch", "events": ["thing_happened"], "notify": [*everyday, *(channels or {})], **rule}],
        "CHANNELS": {**everyday, **(channels or {})},
    }


def make_event(**values: Any) -> AuditEvent:
    defaults = {
        "event_type": "update",
        "source": "orm",
        "model": "app.product",
        "object_id": "7",
        "object_repr": "Oil",
        "changes": {"price": ["10.00", "9.00"]},
    }
    return AuditEvent.objects.create(**{**defaults, **values})


def make_notifications(count: int, channel: str = "take") -> list[Notification]:
    """Make so many of one event."""
    event = make_event()
    return [make_notification(event, channel) for _ in range(count)]


def wake(*rows: Notification) -> None:
    """Tell the dispatcher of the settings that these rows are written."""
    get_dispatcher().wake("default", [row.pk for row in rows])


def make_notification(event: AuditEvent | None = None, channel: str = "take", **values: Any) -> Notification:
    event = event or make_event()
    return Notification.objects.create(**{"event": event.uid, "rule": "watch", "channel": channel, **values})
