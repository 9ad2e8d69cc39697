"""Management commands name themselves in the context of what they change."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any

from django.core.management.base import BaseCommand
from django.core.management.commands.loaddata import Command as LoadData
from django.db import DEFAULT_DB_ALIAS

from django_signal_audit.capture.fixtures import loading_scope
from django_signal_audit.capture.internals import patch_once
from django_signal_audit.context.scopes import context_scope
from django_signal_audit.rules.registry import Registry, get_registry

from .base import CaptureSource, register_source


def wrap_execute(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``BaseCommand.execute`` in a context that carries the command's name."""

    @wraps(original)
    def execute(self: BaseCommand, *args: Any, **options: Any) -> Any:
        if not get_registry().rules:
            return original(self, *args, **options)
        with context_scope(command=type(self).__module__.rpartition(".")[2]), _loading(self, options):
            return original(self, *args, **options)

    return execute


def _loading(command: BaseCommand, options: dict[str, Any]) -> AbstractContextManager[None]:
    """Return what has to be around a command that loads fixtures: their events may be among them."""
    if isinstance(command, LoadData) and getattr(command, "completes_history", True):
        return loading_scope(command, options.get("database") or DEFAULT_DB_ALIAS)
    return nullcontext()


@register_source
class CommandSource(CaptureSource):
    """Wraps the one method that every command runs through, from the shell and from ``call_command`` alike."""

    def connect(self, registry: Registry) -> None:
        """Wrap it, once per process, if there is anything to record."""
        if registry.rules:
            patch_once(BaseCommand, "execute", wrap_execute)

    def disconnect(self) -> None:
        """Do nothing: without rules, commands pass through."""
