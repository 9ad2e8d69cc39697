"""Secrets in a document whose names are values themselves: pairs, headers, arguments, and JSON within a text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeAlias

IsSecret: TypeAlias = Callable[[str], bool]

# The keys of an object that says by one value what another one is.
_NAMES = frozenset({
    "attribute", "field", "header", "id", "key", "label", "name", "option", "param", "parameter", "property", "setting",
    "variable",
})  # fmt: skip
_VALUES = frozenset({
    "after", "before", "content", "data", "default", "new", "new_value", "newvalue", "old", "old_value", "oldvalue",
    "text", "val", "value", "values",
})  # fmt: skip
_LONGEST_NAME = 100
# A text that begins so may be JSON.
OPENINGS = frozenset("{[ \t\r\n")
# "Authorization: …" and "--password=…", as parts of a list.
_HIDDEN = "********"
# A name and what stands between it and its value, which may in turn hold names and values: a URL does.
_NAMED = re.compile(r"""([\w-]+)["']?\s*[=:]\s*["']?""")
_VALUE = re.compile(r"""[^\s&"',;]*""")
_URL_PASSWORD = re.compile(r"(://[^\s/:@]*:)[^\s/@]+@")
_URL_ARGUMENT = re.compile(r"([?&#;]([\w.\[\]-]+)=)([^&#;\s]+)")
_LINE = re.compile(r"\s*-{0,2}([A-Za-z][\w.-]*)\s*[:=]\s*\S")


def named_values(document: Mapping[str, Any], is_secret: IsSecret) -> Collection[str]:
    """Return the keys of the values that another value of the object calls secret."""
    if not any(_is_name(item, is_secret) for key, item in document.items() if key.lower() in _NAMES):
        return ()
    return {key for key in document if key.lower() in _VALUES}


def secret_places(items: list[Any], is_secret: IsSecret) -> Iterator[int]:
    """Yield the places in a list of what is a secret by itself, or by what stands before it."""
    for place, item in enumerate(items):
        if not isinstance(item, str):
            continue
        line = _LINE.match(item[: 2 * _LONGEST_NAME])
        if line and is_secret(line[1]):
            yield place
        elif item.startswith("-") and place + 1 < len(items) and _is_name(item, is_secret) and "=" not in item:
            yield place + 1


def is_pair(item: Any, is_secret: IsSecret) -> bool:
    """Return whether a part of a list is a secret's name and its value."""
    return isinstance(item, list) and len(item) == 2 and _is_name(item[0], is_secret)


def are_pairs(items: list[Any]) -> bool:
    """Return whether a list has nothing but pairs of a name and a value."""
    return all(isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) for item in items)


def parsed(text: str) -> Any:
    """Return the list or object that a text is the JSON of, None if it is none."""
    if text[:1] not in OPENINGS or text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_name(item: Any, is_secret: IsSecret) -> bool:
    return isinstance(item, str) and len(item) <= _LONGEST_NAME and is_secret(item)


def without_values(text: str, is_secret: IsSecret) -> str:
    """Return a text of no known form with stars in place of what follows the name of a secret."""
    parts, start = [], 0
    for name in _NAMED.finditer(text):
        value = _VALUE.match(text, name.end())
        if name.start() >= start and is_secret(name[1]) and value:
            parts += [text[start : name.end()], _HIDDEN]
            start = value.end()
    return "".join([*parts, text[start:]])


def harmless_url(text: str, is_secret: IsSecret) -> str:
    """Return a text with stars in place of the passwords and secret arguments of URLs in it."""
    if "://" not in text:
        return text
    text = _URL_PASSWORD.sub(rf"\1{_HIDDEN}@", text)
    return _URL_ARGUMENT.sub(lambda found: f"{found[1]}{_HIDDEN}" if is_secret(found[2]) else found[0], text)
