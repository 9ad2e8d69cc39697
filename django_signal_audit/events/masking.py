"""Which names are secret: whole words of a field's name or of a key, and the exact names that rules add."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache, lru_cache
from typing import Any

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
from django_signal_audit.events.secret_texts import (
    HIDDEN,
    LONGEST_NAME,
    IsSecret,
    harmless_url,
    may_name_secrets,
    parsed,
    secrets_named_in,
)

# The keys of an object that says by one value what another one is.
_NAMES = frozenset({
    "attribute", "code", "env", "field", "header", "id", "k", "key", "kind", "label", "n", "name", "option", "param",
    "parameter", "path", "property", "setting", "title", "type", "variable",
})  # fmt: skip
_VALUES = frozenset({
    "after", "answer", "before", "content", "current", "data", "default", "from", "new", "new_value", "newvalue", "old",
    "old_value", "oldvalue", "previous", "text", "to", "v", "val", "value", "values",
})  # fmt: skip
# What converters put before the names of XML's attributes and texts: "@name", "#text".
_SIGNS = "@#$_"
# The last words of keys whose list has the names, or the values, of what lies beside each other in two lists.
_LISTS_OF_NAMES = _NAMES | {"col", "column", "fieldname"}
_LISTS_OF_VALUES = _VALUES | {"arg", "cell", "datum", "entries", "item", "record", "result", "row", "tuple"}
# Nobody nests the JSON of a text deeper than Python's interpreter can follow.
_DEEPEST = 10_000
_NAME = re.compile(r"[^\W\d]+")
_LABEL = re.compile(r"[^\W\d]+(?:[ '-][^\W\d]+)*")


def named_values(document: Mapping[str, object], is_secret: IsSecret) -> Collection[str]:
    """Return the keys of the values that another value of the object calls secret."""
    if not any(_is_name(item, is_secret) for key, item in document.items() if _has_name(key)):
        return ()
    return {key for key in document if key.lower().lstrip(_SIGNS) in _VALUES or _last_word(key) == "value"}


def _has_name(key: str) -> bool:
    """Return whether the value of a key may be the name of what another key has: "key", "field_name"."""
    return key.lower().lstrip(_SIGNS) in _NAMES or _last_word(key) == "name"


def named_places(document: Mapping[str, object], is_secret: IsSecret) -> dict[str, set[int]]:
    """Return the places of secrets in the lists of an object, or in their rows, that another list of it names."""
    by_length: dict[int, set[int]] = {}
    for key, names in document.items():
        if isinstance(names, list) and _last_word(key) in _LISTS_OF_NAMES:
            places = {place for place, item in enumerate(names) if _names_column(item, is_secret)}
            if places:
                by_length.setdefault(len(names), set()).update(places)
    if not by_length:
        return {}
    found = {
        key: set[int]().union(*(by_length[length] for length in _lengths(values) & by_length.keys()))
        for key, values in document.items()
        if isinstance(values, list) and _last_word(key) in _LISTS_OF_VALUES
    }
    return {key: places for key, places in found.items() if places}


def _lengths(values: list[object]) -> set[int]:
    return {len(values), *(len(row) for row in values if isinstance(row, list))}


def _last_word(key: str) -> str:
    return _last_of_words(key[-LONGEST_NAME:])


@lru_cache(1_000)
def _last_of_words(name: str) -> str:
    return singular((words_of(name) or ("",))[-1])


def _names_column(item: object, is_secret: IsSecret) -> bool:
    if isinstance(item, dict):
        return any(_is_name(name, is_secret) for key, name in item.items() if _has_name(key))
    return _is_name(item, is_secret)


def header_places(items: list[Any], is_secret: IsSecret) -> set[int]:
    """Return the places of secrets in the rows of a table whose first row has their names."""
    header = items[0] if len(items) > 1 else None
    if not isinstance(header, list) or len(header) < 2 or not all(isinstance(name, str) for name in header):
        return set()
    if not all(isinstance(row, list) and len(row) == len(header) for row in items):
        return set()
    # A list of pairs has no header, but begins with the name of a secret and the secret.
    if len(header) == 2 and not all(map(_NAME.fullmatch, header)):
        return set()
    return {place for place, name in enumerate(header) if _is_name(name, is_secret)}


def secret_places(items: list[Any], is_secret: IsSecret) -> Iterator[int]:
    """Yield the places in a list of what is a secret by what stands before it."""
    for place, item in enumerate(items[:-1]):
        if isinstance(item, str) and item.startswith("-") and "=" not in item and _is_name(item, is_secret):
            yield place + 1
    if is_pair(items, is_secret) and may_be_value(items[1]):
        yield 1


def is_pair(item: object, is_secret: IsSecret) -> bool:
    """Return whether a part of a list is a secret's name and its value."""
    return isinstance(item, list) and len(item) == 2 and _is_name(item[0], is_secret)


