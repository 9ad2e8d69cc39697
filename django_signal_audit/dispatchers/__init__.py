"""Dispatchers: what wakes the delivery once notifications are committed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .base import Dispatcher
from .on_commit import OnCommitDispatcher
from .worker import WorkerDispatcher

if TYPE_CHECKING:
    from .celery import CeleryDispatcher
    from .tasks import TasksDispatcher

__all__ = ["CeleryDispatcher", "Dispatcher", "OnCommitDispatcher", "TasksDispatcher", "WorkerDispatcher"]

# Imported at first use, for they need packages that not everybody has.
_LAZY = {
    "CeleryDispatcher": ("celery", "Celery", 'pip install "django-signal-audit[celery]"'),
    "TasksDispatcher": ("tasks", "django.tasks", "upgrade to Django 6.0, or pip install django-tasks"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    module, needed, remedy = _LAZY[name]
    try:
        return getattr(import_module(f".{module}", __name__), name)
    except ModuleNotFoundError as error:
        msg = f"{name} needs {needed}: {remedy}"
        raise ImportError(msg) from error
