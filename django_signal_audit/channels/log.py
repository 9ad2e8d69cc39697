"""Messages as lines of a Python logger."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import ClassVar

from django_signal_audit.enums import Level
from django_signal_audit.events.documents import printable

from .base import RECIPIENT_OPTIONS, Channel, Message, Option, is_text

LEVELS = {Level.INFO.value: logging.INFO, Level.WARNING.value: logging.WARNING, Level.CRITICAL.value: logging.CRITICAL}


def _is_level(value: object) -> bool:
    return isinstance(value, str) and value.upper() in logging.getLevelNamesMapping()


class LogChannel(Channel):
    """Writes each message to a logger as one line, at the event's level unless option ``level`` says another."""

    option_schema: ClassVar[Mapping[str, Option]] = {
        **RECIPIENT_OPTIONS,
        "logger": Option(expects="the name of a logger", accepts=is_text),
        "level": Option(expects="the name of a logging level, such as 'INFO'", accepts=_is_level),
    }

    def send(self, message: Message) -> None:
        """Log the message; rule, message id, event uid and why it is sent are attributes of the record."""
        logger = logging.getLogger(self.options.get("logger", "django_signal_audit.notifications"))
        # One line whatever a user typed, so that nobody can forge a second record.
        lines = (message.subject, *message.body.splitlines())
        text = printable(" | ".join(" ".join(line.split()) for line in lines if line.strip()))
        extra = {
            "rule": message.rule,
            "message_id": message.id,
            "event_uid": str(message.event.uid),
            "reason": printable(message.reason),
        }
        logger.log(self._level(message), "%s", text, extra=extra)

    def _level(self, message: Message) -> int:
        if "level" in self.options:
            return logging.getLevelNamesMapping()[str(self.options["level"]).upper()]
        return LEVELS.get(message.event.level, logging.INFO)
