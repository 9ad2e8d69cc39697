"""Messages to a function of the project."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import iscoroutinefunction
from typing import ClassVar

from asgiref.sync import async_to_sync
from django.core.checks import CheckMessage
from django.utils.module_loading import import_string

from django_signal_audit.problems import nearest_path

from .base import RECIPIENT_OPTIONS, Channel, Message, Option, is_text


class CallableChannel(Channel):
    """Calls the function that option ``target`` names by its dotted path, sync or async, with the message."""

    option_schema: ClassVar[Mapping[str, Option]] = {
        **RECIPIENT_OPTIONS,
        "target": Option(expects="the dotted path of a function", accepts=is_text, required=True),
    }

    def send(self, message: Message) -> None:
        """Call the function; what it raises decides about the next attempt."""
        target = import_string(self.options["target"])
        if iscoroutinefunction(target):
            async_to_sync(target)(message)
        else:
            target(message)

    def check(self) -> list[CheckMessage]:
        """Return what is wrong with the options, a target that cannot be called among it."""
        problems = super().check()
        dotted = self.options.get("target")
        if not isinstance(dotted, str) or not dotted:
            return problems
        try:
            target = import_string(dotted)
        except Exception as error:  # noqa: BLE001  # importing runs the project's code, and check must go on
            problems.append(self.error("target", f"cannot import {dotted!r}: {error}", nearest_path(dotted)))
            return problems
        if not callable(target):
            problems.append(self.error("target", f"names {dotted!r}, which cannot be called", "Name a function."))
        return problems
