"""What is sealed of an event: one canonical text, the same on every database and forever.

Format 1 is frozen. A column that comes later needs a format of its own, and this one must stay able to be computed.
Format 2 is format 1 with the tenant, and only events of a tenant have it: what was sealed before stays what it is, and
a tenant that is added, changed or taken away makes another leaf.

SQL can write what this package does not: JSON of another shape, the same key twice, a time in another notation. It is
sealed as the database holds it, in a form that no event of ours has, so that one such event doesn't stop the sealer,
and no event of ours can be changed into it unseen.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
from binascii import b2a_base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from hashlib import sha256 as _sha256
from json import encoder
from json.encoder import encode_basestring
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Expression, ExpressionWrapper, F, Func, TextField
from django.db.models.sql.compiler import SQLCompiler

from django_signal_audit.events.documents import ERASED_TAG, MASK_KEY

FORMAT = 1
TENANT_FORMAT = 2


class _AsStored(Func):
    """A column as text; on SQLite as what is there, which can be something else: without the sign, Django reads it."""

    template = "CAST(%(expressions)s AS char)"
    output_field = TextField()

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **options: Any) -> Any:
        return super().as_sql(compiler, connection, template="(%(expressions)s)::text", **options)

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **options: Any) -> Any:
        return super().as_sql(compiler, connection, template="+%(expressions)s", **options)


class _IsoMoment(_AsStored):
    """A moment of UTC as text, on PostgreSQL whatever time zone and style of dates the connection has."""

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **options: Any) -> Any:
        # The years before 1 have positive numbers as well.
        template = (
            "to_char(%(expressions)s AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') "
            "|| CASE WHEN %(expressions)s < '0001-01-01 00:00+00' THEN ' BC' ELSE '' END"
        )
        return super().as_sql(compiler, connection, template=template, **options)


def as_text(name: str) -> Expression:
    """Return a column as the database holds it: its JSON is read here, and what is none spoils one event alone."""
    return ExpressionWrapper(F(name), output_field=TextField())


def uid_text(name: str) -> Expression:
    """Return a column of UUIDs as text, with hyphens or without."""
    return _AsStored(name)


class _NoText(bytes):
    """A text of SQLite that isn't UTF-8."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"CAST({super().__repr__()} AS TEXT)"


def _exact(data: bytes) -> str | _NoText:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _NoText(data)


def rows_of(rows: Any) -> list[Any]:
    """Return what the database holds, whatever SQL wrote there; the rows are those of one of our tables."""
    return list(rows.read_by(_exact))


# What is read of an event, in the order of values_list().
_READ: dict[str, str | Expression] = {
    "id": "id",
    "uid": uid_text("uid"),
    "recorded_at": _IsoMoment("recorded_at"),
    "event_type": as_text("event_type"),
    "source": as_text("source"),
    "level": as_text("level"),
    "rules": as_text("rules"),
    "model": as_text("model"),
    "object_id": as_text("object_id"),
    "object_repr": as_text("object_repr"),
    "actor_id": as_text("actor_id"),
    "actor_repr": as_text("actor_repr"),
    "changes": as_text("changes"),
    "data": as_text("data"),
    "context": as_text("context"),
    "correlation_id": as_text("correlation_id"),
    "tenant": as_text("tenant"),
}
COLUMNS: tuple[Any, ...] = tuple(_READ.values())
# Readers may ask for more columns after these.
_WIDTH = len(COLUMNS)
# May tell of a person whatever the model is. They enter the leaf as commitments, as personal fields do.
_PERSONAL_COLUMNS = ("object_repr", "actor_id", "actor_repr", "data", "context")
# Of a column with JSON that isn't ours, its text is the personal value.
_TEXT_PATHS = {name: f"{name}.text" for name in ("changes", "data", "context")}
# Stands in ``changes`` for a value that was erased.
ERASED = {MASK_KEY: ERASED_TAG}
# What a column holds once its value is erased, by the path of that.
EMPTIED: Mapping[str, Any] = {
    "object_repr": "",
    "actor_id": "",
    "actor_repr": "",
    "data": {},
    "context": {},
    **{path: {} for path in _TEXT_PATHS.values()},
}
_EMPTY: tuple[object, ...] = (None, "", {})
# Marks a document with columns that SQL has written in a form of its own.
IS_FOREIGN = "is_foreign"
# Of lists and objects inside each other: not every interpreter reads more.
_MOST_LEVELS = 500
_DIGEST_LENGTH = 43
_SALT_BYTES = 16
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_EXACT = 1 << 53
# Of a whole number; longer ones are written with an exponent if a float has the same value.
_MOST_DIGITS = 21
# The smallest number that is written without an exponent.
_LEAST_PLAIN = 1e-6

