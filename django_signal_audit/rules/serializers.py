"""What the audit log keeps of the values of a field: a serializer takes one value, a column writer those of many rows.

The serializer returns a JSON value, and the column writer the texts that ``json.dumps`` makes of what the serializer
returns. Both know the usual values of a kind of field (``_KINDS``), and leave all others to a serializer that is right
for any value. Change the two functions of a kind together: tests/test_many_rows.py compares them.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, TypeAlias

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from django_signal_audit.conf import get_settings
from django_signal_audit.events.keys import object_id
from django_signal_audit.events.masking import has_secrets, is_plain_document, mask_document
from django_signal_audit.events.secret_texts import OPENINGS
from django_signal_audit.events.values import (
    Digest,
    JSONValue,
    Masked,
    encode,
    encode_tag,
    mask,
    plain_field,
    shorten,
)

from .patterns import Field

# Takes a value and the primary key of its row, which is part of the scope of a secret's tag.
Serializer: TypeAlias = Callable[[Any, Any], JSONValue]
# Takes the values of a column and the primary keys of their rows.
ColumnWriter: TypeAlias = Callable[[Sequence[Any], Sequence[Any]], list[str]]
_Write: TypeAlias = Callable[[Any, Any], str]

_LONGEST_FLOAT = len(repr(-2.2250738585072014e-308))


def scope_of(field: Field, pk: object) -> tuple[str, str, str]:
    """Return what the tag of a secret is comparable within: the declaring model, the row, the field."""
    return field.model._meta.label_lower, object_id(pk), field.name


def make_serializer(field: Field, *, is_secret: bool) -> Serializer:
    """Return the serializer of a field.

    Args:
        field: The field.
        is_secret: Whether its values are masked.

    """
    if is_secret:
        return lambda value, pk: (
            None
            if value is None
            else encode_tag(value)
            if value.__class__ is Masked
            else mask(scope_of(field, pk), encode(field, value))
        )
    limit = get_settings().max_value_bytes
    careful, kind = _careful(field, limit), _kind_of(field)
    return kind.serializer(plain_field(field), careful, limit) if kind else careful


def make_column_writer(field: Field, serializer: Serializer, *, is_secret: bool) -> ColumnWriter:
    """Return the column writer of a field.

    Args:
        field: The field.
        serializer: What ``make_serializer`` has returned for it.
        is_secret: Whether its values are masked.

    """

    def careful(value: object, pk: object) -> str:
        return "null" if value is None else json.dumps(serializer(value, pk))

    kind = None if is_secret else _kind_of(field)
    if kind is None:
        return lambda values, pks: list(map(careful, values, pks))
    return kind.column_writer(plain_field(field), careful, get_settings().max_value_bytes)


def _careful(field: Field, limit: int) -> Serializer:
    """Return a serializer that is right for any value."""
    is_document = isinstance(plain_field(field), models.JSONField)

    def keep(value: object, pk: object) -> JSONValue:
        if value.__class__ is Digest:
            return encode_tag(value)
        encoded = None if value is None else encode(field, value)
        if isinstance(encoded, (dict, list)) or (is_document and isinstance(encoded, str)):
            encoded = mask_document(encoded, scope_of(field, pk))
        elif isinstance(encoded, str) and has_secrets(encoded, is_column=True):
            encoded = mask(scope_of(field, pk), encoded)
        return shorten(encoded, limit)

    return keep


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of field: what makes its serializer and its column writer, of the field, the careful one and the limit.

    The conditions stand in each of them and not in a function: a call for each value would cost more than they do.
    """

    serializer: Callable[[Any, Serializer, int], Serializer]
    column_writer: Callable[[Any, _Write, int], ColumnWriter]


def _whole(_plain: object, careful: Serializer, _limit: int) -> Serializer:
    return lambda value, pk: value if value.__class__ is int or value.__class__ is bool else careful(value, pk)


def _integer_column(_plain: object, careful: _Write, _limit: int) -> ColumnWriter:
    return lambda values, pks: [
        str(value) if value.__class__ is int else careful(value, pk) for value, pk in zip(values, pks, strict=True)
    ]


def _boolean_column(_plain: object, careful: _Write, _limit: int) -> ColumnWriter:
    return lambda values, pks: [
        "true" if value is True else "false" if value is False else careful(value, pk)
        for value, pk in zip(values, pks, strict=True)
    ]


