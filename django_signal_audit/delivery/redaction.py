"""Hiding secrets in a text, in whatever form an echo of them has."""

from __future__ import annotations

import base64
import binascii
import re
import traceback
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache, lru_cache
from html.entities import html5
from types import ModuleType
from typing import Any, cast
from urllib.parse import unquote

from django.conf import settings

from django_signal_audit.channels.base import Channel
from django_signal_audit.conf import get_settings
from django_signal_audit.events.masking import is_secret
from django_signal_audit.events.payloads import secrets_in
from django_signal_audit.events.secret_texts import HIDDEN, secrets_named_in, without_values
from django_signal_audit.events.values import clean_text, safe_str
from django_signal_audit.exceptions import DeliveryError, SignalAuditError

# Shorter ones would blot out half of the text.
_SHORTEST_SECRET = 4
_SHORTEST_PART = 8
# Parts of a key between dots or slashes may be words.
_LONG_PART = 16
_KEY_OF_WEBHOOK = "whsec_"
# Options are small; what holds a whole application is not walked through.
_MOST_PARTS = 1000
# Nothing that long is echoed as a whole, and its pattern would be slow.
_LONGEST = 512

_PROJECT_SETTINGS = ("EMAIL_HOST_PASSWORD", "SECRET_KEY", "SECRET_KEY_FALLBACKS")
_PROJECT_URLS = ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "BROKER_URL")


def hide(text: str, channel: Channel | None) -> str:
    """Return the text with stars in place of the secrets of a channel and of the project's settings."""
    secrets = {*_of_project(), *(_of_channel(channel) if channel else ())}
    for secret in sorted(secrets, key=len, reverse=True):
        text = _pattern(secret[:_LONGEST]).sub(HIDDEN, text)
    return text


# Where a line, or a word that is too long for it, is broken. A bound keeps the search linear, here and below.
_BREAK = r"(?:=?(?:\r?\n|(?:\\{1,16}r)?\\{1,16}n)[ \t>]{0,8}|[\u00ad\u200b]|&shy;|<wbr ?/?>)?"


@lru_cache(256)
def _pattern(secret: str) -> re.Pattern[str]:
    """Return the pattern of a secret as it is, encoded as a whole, or with any of its characters escaped."""
    data = _bytes(secret)
    forms = [_BREAK.join(map(re.escape, form)) for form in _encoded(data)]
    forms.append(f"{_BREAK}[: -]?".join(f"{byte:02x}" for byte in data))
    return re.compile("|".join([*forms, _BREAK.join(map(_part, _PARTS.findall(secret)))]), re.IGNORECASE)


def _bytes(text: str) -> bytes:
    """Return a text in UTF-8, or the bytes that it was made of where these were no text."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _encoded(data: bytes) -> Iterator[str]:
    yield base64.b32encode(data).decode().rstrip("=")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            # What stands before and after shifts the letters: those that depend on it are left out.
            text = encode(bytes(before) + data).decode()
            begin, end = (0, 2, 3)[before], (len(data) + before) * 8 // 6
            if end - begin >= _SHORTEST_SECRET + 2:
                yield text[begin:end]


# Each time that a text is put into another, the backslashes double.
_ESCAPES = r"\\{1,16}"
_PARTS = re.compile(r"\s+|\S")
# Blanks are changed to others, and in number. They are taken all at once: each by itself would take a square's time.
_BLANK = (
    rf"(?:\s|%(?:25){{0,8}}(?:20|0[9ad])|=20|{_ESCAPES}(?:[nrt]|x(?:20|0[9ad])|0(?:40|1[125]))|&#x?[0-9ad]{{1,8}};)"
)
_BLANKS = rf"(?:{_BLANK}{{1,160}}+|\+{{1,160}}?)"


def _part(part: str) -> str:
    return _BLANKS if part.isspace() else _character(part)


def _character(character: str) -> str:
    """Return the pattern of a character with each way to escape it in URLs, JSON, HTML, mails, Python and C."""
    code = ord(character)
    data = _bytes(character)
    forms = {
        re.escape(character),
        "".join(f"%(?:25){{0,8}}{byte:02x}" for byte in data),
        "".join(rf"{_ESCAPES}x{byte:02x}" for byte in data),
        "".join(rf"{_ESCAPES}{byte:03o}" for byte in data),
        "".join(f"={byte:02x}" for byte in data),
        rf"{_ESCAPES}u{{?0{{0,8}}{code:x}}}?",
        f"&#0{{0,8}}{code};?",
        f"&#x0{{0,8}}{code:x};?",
    }
    if code < 0x100:
        forms.add(rf"{_ESCAPES}x{code:02x}")
    if code > 0x7F:
        # As headers are decoded, or what could not be.
        read = {data.decode(encoding, "replace") for encoding in ("latin-1", "cp1252", "ascii")}
        forms |= {*map(re.escape, read), "\ufffd", re.escape(unicodedata.normalize("NFD", character))}
    if not character.isalnum():
        forms.add(rf"{_ESCAPES}{re.escape(character)}")
    forms.update(_html_names().get(character, ()))
    return f"(?:{'|'.join(sorted(forms, key=len, reverse=True))})"


@cache
def _html_names() -> dict[str, list[str]]:
    """Return the names of characters in HTML, as ``&amp;``."""
    found: dict[str, list[str]] = {}
    for name, character in html5.items():
        if name.endswith(";"):
            found.setdefault(character, []).append(f"&{name}")
    return found


def _of_channel(channel: Channel) -> Iterator[str]:
    """Yield the texts that a channel's options have and nobody else is to see."""
    for name, value in channel.options.items():
        option = channel.option_schema.get(name)
        is_confidential = option is not None and option.confidential
        for text in {*_texts({name: value}, secret=is_confidential), *_named_in({name: value})}:
            yield from _pieces(text)


