"""Messages to a function of the project."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import iscoroutinefunction
from typing import ClassVar

from asgiref.sync import async_to_sync
from django.core.checks import CheckMessage

from django_signal_audit.plugins import PluginError, load

from .base import RECIPIENT_OPTIONS, Channel, Message, Option, is_text


class CallableChannel(Channel):
    """Calls the function that option ``target`` names by its dotted path, sync or async, with the message."""

    option_schema: ClassVar[Mapping[str, Option]] = {
        **RECIPIENT_OPTIONS,
        "target": Option(expects="the dotted path of a function", accepts=is_text, required=True),
    }

    def send(self, message: Message) -> None:
        """Call the function; what it raises decides about the next attempt."""
        target = load(
            self.options["target"], f'SIGNAL_AUDIT["CHANNELS"]["{self.alias}"]["OPTIONS"]["target"]', "a function"
        )
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
            load(dotted, "", "a function", hint="Name a function.")
        except PluginError as error:
            problems.append(self.error("target", error.what.removesuffix("."), error.hint))
        return problems