_LONG_MOMENT, _SHORT_MOMENT = len("2026-11-22 12:00:00.000000"), len("2026-11-22 12:00:00")

# Raised for what SQL can write and we do not: JSON of any shape, and no JSON at all.
NOT_OURS = (AttributeError, LookupError, RecursionError, TypeError, ValueError)

Document = dict[str, Any]
Commitments = Mapping[str, str]
IsPersonal = Callable[[str, str], bool]


def _float(text: str) -> float | int:
    """Return a number such that its text is that of RFC 8785: whole ones have no point, and exponents are rare."""
    number = float(text)
    if not number.is_integer():
        return number
    return int(number) if abs(number) < _EXACT else _whole(int(Decimal(repr(number))))


def _integer(text: str) -> float | int:
    return int(text) if len(text) <= _MOST_DIGITS else _whole(int(text))


def _whole(number: int) -> float | int:
    """Return a long whole number as the float that others write for it: PostgreSQL gives 1e22 back with all digits."""
    if abs(number) < 10**_MOST_DIGITS:
        return number
    try:
        shortest = float(number)
    except OverflowError:
        return number
    return shortest if Decimal(repr(shortest)) == number else number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object whose keys differ: of two values for one key, databases find the one and Python the other."""
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "A key comes twice."
        raise ValueError(msg)
    return found


_decoder = json.JSONDecoder(parse_float=_float, parse_int=_integer, object_pairs_hook=_object)
# What the decoder calls: two calls less for each text.
_scan: Callable[[str, int], tuple[Any, int]] = _decoder.scan_once  # type: ignore[attr-defined]  # not in the stubs
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def _fast_encode() -> Callable[[Any], str]:
    """Return what ``_encode`` does, in half the time: json makes its encoder anew for each call, and looks for cycles.

    What was decoded has none. An interpreter without the encoder in C does without.
    """
    make = getattr(encoder, "c_make_encoder", None)
    if make is None:
        return _encode
    chunks = make(None, _refuse, encode_basestring, None, ":", ",", True, False, True)
    return lambda value: "".join(chunks(value, 0))


def _refuse(value: object) -> None:
    msg = f"{type(value).__name__} isn't a type of JSON."
    raise TypeError(msg)


_encode_decoded = _fast_encode()


def decode(text: str) -> Any:
    """Return the value of a JSON text, its numbers such that ``canonical`` writes them as RFC 8785 does."""
    try:
        value, end = _scan(text, 0)
    except (StopIteration, ValueError):
        return _decoder.decode(text)  # there is white space before it, or no value
    return value if end == len(text) else _decoder.decode(text)


def _value(text: str, kind: type = dict) -> Any:
    """Return the value of a column of JSON.

    Raises:
        NOT_OURS: It is of another type, or has a form that we never write.

    """
    if text == "{}" and kind is dict:
        return {}
    value = _of_type(decode(text), kind)
    if len(text) > _MOST_LEVELS and text.count("[") + text.count("{") > _MOST_LEVELS and _is_deep(value):
        msg = "Too many levels."
        raise ValueError(msg)
    if "\\" in text and ("\\ud" in text or "\\uD" in text):
        canonical(value).encode()  # half of a surrogate pair has no bytes
    return value


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(_MOST_LEVELS):
        level = [
            inner
            for item in level
            if isinstance(item, (dict, list))
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
    return bool(level)


@lru_cache(1024)
def _rules(text: str) -> Any:
    return [_of_type(name, str) for name in _value(text, list)]


def _of_type(value: object, kind: type) -> Any:
    if type(value) is not kind:
        msg = f"It is no {kind.__name__}."
        raise TypeError(msg)
    return value


def document_of(row: Sequence[Any]) -> Document:
    """Return an event that was read as ``COLUMNS``, as the document that is sealed."""
    try:
        "".join(row[1:_WIDTH])  # the quickest way to see whether all of them are texts
        document = dict(zip(_READ, row, strict=False))
        document["id"] = _of_type(row[0], int)
        document["uid"] = hyphenated(row[1])
        document["recorded_at"] = _moment(row[2])
        document["rules"] = _rules(row[6])
        document["changes"] = _value(row[12])
        document["data"] = _value(row[13])
        document["context"] = _value(row[14])
    except NOT_OURS:
        return _foreign(row)
    return document


def hyphenated(uid: str) -> str:
    """Return the text of a UUID with its hyphens."""
    return uid if "-" in uid else f"{uid[:8]}-{uid[8:12]}-{uid[12:16]}-{uid[16:20]}-{uid[20:]}"


def _moment(text: str) -> str:
    size = len(text)
    is_ours = size in (_LONG_MOMENT, _SHORT_MOMENT) and text[10] == " "
    if not is_ours or dt.datetime.fromisoformat(text).tzinfo is not None:
        msg = "It is no moment as we write it."
        raise ValueError(msg)
    # Microseconds of zero are left out on SQLite.
    return f"{text[:10]}T{text[11:]}Z" if size == _LONG_MOMENT else f"{text[:10]}T{text[11:]}.000000Z"


# What reads a column; the others are texts.
_READERS: dict[str, Callable[[Any], Any]] = {
    "id": lambda value: _of_type(value, int),
    "uid": hyphenated,
    "recorded_at": _moment,
    "rules": _rules,
    "changes": _value,
    "data": _value,
    "context": _value,
}


def _foreign(row: Sequence[Any]) -> Document:
    """Return an event that SQL has written in a form of its own: what can't be read is the text that is there."""
    document: Document = {IS_FOREIGN: True}
    for name, value in zip(_READ, row, strict=False):
        try:
            document[name] = _READERS[name](value) if name in _READERS else _of_type(value, str)
        except NOT_OURS:
            text = value if isinstance(value, str) else repr(value)
            document[name] = _Text(text) if name in _TEXT_PATHS else {"text": text}
    return document