def _named_in(options: object) -> Iterator[str]:
    """Yield the secrets that pairs, lists and texts among the options name."""
    return _long(map(str, secrets_in(options)), _SHORTEST_SECRET)


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
    """Yield the texts under secret names, at any depth, and those of URLs and other texts that name them."""
    waiting, seen = [(options, secret)], set[tuple[int, bool]]()
    while waiting and len(seen) < _MOST_PARTS:
        value, secret = waiting.pop()
        inside = _inside(value)
        if isinstance(inside, (str, bytes, int)) and not isinstance(inside, bool):
            text = inside.decode(errors="replace") if isinstance(inside, bytes) else str(inside)
            yield from _long([text] if secret else secrets_named_in(text, is_secret), _SHORTEST_SECRET)
        elif (id(value), secret) not in seen:
            seen.add((id(value), secret))
            if isinstance(inside, Mapping):
                waiting += [(item, secret or is_secret(str(name))) for name, item in inside.items()]
            elif isinstance(inside, (list, tuple, set, frozenset)):
                waiting += [(item, secret) for item in inside]


def _inside(value: Any) -> object:
    """Return the attributes of an object that is none of Python's own, any other value as it is."""
    if isinstance(value, (str, bytes, int, Mapping, list, set, frozenset, type, ModuleType)):
        return value
    if is_dataclass(value):
        return {field.name: getattr(value, field.name, None) for field in fields(value)}
    if isinstance(value, tuple):
        return dict(zip(value._fields, value, strict=False)) if hasattr(value, "_fields") else value
    return getattr(value, "__dict__", None)


def _pieces(text: str) -> Iterator[str]:
    """Yield the text, and the parts of it that an answer may repeat without the rest."""
    yield text
    words = text.split()
    if len(words) > 1:
        # "Bearer …" and "Basic …"; cookies are pairs.
        yield from _long(re.split(r"[\s;=,]+", text), _SHORTEST_SECRET + 2)
    for word in words:
        yield from _credentials(word)
    yield from _parts_of_key(text)
    yield from _of_url(text)


def _parts_of_key(text: str) -> Iterator[str]:
    """Yield the parts of a key that are secret by themselves: "id:secret", "prefix.secret", "whsec_secret"."""
    if "://" not in text:
        yield from _long(re.split("[:|]", text), _SHORTEST_SECRET + 2)
        yield from _long(re.split("[.,/~:|]", text), _LONG_PART)
    plain = text.removeprefix(_KEY_OF_WEBHOOK)
    yield from _long([plain], _SHORTEST_PART)
    if plain != text:
        try:
            yield base64.b64decode(plain, validate=True).decode(errors="surrogateescape")
        except binascii.Error:
            return


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
