"""Messages to a function of the project."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from asgiref.sync import async_to_sync
from django.core.checks import CheckMessage

from django_signal_audit.plugins import function_problems, is_sync, load

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
        if is_sync(target):
            target(message)
        else:
            async_to_sync(target)(message)

    def check(self) -> list[CheckMessage]:
        """Return what is wrong with the options, a target that cannot be called among it."""
        problems = super().check()
        dotted = self.options.get("target")
        if not isinstance(dotted, str) or not dotted:
            return problems
        hint = "Name a function that takes the message."
        found = function_problems("E015", dotted, "", ["message"], hint=hint, must_answer=False, may_await=True)
        return [
            *problems,
            *(self.error("target", problem.message.removesuffix("."), problem.hint) for problem in found),
        ]