class _Text(str):
    """The text of a column whose JSON isn't ours."""

    __slots__ = ()


def canonical(value: object) -> str:
    """Return the JSON text of a value that ``decode`` has read: keys sorted, no white space, the numbers of RFC 8785.

    Whole numbers that no float holds stay exact, where RFC 8785 would round them: a change must not be lost.
    """
    if type(value) is str:
        return encode_basestring(value)
    kind = type(value)
    if kind is dict and not value:
        return "{}"
    text = _encode_decoded(value) if kind is dict or kind is list else _encode(value)
    # Python writes 1e-07 and 1e-05 for what is 1e-7 and 0.00001 there.
    return _SMALL.sub(_exact_number, text) if "e-0" in text else text


# A text, or a number with an exponent that Python writes in two digits.
_SMALL = re.compile(r'"(?:[^"\\]|\\.)*"|-?[\d.]+e-0\d', re.DOTALL)


def _exact_number(match: re.Match[str]) -> str:
    text = match[0]
    if text[0] == '"':
        return text
    return f"{Decimal(text):f}" if abs(float(text)) >= _LEAST_PLAIN else text.replace("e-0", "e-")


def commitments_for(document: Document, is_personal: IsPersonal) -> dict[str, str]:
    """Return a salt for each personal value of an event, by the path of the value.

    Args:
        document: The event.
        is_personal: Returns whether a field of a model, given by label and name, holds personal values.

    """
    paths = [
        _TEXT_PATHS[name] if isinstance(document[name], _Text) else name
        for name in _PERSONAL_COLUMNS
        if document[name] not in _EMPTY
    ]
    changes, model = document["changes"], document["model"]
    if isinstance(changes, _Text):
        paths.append(_TEXT_PATHS["changes"])
        changes = {}
    model = model if isinstance(model, str) else ""
    for name, pair in changes.items():
        if isinstance(pair, list):
            paths += [
                f"changes.{name}.{at}"
                for at, value in enumerate(pair[:2])
                if value not in _EMPTY and (is_personal(model, name) or _holds_tag(value))
            ]
    salts = os.urandom(_SALT_BYTES * len(paths))
    return {path: _text(salts[at * _SALT_BYTES : (at + 1) * _SALT_BYTES]) for at, path in enumerate(paths)}


