"""Workers under whom a clock jumps, connections are cut, a server restarts, or settings are another version's."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import time_machine
from django.core.management import CommandError
from django.db import DatabaseError, connection, connections, transaction
from django.test import override_settings

from django_signal_audit import record
from django_signal_audit.channels.base import Message
from django_signal_audit.delivery import outbox, worker
from django_signal_audit.models import Notification
from tests.processes import server
from tests.processes.deliveries import LEASE, UNFINISHED, FileChannel, _report, _work
from tests.processes.stage import Child


class SubjectChannel(FileChannel):
    """Writes the subject of a message behind its id."""

    def send(self, message: Message) -> None:
        """Write both on a line of their own."""
        with Path(self.options["path"] + ".subjects").open("a", encoding="utf-8") as file:
            file.write(f"{message.id} {message.subject}\n")
        super().send(message)
        # So that there is something under way when the trouble comes.
        time.sleep(0.02)


def main(trouble: str, path: str, messages: int, workers: int, concurrency: int, **more: Any) -> dict[str, Any]:
    """Send messages in spite of some trouble, and count who was told how often.

    Args:
        trouble: The name of a function of this module.
        path: The file that the channel writes to.
        messages: How many there are to send.
        workers: How many work at a time.
        concurrency: How many threads each of them has.
        more: What the function gets besides.

    """
    outbox.LEASE, worker.FIRST_SECONDS = LEASE, 1.0
    with transaction.atomic():
        for _ in range(messages):
            record("told")
    work = partial(_work, concurrency)
    kinds: dict[str, Callable[..., dict[str, Any]]] = {
        "jumps": jumps,
        "cuts": cuts,
        "restarts": restarts,
        "versions": versions,
    }
    found = kinds[trouble](work, workers, **more)
    return {**_report(path), **found}


def jumps(work: Callable[[], None], workers: int, hours: list[float]) -> dict[str, Any]:
    """Have the clock of all workers jump to these offsets, one after another, while they send."""
    begin = time.monotonic()
    children = [Child(partial(_under_jumps, work, begin, hours)) for _ in range(workers)]
    time.sleep(0.3 * (len(hours) + 1))
    for child in children:
        child.kill()
    # What was given back while the clock was an hour ahead is due in an hour.
    last = Child(partial(_under_jumps, work, begin - 3600, [1.5]))
    _wait(300)
    last.kill()
    return {"jumps": len(hours)}


def _under_jumps(work: Callable[[], None], begin: float, hours: list[float]) -> None:
    start = dt.datetime.now(dt.UTC)
    with time_machine.travel(start, tick=True) as clock:

        def jump() -> None:
            for number, hour in enumerate(hours, 1):
                time.sleep(max(begin + 0.3 * number - time.monotonic(), 0))
                clock.shift(hour * 3600)

        threading.Thread(target=jump, daemon=True).start()
        work()


def cuts(work: Callable[[], None], workers: int, count: int) -> dict[str, Any]:
    """Cut all connections of the workers to the server, so many times."""
    others = set(_connected())
    children = [Child(partial(_supervised, work)) for _ in range(workers)]
    cut = 0
    for _ in range(count):
        time.sleep(0.2)
        cut += _cut(set(_connected()) - others)
    _wait(300)
    for child in children:
        child.kill()
    return {"cut": cut}


def restarts(work: Callable[[], None], workers: int, commands: list[list[str]], account: str | None) -> dict[str, Any]:
    """Restart the database's server by these commands, one after another, while workers send."""
    children = [Child(partial(_supervised, work)) for _ in range(workers)]
    for command in commands:
        time.sleep(1.0)
        connection.close()
        server.run(command, account)
    left = Notification.objects.of_status(*UNFINISHED).count()
    _wait(300)
    for child in children:
        child.kill()
    return {"restarts": len(commands), "left": left}


def _supervised(work: Callable[[], None]) -> None:
    """Start the worker again when it ends, as a supervisor does: one that is cut while it starts says so and ends."""
    while True:
        try:
            work()
        except CommandError:
            connections.close_all()  # a new process would have none
            time.sleep(0.1)


def _connected() -> list[int]:
    """Return who is connected to the database, but for ourselves."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            sql = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        else:
            sql = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
        cursor.execute(sql)
        return [key for (key,) in cursor.fetchall()]


def _cut(keys: set[int]) -> int:
    """Cut connections, and return how many of them there still were."""
    cut, sql = 0, "SELECT pg_terminate_backend(%s)" if connection.vendor == "postgresql" else "KILL %s"
    with connection.cursor() as cursor:
        for key in keys:
            with suppress(DatabaseError):  # it has ended by itself
                cursor.execute(sql, [key])
                cut += 1
    return cut


def versions(work: Callable[[], None], workers: int, older: dict[str, Any], newer: int) -> dict[str, Any]:
    """Have workers with the settings of an older version send beside those with the newer one's.

    Args:
        work: What a worker does.
        workers: How many there are of each.
        older: SIGNAL_AUDIT of the older version.
        newer: How many messages there are besides that only the newer version knows.

    """
    with transaction.atomic():
        for _ in range(newer):
            record("news")
    old = [Child(partial(_with_settings, work, older)) for _ in range(workers)]
    time.sleep(1.5)
    left = Counter(Notification.objects.values_list("rule", "status"))
    new = [Child(work) for _ in range(workers)]
    _wait(300)
    for child in (*old, *new):
        child.kill()
    return {"left": sum(count for (rule, status), count in left.items() if rule == "news" and status != "sent")}


def _with_settings(work: Callable[[], None], audit: dict[str, Any]) -> None:
    with override_settings(SIGNAL_AUDIT=audit):
        work()


def _wait(seconds: float) -> None:
    end = time.monotonic() + seconds
    while Notification.objects.of_status(*UNFINISHED).exists() and time.monotonic() < end:
        time.sleep(0.1)