def _text(_plain: object, careful: Serializer, limit: int) -> Serializer:
    # A character takes four bytes of UTF-8 at most.
    sure = limit // 4
    # A text that may be JSON, or name a secret in another way, is searched.
    return lambda value, pk: (
        value
        if value.__class__ is str
        and len(value) <= sure
        and value[:1] not in OPENINGS
        and ":" not in value
        and "=" not in value
        else careful(value, pk)
    )


def _text_column(_plain: object, careful: _Write, limit: int) -> ColumnWriter:
    sure = limit // 4
    return lambda values, pks: [
        quoted(value)
        if value.__class__ is str
        and len(value) <= sure
        and value[:1] not in OPENINGS
        and ":" not in value
        and "=" not in value
        else careful(value, pk)
        for value, pk in zip(values, pks, strict=True)
    ]


def _decimal(_plain: object, careful: Serializer, _limit: int) -> Serializer:
    return lambda value, pk: (
        format(value, "f") if value.__class__ is Decimal and value.is_finite() else careful(value, pk)
    )


def _decimal_column(_plain: object, careful: _Write, _limit: int) -> ColumnWriter:
    return lambda values, pks: [
        f'"{text}"'
        if value.__class__ is Decimal and value.is_finite() and "E" not in (text := str(value))
        else careful(value, pk)
        for value, pk in zip(values, pks, strict=True)
    ]


def _float(_plain: object, careful: Serializer, limit: int) -> Serializer:
    if limit < _LONGEST_FLOAT:
        return careful
    return lambda value, pk: repr(value) if value.__class__ is float else careful(value, pk)


def _float_column(_plain: object, careful: _Write, limit: int) -> ColumnWriter:
    sure = limit >= _LONGEST_FLOAT
    return lambda values, pks: [
        f'"{value!r}"' if sure and value.__class__ is float else careful(value, pk)
        for value, pk in zip(values, pks, strict=True)
    ]


def _date(_plain: object, careful: Serializer, _limit: int) -> Serializer:
    return lambda value, pk: value.isoformat() if value.__class__ is dt.date else careful(value, pk)


def _date_column(_plain: object, careful: _Write, _limit: int) -> ColumnWriter:
    return lambda values, pks: [
        f'"{value.isoformat()}"' if value.__class__ is dt.date else careful(value, pk)
        for value, pk in zip(values, pks, strict=True)
    ]


def _datetime(_plain: object, careful: Serializer, _limit: int) -> Serializer:
    return lambda value, pk: (
        value.isoformat() if value.__class__ is dt.datetime and value.tzinfo is dt.UTC else careful(value, pk)
    )


def _datetime_column(_plain: object, careful: _Write, _limit: int) -> ColumnWriter:
    return lambda values, pks: [
        f'"{value.isoformat()}"' if value.__class__ is dt.datetime and value.tzinfo is dt.UTC else careful(value, pk)
        for value, pk in zip(values, pks, strict=True)
    ]


# A custom encoder also decides about values that aren't JSON.
_PLAIN_ENCODERS = (None, DjangoJSONEncoder)


def _document(plain: Any, careful: Serializer, limit: int) -> Serializer:
    if plain.encoder not in _PLAIN_ENCODERS:
        return careful

    def keep(value: Any, pk: object) -> JSONValue:
        # A character of a repr takes twelve bytes of JSON at most. The document is written before anybody changes it.
        return value if is_plain_document(value) and len(repr(value)) * 12 <= limit else careful(value, pk)

    return keep


def _document_column(plain: Any, careful: _Write, limit: int) -> ColumnWriter:
    is_usual = plain.encoder in _PLAIN_ENCODERS

    def write(value: Any, pk: Any) -> str:
        if is_usual and is_plain_document(value):
            # Without white space, which is what the limit is about, it is no longer.
            text = json.dumps(value)
            if len(text) <= limit:
                return text
        return careful(value, pk)

    return lambda values, pks: list(map(write, values, pks))


# By class of field; the first that fits counts.
_KINDS: dict[type[models.Field[Any, Any]], _Kind] = {
    models.IntegerField: _Kind(_whole, _integer_column),
    models.BooleanField: _Kind(_whole, _boolean_column),
    models.CharField: _Kind(_text, _text_column),
    models.TextField: _Kind(_text, _text_column),
    models.DecimalField: _Kind(_decimal, _decimal_column),
    models.FloatField: _Kind(_float, _float_column),
    models.DateTimeField: _Kind(_datetime, _datetime_column),
    models.DateField: _Kind(_date, _date_column),
    models.JSONField: _Kind(_document, _document_column),
}


def _kind_of(field: Field) -> _Kind | None:
    plain = plain_field(field)
    return next((kind for base, kind in _KINDS.items() if isinstance(plain, base)), None)
