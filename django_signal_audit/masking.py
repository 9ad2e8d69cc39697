"""Which names are secret: whole words of a field's name, and the exact names that rules add."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache
from typing import Any

from .conf import get_settings, on_settings_changed
from .values import MASK_KEY, JSONValue, Masked, mask

# Words end at any character that is no letter or digit, and where lower case meets upper case.
_SEPARATORS = re.compile(r"[\W_]+|(?<=[a-z0-9])(?=[A-Z])")

HIDDEN = str(Masked(""))


def _words(name: str) -> list[str]:
    return [word.lower() for word in _SEPARATORS.split(name) if word]


@cache
def _secret_words() -> tuple[list[str], ...]:
    return tuple(words for words in map(_words, get_settings().mask_fields) if words)


@cache
def is_secret(name: str) -> bool:
    """Tell whether a name contains one of MASK_FIELDS as whole words: ``user_api_key`` does, ``tokenizer`` does not."""
    words = _words(name)
    return any(
        words[start : start + len(secret)] == secret
        for secret in _secret_words()
        for start in range(len(words) - len(secret) + 1)
    )


@on_settings_changed
def _reset() -> None:
    _secret_words.cache_clear()
    is_secret.cache_clear()


def mask_payload(scope: str, value: JSONValue, names: Collection[str] = ()) -> JSONValue:
    """Return a JSON document with the values of secret keys replaced by their tags, at any depth.

    Args:
        scope: What the tags are comparable within.
        value: The document.
        names: Keys that are secret besides those that contain one of MASK_FIELDS.

    """
    if isinstance(value, dict):
        return {
            key: mask(f"{scope}.{key}", item) if key in names or is_secret(key) else mask_payload(scope, item, names)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [mask_payload(scope, item, names) for item in value]
    return value


def without_secrets(value: Any) -> Any:
    """Return a value as a message may show it, with stars for what is masked and for what is under a secret key.

    A tag is left out too: it tells those who guess whether they guessed right.
    """
    if isinstance(value, dict):
        if MASK_KEY in value:
            return HIDDEN
        return {key: HIDDEN if is_secret(str(key)) else without_secrets(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    return value