def may_be_value(item: object) -> bool:
    """Return whether the second of two items is a value: words may be those of two names, or of two labels."""
    if isinstance(item, str):
        return item != "" and not _LABEL.fullmatch(item)
    return isinstance(item, (int, float)) and not isinstance(item, bool)


def are_pairs(items: list[Any]) -> bool:
    """Return whether a list has nothing but pairs of a name and a value."""
    return all(isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) for item in items)


def _is_name(item: object, is_secret: IsSecret) -> bool:
    return isinstance(item, str) and len(item) <= LONGEST_NAME and is_secret(item)


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
            "sessid", "sessionid", "token", "密码", "密碼", "パスワード", "비밀번호")  # fmt: skip
# These are secrets if the name says nothing else, and many things in a longer one. "Parola" is an Italian word, too.
_ALONE = frozenset({"auth", "parola", "pass", "sid"})
# Letters that have no accent by Unicode, and are written without one in code.
_PLAIN_LETTERS = str.maketrans({"ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D"})

# The keys of documents are what users send: not all of them are to be remembered.
_REMEMBERED = 10_000

Words = tuple[str, ...]


def words_of(name: str) -> Words:
    """Return the words of a name in lower case: ``("api", "token", "2")`` for ``APIToken2``."""
    plain = name if name.isascii() else _without_accents(name)
    return tuple(word.lower() for part in _CAMEL.split(plain) for word in _WORD.findall(part))


def _without_accents(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name).translate(_PLAIN_LETTERS)
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def singular(word: str) -> str:
    """Return the word without the ending of an English plural."""
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        return word[:-1]
    return word


def contains(words: Words, wanted: frozenset[Words]) -> bool:
    """Return whether one of the wanted runs of words, made by ``runs_of``, is among the words."""
    found = tuple(map(singular, words))
    # Anybody may send a key of a thousand words.
    lengths = range(1, min(_longest(wanted), len(found)) + 1)
    return any(found[start : start + length] in wanted for start in range(len(found)) for length in lengths)


@lru_cache(100)
def _longest(runs: frozenset[Words]) -> int:
    return max(map(len, runs), default=0)


def runs_of(names: Iterable[str]) -> frozenset[Words]:
    """Return the words of each name in the singular, and each name as one word."""
    return _runs_of(frozenset(names))


@lru_cache(100)
def _runs_of(names: frozenset[str]) -> frozenset[Words]:
    runs = [tuple(map(singular, words)) for words in map(words_of, names) if words]
    return frozenset([*runs, *(("".join(run),) for run in runs)])


@cache
def _mask_fields() -> frozenset[str]:
    """Return the words in force: the default ones too where the project only refuses names."""
    given = {name for name in get_settings().mask_fields if not name.startswith("!")}
    return frozenset(given or (DEFAULT_MASK_FIELDS if _refused() else ()))


@cache
def _endings() -> tuple[str, ...]:
    return tuple("".join(words_of(ending)) for ending in _ENDINGS)


@cache
def _secret_words() -> frozenset[Words]:
    return runs_of(_mask_fields())


