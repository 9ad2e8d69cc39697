"""Values as the trail keeps them: typed JSON, exact, and back to Python.

Decimals, floats, UUIDs, dates and durations become exact strings, aware datetimes ISO 8601 in UTC; what is binary
or too long becomes a digest, and what is secret a tag. Both are dicts with one reserved key, so no string that a
user typed can pass for one.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Any, TypeAlias
from uuid import UUID

from django.db import models
from django.db.models.fields.files import FieldFile
from django.utils.crypto import salted_hmac
from django.utils.dateparse import parse_date, parse_datetime, parse_duration, parse_time
from django.utils.duration import duration_iso_string

from .conf import get_settings, on_settings_changed

JSONValue: TypeAlias = "bool | int | float | str | list[JSONValue] | dict[str, JSONValue] | None"

DIGEST_KEY = "$digest"
MASK_KEY = "$masked"
ESCAPE_KEY = "$value"
RESERVED = {DIGEST_KEY, MASK_KEY, ESCAPE_KEY}

# PostgreSQL stores neither in text or jsonb: NUL, and half of a UTF-16 surrogate pair.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def clean_text(text: str) -> str:
    r"""Return the text with NUL and lone surrogates written as ``\u0000`` so that every database can store it."""
    if text.isascii() and "\0" not in text:
        return text
    return _UNSTORABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


@dataclass(frozen=True, slots=True)
class Digest:
    """Stands for a binary or over-long value: its SHA-256 and its length in bytes."""

    digest: str
    length: int

    def __str__(self) -> str:
        return f"{self.digest[:19]}… ({self.length} bytes)"


@dataclass(frozen=True, slots=True)
class Masked:
    """Stands for a masked value: equal secrets of one field have equal tags."""

    tag: str

    def __str__(self) -> str:
        return "********"


def _digest(data: bytes) -> dict[str, JSONValue]:
    return {DIGEST_KEY: f"sha256:{hashlib.sha256(data).hexdigest()}", "length": len(data)}


def as_utc(moment: dt.datetime) -> dt.datetime:
    """Return the moment with UTC as its zone; the trail's times are in UTC where the project keeps naive ones."""
    return moment.astimezone(dt.UTC) if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def _datetime_text(value: dt.datetime) -> str:
    return value.astimezone(dt.UTC).isoformat() if value.tzinfo else value.isoformat()


_CONVERTERS: tuple[tuple[type | tuple[type, ...], Any], ...] = (
    # What stands in a database for it, and not its text, which may be a translation.
    (Enum, lambda value: to_json(value.value)),
    (Decimal, lambda value: format(value, "f") if value.is_finite() else str(value)),
    (float, repr),
    (UUID, str),
    (dt.datetime, _datetime_text),
    ((dt.date, dt.time), lambda value: value.isoformat()),
    (dt.timedelta, duration_iso_string),
    (FieldFile, lambda value: value.name or ""),
    ((bytes, bytearray, memoryview), lambda value: _digest(bytes(value))),
    ((list, tuple, set, frozenset), lambda value: [to_json(item) for item in value]),
    (dict, lambda value: {str(key): to_json(item) for key, item in value.items()}),
)


def to_json(value: Any) -> JSONValue:
    """Return one column value as typed JSON.

    Args:
        value: What the database adapter returns for a column, or a container of such values.

    Returns:
        None, bool, int, str, or a list or dict of them; a digest for bytes; ``str(value)`` for unknown types.

    """
    if value is None or value.__class__ in (bool, int, str):
        return value
    if isinstance(value, (bool, int)):
        return int(value)
    if isinstance(value, str):
        return str.__str__(value)
    for kind, convert in _CONVERTERS:
        if isinstance(value, kind):
            return convert(value)  # type: ignore[no-any-return]
    return safe_str(value)


# A flat document of these is JSON as it is.
_SCALARS = frozenset({str, int, bool, type(None)})


def safe_str(value: object) -> str:
    """Return ``str(value)``, or a text that names the type and the error when that raises."""
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001  # any user code may run in __str__, and a log must not break a write
        return f"<{type(value).__name__}: __str__ raised {type(error).__name__}>"


def _json_document(field: models.JSONField, value: Any) -> JSONValue:
    document: JSONValue
    if value.__class__ is dict and all(
        key.__class__ is str and item.__class__ in _SCALARS for key, item in value.items()
    ):
        document = dict(value)
    else:
        try:
            document = json.loads(json.dumps(value, cls=field.encoder or json.JSONEncoder))
        except TypeError:
            document = to_json(value)  # a decoder made it of a document, and nothing makes one of it again
    if isinstance(document, dict) and not RESERVED.isdisjoint(document):
        return {ESCAPE_KEY: document}
    return document


def plain_field(field: models.Field[Any, Any]) -> models.Field[Any, Any]:
    """Return the field whose type the values have: a foreign key's target, a generated field's output."""
    while True:
        if isinstance(field, models.ForeignKey):
            field = field.target_field
        elif isinstance(field, models.GeneratedField) and field.output_field is not None:
            field = field.output_field
        else:
            return field


