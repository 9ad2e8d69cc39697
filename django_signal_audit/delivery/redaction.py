"""Hiding secrets in a text, in whatever form an echo of them has."""

from __future__ import annotations

import base64
import binascii
import re
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast
from urllib.parse import unquote

from django.conf import settings

from django_signal_audit.channels.base import Channel
from django_signal_audit.conf import get_settings
from django_signal_audit.events.masking import is_secret, without_values
from django_signal_audit.events.values import clean_text, safe_str
from django_signal_audit.exceptions import DeliveryError, SignalAuditError

HIDDEN = "********"
# Shorter ones would blot out half of the text.
_SHORTEST_SECRET = 4
_SHORTEST_PART = 8
# Nothing that long is echoed as a whole, and its pattern would be slow.
_LONGEST = 512

_PROJECT_SETTINGS = ("EMAIL_HOST_PASSWORD", "SECRET_KEY", "SECRET_KEY_FALLBACKS")
_PROJECT_URLS = ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "BROKER_URL")


def hide(text: str, channel: Channel | None) -> str:
    """Return the text with stars in place of the secrets of a channel and of the project's settings."""
    secrets = {*_of_project(), *(_of_channel(channel) if channel else ())}
    for secret in sorted(secrets, key=len, reverse=True):
        text = re.sub(_pattern(secret[:_LONGEST]), HIDDEN, text, flags=re.IGNORECASE)
    return text


def _pattern(secret: str) -> str:
    """Return the pattern of a secret as it is, encoded as a whole, or with any of its characters escaped."""
    whole = [re.escape(form) for form in _encoded(secret.encode("utf-8", "surrogatepass"))]
    return "|".join([*whole, "".join(map(_character, secret))])


def _encoded(data: bytes) -> Iterator[str]:
    yield data.hex()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            # What stands before and after shifts the letters: those that depend on it are left out.
            text = encode(bytes(before) + data).decode()
            begin, end = (0, 2, 3)[before], (len(data) + before) * 8 // 6
            if end - begin >= _SHORTEST_SECRET + 2:
                yield text[begin:end]


# Each time that a text is put into another, the backslashes double. A bound keeps the search linear.
_ESCAPES = r"\\{1,16}"


def _character(character: str) -> str:
    """Return the pattern of a character with each way to escape it in URLs, JSON, HTML, Python and C."""
    code = ord(character)
    data = character.encode("utf-8", "surrogatepass")
    forms = {
        re.escape(character),
        "".join(f"%(?:25){{0,8}}{byte:02x}" for byte in data),
        "".join(rf"{_ESCAPES}x{byte:02x}" for byte in data),
        rf"{_ESCAPES}u{{?0{{0,8}}{code:x}}}?",
        f"&#0{{0,8}}{code};?",
        f"&#x0{{0,8}}{code:x};?",
    }
    if code < 0x100:
        forms.add(rf"{_ESCAPES}x{code:02x}")
    if not character.isalnum():
        forms |= {rf"{_ESCAPES}{re.escape(character)}", *_NAMED.get(character, ())}
    return f"(?:{'|'.join(sorted(forms, key=len, reverse=True))})"


_NAMED = {
    "&": ("&amp;",),
    "<": ("&lt;",),
    ">": ("&gt;",),
    '"': ("&quot;",),
    "'": ("&apos;",),
    " ": (r"\+", r"\s{1,80}"),
    "\n": (rf"{_ESCAPES}n", r"\s{1,80}"),
    "\t": (rf"{_ESCAPES}t", r"\s{1,80}"),
}


def _of_channel(channel: Channel) -> Iterator[str]:
    """Yield the texts that a channel's options have and nobody else is to see."""
    for name, value in channel.options.items():
        option = channel.option_schema.get(name)
        for text in _texts({name: value}, secret=option is not None and option.confidential):
            yield from _pieces(text)


def _of_project() -> Iterator[str]:
    found: list[Any] = [_setting(name) for name in _PROJECT_SETTINGS]
    found += [config.get("PASSWORD") for config in settings.DATABASES.values()]
    found += [get_settings().mask_key]
    for text in _texts(found, secret=True):
        if len(text) >= _SHORTEST_PART:
            yield text
    for name in _PROJECT_URLS:
        yield from _of_url(str(_setting(name) or ""), is_confidential=False)
    for text in _texts(_setting("MAILERS")):
        yield from _pieces(text)


