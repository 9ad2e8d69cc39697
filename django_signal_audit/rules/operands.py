"""Operands of conditions: what the settings say, read as a value of the field it is compared with."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias

from django.conf import settings
from django.db import models
from django.utils import timezone

from django_signal_audit.events.values import converts_by_itself, is_djangos, plain_field

Field: TypeAlias = "models.Field[Any, Any]"

# Values of which none is the greater one; the settings may not ask whether it rose.
_UNORDERED = (models.JSONField, models.BinaryField)
# Values that cannot be subtracted from one another.
_STEPLESS = (
    *_UNORDERED,
    models.BooleanField,
    models.CharField,
    models.FileField,
    models.GenericIPAddressField,
    models.TextField,
    models.TimeField,
    models.UUIDField,
)
_SPANS = (models.DateField, models.DurationField)


def read_value(field: Field, operand: Any) -> Any:
    """Return the operand as a value of the field, None for None."""
    if operand is None:
        return None
    plain = plain_field(field)
    if converts_by_itself(plain):
        return _column_value(plain, operand)
    if isinstance(operand, Mapping) and not isinstance(plain, models.JSONField):
        msg = "the field doesn't take a dict"
        raise ValueError(msg)
    if isinstance(plain, models.DateTimeField):
        return _moment(plain, operand)
    value = plain.to_python(operand)
    if isinstance(plain, models.IntegerField) and _number(operand) != value:
        msg = "a whole number is needed"
        raise ValueError(msg)
    return value


def _column_value(plain: Any, operand: Any) -> Any:
    """Return what the column holds for an operand, which may be a value of the field or the column's own."""
    try:
        return plain.get_prep_value(plain.to_python(operand))
    except Exception:
        if not is_djangos(plain.get_prep_value):
            with suppress(Exception):
                return plain.get_prep_value(operand)
        if hasattr(plain, "from_db_value"):
            with suppress(Exception):
                plain.from_db_value(operand, None, None)
                return operand
        raise


def _moment(plain: models.DateTimeField[Any, Any], operand: Any) -> Any:
    """Return a moment that can be compared with stored ones: aware where the project's are, in its time zone."""
    if isinstance(operand, dt.date) and not isinstance(operand, dt.datetime):
        operand = dt.datetime.combine(operand, dt.time())  # its zone comes next
    value = plain.to_python(operand)
    zone = timezone.get_default_timezone()
    if settings.USE_TZ and timezone.is_naive(value):
        return timezone.make_aware(value, zone)
    if not settings.USE_TZ and timezone.is_aware(value):
        return timezone.make_naive(value, zone)
    return value


def read_values(field: Field, operand: Any) -> tuple[Any, ...]:
    """Return the operand, one value or a list of them, as values of the field."""
    several = operand if isinstance(operand, (list, tuple, set, frozenset)) else [operand]
    if not several:
        msg = "a value is needed"
        raise ValueError(msg)
    return tuple(read_value(field, item) for item in several)


def require_order(field: Field, operand: Any) -> None:
    """Raise unless one value of the field can be greater than another; there is no operand."""
    if isinstance(plain_field(field), _UNORDERED):
        msg = "its values can't be ordered"
        raise ValueError(msg)


def read_threshold(field: Field, operand: Any) -> Any:
    """Return the operand as a value of the field that others lie above and below of."""
    require_order(field, operand)
    value = read_value(field, operand)
    if value is None or isinstance(operand, (list, tuple, set, frozenset)) or value != value:
        msg = "one value is needed"
        raise ValueError(msg)
    return value


def read_step(field: Field, operand: Any) -> Decimal | dt.timedelta:
    """Return the operand as a difference of two values of the field."""
    if isinstance(plain_field(field), _SPANS):
        if not isinstance(operand, dt.timedelta) or not operand > dt.timedelta():
            msg = "a positive datetime.timedelta is needed"
            raise ValueError(msg)
        return operand
    return read_amount(field, operand)


def read_amount(field: Field, operand: Any) -> Decimal:
    """Return the operand as the positive number by which a numeric field rises or falls."""
    if isinstance(plain_field(field), (*_STEPLESS, *_SPANS)):
        msg = "its values aren't numbers"
        raise ValueError(msg)
    number = _number(operand)
    if not number > 0:
        msg = "a positive number is needed"
        raise ValueError(msg)
    return number


def _number(operand: Any) -> Decimal:
    try:
        number = None if isinstance(operand, bool) else Decimal(str(operand))
    except InvalidOperation:
        number = None
    if number is None or not number.is_finite():
        msg = "a number is needed"
        raise ValueError(msg)
    return number


def _exact(value: Any) -> Any:
    # 0.3 - 0.1 is not 0.2 in binary.
    return Decimal(repr(value)) if isinstance(value, float) and math.isfinite(value) else value


def rose_by(old: Any, new: Any, by: Any) -> bool:
    """Return whether the value rose at least so far."""
    old, new = _exact(old), _exact(new)
    if isinstance(old, float) or isinstance(new, float):
        return float(new) - float(old) == math.inf  # to or from infinity, or what is no number
    return bool(new - old >= by)


def rose_by_percent(old: Any, new: Any, percent: Decimal) -> bool:
    """Return whether the value rose by so many percent of what it was; from zero, every rise is more than that."""
    old, new = _exact(old), _exact(new)
    if isinstance(old, float) or isinstance(new, float):
        return False  # infinity has no percentages
    return bool((new - old) * 100 >= percent * abs(old))  # not divided, so that nothing is rounded at the boundary


def fell_by_percent(old: Any, new: Any, percent: Decimal) -> bool:
    """Return whether the value fell by so many percent of what it was."""
    old, new = _exact(old), _exact(new)
    if isinstance(old, float) or isinstance(new, float):
        return False
    return bool((old - new) * 100 >= percent * abs(old))
