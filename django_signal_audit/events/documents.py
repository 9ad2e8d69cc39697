"""JSON documents as events keep them: bounded in depth, with stand-ins for what is masked, binary or too long.

A stand-in is an object with one reserved key. An object of a user's that has such a key is escaped, so nothing that a
user typed can pass for a stand-in.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeAlias

from django.utils.crypto import salted_hmac

from django_signal_audit.conf import get_settings, on_settings_changed

JSONValue: TypeAlias = "bool | int | float | str | list[JSONValue] | dict[str, JSONValue] | None"

DIGEST_KEY = "$digest"
MASK_KEY = "$masked"
ESCAPE_KEY = "$value"
# The tag of a value that was erased: nothing is known of it any more, and everything that knows tags shows it so.
ERASED_TAG = "erased"
RESERVED = {DIGEST_KEY, MASK_KEY, ESCAPE_KEY}

CONTAINERS = (list, tuple, set, frozenset, dict)
# What lies deeper in a document is a digest, so that whatever walks documents may call itself. MariaDB takes JSON of at
# most 31 levels: an event adds a dict, a pair and a stand-in to those of the document.
MAX_DEPTH = 28

# PostgreSQL stores neither in text or jsonb: NUL, and half of a UTF-16 surrogate pair.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def clean_text(text: str) -> str:
    r"""Return the text with NUL and lone surrogates written as ``\u0000`` so that every database can store it."""
    if text.isascii() and "\0" not in text:
        return text
    return _UNSTORABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def safe_str(value: object) -> str:
    """Return ``str(value)``, or a text that names the type and the error when that raises."""
    try:
        # A subclass of str may have methods of its own, and what str() gives may be one.
        return str.__str__(str(value))
    except Exception as error:  # noqa: BLE001  # any user code may run in __str__, and a log must not break a write
        return text_of_failure(value, error)


def text_of_failure(value: object, error: Exception) -> str:
    """Return what stands for the text of a value whose ``__str__`` raised."""
    return f"<{type(value).__name__}: __str__ raised {type(error).__name__}>"


@dataclass(frozen=True, slots=True)
class Digest:
    """Stands for a binary or over-long value: its SHA-256 and its length in bytes."""

    digest: str
    length: int

    def __str__(self) -> str:
        return f"{self.digest[:19]}… ({self.length} byte{'' if self.length == 1 else 's'})"


@dataclass(frozen=True, slots=True)
class Masked:
    """Stands for a masked value: a row's secret that comes back has its tag again, and no two rows have equal tags."""

    tag: str

    def __str__(self) -> str:
        return "********"


def digest(data: bytes) -> dict[str, JSONValue]:
    """Return the reserved dict that stands for binary or over-long data."""
    return {DIGEST_KEY: f"sha256:{hashlib.sha256(data).hexdigest()}", "length": len(data)}


def bounded(
    value: Any,
    leaf: Callable[[Any], Any],
    depth: int = MAX_DEPTH,
    name: Callable[[object], str] = str,
    around: tuple[int, ...] = (),
    *,
    opens_tuples: bool = False,
) -> JSONValue:
    """Return a document as JSON, with objects that have a reserved key escaped and digests of what lies too deep.

    Args:
        value: The document.
        leaf: Makes JSON of what is no list and no dict.
        depth: How many lists and objects may lie in each other.
        name: Makes the text of a key.
        around: The ids of the containers that the value lies in.
        opens_tuples: Whether a named tuple is an object of its fields rather than a list.

    """
    if not _is_container(value):
        return leaf(value)  # type: ignore[no-any-return]
    if depth <= 0 or id(value) in around:
        return digest(_rest(value))
    around = (*around, id(value))
    inner = partial(bounded, leaf=leaf, name=name, around=around, opens_tuples=opens_tuples)
    if opens_tuples and isinstance(value, tuple):
        value = _opened(value)
    if not isinstance(value, dict):
        return [inner(item, depth=depth - 1) for item in value]
    keys = {name(key): item for key, item in value.items()}
    is_reserved = not RESERVED.isdisjoint(keys)
    document: JSONValue = {key: inner(item, depth=depth - 1 - is_reserved) for key, item in keys.items()}
    return {ESCAPE_KEY: document} if is_reserved else document


def _opened(value: tuple[object, ...]) -> object:
    """Return the fields of a named tuple by name, any other tuple as it is."""
    names = getattr(type(value), "_fields", None)
    if not isinstance(names, tuple) or len(names) != len(value):
        return value
    return dict(zip(names, value, strict=True))


def _is_container(value: object) -> bool:
    try:
        return isinstance(value, CONTAINERS)
    except Exception:  # noqa: BLE001  # a lazy object is asked for its class, and may fail
        return False


def is_deeper(value: JSONValue, depth: int) -> bool:
    """Return whether more lists and objects than ``depth`` lie in each other."""
    level: list[Any] = [value]
    for _ in range(depth + 1):
        level = [item for item in level if item and isinstance(item, (dict, list))]
        if not level:
            return False
        level = [part for item in level for part in (item.values() if isinstance(item, dict) else item)]
    return True


