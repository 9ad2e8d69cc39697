"""What is noted of an error: short, storable, and without the secrets we know of."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

from django_signal_audit.channels.base import Channel
from django_signal_audit.exceptions import DeliveryError, SignalAuditError
from django_signal_audit.masking import is_secret
from django_signal_audit.values import clean_text, safe_str

MAX_LENGTH = 2000
HIDDEN = "********"
# Shorter ones would blot out half of the text.
_SHORTEST_SECRET = 4
_SHORTEST_PART = 8

_URL_PASSWORD = re.compile(r"(://[^\s/:@]*:)[^\s/@]+@")
# A name and what stands between it and its value, which may in turn hold names and values: a URL does.
_NAME = re.compile(r"""([\w-]+)["']?\s*[=:]\s*["']?""")
_VALUE = re.compile(r"""[^\s&"',;]*""")


def describe(error: BaseException, channel: Channel | None = None) -> str:
    """Return what is noted of an error, with the channel's secret options and obvious passwords hidden."""
    text = clean_text(safe_str(error))
    if not isinstance(error, DeliveryError):
        text = f"{type(error).__name__}: {text}{_place(error)}"
    text = _hide(text or type(error).__name__, channel)
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 1]}…"


def _place(error: BaseException) -> str:
    """Return the line that raised, as no traceback is kept: the error may be one in a reaction of the project."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or isinstance(error, SignalAuditError):
        return ""
    return f" ({'/'.join(frames[-1].filename.split('/')[-2:])}:{frames[-1].lineno})"


def _hide(text: str, channel: Channel | None) -> str:
    for secret in sorted(_confidential(channel) if channel else (), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = _URL_PASSWORD.sub(rf"\1{HIDDEN}@", text)
    return "".join(_without_values(text))


def _without_values(text: str) -> Iterator[str]:
    """Yield the parts of the text with the values of secret names replaced."""
    start = 0
    for name in _NAME.finditer(text):
        value = _VALUE.match(text, name.end())
        if name.start() >= start and is_secret(name[1]) and value:
            yield text[start : name.end()] + HIDDEN
            start = value.end()
    yield text[start:]


def _confidential(channel: Channel) -> Iterator[str]:
    """Yield the texts that a channel's options have and nobody else is to see."""
    for name, value in channel.options.items():
        option = channel.option_schema.get(name)
        for text in _secrets({name: value}, secret=option is not None and option.confidential):
            yield from _pieces(text)


def _pieces(text: str) -> Iterator[str]:
    """Yield the text, and of a URL what an answer may repeat without the rest: parts of its path and query."""
    yield text
    _, scheme, rest = text.partition("://")
    if scheme:
        _host, *parts = re.split(r"[/?&=]", rest)
        yield from (part for part in parts if len(part) >= _SHORTEST_PART)


def _secrets(options: Any, secret: bool = False) -> Iterator[str]:
    """Yield the texts under secret names, at any depth."""
    if isinstance(options, Mapping):
        for name, value in options.items():
            yield from _secrets(value, secret or is_secret(str(name)))
    elif isinstance(options, (list, tuple, set, frozenset)):
        for value in options:
            yield from _secrets(value, secret)
    elif secret and isinstance(options, str) and len(options) >= _SHORTEST_SECRET:
        yield options
