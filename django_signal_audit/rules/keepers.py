"""Keepers: per watched field, the function that makes of a value what the trail keeps of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeAlias

from django.db import models

from django_signal_audit.conf import get_settings
from django_signal_audit.values import JSONValue, Masked, encode, encode_tag, mask, plain_field, shorten

from .targets import Field

Keeper: TypeAlias = Callable[[Any], JSONValue]
Usual: TypeAlias = Callable[[Any], "int | str | None"]


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
    for kind, usual in _USUAL.items():
        if isinstance(plain, kind):
            return _shortcut(field, usual(limit), limit)
    return lambda value: None if value is None else _keep(field, value, limit)


def _keep(field: Field, value: Any, limit: int) -> JSONValue:
    return shorten(encode(field, value), limit)


def _shortcut(field: Field, usual: Usual, limit: int) -> Keeper:
    """Return a keeper that knows the field's usual values, and asks for all others."""

    def keep(value: Any) -> JSONValue:
        kept = usual(value)
        return _keep(field, value, limit) if kept is None and value is not None else kept

    return keep


def _whole(_limit: int) -> Usual:
    return lambda value: value if value.__class__ in (int, bool) else None


def _text(limit: int) -> Usual:
    # A character takes four bytes of UTF-8 at most.
    sure = limit // 4
    return lambda value: value if value.__class__ is str and len(value) <= sure else None


def _decimal(_limit: int) -> Usual:
    return lambda value: format(value, "f") if value.__class__ is Decimal and value.is_finite() else None


def _date(_limit: int) -> Usual:
    return lambda value: value.isoformat() if value.__class__ is dt.date else None


def _datetime(_limit: int) -> Usual:
    return lambda value: value.isoformat() if value.__class__ is dt.datetime and value.tzinfo is dt.UTC else None


# What a usual value becomes, None for any other; the first kind that fits counts.
_USUAL: dict[type[models.Field[Any, Any]], Callable[[int], Usual]] = {
    models.IntegerField: _whole,
    models.BooleanField: _whole,
    models.CharField: _text,
    models.TextField: _text,
    models.DecimalField: _decimal,
    models.DateTimeField: _datetime,
    models.DateField: _date,
}