@cache
def _documented_words() -> tuple[Words, ...]:
    return tuple(words_of(name) for name in DOCUMENTED_MASK_FIELDS)


@cache
def _refused() -> frozenset[str]:
    return frozenset(name[1:] for name in get_settings().mask_fields if name.startswith("!"))


def is_secret(name: str) -> bool:
    """Return whether a name contains one of MASK_FIELDS: ``user_api_key`` and ``tokens`` do, ``tokenizer`` does not."""
    # Others than names are not worth remembering.
    return _is_secret(name) if len(name) <= LONGEST_NAME else _is_secret.__wrapped__(name)


@lru_cache(_REMEMBERED)
def _is_secret(name: str) -> bool:
    if name in _refused():
        return False
    words = words_of(name)
    if _is_in_any_case(words):
        return True
    if not _is_default():
        return contains(words, _secret_words())
    return (contains(words, _secret_words()) or _resembles(words)) and not _is_about(words)


def _is_in_any_case(words: Words) -> bool:
    """Return whether a name is a secret word in letters of any case: ``PaSsWoRd`` looks like four words."""
    return len(words) > 1 and contains(("".join(words).rstrip("0123456789"),), _secret_words())


def _resembles(words: Words) -> bool:
    return any(singular(word).endswith(_endings()) for word in words) or (len(words) == 1 and words[0] in _ALONE)


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


def is_left_out(name: str) -> bool:
    """Return whether a name is a secret's beyond doubt, and MASK_FIELDS has replaced the default that says so."""
    words = words_of(name)
    is_plain = contains(words, runs_of(DOCUMENTED_MASK_FIELDS)) and not _is_about(words)
    return is_plain and not is_refused(name) and not is_secret(name)


def _is_default() -> bool:
    return _mask_fields() >= set(DEFAULT_MASK_FIELDS)


_read: tuple[str, ...] | None = None


@on_settings_changed
def _reset() -> None:
    """Forget what follows from MASK_FIELDS, unless it is as it was."""
    global _read
    given = tuple(get_settings().mask_fields)
    if given == _read:
        return
    _read = given
    for function in (_mask_fields, _secret_words, _refused, _is_secret, _judged):
        function.cache_clear()
    _usual_keys.clear()


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
        return mask(scope, value) if has_secrets(value) else value
    if isinstance(value, list):
        return _mask_list(value, scope, names)
    if not isinstance(value, dict) or is_stand_in(value):
        return value
    inner = unescaped(value)
    named, places = named_values(inner, is_secret), named_places(inner, is_secret)
    masked: JSONValue = {
        key: _mask_item(item, (*scope, key))
        if key not in containers and (key in names or key in named or is_secret(key))
        else _mask_places(item, (*scope, key), names, places[key])
        if key in places
        else mask_document(item, (*scope, key), names)
        for key, item in inner.items()
    }
    return masked if inner is value else {ESCAPE_KEY: masked}


def _mask_list(items: list[JSONValue], scope: tuple[str, ...], names: Collection[str]) -> JSONValue:
    alone, columns = set(secret_places(items, is_secret)), header_places(items, is_secret)
    pairs = are_pairs(items)

    def masked(place: int, item: JSONValue) -> JSONValue:
        inner = (*scope, str(place))
        if place in alone:
            return _mask_item(item, inner)
        if pairs and is_pair(item, is_secret) and not (columns and place == 0):
            return _mask_row(item, inner, names, {1})
        return _mask_row(item, inner, names, columns if place else set())

    return [masked(place, item) for place, item in enumerate(items)]


def _mask_places(
    items: JSONValue, scope: tuple[str, ...], names: Collection[str], places: Collection[int]
) -> JSONValue:
    """Return a list with its secrets in some places masked, or in these places of each of its rows."""
    if any(isinstance(item, list) for item in items):  # type: ignore[union-attr]
        return [_mask_row(item, (*scope, str(place)), names, places) for place, item in enumerate(items)]  # type: ignore[arg-type]
    return _mask_row(items, scope, names, places)