def _holds_tag(value: object) -> bool:
    return isinstance(value, (dict, list)) and MASK_KEY in json.dumps(value)


def _text(data: bytes) -> str:
    return b2a_base64(data, newline=False).translate(_URL_SAFE, b"=").decode("ascii")


def disclosure(salt: str, path: str, value: object) -> str:
    """Return the text that shows what a commitment stands for, as in SD-JWT (RFC 9901)."""
    return _text(f"[{encode_basestring(salt)},{encode_basestring(path)},{canonical(value)}]".encode())


def digest_of(shown: str) -> str:
    """Return the digest of a disclosure, which is the commitment."""
    return _text(_sha256(shown.encode()).digest())


def has_erased(commitments: Commitments) -> bool:
    """Return whether some values are erased."""
    return _DIGEST_LENGTH in map(len, commitments.values())


def is_erased(mark: str) -> bool:
    """Return whether a value's salt is gone and its digest is left."""
    return len(mark) == _DIGEST_LENGTH


@lru_cache(4096)
def _parts(path: str) -> tuple[str, str, int]:
    """Return the column, the field and the place of ``changes.price.0``; the place is -1 if it is neither 0 nor 1."""
    column, _, rest = path.partition(".")
    name, _, at = rest.rpartition(".")
    return column, name, int(at) if at in ("0", "1") else -1


def _pair_at(document: Document, path: str) -> tuple[list[Any], int] | None:
    """Return the old and new value that a path leads to, and which of them is meant; None if it leads nowhere."""
    column, name, at = _parts(path)
    value = document.get(column)
    pair = value.get(name) if isinstance(value, dict) else None
    return (pair, at) if isinstance(pair, list) and 0 <= at < len(pair) else None


def value_at(document: Document, path: str) -> Any:
    """Return the personal value at a path, None if there is none."""
    if path in EMPTIED:
        return document.get(path.removesuffix(".text"))
    found = _pair_at(document, path)
    return found[0][found[1]] if found else None


def _take(document: Document, path: str) -> Any:
    """Return the personal value at a path of ``changes``, and take it out."""
    found = _pair_at(document, path)
    if found is None:
        return None
    pair, at = found
    value, pair[at] = pair[at], None
    return value


def disclosures_of(document: Document, commitments: Commitments) -> list[str]:
    """Return what shows the personal values that are not erased."""
    return [
        disclosure(salt, path, value_at(document, path)) for path, salt in commitments.items() if not is_erased(salt)
    ]


def leaf_text(document: Document, commitments: Commitments) -> str:
    """Return the text whose hash is the leaf; personal values are taken out of the document.

    An erased value must be gone, or somebody has written one again, about which its digest says nothing.
    """
    return leaf_texts([(document, commitments)])[0]


