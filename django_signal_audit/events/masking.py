"""Which names are secret: whole words of a field's name or of a key, and the exact names that rules add."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache, lru_cache
from typing import Any, TypeAlias

from django_signal_audit.conf import DEFAULT_MASK_FIELDS, DOCUMENTED_MASK_FIELDS, get_settings, on_settings_changed
from django_signal_audit.events.documents import (
    DIGEST_KEY,
    ESCAPE_KEY,
    MASK_KEY,
    MAX_DEPTH,
    RESERVED,
    JSONValue,
    Masked,
    bounded,
    mask,
    unescaped,
)

IsSecret: TypeAlias = Callable[[str], bool]

# The keys of an object that says by one value what another one is.
_NAMES = frozenset({
    "attribute", "code", "env", "field", "header", "id", "k", "key", "label", "n", "name", "option", "param",
    "parameter", "path", "property", "setting", "title", "type", "variable",
})  # fmt: skip
_VALUES = frozenset({
    "after", "before", "content", "current", "data", "default", "from", "new", "new_value", "newvalue", "old",
    "old_value", "oldvalue", "previous", "text", "to", "v", "val", "value", "values",
})  # fmt: skip
_LONGEST_NAME = 100
# Nobody nests the JSON of a text deeper than Python's interpreter can follow.
_DEEPEST = 10_000
# A text that begins so may be JSON.
OPENINGS = frozenset('{["\ufeff \t\r\n')
_BLANKS = "\ufeff \t\r\n"
# "Authorization: …" and "--password=…", as parts of a list.
_HIDDEN = "********"
# A name and what stands between it and its value, which may in turn hold names and values: a URL does.
# It begins at the beginnings of words alone, and takes nothing back: long words must not take long.
_NAMED = re.compile(r"""(?<![\w-])([\w-]++)["']?\s*+[=:]\s*+["']?""")
_QUOTED_NAME = re.compile(r'"([^"\\]{1,100})"\s*+:\s*+')
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


def is_pair(item: object, is_secret: IsSecret) -> bool:
    """Return whether a part of a list is a secret's name and its value."""
    return isinstance(item, list) and len(item) == 2 and _is_name(item[0], is_secret)


def are_pairs(items: list[Any]) -> bool:
    """Return whether a list has nothing but pairs of a name and a value."""
    return all(isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) for item in items)


def parsed(text: str) -> Any:
    """Return the list or object that a text is the JSON of, None if it is none.

    Others may read a text that only begins as JSON, and the last or the first value of a key that comes twice: of the
    former, the names are returned with the beginnings of their values, of the latter, all values.
    """
    if text[:1] not in OPENINGS or text.lstrip(_BLANKS)[:1] not in ("{", "[", '"'):
        return None
    try:
        found = json.loads(text.lstrip(_BLANKS), object_pairs_hook=_with_all_values, parse_int=_number)
    except (ValueError, RecursionError):
        return {name[1]: text[name.end() : name.end() + 1] for name in _QUOTED_NAME.finditer(text)} or None
    if isinstance(found, str):
        return parsed(found)
    return found if isinstance(found, (dict, list)) else None


