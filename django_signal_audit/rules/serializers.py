"""Serializers: per watched field, the function that makes of a value what the audit log keeps of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
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

LONGEST_FLOAT = len(repr(-2.2250738585072014e-308))


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
    plain = plain_field(field)
    for kind, make in _SHORTCUTS.items():
        if isinstance(plain, kind):
            return make(field, plain, limit)
    return _careful(field, limit)


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


# Each of these serializers knows the usual values of a kind of field, and leaves all others to the careful one.


def _whole(field: Field, _plain: object, limit: int) -> Serializer:
    careful = _careful(field, limit)
    return lambda value, pk: value if value.__class__ is int or value.__class__ is bool else careful(value, pk)


def _text(field: Field, _plain: object, limit: int) -> Serializer:
    careful = _careful(field, limit)
    # A character takes four bytes of UTF-8 at most.
    sure = limit // 4
    # A text that may be JSON, or name a secret in another way, is looked through.
    return lambda value, pk: (
        value
        if value.__class__ is str
        and len(value) <= sure
        and value[:1] not in OPENINGS
        and ":" not in value
        and "=" not in value
        else careful(value, pk)
    )


def _decimal(field: Field, _plain: object, limit: int) -> Serializer:
    careful = _careful(field, limit)
    return lambda value, pk: (
        format(value, "f") if value.__class__ is Decimal and value.is_finite() else careful(value, pk)
    )


def _float(field: Field, _plain: object, limit: int) -> Serializer:
    careful = _careful(field, limit)
    if limit < LONGEST_FLOAT:
        return careful
    return lambda value, pk: repr(value) if value.__class__ is float else careful(value, pk)


def _date(field: Field, _plain: object, limit: int) -> Serializer:
    careful = _careful(field, limit)
    return lambda value, pk: value.isoformat() if value.__class__ is dt.date else careful(value, pk)


def _datetime(field: Field, _plain: object, limit: int) -> Serializer:
    careful = _careful(field, limit)
    return lambda value, pk: (
        value.isoformat() if value.__class__ is dt.datetime and value.tzinfo is dt.UTC else careful(value, pk)
    )


def _document(field: Field, plain: Any, limit: int) -> Serializer:
    careful = _careful(field, limit)
    # Django's encoder has a say in what is no JSON only.
    if plain.encoder not in (None, DjangoJSONEncoder):
        return careful

    def keep(value: Any, pk: object) -> JSONValue:
        # A character of a repr takes twelve bytes of JSON at most. The document is written before anybody changes it.
        return value if is_plain_document(value) and len(repr(value)) * 12 <= limit else careful(value, pk)

    return keep


# By kind of field; the first that fits counts.
_SHORTCUTS: dict[type[models.Field[Any, Any]], Callable[[Field, Any, int], Serializer]] = {
    models.IntegerField: _whole,
    models.BooleanField: _whole,
    models.CharField: _text,
    models.TextField: _text,
    models.DecimalField: _decimal,
    models.FloatField: _float,
    models.DateTimeField: _datetime,
    models.DateField: _date,
    models.JSONField: _document,
}