def leaf_texts(events: Iterable[tuple[Document, Commitments]]) -> list[str]:
    """Return what ``leaf_text`` does of many events: their values are hashed together, which takes half the time."""
    shown: list[str] = []
    ready = [(document, _committed(document, commitments, shown)) for document, commitments in events]
    digests = iter(_digests(shown))
    return [
        _leaf_text(document, ",".join([f'{path}:"{digest or next(digests)}"' for path, digest in places]))
        for document, places in ready
    ]


def _committed(document: Document, commitments: Commitments, shown: list[str]) -> list[tuple[str, str]]:
    """Return the quoted path of each personal value, with the digest of an erased one; the others are to be shown."""
    places = []
    for path, quoted, column in _ordered(tuple(commitments)):
        mark = commitments[path]
        if column:
            value, document[column] = document.get(column), None
        else:
            value = _take(document, path)
        if len(mark) == _DIGEST_LENGTH:
            digest = mark if value == EMPTIED.get(path, ERASED) else "written again"
            places.append((quoted, encode_basestring(digest)[1:-1]))
        else:
            shown.append(f"[{encode_basestring(mark)},{quoted},{canonical(value)}]")
            places.append((quoted, ""))
    return places


@lru_cache(4096)
def _ordered(paths: tuple[str, ...]) -> list[tuple[str, str, str]]:
    """Return paths in their order, as JSON too, and the column of each that is the path of a whole one."""
    return [
        (path, encode_basestring(path), path.removesuffix(".text") if path in EMPTIED else "") for path in sorted(paths)
    ]


def _digests(shown: list[str]) -> list[str]:
    """Return ``digest_of(disclosure(…))`` of values: one call for all of them wherever there is one."""
    # No JSON text has a line break, and the Base64 of each one ends with it.
    texts = "\n".join(shown).encode().split(b"\n")
    disclosures = b"".join(map(b2a_base64, texts)).translate(_URL_SAFE, b"=").split()
    digests = [_sha256(text).digest() for text in disclosures]
    return b"".join(map(b2a_base64, digests)).translate(_URL_SAFE, b"=").decode("ascii").split()


def _leaf_text(document: Document, digests: str) -> str:
    tenant = document.get("tenant", "")
    if document.get(IS_FOREIGN):
        sealed = {name: document[name] for name in _READ if name != "tenant" or document[name]}
        sealed["v"] = TENANT_FORMAT if tenant else FORMAT
        return canonical({**sealed, "sd": decode(f"{{{digests}}}")})
    # An event that was written down before there were tenants has no such column.
    told = f'"tenant":{encode_basestring(tenant)},' if tenant else ""
    # In the order of their names, as RFC 8785 has it; one call for all columns takes three times as long.
    return (
        f'{{"actor_id":{_column(document["actor_id"])},"actor_repr":{_column(document["actor_repr"])},'
        f'"changes":{_column(document["changes"])},"context":{_column(document["context"])},'
        f'"correlation_id":{encode_basestring(document["correlation_id"])},"data":{_column(document["data"])},'
        f'"event_type":{encode_basestring(document["event_type"])},"id":{document["id"]:d},'
        f'"level":{encode_basestring(document["level"])},"model":{encode_basestring(document["model"])},'
        f'"object_id":{encode_basestring(document["object_id"])},"object_repr":{_column(document["object_repr"])},'
        f'"recorded_at":{encode_basestring(document["recorded_at"])},"rules":{_list(tuple(document["rules"]))},'
        f'"sd":{{{digests}}},"source":{encode_basestring(document["source"])},'
        f'{told}"uid":{encode_basestring(document["uid"])},"v":{TENANT_FORMAT if tenant else FORMAT}}}'
    )


@lru_cache(1024)
def _list(rules: tuple[str, ...]) -> str:
    return canonical(list(rules))


def _column(value: object) -> str:
    """Return the text of a column that holds personal values: nothing, as they are taken out, or nothing was there."""
    return "null" if value is None else canonical(value)