def _setting(name: str) -> object:
    if not cast("Any", settings).is_overridden(name):
        return None
    with warnings.catch_warnings():
        # Django warns of those that it is about to drop.
        warnings.simplefilter("ignore")
        return getattr(settings, name, None)


def _texts(options: object, secret: bool = False) -> Iterator[str]:
    """Yield the texts under secret names, at any depth."""
    if isinstance(options, Mapping):
        for name, value in options.items():
            yield from _texts(value, secret or is_secret(str(name)))
    elif isinstance(options, (list, tuple, set, frozenset)):
        for value in options:
            yield from _texts(value, secret)
    elif secret and isinstance(options, (str, bytes, int)) and not isinstance(options, bool):
        text = options.decode(errors="replace") if isinstance(options, bytes) else str(options)
        if len(text) >= _SHORTEST_SECRET:
            yield text


def _pieces(text: str) -> Iterator[str]:
    """Yield the text, and the parts of it that an answer may repeat without the rest."""
    yield text
    words = text.split()
    if len(words) > 1:
        # "Bearer …" and "Basic …"; cookies are pairs.
        yield from _long(re.split(r"[\s;=,]+", text), _SHORTEST_SECRET + 2)
    for word in words:
        yield from _credentials(word)
    yield from _long([text.removeprefix("whsec_")], _SHORTEST_PART)
    yield from _of_url(text)


def _credentials(word: str) -> Iterator[str]:
    """Yield user and password of a Basic header, decoded."""
    try:
        decoded = base64.b64decode(word + "=" * (-len(word) % 4), validate=True).decode()
    except (binascii.Error, ValueError):
        return
    user, colon, password = decoded.partition(":")
    if colon and user.isprintable() and password.isprintable():
        yield from _long([decoded, password], _SHORTEST_SECRET)


def _of_url(text: str, *, is_confidential: bool = True) -> Iterator[str]:
    """Yield the parts of a URL that are secrets: its user and password, and parts of its path and query."""
    _, scheme, rest = text.partition("://")
    if not scheme:
        return
    host, *parts = re.split(r"[/?&=#]", rest)
    login, is_login, _host = host.rpartition("@")
    if is_login:
        yield from _both([login, *login.split(":")[1:]], _SHORTEST_SECRET)
    if is_confidential:
        yield from _both(parts, _SHORTEST_PART)


def _both(parts: Iterable[str], shortest: int) -> Iterator[str]:
    for part in _long(parts, shortest):
        yield part
        yield unquote(part)


def _long(parts: Iterable[str], shortest: int) -> Iterator[str]:
    return (part for part in parts if len(part) >= shortest)


MAX_LENGTH = 2000
_MAX_ERROR = 20_000
_URL_PASSWORD = re.compile(r"(://[^\s/:@]*:)[^\s/@]+@")


def describe(error: BaseException, channel: Channel | None = None) -> str:
    """Return what is noted of an error, with the channel's secret options and obvious passwords hidden."""
    text = clean_text(safe_str(error))
    if not isinstance(error, DeliveryError):
        text = f"{type(error).__name__}: {text}{_place(error)}"
    text = _hide(text or type(error).__name__, channel)
    shown = error.shown_characters if isinstance(error, DeliveryError) else None
    most = min(shown or MAX_LENGTH, MAX_LENGTH)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _place(error: BaseException) -> str:
    """Return the line that raised, as no traceback is kept: the error may be one in a reaction of the project."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or isinstance(error, SignalAuditError):
        return ""
    return f" ({'/'.join(frames[-1].filename.split('/')[-2:])}:{frames[-1].lineno})"


def _hide(text: str, channel: Channel | None) -> str:
    # Patterns take their time, and no more of it is kept anyway.
    text = hide(text[:_MAX_ERROR], channel)
    text = _URL_PASSWORD.sub(rf"\1{HIDDEN}@", text)
    return without_values(text, is_secret)
