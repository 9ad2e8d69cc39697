"""Messages to chats, phones and whatever else Apprise knows how to reach."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from typing import ClassVar
from urllib.parse import unquote

import apprise
from django.core.checks import CheckMessage
from django.db.models import Model

from django_signal_audit.enums import Level
from django_signal_audit.exceptions import GiveUp, RetryLater
from django_signal_audit.problems import did_you_mean

from .base import RECIPIENT_OPTIONS, Channel, Message, Option, is_text

TIMEOUT_SECONDS = 30.0
MAX_TIMEOUT_SECONDS = 120.0
# Apprise's own four seconds are short enough to fail on messages that arrive, and then arrive again.
READ_SECONDS = 15.0
SHOWN_CHARACTERS = 200
HIDDEN = "********"
_SHORTEST_PART = 4

TYPES = {
    Level.INFO.value: apprise.NotifyType.INFO,
    Level.WARNING.value: apprise.NotifyType.WARNING,
    Level.CRITICAL.value: apprise.NotifyType.FAILURE,
}


def is_urls(value: object) -> bool:
    """Return whether the value is a text, or a dict of names to texts."""
    if isinstance(value, Mapping):
        return bool(value) and all(is_text(item) for pair in value.items() for item in pair)
    return is_text(value)


def is_timeout(value: object) -> bool:
    """Return whether the value is a number of seconds that a worker can wait while it holds a message."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= MAX_TIMEOUT_SECONDS


class AppriseChannel(Channel):
    """Sends each message to the service behind each URL.

    Each URL has a name, which is the recipient: a message of its own, tried again by itself. The URLs hold the
    services' secrets, so they stand in the settings alone, and neither on the rows nor in errors.
    """

    option_schema: ClassVar[Mapping[str, Option]] = {
        **RECIPIENT_OPTIONS,
        "urls": Option(
            expects="an Apprise URL, or a dict of names to Apprise URLs",
            accepts=is_urls,
            required=True,
            confidential=True,
        ),
        "timeout": Option(expects=f"seconds, more than 0, at most {MAX_TIMEOUT_SECONDS:g}", accepts=is_timeout),
    }

    def recipients(self) -> tuple[str, ...]:
        """Return option ``to``, or the names of all URLs."""
        return super().recipients() if "to" in self.options else tuple(self._urls)

    def address(self, user: Model) -> str:
        """Return ``""``: a service is reached by its name, and users are not."""
        return ""

    def recipient_problem(self, recipient: str) -> tuple[str, str | None] | None:
        """Report a name that no URL has."""
        if recipient in self._urls:
            return None
        return f'isn\'t the name of a URL of the channel "{self.alias}"', did_you_mean(recipient, self._urls)

    def send(self, message: Message) -> None:
        """Send the message to the service that its recipient names, once."""
        url = self._urls.get(message.recipient)
        if url is None:
            msg = f'"{message.recipient}" isn\'t the name of a URL of the channel "{self.alias}".'
            raise GiveUp(msg)
        service = _load(url)
        if service is None:
            msg = "Apprise cannot read the URL. Correct it in the OPTIONS of the channel."
            raise GiveUp(msg)
        # Retries are ours, and survive the worker.
        service.retry = 0
        service.socket_read_timeout = max(service.socket_read_timeout, READ_SECONDS)
        self._notify(service, message)

    def check(self) -> list[CheckMessage]:
        """Return what is wrong with the options, URLs that Apprise cannot read among it."""
        return [*super().check(), *self._url_problems()]

    def _url_problems(self) -> Iterator[CheckMessage]:
        if not is_urls(self.options.get("urls")):
            return
        for name, url in self._urls.items():
            if _load(url) is None:
                which = f" by the name {name!r}" if name else ""
                hint = f"Correct it by the page of the service {_schema(url)!r} in Apprise's documentation."
                yield self.error("urls", f"has one{which} that Apprise cannot read", hint)

    @property
    def _urls(self) -> Mapping[str, str]:
        urls = self.options.get("urls")
        return {"": urls} if isinstance(urls, str) else urls if isinstance(urls, Mapping) else {}

    def _notify(self, service: apprise.NotifyBase, message: Message) -> None:
        sender = apprise.Apprise(asset=service.asset)
        sender.add(service)
        result = sender.notify(
            body="\n\n".join(filter(None, (message.body or message.subject, message.reason))),
            title=message.subject if message.body else "",
            notify_type=TYPES.get(message.event.level, apprise.NotifyType.INFO),
            body_format=apprise.NotifyFormat.TEXT,
            timeout=self.options.get("timeout", TIMEOUT_SECONDS),
        )
        if result:
            return
        # These have passed the filter below.
        said = " ".join(entry.message for entry in result.logs())
        msg = f"{service.service_name} did not take it ({result.status.name.lower()}): {said}"
        raise RetryLater(msg[: SHOWN_CHARACTERS + len(HIDDEN)].rstrip(": "))


def _schema(url: str) -> str:
    """Return the name of the service, ``""`` for what is no URL."""
    schema, found, _ = url.partition("://")
    return schema.lower() if found else ""


def _load(url: str) -> apprise.NotifyBase | None:
    """Return the service of a URL with a state of its own, None if Apprise cannot read it."""
    # Apprise logs a URL whose service it does not know, with all that is in it.
    if _schema(url) not in apprise.NotificationManager():  # type: ignore[no-untyped-call]
        return None
    _log_filter.hide(url)
    asset = apprise.AppriseAsset(storage_mode="memory", http_redirects=False)
    return apprise.Apprise.instantiate(url, asset=asset)


class _LogFilter(logging.Filter):
    """Hides the parts of our URLs in Apprise's log: which of them are secret differs from service to service."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: frozenset[str] = frozenset()

    def hide(self, url: str) -> None:
        """Hide the parts of the URL from now on."""
        _, _, rest = url.partition("://")
        parts = {part for found in re.split(r"[/:@?&=,#]+", rest) for part in (found, unquote(found))}
        self._parts |= {part for part in parts if len(part) >= _SHORTEST_PART}

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        for part in sorted(self._parts, key=len, reverse=True):
            text = text.replace(part, HIDDEN)
        record.msg, record.args = text, None
        return True


_log_filter = _LogFilter()
logging.getLogger(apprise.LOGGER_NAME).addFilter(_log_filter)
