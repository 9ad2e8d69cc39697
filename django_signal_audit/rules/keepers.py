"""Keepers: per watched field, the function that makes of a value what the trail keeps of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeAlias

from django.db import models

from django_signal_audit.conf import get_settings
from django_signal_audit.values import (
    RESERVED,
    Digest,
    JSONValue,
    Masked,
    encode,
    encode_tag,
    mask,
    plain_field,
    shorten,
)

from .targets import Field

Keeper: TypeAlias = Callable[[Any], JSONValue]

_LONGEST_FLOAT = len(repr(-2.2250738585072014e-308))


def make_keeper(field: Field, scope: str, *, is_secret: bool) -> Keeper:
    """Return the keeper of a field.

    Args:
        field: The field.
        scope: What a secret's tag is comparable within, ``"shop.customer.password"``.
        is_secret: Whether its values are masked.

    """
    if is_secret:
        return lambda value: (
            None
            if value is None
            else encode_tag(value)
            if value.__class__ is Masked
            else mask(scope, encode(field, value))
        )
    limit = get_settings().max_value_bytes
    plain = plain_field(field)
    for kind, make in _SHORTCUTS.items():
        if isinstance(plain, kind):
            return make(field, plain, limit)
    return _careful(field, limit)


def _careful(field: Field, limit: int) -> Keeper:
    """Return a keeper that is right for any value."""
    return lambda value: (
        None
        if value is None
        else encode_tag(value)
        if value.__class__ is Digest
        else shorten(encode(field, value), limit)
    )


# Each of these keepers knows the usual values of a kind of field, and leaves all others to the careful one.


def _whole(field: Field, _plain: Any, limit: int) -> Keeper:
    careful = _careful(field, limit)
    return lambda value: value if value.__class__ is int or value.__class__ is bool else careful(value)


def _text(field: Field, _plain: Any, limit: int) -> Keeper:
    careful = _careful(field, limit)
    # A character takes four bytes of UTF-8 at most.
    sure = limit // 4
    return lambda value: value if value.__class__ is str and len(value) <= sure else careful(value)


def _decimal(field: Field, _plain: Any, limit: int) -> Keeper:
    careful = _careful(field, limit)
    return lambda value: format(value, "f") if value.__class__ is Decimal and value.is_finite() else careful(value)


def _float(field: Field, _plain: Any, limit: int) -> Keeper:
    careful = _careful(field, limit)
    if limit < _LONGEST_FLOAT:
        return careful
    return lambda value: repr(value) if value.__class__ is float else careful(value)


def _date(field: Field, _plain: Any, limit: int) -> Keeper:
    careful = _careful(field, limit)
    return lambda value: value.isoformat() if value.__class__ is dt.date else careful(value)


def _datetime(field: Field, _plain: Any, limit: int) -> Keeper:
    careful = _careful(field, limit)
    return lambda value: (
        value.isoformat() if value.__class__ is dt.datetime and value.tzinfo is dt.UTC else careful(value)
    )


def _document(field: Field, plain: Any, limit: int) -> Keeper:
    careful = _careful(field, limit)
    if plain.encoder is not None:
        return careful

    def keep(value: Any) -> JSONValue:
        # A character of a repr takes twelve bytes of JSON at most. The document is written before anybody changes it.
        is_short = value.__class__ is dict and RESERVED.isdisjoint(value) and len(repr(value)) * 12 <= limit
        return value if is_short else careful(value)

    return keep


# By kind of field; the first that fits counts.
_SHORTCUTS: dict[type[models.Field[Any, Any]], Callable[[Field, Any, int], Keeper]] = {
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