def _mask_row(row: JSONValue, scope: tuple[str, ...], names: Collection[str], places: Collection[int]) -> JSONValue:
    if not places or not isinstance(row, list):
        return mask_document(row, scope, names)
    return [
        (_mask_item if place in places else mask_document)(item, (*scope, str(place))) for place, item in enumerate(row)
    ]


def has_secrets(text: str, *, is_column: bool = False) -> bool:
    """Return whether a text is of a form that names a secret in it, JSON among them.

    Args:
        text: The text.
        is_column: Whether it is the value of a field, and so may be prose.

    """
    if not may_name_secrets(text):
        return False
    return any(True for _ in secrets_named_in(text, is_secret, is_column=is_column)) or _is_secret_json(text)


def without_secret_values(text: str) -> str:
    """Return what somebody typed with stars for the secrets in it, or stars alone where no less will do."""
    if not may_name_secrets(text):
        return text
    if _is_secret_json(text):
        return HIDDEN
    text = harmless_url(text, is_secret)
    # People have written it: "use --password to log in" names none.
    named = {*secrets_named_in(text, is_secret, is_column=True)}
    named |= {one for one in secrets_named_in(text, is_secret) if not one.isalpha()}
    for secret in sorted(named, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


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
        kind = type(item)
        if len(containers) > MAX_DEPTH or not (
            tuple(item) in _usual_keys or _are_plain_keys(item)
            if kind is dict
            else kind is list and _is_plain_list(item)
        ):
            return False
        for part in item.values() if kind is dict else item:
            kind = type(part)
            if kind is str:
                if may_name_secrets(part) and has_secrets(part):
                    return False
            elif kind in _CONTAINERS:
                containers.append(part)
            elif kind not in _PLAIN:
                return False
    return True


_TEXTS = frozenset({str})
_CONTAINERS = frozenset({dict, list})
_LISTS_AND_TEXTS = frozenset({list, str})
_PLAIN = frozenset({int, float, bool, type(None)})


def _are_plain_keys(document: dict[Any, object]) -> bool:
    if not _TEXTS.issuperset(map(type, document)):
        return False
    # The documents of a column mostly have the same keys.
    is_usual = len(document) <= _FEW_KEYS and max(map(len, document), default=0) <= LONGEST_NAME
    judge = _judged if is_usual else _judged.__wrapped__
    are_plain, name_others = judge(tuple(document))
    if are_plain and not name_others and is_usual:
        if len(_usual_keys) >= _REMEMBERED:
            _usual_keys.clear()
        _usual_keys.add(tuple(document))
    return are_plain and not (name_others and (named_values(document, is_secret) or named_places(document, is_secret)))


_FEW_KEYS = 50
# The keys of documents that are plain whatever the values are.
_usual_keys: set[tuple[str, ...]] = set()


@lru_cache(_REMEMBERED)
def _judged(keys: tuple[str, ...]) -> tuple[bool, bool]:
    """Return whether the keys of an object are neither secret nor reserved, and whether some may name others."""
    are_plain = RESERVED.isdisjoint(keys) and not any(map(is_secret, keys))
    return are_plain, any(key.lower() in _NAMES or _last_word(key) in _LISTS_OF_NAMES for key in keys)


def _is_plain_list(items: list[object]) -> bool:
    if _LISTS_AND_TEXTS.isdisjoint(map(type, items)):
        return True
    # A list is a pair only within a list of pairs; a closer look finds out.
    return (
        not is_pair(items, is_secret)
        and not header_places(items, is_secret)
        and next(secret_places(items, is_secret), None) is None
    )


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


def with_stars(value: object) -> object:
    """Return a decoded value as a message may show it, with stars for what is masked or under a secret key."""
    if isinstance(value, dict):
        return {key: HIDDEN if _is_hidden(str(key), item) else with_stars(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_stars(item) for item in value]
    return HIDDEN if isinstance(value, Masked) else value
