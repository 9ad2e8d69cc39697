"""The same no-op messages sent by this package and by task queues, on PostgreSQL, in turns in one run.

Run as ``python -m benchmarks.queues``. Each turn is a new process that enqueues all messages in one transaction, sends
them with one process, and reports the rate from the first to the last. What is not installed is left out, and so is
Celery if no Redis answers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from statistics import median
from typing import Any

from .databases import database

REDIS = os.environ.get("BENCHMARK_REDIS_URL", "redis://127.0.0.1:6379/15")
# What each needs to be installed, and what it promises about a message.
CONTENDERS = {
    "django-signal-audit": ("", "at least once; retried, rendered, noted one by one"),
    "django-signal-audit, `is_repeatable`": ("", "at least once; noted a hundred at a time"),
    "django-tasks-db": ("django_tasks_db", "at most once: a killed task stays running, nothing is retried"),
    "procrastinate": ("procrastinate", "at most once: a killed task stays running unless your code retries it"),
    "Celery with Redis, acks late": ("celery", "at least once from Redis on; lost between the commit and Redis"),
}


def set_up(entry: dict[str, Any]) -> None:
    """Configure Django for all that is installed."""
    import django
    from django.conf import settings

    from .delivery import TOGETHER, rules

    audit = rules([{"channel": "nothing"}])
    for alias, backend in (("nothing", "Arrivals"), ("repeatable", "RepeatableArrivals")):
        audit["CHANNELS"][alias] = {"BACKEND": f"benchmarks.receivers.{backend}"}
    assert audit["RULES"][2]["notify"] == TOGETHER
    optional = {"django_tasks_db": "django_tasks_db", "procrastinate": "procrastinate.contrib.django"}
    settings.configure(
        BENCHMARK_CONTENDER="django-signal-audit",
        DATABASES={"default": entry},
        INSTALLED_APPS=[
            "django_signal_audit",
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "benchmarks.shop",
            *(app for name, app in optional.items() if find_spec(name)),
        ],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
        TASKS={"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}} if find_spec("django_tasks_db") else {},
        SIGNAL_AUDIT=audit,
    )
    django.setup()


def ours(model: str, count: int) -> None:
    """Notify of so many new rows, and deliver."""
    from django.apps import apps
    from django.db import transaction

    from django_signal_audit.delivery.worker import deliver

    rows = apps.get_model("shop", model)._default_manager
    with transaction.atomic():
        for number in range(count):
            rows.create(name=f"{number}")
    deliver("default")


def tasks_db(count: int) -> None:
    """Run tasks of django.tasks."""
    from django.core.management import call_command
    from django.db import transaction

    from .receivers import arrive_as_task

    with transaction.atomic():
        for _ in range(count):
            arrive_as_task.enqueue()
    call_command("db_worker", batch=True, startup_delay=False, reload=False, verbosity=0)


def procrastinate(count: int) -> None:
    """Run tasks of procrastinate."""
    from django.db import transaction
    from procrastinate.contrib.django import app

    from .receivers import arrive_now

    @app.task(name="arrive")
    def arrive() -> None:
        arrive_now()

    with transaction.atomic():
        for _ in range(count):
            arrive.defer()
    with app.replace_connector(app.connector.get_worker_connector()) as worker_app:
        worker_app.run_worker(wait=False, listen_notify=False, install_signal_handlers=False)


def celery(count: int) -> None:
    """Run tasks of Celery: they are handed to Redis after the commit, as its own documentation has it."""
    from celery import Celery
    from celery.worker import state
    from django.db import transaction

    from .receivers import arrive_now, arrived

    app = Celery("benchmark", broker=REDIS)
    app.conf.update(
        task_acks_late=True,
        task_ignore_result=True,
        task_default_queue=f"benchmark-{os.getpid()}",
        worker_redirect_stdouts=False,
    )

    @app.task(name="arrive")
    def arrive() -> None:
        arrive_now()
        if len(arrived) == count:
            state.should_stop = os.EX_OK

    with transaction.atomic():
        for _ in range(count):
            transaction.on_commit(arrive.delay)
    with suppress(SystemExit):  # that is how its worker ends
        app.Worker(pool="solo", loglevel="ERROR", without_gossip=True, without_mingle=True).start()


ACTS: dict[str, Callable[[int], None]] = {
    "django-signal-audit": lambda count: ours("tag", count),
    "django-signal-audit, `is_repeatable`": lambda count: ours("category", count),
    "django-tasks-db": tasks_db,
    "procrastinate": procrastinate,
    "Celery with Redis, acks late": celery,
}


def _is_there(name: str) -> bool:
    module = CONTENDERS[name][0]
    if not module:
        return True
    if not find_spec(module):
        return False
    if module != "celery":
        return True
    from redis import Redis

    try:
        return bool(Redis.from_url(REDIS).ping())
    except OSError:
        return False


def _take_turn(name: str, count: int) -> float:
    """Return how many messages a second were sent by a process that is a contender's alone."""
    with database("postgresql", 0) as entry:
        command = [
            sys.executable,
            "-m",
            "benchmarks.queues",
            "--turn",
            name,
            json.dumps(entry),
            "--messages",
            str(count),
        ]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return float(done.stdout.splitlines()[-1])


def _turn(name: str, entry: str, count: int) -> float:
    set_up(json.loads(entry))
    from django.core.management import call_command

    call_command("migrate", run_syncdb=True, verbosity=0)
    ACTS[name](count)
    from .receivers import arrived as times

    assert len(times) == count, f"{len(times)} of {count} arrived"
    return (count - 1) / (times[-1] - times[0])


def main() -> None:
    """Print a table, or in a turn a line with the rate."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queues", description=__doc__)
    parser.add_argument("--messages", type=int, default=5000, help="per turn (default 5000)")
    parser.add_argument("--rounds", type=int, default=3, help="how often everybody takes a turn (default 3)")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--turn", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.turn:
        print(_turn(*arguments.turn, arguments.messages))
        return
    rates: dict[str, list[float]] = {name: [] for name in arguments.only if _is_there(name)}
    for _ in range(arguments.rounds):
        for name, found in rates.items():
            found.append(_take_turn(name, arguments.messages))
    print("| sent by one process | a second | what it promises |\n| --- | --- | --- |")
    for name, found in rates.items():
        print(f"| {name} | {median(found):,.0f} | {CONTENDERS[name][1]} |")


if __name__ == "__main__":
    main()
