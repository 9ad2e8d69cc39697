"""Which names are secret: whole words of a field's name or of a key, and the exact names that rules add."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import cache, lru_cache
from typing import Any

from django_signal_audit.conf import DEFAULT_MASK_FIELDS, DOCUMENTED_MASK_FIELDS, get_settings, on_settings_changed

from .documents import DIGEST_KEY, ESCAPE_KEY, MASK_KEY, JSONValue, Masked, mask, unescaped

# A word ends where upper case begins after lower case, and before the last capital of an acronym ("APIToken"). "IDs" is
# one word.
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z0-9])(?=[A-Z][a-z]{2})")
_WORD = re.compile(r"[^\W\d_]+|\d+")
# What a name says about a secret when one of these is its last word: "token_count" is a number, and no token.
_ABOUT = frozenset({
    "age", "at", "changed", "count", "created", "date", "enabled", "expired", "expires", "expiration", "expiry",
    "length", "lifetime", "limit", "on", "required", "status", "timeout", "ttl", "type", "updated", "used",
})  # fmt: skip

HIDDEN = str(Masked(""))
# The keys of documents are what users send: not all of them are to be remembered.
_REMEMBERED = 10_000

Words = tuple[str, ...]


def words_of(name: str) -> Words:
    """Return the words of a name in lower case: ``("api", "token", "2")`` for ``APIToken2``."""
    return tuple(word.lower() for part in _CAMEL.split(name) for word in _WORD.findall(part))


def singular(word: str) -> str:
    """Return the word without the ending of an English plural."""
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        return word[:-1]
    return word


def contains(words: Words, wanted: Iterable[Words]) -> bool:
    """Return whether one of the wanted runs of words is among the words, in one word or several."""
    found = tuple(map(singular, words))
    return any(
        "".join(run) in found or any(found[start : start + len(run)] == run for start in range(len(found)))
        for run in wanted
    )


def _runs(names: Iterable[str]) -> tuple[Words, ...]:
    return tuple(tuple(map(singular, words)) for words in map(words_of, names) if words)


@cache
def _mask_fields() -> frozenset[str]:
    """Return the words in force: the default ones too where the project only refuses names."""
    given = {name for name in get_settings().mask_fields if not name.startswith("!")}
    return frozenset(given or (DEFAULT_MASK_FIELDS if _refused() else ()))


@cache
def _secret_words() -> tuple[Words, ...]:
    return _runs(_mask_fields())


@cache
def _documented_words() -> tuple[Words, ...]:
    return tuple(words_of(name) for name in DOCUMENTED_MASK_FIELDS)


@cache
def _refused() -> frozenset[str]:
    return frozenset(name[1:] for name in get_settings().mask_fields if name.startswith("!"))


@lru_cache(_REMEMBERED)
def is_secret(name: str) -> bool:
    """Return whether a name contains one of MASK_FIELDS: ``user_api_key`` and ``tokens`` do, ``tokenizer`` does not."""
    if name in _refused():
        return False
    words = words_of(name)
    return contains(words, _secret_words()) and not (_is_default() and words[-1] in _ABOUT)


def is_refused(name: str) -> bool:
    """Return whether the project says by ``"!name"`` in MASK_FIELDS that the name is no secret's."""
    return name in _refused()


def is_guess(name: str) -> bool:
    """Return whether a secret name is one by resemblance, and not by the words that the reference lists."""
    if not _is_default():
        return False
    words = words_of(name)
    return not any(words[start : start + len(run)] == run for run in _documented_words() for start in range(len(words)))


def _is_default() -> bool:
    return _mask_fields() >= set(DEFAULT_MASK_FIELDS)


@on_settings_changed
def _reset() -> None:
    for function in (_mask_fields, _secret_words, _refused, is_secret):
        function.cache_clear()


def mask_document(
    value: JSONValue, scope: tuple[str, ...], names: Collection[str] = (), containers: Collection[str] = ()
) -> JSONValue:
    """Return a JSON document with the values of secret keys replaced by their tags, at any depth.

    Args:
        value: The document, escaped.
        scope: What the tags are comparable within; the path in the document is added to it.
        names: Keys that are secret besides those that contain one of MASK_FIELDS.
        containers: Keys of the document's own whose values are looked through instead.

    """
    if isinstance(value, list):
        return [mask_document(item, (*scope, str(position)), names) for position, item in enumerate(value)]
    if not isinstance(value, dict) or is_stand_in(value):
        return value
    inner = unescaped(value)
    masked: JSONValue = {
        key: mask_document(item, (*scope, key), names)
        if key in containers or not (key in names or is_secret(key))
        else _mask_item(item, (*scope, key))
        for key, item in inner.items()
    }
    return masked if inner is value else {ESCAPE_KEY: masked}


def _mask_item(item: JSONValue, scope: tuple[str, ...]) -> JSONValue:
    return item if isinstance(item, dict) and MASK_KEY in item else mask(scope, item)


def is_stand_in(value: JSONValue) -> bool:
    """Return whether a JSON value stands for another one: for a secret, or for what is binary or too long."""
    return isinstance(value, dict) and (MASK_KEY in value or DIGEST_KEY in value)


def without_secrets(value: JSONValue) -> JSONValue:
    """Return JSON of an event as machines may get it, with stars for what is masked or under a secret key.

    A tag is left out too: it tells those who guess whether they guessed right.
    """
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    if not isinstance(value, dict) or DIGEST_KEY in value:
        return value
    if MASK_KEY in value:
        return HIDDEN
    inner = unescaped(value)
    shown: JSONValue = {key: HIDDEN if _is_hidden(key, item) else without_secrets(item) for key, item in inner.items()}
    return shown if inner is value else {ESCAPE_KEY: shown}


def _is_hidden(key: str, item: Any) -> bool:
    # An object under a secret key was looked through when it was written: the credentials of a failed login are one.
    return is_secret(key) and not isinstance(item, dict)


def with_stars(value: Any) -> Any:
    """Return a decoded value as a message may show it, with stars for what is masked or under a secret key."""
    if isinstance(value, dict):
        return {key: HIDDEN if _is_hidden(str(key), item) else with_stars(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_stars(item) for item in value]
    return HIDDEN if isinstance(value, Masked) else value