def is_djangos(function: Any) -> bool:
    """Return whether Django defines a function or method, rather than the project or a package."""
    return str(getattr(function, "__module__", "")).startswith("django.")


_CONVERSIONS = ("from_db_value", "to_python", "get_prep_value", "get_db_prep_value")


def converts_by_itself(field: models.Field[Any, Any]) -> bool:
    """Return whether the field has a say of its own in what its column holds of a value."""
    return not all(is_djangos(getattr(field, name)) for name in _CONVERSIONS if hasattr(field, name))


def encode(field: models.Field[Any, Any], value: Any) -> JSONValue:
    """Return a value of the field as typed JSON, however long."""
    if value is None:
        return None
    plain = plain_field(field)
    if isinstance(plain, models.JSONField):
        return _json_document(plain, value)
    if isinstance(plain, models.FloatField) and value.__class__ is int:
        # SQLite keeps 1.0 as 1, which is what RETURNING says of it.
        return to_json(float(value))
    base = getattr(plain, "base_field", None)
    if isinstance(base, models.Field) and isinstance(value, (list, tuple)):
        return [encode(base, item) for item in value]
    return to_json(value)


def shorten(value: JSONValue, max_bytes: int) -> JSONValue:
    """Return the value, or its digest if it is longer than ``max_bytes`` bytes of UTF-8."""
    if isinstance(value, str):
        if len(value) * 4 <= max_bytes:
            return value
        data = value.encode("utf-8", "surrogatepass")
    elif isinstance(value, (list, dict)):
        if isinstance(value, dict) and DIGEST_KEY in value:
            return value
        data = canonical_json(value)
    else:
        return value
    return value if len(data) <= max_bytes else _digest(data)


def canonical_json(value: JSONValue) -> bytes:
    """Return the JSON text of a value with sorted keys and no white space, as ASCII bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


@cache
def _mask_key() -> bytes:
    key = get_settings().mask_key
    if not key:
        return salted_hmac("django_signal_audit.mask", "", algorithm="sha256").digest()
    return key.encode() if isinstance(key, str) else key


on_settings_changed(_mask_key.cache_clear)


def mask(scope: str, value: JSONValue) -> JSONValue:
    """Return the keyed tag of a secret.

    Args:
        scope: What the tag is comparable within, ``"shop.customer.password"``.
        value: The secret as typed JSON. None stays None: that there is no secret is not one.

    """
    if value is None:
        return None
    message = scope.encode() + b"\0" + canonical_json(value)
    return {MASK_KEY: "hmac-sha256:" + hmac.new(_mask_key(), message, hashlib.sha256).hexdigest()[:32]}


def _parse_time_like(parse: Any) -> Any:
    return lambda value: parse(value) if isinstance(value, str) else value


_DECODERS: tuple[tuple[type[models.Field[Any, Any]], Any], ...] = (
    (models.DecimalField, Decimal),
    (models.FloatField, float),
    (models.UUIDField, UUID),
    (models.DateTimeField, _parse_time_like(parse_datetime)),
    (models.DateField, _parse_time_like(parse_date)),
    (models.TimeField, _parse_time_like(parse_time)),
    (models.DurationField, _parse_time_like(parse_duration)),
)


def decode_tag(value: JSONValue) -> JSONValue | Digest | Masked:
    """Return the Digest or Masked that a reserved dict stands for, or the value itself."""
    if not isinstance(value, dict):
        return value
    if MASK_KEY in value:
        return Masked(str(value[MASK_KEY]))
    if DIGEST_KEY in value:
        return Digest(str(value[DIGEST_KEY]), int(str(value.get("length", 0))))
    return value.get(ESCAPE_KEY, value)


def encode_tag(value: Digest | Masked) -> JSONValue:
    """Return the reserved dict that stands for a Digest or Masked, which ``decode_tag`` made it of."""
    if isinstance(value, Masked):
        return {MASK_KEY: value.tag}
    return {DIGEST_KEY: value.digest, "length": value.length}


def decode(field: models.Field[Any, Any] | None, value: JSONValue) -> Any:
    """Return the Python value of the field's type that ``encode`` made the JSON from.

    A field that is gone (None) or that changed its type since leaves the JSON value as it is.
    """
    decoded = decode_tag(value)
    if field is None or not isinstance(decoded, (str, int, float)) or isinstance(decoded, bool):
        return decoded
    plain = plain_field(field)
    for kind, convert in _DECODERS:
        if isinstance(plain, kind):
            try:
                return convert(decoded)
            except (ValueError, ArithmeticError, AttributeError, TypeError):
                return decoded
    return decoded


def payload(value: Any) -> JSONValue:
    """Return any object as JSON for ``data`` and ``context``: what has no JSON form becomes its text."""
    if isinstance(value, models.Model):
        return {"model": value._meta.label_lower, "pk": payload(value.pk), "repr": clean_text(safe_str(value))}
    if isinstance(value, dict):
        return {clean_text(safe_str(key)): payload(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [payload(item) for item in value]
    plain = to_json(value)
    if isinstance(plain, str):
        return clean_text(plain)
    return plain
