"""Writers: per watched field, the function that makes the JSON texts of a column's values, of many rows at once.

They write what ``json.dumps`` makes of what the serializer of the field keeps. Each knows the usual values of a kind of
field, and asks the serializer for all others.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, TypeAlias

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from django_signal_audit.conf import get_settings
from django_signal_audit.events.masking import is_plain_document
from django_signal_audit.events.secret_texts import OPENINGS
from django_signal_audit.events.values import plain_field

from .patterns import Field
from .serializers import LONGEST_FLOAT, Serializer

# Takes the values of a column, and the primary keys of their rows, which are part of the scopes of secrets' tags.
Writer: TypeAlias = Callable[[Sequence[Any], Sequence[Any]], list[str]]
Write: TypeAlias = Callable[[Any, Any], str]


def make_writer(field: Field, keep: Serializer, *, is_secret: bool) -> Writer:
    """Return the writer of a field.

    Args:
        field: The field.
        keep: Its serializer.
        is_secret: Whether its values are masked.

    """

    def careful(value: Any, key: Any) -> str:
        return "null" if value is None else json.dumps(keep(value, key))

    plain, limit = plain_field(field), get_settings().max_value_bytes
    makers = () if is_secret else _MAKERS.items()
    make = next((make for kind, make in makers if isinstance(plain, kind)), None)
    if make is None:
        return lambda values, keys: list(map(careful, values, keys))
    return make(plain, careful, limit)


def _whole(_plain: object, careful: Write, _limit: int) -> Writer:
    return lambda values, keys: [
        str(value) if value.__class__ is int else careful(value, key) for value, key in zip(values, keys, strict=True)
    ]


def _flag(_plain: object, careful: Write, _limit: int) -> Writer:
    return lambda values, keys: [
        "true" if value is True else "false" if value is False else careful(value, key)
        for value, key in zip(values, keys, strict=True)
    ]


def _text(_plain: object, careful: Write, limit: int) -> Writer:
    # As the serializer: characters of four bytes, and a text that may be JSON, or name a secret in another way.
    sure = limit // 4
    return lambda values, keys: [
        quoted(value)
        if value.__class__ is str
        and len(value) <= sure
        and value[:1] not in OPENINGS
        and ":" not in value
        and "=" not in value
        else careful(value, key)
        for value, key in zip(values, keys, strict=True)
    ]


def _decimal(_plain: object, careful: Write, _limit: int) -> Writer:
    return lambda values, keys: [
        f'"{text}"'
        if value.__class__ is Decimal and value.is_finite() and "E" not in (text := str(value))
        else careful(value, key)
        for value, key in zip(values, keys, strict=True)
    ]


def _float(_plain: object, careful: Write, limit: int) -> Writer:
    sure = limit >= LONGEST_FLOAT
    return lambda values, keys: [
        f'"{value!r}"' if sure and value.__class__ is float else careful(value, key)
        for value, key in zip(values, keys, strict=True)
    ]


def _date(_plain: object, careful: Write, _limit: int) -> Writer:
    return lambda values, keys: [
        f'"{value.isoformat()}"' if value.__class__ is dt.date else careful(value, key)
        for value, key in zip(values, keys, strict=True)
    ]


def _datetime(_plain: object, careful: Write, _limit: int) -> Writer:
    return lambda values, keys: [
        f'"{value.isoformat()}"' if value.__class__ is dt.datetime and value.tzinfo is dt.UTC else careful(value, key)
        for value, key in zip(values, keys, strict=True)
    ]


def _document(plain: Any, careful: Write, limit: int) -> Writer:
    # Django's encoder has a say in what is no JSON only.
    is_usual = plain.encoder in (None, DjangoJSONEncoder)

    def write(value: Any, key: Any) -> str:
        if is_usual and is_plain_document(value):
            # Without white space, which is what the limit is about, it is no longer.
            text = json.dumps(value)
            if len(text) <= limit:
                return text
        return careful(value, key)

    return lambda values, keys: list(map(write, values, keys))


# By kind of field; the first that fits counts.
_MAKERS: dict[type[models.Field[Any, Any]], Callable[[Any, Write, int], Writer]] = {
    models.IntegerField: _whole,
    models.BooleanField: _flag,
    models.CharField: _text,
    models.TextField: _text,
    models.DecimalField: _decimal,
    models.FloatField: _float,
    models.DateTimeField: _datetime,
    models.DateField: _date,
    models.JSONField: _document,
}
