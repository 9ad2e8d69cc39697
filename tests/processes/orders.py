"""Several workers and few objects: in which order the messages about each of them arrive."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.db import connections

from django_signal_audit.channels.base import Channel, Message, Option, is_text
from django_signal_audit.delivery import worker
from django_signal_audit.models import Notification
from tests.app.models import Tag
from tests.processes.stage import Child


class OrderedChannel(Channel):
    """Writes the object and the event of a message on a line of a file; some of them only at the second attempt."""

    option_schema = {"path": Option(expects="a file", accepts=is_text, required=True)}

    def send(self, message: Message) -> None:
        """Write the line."""
        if message.event.pk % 17 == 0 and message.attempt == 1:
            raise ValueError("not at once")
        if message.event.pk % 43 == 0:
            time.sleep(0.05)
        file = os.open(self.options["path"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{message.event.object_id} {message.event.pk}\n".encode())
        os.close(file)


def main(path: str, objects: int, rounds: int, workers: int, concurrency: int) -> dict[str, Any]:
    """Change the objects again and again while workers send, and report what arrived after a later one.

    Args:
        path: The file that the channel writes to.
        objects: How many objects there are.
        rounds: How often each is changed.
        workers: How many workers there are.
        concurrency: How many threads each of them has.

    """
    worker.FIRST_SECONDS = 0.05

    def work() -> None:
        call_command("audit_deliver", watch=True, interval=0.05, concurrency=concurrency, stdout=io.StringIO())

    tags = [Tag.objects.create(name="0") for _ in range(objects)]
    children = [Child(work) for _ in range(workers)]
    for number in range(1, rounds):
        if number % 10 == 0:
            Tag.objects.update(name=f"all {number}")  # one message about all of them
        for tag in tags:
            tag.name = f"{number}"
            tag.save()
    unfinished = Notification.objects.of_status("pending", "claimed", "failed")
    end = time.monotonic() + 120
    while unfinished.exists() and time.monotonic() < end:
        time.sleep(0.1)
    connections.close_all()
    for child in children:
        child.kill()
    return _report(path)


def _report(path: str) -> dict[str, Any]:
    latest: dict[str, int] = {}
    late = 0
    lines = Path(path).read_text().splitlines()
    for line in lines:
        name, number = line.split()
        late += int(number) < latest.get(name, 0)
        latest[name] = max(int(number), latest.get(name, 0))
    statuses = set(Notification.objects.values_list("status", flat=True))
    waiting = Notification.objects.exclude(order_key="").count()
    retried = Notification.objects.filter(attempts__gt=1).count()
    return {"late": late, "sent": len(lines), "statuses": sorted(statuses), "waiting": waiting, "retried": retried}
