"""How fast notifications are delivered on PostgreSQL, beside django-tasks-db on the same machine in the same run.

Run as ``python -m benchmarks.delivery``. The channel and the task do nothing; what is measured is claiming and noting.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median, quantiles
from typing import Any

from .databases import database

FINISHED = 1_000_000
DRAINED = 100_000
WORKERS = 4
NOTIFY = [{"channel": "nothing"}]
TOGETHER = [{"channel": "repeatable"}]
READ = [{"channel": "reading"}]
RECEIVERS = 10_000


def set_up(entry: dict[str, Any], full: dict[str, Any] | None = None, channel: str = "Nothing") -> None:
    """Configure Django for us and for django-tasks-db, and for a second database that will have a history."""
    import django
    from django.conf import settings

    settings.configure(
        BENCHMARK_CONTENDER="django-signal-audit",
        DATABASES={"default": entry, "full": full or entry},
        INSTALLED_APPS=[
            "django_signal_audit",
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "django_tasks_db",
            "benchmarks.shop",
        ],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
        TASKS={"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}},
        SIGNAL_AUDIT=rules(NOTIFY, channel),
    )
    django.setup()


def rules(notify: list[dict[str, Any]], channel: str = "Nothing") -> dict[str, Any]:
    """Return SIGNAL_AUDIT with one rule about events of our own and one about a model."""
    return {
        "RULES": [
            {"name": "told", "events": ["told"], "notify": notify},
            {"name": "tags", "model": "shop.tag", "notify": notify},
            {"name": "together", "model": "shop.category", "notify": TOGETHER},
        ],
        "CHANNELS": {
            "nothing": {"BACKEND": f"benchmarks.receivers.{channel}"},
            "repeatable": {"BACKEND": "benchmarks.receivers.Repeatable"},
            "reading": {"BACKEND": "benchmarks.receivers.Reading"},
        },
        "DISPATCHER": "django_signal_audit.dispatchers.WorkerDispatcher",
    }


def _rate(act: Callable[[], int]) -> float:
    start = time.perf_counter()
    count = act()
    return count / (time.perf_counter() - start)


def _deliver(using: str, rule: str, count: int, notify: list[dict[str, Any]] = NOTIFY) -> float:
    from django.db import transaction
    from django.test.utils import override_settings

    from django_signal_audit.delivery.worker import deliver

    from .shop.models import Category, Tag

    model = {"told": Tag, "together": Category}[rule]
    with override_settings(SIGNAL_AUDIT=rules(notify)):
        with transaction.atomic(using=using):
            for number in range(count):
                model._default_manager.using(using).create(name=f"{number}")
        return _rate(lambda: deliver(using).sent)


def _run_tasks(count: int) -> float:
    from django.core.management import call_command
    from django.db import transaction

    from .receivers import nothing

    with transaction.atomic():
        for _ in range(count):
            nothing.enqueue()

    def work() -> int:
        call_command("db_worker", batch=True, startup_delay=False, reload=False, verbosity=0)
        return count

    return _rate(work)


def measure_throughput(count: int, rounds: int, finished: int) -> Iterator[tuple[str, float]]:
    """Yield what was measured and messages a second; everybody takes turns, so that all have the same machine."""
    from django.core.management import call_command

    call_command("migrate", run_syncdb=True, verbosity=0, database="full")
    contenders: dict[str, Callable[[int], float]] = {
        "django-signal-audit | 0": partial(_deliver, "default", "told"),
        f"django-signal-audit | {finished:,}": partial(_deliver, "full", "told"),
        "django-signal-audit, the text is read | 0": partial(_deliver, "default", "told", notify=READ),
        "django-signal-audit, `is_repeatable` | 0": partial(_deliver, "default", "together"),
        f"django-signal-audit, `is_repeatable` | {finished:,}": partial(_deliver, "full", "together"),
        # A quarter is enough to know its rate, and does not take the better part of the run.
        "django-tasks-db 0.13 | 0": lambda count: _run_tasks(count // 4),
    }
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    # The first round imports and compiles.
    for act in contenders.values():
        act(count)
    fill(finished)
    for _ in range(rounds):
        for name, act in contenders.items():
            rates[name].append(act(count))
    for name, found in rates.items():
        yield name, median(found)


def fill(count: int) -> None:
    """Add finished rows to the outbox of the database "full", and let the server know of them."""
    from django.db import connections

    from django_signal_audit.models import Notification

    table = Notification._meta.db_table
    columns = ", ".join(_columns())
    with connections["full"].cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({columns}) SELECT {columns} FROM"
            f" (SELECT * FROM {table} ORDER BY id LIMIT 1000) AS rows, generate_series(1, %s)",
            [count // 1000],
        )
        cursor.execute(f"VACUUM ANALYZE {table}")


def measure_latency(entry: dict[str, Any], count: int) -> list[float]:
    """Return the milliseconds from a commit's return to the channel's being called, in a worker that listens."""
    from django_signal_audit import record
    from django_signal_audit.models import Notification

    command = [sys.executable, "-m", "benchmarks.delivery", "--worker", json.dumps(entry)]
    found = []
    Notification.objects.all().delete()  # of the measurement before
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout
        record("told")
        worker.stdout.readline()  # it runs
        for _ in range(count):
            time.sleep(random.uniform(0.02, 0.06))
            record("told")
            committed = time.time()
            found.append((float(worker.stdout.readline()) - committed) * 1000)
        worker.terminate()
    return found


def measure_workers(entry: dict[str, Any], count: int) -> dict[int, float]:
    """Return messages a second by a channel that waits 5 ms, of one worker and of four, with one thread each."""
    from django.db import transaction

    from django_signal_audit import record
    from django_signal_audit.models import Notification

    command = [sys.executable, "-m", "benchmarks.delivery", "--once", json.dumps(entry)]
    found = {}
    for workers in (1, WORKERS):
        Notification.objects.all().delete()
        with transaction.atomic():
            for _ in range(count):
                record("told")
        for process in [subprocess.Popen(command) for _ in range(workers)]:
            assert process.wait() == 0
        times = sorted(Notification.objects.values_list("sent_at", flat=True))
        # At the beginning and at the end, not all of them are at work.
        first, last = times[count // 4], times[count * 3 // 4]
        found[workers] = (count * 3 // 4 - count // 4) / (last - first).total_seconds()
    return found


def measure_drain(entry: dict[str, Any], count: int) -> dict[str, float]:
    """Return how fast one process sends pending messages, and its memory at a tenth of them and at the end."""
    from django_signal_audit import record
    from django_signal_audit.models import Notification

    Notification.objects.all().delete()
    record("told")
    multiply(count - 1)
    command = [sys.executable, "-m", "benchmarks.delivery", "--drain", json.dumps(entry)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def multiply(count: int) -> None:
    """Copy the one message that waits."""
    from django.db import connection

    from django_signal_audit.models import Notification

    table = Notification._meta.db_table
    names = _columns()
    columns = ", ".join(names)
    copied = ", ".join("gen_random_uuid()" if name == '"message_id"' else name for name in names)
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} ({columns}) SELECT {copied} FROM {table}, generate_series(1, %s)", [count])


def _columns() -> list[str]:
    """Return the columns of the outbox but its primary key, quoted: one is called "user"."""
    from django_signal_audit.models import Notification

    return [f'"{field.column}"' for field in Notification._meta.local_concrete_fields if not field.primary_key]


def _drain() -> dict[str, float]:
    from django_signal_audit.delivery import outbox
    from django_signal_audit.delivery.worker import deliver

    count, tried, early = outbox.count_due("default"), 0, 0.0

    def note() -> None:
        nonlocal tried, early
        tried += 1
        if tried == count // 10:
            early = _megabytes()

    begin = time.perf_counter()
    assert deliver("default", on_attempt=note).sent == count
    return {"rate": count / (time.perf_counter() - begin), "early": early, "end": _megabytes()}


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_request(count: int) -> dict[str, tuple[float, int]]:
    """Return milliseconds and statements of a change: unnotified, with one notification, and with many recipients."""
    from django.contrib.auth.models import User
    from django.db import connection
    from django.test.utils import CaptureQueriesContext, override_settings

    from .shop.models import Tag

    User.objects.bulk_create(
        [User(username=f"u{number}", is_superuser=True) for number in range(RECEIVERS)], batch_size=1000
    )
    variants: dict[str, list[dict[str, Any]]] = {
        "no notification": [],
        "one notification": NOTIFY,
        f"{RECEIVERS:,} superusers": [{**NOTIFY[0], "to": "superusers"}],
    }
    times: dict[str, list[float]] = {name: [] for name in variants}
    statements: dict[str, int] = {}
    for number in range(count):
        for name, notify in variants.items():
            with override_settings(SIGNAL_AUDIT=rules(notify)):
                Tag.objects.create(name=f"warm {number} {name}")
                with CaptureQueriesContext(connection) as queries:
                    Tag.objects.create(name=f"counted {number} {name}")
                statements[name] = len([query for query in queries if query["sql"] not in ("BEGIN", "COMMIT")])
                start = time.perf_counter()
                Tag.objects.create(name=f"timed {number} {name}")
                times[name].append((time.perf_counter() - start) * 1000)
    return {name: (median(times[name]), statements[name]) for name in variants}


@contextmanager
def prepared() -> Iterator[dict[str, Any]]:
    """Yield the entry of a database that has the tables of all."""
    with database("postgresql", 0) as entry, database("postgresql", 1) as full:
        set_up(entry, full)
        from django.core.management import call_command
        from django.db import connections

        call_command("migrate", run_syncdb=True, verbosity=0)
        try:
            yield entry
        finally:
            connections.close_all()


def main() -> None:
    """Print tables, or be the worker that a latency is measured with."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.delivery", description=__doc__)
    parser.add_argument("--messages", type=int, default=2000, help="per turn (default 2000)")
    parser.add_argument("--rounds", type=int, default=5, help="how often everybody takes a turn (default 5)")
    parser.add_argument("--finished", type=int, default=FINISHED, help="rows of history (default 1,000,000)")
    parser.add_argument("--drained", type=int, default=DRAINED, help="pending messages at once (default 100,000)")
    for name in ("--worker", "--once", "--drain"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if entry := arguments.worker or arguments.once or arguments.drain:
        set_up(json.loads(entry), channel="Clock" if arguments.worker else "Waiting" if arguments.once else "Nothing")
        if arguments.drain:
            print(json.dumps(_drain()))
            return
        from django.core.management import call_command

        call_command(
            "audit_deliver", watch=bool(arguments.worker), concurrency=1 if arguments.once else 4, stdout=io.StringIO()
        )
        return
    with prepared() as entry:
        _print(entry, arguments)


def _print(entry: dict[str, Any], arguments: argparse.Namespace) -> None:
    print("| a change | statements | ms |\n| --- | --- | --- |")
    for name, (milliseconds, statements) in measure_request(100).items():
        print(f"| {name} | {statements} | {milliseconds:.2f} |", flush=True)
    found = measure_latency(entry, 200)
    cuts = quantiles(found, n=100)
    print(f"\ncommit to sent, ms: p50 {median(found):.1f}, p95 {cuts[94]:.1f}, p99 {cuts[98]:.1f}\n", flush=True)
    rates = measure_workers(entry, arguments.messages)
    one, several = rates[1], rates[WORKERS]
    print(f"a channel that waits 5 ms: one worker {one:,.0f}/s, four {several:,.0f}/s, {several / one:.1f} times\n")
    drained = measure_drain(entry, arguments.drained)
    print(
        f"{arguments.drained:,} pending: {drained['rate']:,.0f}/s, {drained['early']:.0f} MB after a tenth of them,"
        f" {drained['end']:.0f} MB at the end\n",
        flush=True,
    )
    print("| claimed and noted | finished rows in the table | a second |\n| --- | --- | --- |")
    for name, rate in measure_throughput(arguments.messages, arguments.rounds, arguments.finished):
        print(f"| {name} | {rate:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
