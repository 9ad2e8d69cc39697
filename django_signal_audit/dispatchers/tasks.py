"""Delivering by ``django.tasks``, whichever backend runs them; on Django 5.2 by its backport, django-tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import django
from django.core.checks import CheckMessage

from django_signal_audit.dispatchers import get_dispatcher
from django_signal_audit.problems import Problem

from .queue import LIMIT, QueueDispatcher

if TYPE_CHECKING or django.VERSION >= (6, 0):
    from django.tasks import DEFAULT_TASK_BACKEND_ALIAS, DEFAULT_TASK_QUEUE_NAME, task, task_backends
    from django.tasks.backends.dummy import DummyBackend
    from django.tasks.backends.immediate import ImmediateBackend
    from django.tasks.exceptions import InvalidTask, InvalidTaskBackend
else:
    from django_tasks import DEFAULT_TASK_BACKEND_ALIAS, DEFAULT_TASK_QUEUE_NAME, task, task_backends
    from django_tasks.backends.dummy import DummyBackend
    from django_tasks.backends.immediate import ImmediateBackend
    from django_tasks.exceptions import InvalidTaskBackendError as InvalidTaskBackend
    from django_tasks.exceptions import InvalidTaskError as InvalidTask

TASK_NAME = "deliver_notifications"


class TasksDispatcher(QueueDispatcher):
    """Has a backend of ``django.tasks`` deliver; subclass it to name another backend or queue."""

    # An alias of TASKS, and one of that backend's QUEUES.
    backend: ClassVar[str] = DEFAULT_TASK_BACKEND_ALIAS
    queue_name: ClassVar[str] = DEFAULT_TASK_QUEUE_NAME

    def enqueue(self, using: str) -> None:
        """Enqueue the task."""
        self.task().enqueue(using, self.limit)

    def task(self) -> Any:
        """Return the task for this backend and queue."""
        return task(backend=self.backend, queue_name=self.queue_name)(_deliver)

    def check(self) -> list[CheckMessage]:
        """Return an error for a backend or queue that there is not, a warning for a backend that no worker serves."""
        path = f'TASKS["{self.backend}"]'
        try:
            backend = task_backends[self.backend]
            self.task()
        except (InvalidTaskBackend, InvalidTask) as error:
            hint = f"Correct TASKS, or {type(self).__name__}'s backend and queue_name."
            return [Problem("E022", path, f"cannot take the tasks of the dispatcher: {error}", hint).as_check()]
        if not isinstance(backend, (ImmediateBackend, DummyBackend)):
            return []
        what = "runs no task" if isinstance(backend, DummyBackend) else "runs every task at once, in the request"
        message = f"is a {type(backend).__name__}, which {what}: it isn't suitable as a dispatcher."
        hint = "Name a backend with a worker, such as django_tasks_db.DatabaseBackend, or another DISPATCHER."
        return [Problem("W004", path, message, hint).as_check()]


def _deliver(using: str = "default", limit: int = LIMIT) -> dict[str, int]:
    """Deliver what is due on a database; the task's function."""
    return _dispatcher().drain(using, limit)


# Workers find a task by its function's name in its module.
_deliver.__qualname__ = _deliver.__name__ = TASK_NAME


def _dispatcher() -> TasksDispatcher:
    found = get_dispatcher()
    return found if isinstance(found, TasksDispatcher) else TasksDispatcher()


def __getattr__(name: str) -> Any:
    # Made when it is asked for: a task depends on TASKS, and nothing is read from settings at import.
    if name != TASK_NAME:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return _dispatcher().task()
