"""Return whether a recorded value and a stored one are the same, though the column may have another type by now."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, TypeAlias
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.dateparse import parse_date, parse_datetime, parse_duration, parse_time

from django_signal_audit.events.values import JSONValue, canonical_json, encode, plain_field

Field: TypeAlias = "models.Field[Any, Any]"

# A masked number had at most so many decimal places before its column was altered.
_MOST_PLACES = 20


def is_same(field: Field, recorded: JSONValue, actual: Any) -> bool:
    """Return whether a recorded value that is neither masked nor a digest is the value of a column.

    A migration that alters the type of a column leaves the recorded values as they were: ``"1.50"`` is the 1.5000 of
    a column with more decimal places, and 3 the 3.00 of a column that held integers.

    Args:
        field: The field as it is now.
        recorded: The value as events have it.
        actual: What the column holds, in Python.

    """
    encoded = encode(field, actual)
    if canonical_json(recorded) == canonical_json(encoded):
        return True
    plain = plain_field(field)
    if recorded is None or encoded is None or isinstance(plain, models.JSONField):
        return False
    convert = next((convert for kind, convert in _CONVERTERS if isinstance(plain, kind)), None)
    if convert is None:
        return False
    try:
        return bool(convert(recorded) == convert(encoded))
    except (ValueError, TypeError, ArithmeticError, ValidationError):
        return False


def spellings(field: Field, actual: Any) -> Iterator[JSONValue]:
    """Yield the JSON that a value of the column may have been recorded as before its column was altered.

    Tags and digests can be compared only with tags and digests of the same text.
    """
    encoded = encode(field, actual)
    yield encoded
    number = _as_number(encoded)
    if number is None or isinstance(plain_field(field), models.JSONField):
        return
    if number == number.to_integral_value():
        yield int(number)
        yield str(int(number))
        yield repr(float(number))
    for places in range(_MOST_PLACES + 1):
        spelled = round(number, places)
        if spelled == number:
            yield format(spelled, "f")


def _as_number(value: JSONValue) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    try:
        number = Decimal(value)
        return number if number.is_finite() and abs(number.adjusted()) <= _MOST_PLACES else None
    except ArithmeticError:
        return None


def _number(value: JSONValue) -> Decimal:
    # A bool is an int here: columns of booleans become columns of numbers, and the other way round.
    return Decimal(value) if isinstance(value, (int, str)) else Decimal(repr(value))


def _moment(value: JSONValue) -> dt.datetime:
    """Return the moment; a date is its midnight, and naive times are in UTC, as databases convert them."""
    text = str(value)
    found = parse_datetime(text) or dt.datetime.combine(parse_date(text) or _refuse(text), dt.time())
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def _refuse(text: str) -> Any:
    msg = f"{text!r} isn't a date"
    raise ValueError(msg)


def _text(value: JSONValue) -> str:
    if isinstance(value, (dict, list)):
        raise TypeError
    return str(value)


def _time(value: JSONValue) -> dt.time:
    return parse_time(str(value)) or _refuse(str(value))


def _duration(value: JSONValue) -> dt.timedelta:
    found = parse_duration(str(value))
    return _refuse(str(value)) if found is None else found


_CONVERTERS: tuple[tuple[Any, Callable[[JSONValue], Any]], ...] = (
    ((models.DecimalField, models.IntegerField, models.BooleanField), _number),
    (models.FloatField, lambda value: float(_number(value))),
    (models.DateField, _moment),  # DateTimeField is a DateField
    (models.TimeField, _time),
    (models.DurationField, _duration),
    (models.UUIDField, lambda value: UUID(str(value))),
    (models.GenericIPAddressField, lambda value: models.GenericIPAddressField().to_python(value)),
    ((models.CharField, models.TextField, models.FileField), _text),
)
