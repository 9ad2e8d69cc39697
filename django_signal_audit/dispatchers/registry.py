"""The dispatcher of the settings, made once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from django.utils.module_loading import import_string

from django_signal_audit.conf import get_settings, on_settings_changed
from django_signal_audit.exceptions import InvalidSettings
from django_signal_audit.problems import nearest_path

from .base import Dispatcher

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
    try:
        found = import_string(dotted)
    except Exception as error:
        msg = f"{_PATH} cannot import {dotted!r}: {error}."
        raise InvalidSettings(msg, nearest_path(dotted, _is_dispatcher, _BUILT_IN)) from error
    if not _is_dispatcher(found):
        msg = f"{_PATH} names {dotted!r}, which isn't a subclass of {Dispatcher.__module__}.Dispatcher."
        raise InvalidSettings(msg, nearest_path(dotted, _is_dispatcher, _BUILT_IN))
    try:
        return found()  # type: ignore[no-any-return]
    except Exception as error:
        msg = f"{_PATH} can't create {found.__name__}: {type(error).__name__}: {error}."
        raise InvalidSettings(msg, "Fix the class, or name another.") from error


def _is_dispatcher(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, Dispatcher)


@contextmanager
def replaced_dispatcher(dispatcher: Dispatcher) -> Iterator[None]:
    """Put another dispatcher in force, in all threads."""
    _replacements.append(dispatcher)
    try:
        yield
    finally:
        _replacements.remove(dispatcher)
