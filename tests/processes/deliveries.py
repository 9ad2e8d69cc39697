"""Workers that are killed while they send, and who got which message in the end."""

from __future__ import annotations

import datetime as dt
import io
import os
import random
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.db import connections, transaction

from django_signal_audit import record
from django_signal_audit.channels.base import Channel, Message, Option, is_text
from django_signal_audit.delivery import breakers, outbox, worker
from django_signal_audit.models import AuditEvent, Notification
from tests.processes.stage import Child

# A claim of a worker that was killed lapses soon enough to be waited for.
LEASE = dt.timedelta(seconds=4)
UNFINISHED = ("pending", "claimed", "failed")


class FileChannel(Channel):
    """Writes the id of a message on a line of a file: what is written has been received."""

    option_schema = {"path": Option(expects="a file", accepts=is_text, required=True)}

    def send(self, message: Message) -> None:
        """Write the line at once, as a line of its own whoever else writes."""
        file = os.open(self.options["path"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{message.id}\n".encode())
        os.close(file)
        # Some of the kills come when it is received and not yet noted.
        time.sleep(0.001)


class HangingChannel(Channel):
    """Takes a message and never says so."""

    option_schema = FileChannel.option_schema

    def send(self, message: Message) -> None:
        """Write the line, and wait for an answer that does not come; the third time it comes."""
        FileChannel.send(self, message)
        if message.attempt < 3:
            threading.Event().wait()


def main(
    path: str, messages: int, kills: int, workers: int, concurrency: int, seed: int, hanging: int = 0
) -> dict[str, Any]:
    """Kill workers, put others in their place, and count who was told how often.

    Args:
        path: The file that the channel of the rule writes to.
        messages: How many there are to send.
        kills: How many workers are killed.
        workers: How many work at a time.
        concurrency: How many threads each of them has.
        hanging: How many messages are not answered the first two times.
        seed: What the random choices depend on.

    """
    outbox.LEASE, worker.FIRST_SECONDS = LEASE, 1.0
    # A channel that hangs is tried again as soon: the waits of a real one would be minutes.
    breakers.FIRST_SECONDS = breakers.LONGEST_SECONDS = breakers._MARGIN_SECONDS = 1.0
    with transaction.atomic():
        for number in range(messages):
            record("hung" if number < hanging else "told")
    chance = random.Random(seed)
    work = partial(_work, concurrency)
    children = [Child(work) for _ in range(workers)]
    for _ in range(kills):
        time.sleep(chance.uniform(0.03, 0.25))
        children.pop(0).kill()
        children.append(Child(work))
    _wait()
    for child in children:
        child.kill()
    return _report(path)


def _work(concurrency: int) -> None:
    # The second one takes over what the dead held one by one, so the poll is short.
    call_command("audit_deliver", watch=True, interval=0.05, concurrency=concurrency, stdout=io.StringIO())


def _wait() -> None:
    end = time.monotonic() + 300
    while Notification.objects.of_status(*UNFINISHED).exists() and time.monotonic() < end:
        time.sleep(0.1)
    connections.close_all()


def _report(path: str) -> dict[str, Any]:
    received = Counter(Path(path).read_text().split())
    written = Counter(Notification.objects.values_list("message_id", flat=True))
    return {
        "events": AuditEvent.objects.count(),
        "messages": written.total(),
        "statuses": dict(Counter(Notification.objects.values_list("status", flat=True))),
        "errors": dict(Counter(Notification.objects.exclude(status="sent").values_list("last_error", flat=True))),
        "lost": len(written.keys() - received.keys()),
        "unknown": len(received.keys() - written.keys()),
        "repeated": received.total() - len(received),
        "late": Notification.objects.filter(attempts__gt=2, channel="hanging").count(),
    }