def _with_all_values(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) == len(pairs):
        return document
    found: dict[str, list[Any]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return dict(found)


def _number(text: str) -> int | str:
    # Python refuses to read an integer of thousands of digits.
    return int(text) if len(text) < _LONGEST_NAME else text


def _is_name(item: object, is_secret: IsSecret) -> bool:
    return isinstance(item, str) and len(item) <= _LONGEST_NAME and is_secret(item)


def without_values(text: str, is_secret: IsSecret) -> str:
    """Return a text of no known form with stars in place of what follows the name of a secret."""
    parts, start = [], 0
    for name in _NAMED.finditer(text):
        value = _VALUE.match(text, name.end())
        if name.start() >= start and is_secret(name[1][-_LONGEST_NAME:]) and value:
            parts += [text[start : name.end()], _HIDDEN]
            start = value.end()
    return "".join([*parts, text[start:]])


def harmless_url(text: str, is_secret: IsSecret) -> str:
    """Return a text with stars in place of the passwords and secret arguments of URLs in it."""
    if "://" not in text:
        return text
    text = _URL_PASSWORD.sub(rf"\1{_HIDDEN}@", text)
    return _URL_ARGUMENT.sub(lambda found: f"{found[1]}{_HIDDEN}" if is_secret(found[2]) else found[0], text)


# A word ends where upper case begins after lower case, and before the last capital of an acronym ("APIToken"). "IDs" is
# one word.
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z0-9])(?=[A-Z][a-z]{2})")
_WORD = re.compile(r"[^\W\d_]+|\d+")
# What a name says about a secret when one of these is its last word: "token_count" is a number, and no token.
_ABOUT = frozenset({
    "age", "at", "banner", "changed", "color", "colour", "consent", "count", "created", "date", "description",
    "enabled", "exempt", "expiration", "expired", "expires", "expiry", "label", "length", "level", "lifetime",
    "limit", "location", "name", "notes", "on", "policy", "provider", "required", "room", "second", "speaker",
    "start", "status", "strength", "symbol", "timeout", "title", "ttl", "type", "updated", "used", "valid",
})  # fmt: skip
# When one of these is its first word, it asks a question: "has_password" is yes or no.
_QUESTIONS = frozenset({"has", "is", "must", "needs", "requires"})
# The same of the first word, before a plural: "max_tokens" is a number too.
_AMOUNTS = frozenset({"completion", "input", "max", "maximum", "min", "minimum", "num", "output", "prompt", "total"})
# Names are written in one word as well, with whatever before it: "pgpassword", "csrfmiddlewaretoken".
_ENDINGS = ("apikey", "authkey", "passcode", "passphrase", "passwd", "password", "privatekey", "secret", "secretkey",
            "sessid", "sessionid", "token")  # fmt: skip
# These are secrets if the name says nothing else, and many things in a longer one.
_ALONE = frozenset({"auth", "pass", "sid"})

HIDDEN = str(Masked(""))
# The keys of documents are what users send: not all of them are to be remembered.
_REMEMBERED = 10_000

Words = tuple[str, ...]


def words_of(name: str) -> Words:
    """Return the words of a name in lower case: ``("api", "token", "2")`` for ``APIToken2``."""
    plain = name if name.isascii() else _without_accents(name)
    return tuple(word.lower() for part in _CAMEL.split(plain) for word in _WORD.findall(part))


def _without_accents(name: str) -> str:
    return "".join(letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter))


def singular(word: str) -> str:
    """Return the word without the ending of an English plural."""
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        return word[:-1]
    return word


def contains(words: Words, wanted: Collection[Words]) -> bool:
    """Return whether one of the wanted runs of words, made by ``runs_of``, is among the words."""
    found = tuple(map(singular, words))
    ends = range(1, len(found) + 1)
    return any(found[start:end] in wanted for end in ends for start in range(end))


def runs_of(names: Iterable[str]) -> frozenset[Words]:
    """Return the words of each name in the singular, and each name as one word."""
    runs = [tuple(map(singular, words)) for words in map(words_of, names) if words]
    return frozenset([*runs, *(("".join(run),) for run in runs)])


@cache
def _mask_fields() -> frozenset[str]:
    """Return the words in force: the default ones too where the project only refuses names."""
    given = {name for name in get_settings().mask_fields if not name.startswith("!")}
    return frozenset(given or (DEFAULT_MASK_FIELDS if _refused() else ()))


@cache
def _secret_words() -> frozenset[Words]:
    return runs_of(_mask_fields())


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
    if not _is_default():
        return contains(words, _secret_words())
    return (contains(words, _secret_words()) or _resembles(words)) and not _is_about(words)


def _resembles(words: Words) -> bool:
    return any(singular(word).endswith(_ENDINGS) for word in words) or (len(words) == 1 and words[0] in _ALONE)