def shallow(value: JSONValue, depth: int) -> JSONValue:
    """Return a document with digests in place of what lies deeper than ``depth``."""
    if not isinstance(value, (dict, list)) or MASK_KEY in value or DIGEST_KEY in value:
        return value
    if depth <= 0:
        return digest(canonical_json(value))
    if isinstance(value, list):
        return [shallow(item, depth - 1) for item in value]
    return {key: shallow(item, depth - 1) for key, item in value.items()}


def _rest(value: object) -> bytes:
    try:
        return canonical_json(value, safe_str)
    except (ValueError, TypeError):
        return b""  # it contains itself, or has keys that no JSON has


def canonical_json(value: object, default: Callable[[object], object] | None = None) -> bytes:
    """Return the JSON text of a value with sorted keys and no white space, as ASCII bytes, however deep it is."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), default=default).encode()
    except RecursionError:
        return "".join(_pieces(value, default)).encode()


class _Written(str):
    """A piece of JSON text, among values that may be texts too."""

    __slots__ = ()


def _pieces(value: object, default: Callable[[object], object] | None) -> Iterator[str]:
    """Yield the JSON text of a value piece by piece, without a call for each level of it."""
    # What is still to be written, the next piece last.
    waiting: list[object] = [value]
    while waiting:
        item = waiting.pop()
        if item.__class__ is _Written:
            yield item
        elif isinstance(item, dict):
            waiting.append(_Written("}"))
            for position, key in reversed(list(enumerate(sorted(item, key=str)))):
                waiting += [item[key], _Written(f"{',' if position else ''}{json.dumps(str(key))}:")]
            waiting.append(_Written("{"))
        elif isinstance(item, (list, tuple)):
            waiting.append(_Written("]"))
            for position, part in reversed(list(enumerate(item))):
                waiting += [part, _Written("," if position else "")]
            waiting.append(_Written("["))
        else:
            yield json.dumps(item, default=default)


@cache
def _mask_key() -> bytes:
    key = get_settings().mask_key
    if not key:
        return salted_hmac("django_signal_audit.mask", "", algorithm="sha256").digest()
    return key.encode() if isinstance(key, str) else key


on_settings_changed(_mask_key.cache_clear)


def mask(scope: Sequence[str], value: JSONValue) -> JSONValue:
    """Return the keyed tag of a secret.

    Args:
        scope: What the tag is comparable within: the declaring model, the row, the field, and the path in a document.
        value: The secret as typed JSON. None stays None: that there is no secret is not one.

    """
    return None if value is None else {MASK_KEY: tag(scope, value)}


def tag(scope: Sequence[str], value: JSONValue) -> str:
    """Return the text of a secret's tag."""
    message = canonical_json([*scope, value])
    return "hmac-sha256:" + hmac.new(_mask_key(), message, hashlib.sha256).hexdigest()[:32]


def decode_tag(value: JSONValue) -> object:
    """Return the Digest or Masked that a reserved dict stands for, at any depth, other values as is."""
    if isinstance(value, list):
        return [decode_tag(item) for item in value]
    if not isinstance(value, dict):
        return value
    if MASK_KEY in value:
        return Masked(str(value[MASK_KEY]))
    length = value.get("length")
    if DIGEST_KEY in value and type(length) is int:  # what SQL wrote may have any shape
        return Digest(str(value[DIGEST_KEY]), length)
    return {key: decode_tag(item) for key, item in unescaped(value).items()}


def unescaped(value: dict[str, JSONValue]) -> dict[str, JSONValue]:
    """Return the object that was escaped because it has reserved keys, or the value itself."""
    inner = value.get(ESCAPE_KEY)
    return inner if isinstance(inner, dict) else value


def stand_ins(value: object) -> Iterator[Digest | Masked]:
    """Yield what stands for other values in a decoded value, at any depth."""
    if isinstance(value, (Digest, Masked)):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from stand_ins(item)


def encode_tag(value: Digest | Masked) -> JSONValue:
    """Return the reserved dict that stands for a Digest or Masked, which ``decode_tag`` made it of."""
    if isinstance(value, Masked):
        return {MASK_KEY: value.tag}
    return {DIGEST_KEY: value.digest, "length": value.length}


# Control characters move the cursor, recolour the screen or retitle the window; the bidirectional ones reorder what
# is read; what has no width is not seen; line and paragraph separators break a row; half a surrogate pair cannot be
# encoded at all.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escape(match: re.Match[str]) -> str:
    """Return a character as Python would write it in a string."""
    code = ord(match[0])
    return _NAMED.get(match[0]) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def printable(text: str) -> str:
    r"""Return the text on one line with what a terminal would obey written as ``\x1b``."""
    return _UNPRINTABLE.sub(escape, text)
