"""Values as the audit log keeps them: typed JSON, exact, and back to Python.

Decimals, floats, UUIDs, dates and durations become exact strings, aware datetimes ISO 8601 in UTC; what is binary
or too long becomes a digest, and what is secret a tag. Both are dicts with one reserved key, so no string that a
user typed can pass for one.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from decimal import Context, Decimal, DivisionByZero, InvalidOperation
from enum import Enum
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.fields.files import FieldFile
from django.utils.dateparse import parse_date, parse_datetime, parse_duration, parse_time
from django.utils.duration import duration_iso_string

from .documents import CONTAINERS as CONTAINERS
from .documents import DIGEST_KEY as DIGEST_KEY
from .documents import ESCAPE_KEY as ESCAPE_KEY
from .documents import MASK_KEY as MASK_KEY
from .documents import RESERVED as RESERVED
from .documents import Digest as Digest
from .documents import JSONValue as JSONValue
from .documents import Masked as Masked
from .documents import bounded as bounded
from .documents import canonical_json as canonical_json
from .documents import clean_text as clean_text
from .documents import decode_tag as decode_tag
from .documents import digest as digest
from .documents import encode_tag as encode_tag
from .documents import mask as mask
from .documents import safe_str as safe_str

# Decimals are handled in a context of our own: a project's may have few digits, and traps that raise. No column of a
# supported database that names its digits has more of them.
EXACT_DECIMALS = Context(prec=2000, traps=[InvalidOperation, DivisionByZero])


def at_scale(value: Decimal, places: int) -> Decimal:
    """Return the decimal with so many places, rounded where it has more, whatever the context of the caller."""
    return value.quantize(Decimal((0, (1,), -places)), context=EXACT_DECIMALS)


def as_utc(moment: dt.datetime) -> dt.datetime:
    """Return the moment with UTC as its zone; the audit log's times are in UTC where the project keeps naive ones."""
    return moment.astimezone(dt.UTC) if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def _datetime_text(value: dt.datetime) -> str:
    try:
        return value.astimezone(dt.UTC).isoformat() if value.tzinfo else value.isoformat()
    except OverflowError:
        return value.isoformat()  # no such time in UTC: the year would be 0 or 10000


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
    ((bytes, bytearray, memoryview), lambda value: digest(bytes(value))),
)


def to_json(value: object) -> JSONValue:
    """Return one column value as typed JSON.

    Args:
        value: What the database adapter returns for a column, or a container of such values.

    Returns:
        None, bool, int, str, or a list or dict of them; a digest for bytes; ``str(value)`` for unknown types.

    """
    # The class that a lazy text says to have is not its own.
    if value is None or type(value) in (bool, int, str):
        return value  # type: ignore[return-value]
    if isinstance(value, (bool, int)):
        return int(value)
    if isinstance(value, str):
        return safe_str(value)
    if isinstance(value, CONTAINERS):
        return bounded(value, to_json)
    for kind, convert in _CONVERTERS:
        if isinstance(value, kind):
            return convert(value)  # type: ignore[no-any-return]
    return safe_str(value)


def _as_it_is(value: object) -> object:
    return value


# A flat document of these is JSON as it is.
SCALARS = frozenset({str, int, bool, type(None)})


def _json_document(field: models.JSONField, value: object) -> JSONValue:
    if value.__class__ is dict and all(
        key.__class__ is str and item.__class__ in SCALARS for key, item in value.items()
    ):
        document: JSONValue = dict(value)
        return document if RESERVED.isdisjoint(value) else {ESCAPE_KEY: document}
    encoder = field.encoder or json.JSONEncoder

    def leaf(item: object) -> JSONValue:
        if isinstance(item, (Digest, Masked)):
            return encode_tag(item)
        try:
            return json.loads(json.dumps(item, cls=encoder))  # type: ignore[no-any-return]
        except TypeError:
            return to_json(item)  # a decoder made it of a document, and nothing makes one of it again

    try:
        return bounded(json.loads(json.dumps(value, cls=encoder)), _as_it_is)
    except (RecursionError, TypeError):
        # It is very deep, or holds what only a decoder, or the audit log, makes.
        return bounded(value, leaf)


def plain_field(field: models.Field[object, object]) -> models.Field[Any, Any]:
    """Return the field whose type the values have: a foreign key's target, a generated field's output."""
    while True:
        if isinstance(field, models.ForeignKey):
            field = field.target_field
        elif isinstance(field, models.GeneratedField) and field.output_field is not None:
            field = field.output_field
        else:
            return field


def is_djangos(function: object) -> bool:
    """Return whether Django defines a function or method, rather than the project or a package."""
    return str(getattr(function, "__module__", "")).startswith("django.")


_CONVERSIONS = ("from_db_value", "to_python", "get_prep_value", "get_db_prep_value")


def converts_by_itself(field: models.Field[object, object]) -> bool:
    """Return whether the field has a say of its own in what its column holds of a value."""
    return not all(is_djangos(getattr(field, name)) for name in _CONVERSIONS if hasattr(field, name))


def encode(field: models.Field[object, object], value: object) -> JSONValue:
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
    return value if len(data) <= max_bytes else digest(data)


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


def decode(field: models.Field[object, object] | None, value: JSONValue) -> Any:
    """Return the Python value of the field's type that ``encode`` made the JSON from.

    A field that is gone (None) or that changed its type since leaves the JSON value as it is.
    """
    decoded = decode_tag(value) if isinstance(value, (dict, list)) else value
    if field is None or not isinstance(decoded, (str, int, float)) or isinstance(decoded, bool):
        return decoded
    plain = plain_field(field)
    for kind, convert in _DECODERS:
        if isinstance(plain, kind):
            try:
                return convert(decoded)
            except (ValueError, ArithmeticError, AttributeError, TypeError):
                return decoded
    return _decode_range(plain, decoded) if isinstance(decoded, str) and hasattr(plain, "range_type") else decoded


_RANGE = re.compile(r"([\[(])([^,]*),([^,]*)([\])])")


def _decode_range(field: Any, text: str) -> Any:
    """Return the range of a field of PostgreSQL, whose text is ``"[1, 6)"`` or ``"empty"``; other texts stay."""
    found = _RANGE.fullmatch(text)
    if found is None:
        return field.range_type(empty=True) if text == "empty" else text
    begin, *ends, end = (part.strip() for part in found.groups())
    try:
        lower, upper = (None if part in ("", "None") else field.base_field.to_python(part) for part in ends)
        return field.range_type(lower, upper, begin + end)
    except (ValidationError, ValueError, TypeError):
        return text
