"""Writers whose commits wake a task queue, and the queue's own workers, all at the same time."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections import Counter
from functools import partial
from typing import Any

from django.core.management import call_command
from django.db import connections

from django_signal_audit import audit_context
from django_signal_audit.context.scopes import current_context
from django_signal_audit.models import AuditEvent, Notification
from tests.app.models import Tag
from tests.processes.proxy import free_port, serve, split
from tests.processes.stage import Child, together

SECONDS = 60.0


def main(what: str, **arguments: Any) -> dict[str, Any]:
    """Let writers write and workers work until everything is sent, and report.

    Args:
        what: ``"tasks"`` or ``"celery"``.
        arguments: ``writers`` is how many write, and ``count`` how many notifications each of them makes, a commit
            each; ``broker`` is its URL.

    """
    return {"tasks": tasks, "celery": celery}[what](**arguments)


def tasks(writers: int, count: int) -> dict[str, Any]:
    """Have two workers of django-tasks-db deliver."""
    running = [Child(_work_tasks) for _ in range(2)]
    try:
        _write_together(writers, count)
        _wait_for(writers * count)
    finally:
        for worker in running:
            worker.kill()
    connections.close_all()
    from django_tasks_db.models import DBTaskResult

    return {**_summary(), "tasks": Counter(DBTaskResult.objects.values_list("status", flat=True))}


def celery(broker: str, writers: int, count: int, folder: str) -> dict[str, Any]:
    """Have two workers of Celery deliver, take the broker away while somebody writes, and give it back.

    Returns:
        What was sent ``before``, what ``during``, the ``longest`` of the commits meanwhile in seconds, and the summary
        of the end.

    """
    from tests.app.jobs import rename_twice

    port = free_port()
    host, way = split(broker, port)
    app = _celery(way)
    app.conf.beat_schedule = {"sweep": {"task": "django_signal_audit.deliver", "schedule": 1.0}}
    proxy = Child(partial(serve, port, host))
    # One worker of either kind of pool.
    workers = [
        _start(app, "--pool=solo", "--beat", f"--schedule={folder}/beat"),
        _start(app, "--pool=prefork", "--concurrency=2"),
    ]
    report: dict[str, Any] = {}
    try:
        _write_together(writers, count)
        _wait_for(writers * count)
        report["before"] = _summary()
        report["carried"] = _send_context(rename_twice)
        proxy.kill()
        [report["longest"]] = together([partial(_pile_up, count)])
        report["during"] = _summary()
        proxy = Child(partial(serve, port, host))
        _wait_for(Notification.objects.count())
    finally:
        _stop(workers)
        _clear(app)
        proxy.kill()
    return {**report, "after": _summary()}


def _write_together(writers: int, count: int) -> None:
    together(partial(_write, count) for _ in range(writers))


def _write(count: int) -> float:
    """Make a notification in each of so many transactions, and return how long the longest took."""
    longest = 0.0
    for _ in range(count):
        start = time.monotonic()
        Tag.objects.create(name="oak")
        longest = max(longest, time.monotonic() - start)
    return longest


def _send_context(task: Any) -> list[dict[str, Any]]:
    """Enqueue a task that enqueues another, and return the events that both wrote."""
    tag = Tag.objects.create(name="elm")
    with audit_context(actor="ada", reason="Spelling", ticket=7, api_key="hunter2"):
        correlation_id = current_context().correlation_id
        # In a process of its own: this one forks others, which could not share its connection to the broker.
        together([partial(_send, task, tag.pk)])
    found = AuditEvent.objects.filter(model="app.tag", object_id=tag.pk, event_type="update")
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and found.count() < 2:
        time.sleep(0.05)
    named = found.order_by("id").values("actor_id", "actor_repr", "context", "correlation_id")
    return [{**event, "correlation_id": event["correlation_id"] == correlation_id} for event in named]


def _send(task: Any, *arguments: Any) -> None:
    task.delay(*arguments)


def _pile_up(count: int) -> float:
    """Write until so many wait: the workers still work on the tasks that they fetched before."""
    longest = 0.0
    for _ in range(20):
        longest = max(longest, _write(count))
        if Notification.objects.filter(status="pending").count() >= count:
            break
    return longest


def _wait_for(count: int) -> None:
    """Wait until so many notifications are sent, or for a while."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and Notification.objects.filter(status="sent").count() < count:
        time.sleep(0.05)


def _summary() -> dict[str, Any]:
    rows = list(Notification.objects.values_list("status", "attempts"))
    return {
        "written": len(rows),
        "statuses": Counter(status for status, _ in rows),
        "attempts": sum(attempts for _, attempts in rows),
    }


def _work_tasks() -> None:
    call_command("db_worker", interval=0.05, startup_delay=False, reload=False, verbosity=0)


def _celery(broker: str) -> Any:
    from celery import Celery

    # With it Celery looks after Django's connections, as it does in a project.
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    app = Celery("audit", broker=broker, set_as_current=True)
    app.set_default()
    app.conf.update(
        task_default_queue=f"audit-{os.getpid()}",
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
    )
    return app


def _start(app: Any, *options: str) -> Child:
    def work() -> None:
        warnings.simplefilter("ignore")  # the worker says that it runs as root
        app.worker_main(["worker", "--loglevel=ERROR", f"--hostname={os.getpid()}@audit", *options])

    return Child(work)


def _stop(workers: list[Child]) -> None:
    for worker in workers:
        os.kill(worker.pid, signal.SIGTERM)
    for worker in workers:
        worker.wait(SECONDS)


def _clear(app: Any) -> None:
    """Leave nothing on the broker."""
    with app.connection_for_write() as connection:
        app.amqp.queues[app.conf.task_default_queue].bind(connection.default_channel).delete()