def _is_about(words: Words) -> bool:
    """Return whether a name is that of a number, a time or a label rather than that of the secret itself."""
    return words[-1] in _ABOUT or words[0] in _QUESTIONS or (words[0] in _AMOUNTS and words[-1] == "tokens")


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
    """Return a JSON document with its secrets replaced by their tags, at any depth.

    Secret are the values of secret keys and of pairs of a secret's name and its value, and texts that are JSON with
    such.

    Args:
        value: The document, escaped.
        scope: What the tags are comparable within; the path in the document is added to it.
        names: Keys that are secret besides those that contain one of MASK_FIELDS.
        containers: Keys of the document's own whose values are looked through instead.

    """
    if isinstance(value, str):
        return mask(scope, value) if _is_secret_json(value) else value
    if isinstance(value, list):
        return _mask_list(value, scope, names)
    if not isinstance(value, dict) or is_stand_in(value):
        return value
    inner = unescaped(value)
    named = named_values(inner, is_secret)
    masked: JSONValue = {
        key: mask_document(item, (*scope, key), names)
        if key in containers or not (key in names or key in named or is_secret(key))
        else _mask_item(item, (*scope, key))
        for key, item in inner.items()
    }
    return masked if inner is value else {ESCAPE_KEY: masked}


def _mask_list(items: list[JSONValue], scope: tuple[str, ...], names: Collection[str]) -> JSONValue:
    alone = set(secret_places(items, is_secret))
    pairs = are_pairs(items)
    return [
        _mask_item(item, (*scope, str(place)))
        if place in alone
        else [item[0], _mask_item(item[1], (*scope, str(place), "1"))]
        if pairs and isinstance(item, list) and is_pair(item, is_secret)
        else mask_document(item, (*scope, str(place)), names)
        for place, item in enumerate(items)
    ]


def _is_secret_json(text: str) -> bool:
    """Return whether a text is JSON that has a secret in it."""
    document = parsed(text)
    if document is None:
        return False
    try:
        # What a text calls "$masked" is no mask of ours.
        document = bounded(document, lambda leaf: leaf, _DEEPEST)
        return mask_document(document, ()) != document
    except RecursionError:
        return True


def is_plain_document(value: Any) -> bool:
    """Return whether a value is JSON as it is, bounded, and has nothing that may have to be masked or escaped."""
    containers = [value]
    for item in containers:
        if item.__class__ is dict:
            is_plain, parts = _are_plain_keys(item), list(item.values())
        else:
            is_plain, parts = item.__class__ is list and _is_plain_list(item), item
        if not is_plain or not _PLAIN.issuperset(map(type, parts)) or len(containers) > MAX_DEPTH:
            return False
        if any(part[:1] in OPENINGS for part in parts if part.__class__ is str):
            return False
        containers += [part for part in parts if part.__class__ in _CONTAINERS]
    return True


_TEXTS = frozenset({str})
_CONTAINERS = frozenset({dict, list})
_PLAIN = frozenset({*_CONTAINERS, str, int, float, bool, type(None)})


def _are_plain_keys(document: dict[Any, object]) -> bool:
    return (
        _TEXTS.issuperset(map(type, document))
        and RESERVED.isdisjoint(document)
        and not any(map(is_secret, document))
        and not named_values(document, is_secret)
    )


def _is_plain_list(items: list[object]) -> bool:
    # A list is a pair only within a list of pairs; a closer look finds out.
    return not is_pair(items, is_secret) and next(secret_places(items, is_secret), None) is None


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


def _is_hidden(key: str, item: object) -> bool:
    # An object under a secret key was looked through when it was written: the credentials of a failed login are one.
    return is_secret(key) and not isinstance(item, dict)


def with_stars(value: object) -> Any:
    """Return a decoded value as a message may show it, with stars for what is masked or under a secret key."""
    if isinstance(value, dict):
        return {key: HIDDEN if _is_hidden(str(key), item) else with_stars(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_stars(item) for item in value]
    return HIDDEN if isinstance(value, Masked) else value
