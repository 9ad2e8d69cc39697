"""Dispatchers: what wakes the delivery once notifications are committed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .base import Dispatcher

if TYPE_CHECKING:
    from .celery import CeleryDispatcher
    from .on_commit import OnCommitDispatcher
    from .tasks import TasksDispatcher
    from .worker import WorkerDispatcher

__all__ = ["CeleryDispatcher", "Dispatcher", "OnCommitDispatcher", "TasksDispatcher", "WorkerDispatcher"]

# Imported at first use: the outbox wakes a dispatcher, and dispatchers deliver what is in the outbox. Some also need
# packages that not everybody has.
_MODULES = {
    "CeleryDispatcher": "celery",
    "OnCommitDispatcher": "on_commit",
    "TasksDispatcher": "tasks",
    "WorkerDispatcher": "worker",
}
_NEEDED = {
    "CeleryDispatcher": ("Celery", 'pip install "django-signal-audit[celery]"'),
    "TasksDispatcher": ("django.tasks", "upgrade to Django 6.0, or pip install django-tasks"),
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    try:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    except ModuleNotFoundError as error:
        if name not in _NEEDED:
            raise
        needed, remedy = _NEEDED[name]
        msg = f"{name} needs {needed}: {remedy}"
        raise ImportError(msg) from error
