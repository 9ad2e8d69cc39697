"""Workers with channels that are slow or hang, and how long what is quick has to wait."""

from __future__ import annotations

import io
import threading
import time
from collections import Counter
from typing import Any

from django.core.management import call_command
from django.db import transaction

from django_signal_audit import record
from django_signal_audit.channels.base import Channel, Message, Option
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.signals import notification_sent
from tests.processes.stage import Child


class WaitingChannel(Channel):
    """Takes so many seconds for a message; without them, it never comes back."""

    option_schema = {"seconds": Option(expects="seconds", accepts=lambda value: isinstance(value, (int, float)))}

    def send(self, message: Message) -> None:
        """Wait."""
        threading.Event().wait(self.options.get("seconds"))


def find_nobody(event: AuditEvent) -> None:
    """Look for the recipients of an event, for ever."""
    threading.Event().wait()


def hear(notification: Notification, **_: object) -> None:
    """Hear that a message was sent, and never come back if it was one of this channel."""
    if notification.channel == "heard":
        threading.Event().wait()


def main(
    workers: int,
    concurrency: int,
    slow: int,
    hanging: int,
    quick: int,
    patience: float,
    is_first: bool,
    late: int = 0,
    beside: dict[str, int] | None = None,
) -> dict[str, Any]:
    """Have some messages that take long, others that do not, and report how long the latter waited.

    Args:
        workers: How many workers there are.
        concurrency: How many threads each of them has.
        slow: How many messages are slow.
        hanging: How many never end.
        quick: How many are quick.
        patience: After how many seconds to wait no longer.
        is_first: Whether the quick ones are there when the workers begin.
        late: How many messages of a channel that is known to be slow come when the others hang already.
        beside: How many messages there are of other channels that hang.

    """
    notification_sent.connect(hear)

    def work() -> None:
        call_command("audit_deliver", watch=True, interval=0.2, concurrency=concurrency, stdout=io.StringIO())

    first = {} if late else {"slow": slow, "hanging": hanging, "quick": quick if is_first else 0}
    _write(**(beside or {}), late=min(late, 1), **first)
    children = [Child(work) for _ in range(workers)]
    try:
        if late:
            _wait(lambda: _sent("late") == 1, patience)
            _write(slow=slow, hanging=hanging)
        if not is_first:
            _wait(lambda: Notification.objects.exclude(status="pending").exists(), 10)
            time.sleep(0.7)
            _write(quick=quick, late=late)
        begin = time.monotonic()
        _wait(lambda: _sent("quick") == quick and _sent("late") >= late, patience)
        waited = time.monotonic() - begin
        rows = Notification.objects.values_list("channel", "status")
        return {"waited": waited, "states": [[*key, count] for key, count in sorted(Counter(rows).items())]}
    finally:
        for child in children:
            child.kill()


def _write(**counts: int) -> None:
    with transaction.atomic():
        for name, count in counts.items():
            for _ in range(count):
                record(f"{name}_happened")


def _sent(channel: str) -> int:
    return Notification.objects.filter(channel=channel, status="sent").count()


def _wait(condition: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
