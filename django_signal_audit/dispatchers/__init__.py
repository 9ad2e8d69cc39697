"""Dispatchers: what wakes the delivery once notifications are committed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from django_signal_audit.conf import get_settings, on_settings_changed
from django_signal_audit.dispatchers.base import Dispatcher
from django_signal_audit.exceptions import InvalidSettings
from django_signal_audit.plugins import load_class

if TYPE_CHECKING:
    from django_signal_audit.dispatchers.celery import CeleryDispatcher
    from django_signal_audit.dispatchers.on_commit import OnCommitDispatcher
    from django_signal_audit.dispatchers.tasks import TasksDispatcher
    from django_signal_audit.dispatchers.worker import WorkerDispatcher

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


logger = logging.getLogger("django_signal_audit")

_PATH = 'SIGNAL_AUDIT["DISPATCHER"]'
_FALLBACK = "django_signal_audit.dispatchers.WorkerDispatcher"
_BUILT_IN = tuple(f"{__package__}.{name}Dispatcher" for name in ("OnCommit", "Worker", "Tasks", "Celery"))
_replacements: list[Dispatcher] = []


def get_dispatcher() -> Dispatcher:
    """Return the dispatcher in force. One that cannot be made is logged and done without: workers poll anyway."""
    return _replacements[-1] if _replacements else _configured()


@cache
def _configured() -> Dispatcher:
    try:
        return load_dispatcher(get_settings().dispatcher)
    except InvalidSettings as error:
        logger.error("No dispatcher: notifications wait for manage.py audit_deliver. %s", error)
        return load_dispatcher(_FALLBACK)


on_settings_changed(_configured.cache_clear)


def load_dispatcher(dotted: str) -> Dispatcher:
    """Return a new dispatcher of the class with this dotted path.

    Raises:
        InvalidSettings: There is no such class, or it is no dispatcher.

    """
    found = load_class(dotted, _PATH, Dispatcher, built_in=_BUILT_IN)  # type: ignore[type-abstract]
    try:
        return found()
    except Exception as error:
        msg = f"{_PATH} can't create {found.__name__}: {type(error).__name__}: {error}."
        raise InvalidSettings(msg, "Fix the class, or name another.") from error


@contextmanager
def replaced_dispatcher(dispatcher: Dispatcher) -> Iterator[None]:
    """Put another dispatcher in force, in all threads."""
    _replacements.append(dispatcher)
    try:
        yield
    finally:
        _replacements.remove(dispatcher)
