"""The texts and the JSON of other packages as values of our fields."""

from __future__ import annotations

import ast
import datetime as dt
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, TypeAlias

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.dateparse import parse_datetime

from django_signal_audit.events.values import at_scale, plain_field
from django_signal_audit.importing.base import Entry, ModelFields

Field: TypeAlias = "models.Field[Any, Any]"

_TEXTS = (models.CharField, models.TextField, models.FileField)
ERRORS = (ValidationError, ValueError, TypeError, ArithmeticError, SyntaxError, RecursionError, MemoryError)


class NoValue(ValueError):
    """A text from which the value of a field can't be told."""


def typed(field: Field, value: object) -> Any:
    """Return a value of a JSON document, or a column's, as the field has it.

    Raises:
        NoValue: It is none of the field's.

    """
    plain = plain_field(field)
    if value is None or isinstance(plain, models.JSONField):
        return value
    try:
        base = getattr(plain, "base_field", None)
        if isinstance(base, models.Field) and isinstance(value, (list, tuple)):
            return [typed(base, item) for item in value]
        if isinstance(plain, models.DateTimeField):
            return _datetime(value)
        if isinstance(plain, _TEXTS) and isinstance(value, (bool, list, dict)):
            raise NoValue
        found = plain.to_python(value)
        return _at_scale(plain, found) if isinstance(plain, models.DecimalField) else found
    except ERRORS as error:
        raise NoValue from error


def from_text(field: Field, text: str) -> Any:
    """Return the value whose ``str()`` a text is; "None" is null where the field may be that.

    Raises:
        NoValue: It can't be told.

    """
    plain = plain_field(field)
    if text == "None" and (field.null or not isinstance(plain, _TEXTS)):
        return None
    if isinstance(plain, models.BinaryField):
        raise NoValue
    if isinstance(plain, models.JSONField) or hasattr(plain, "base_field"):
        found = _literal(text)
        return found if isinstance(plain, models.JSONField) else typed(field, found)
    return typed(field, text)


def fill(entry: Entry, values: Mapping[str, Any], fields: ModelFields, by_natural_key: Any = None) -> None:
    """Put the values of a serialized object into an entry.

    Args:
        entry: The entry.
        values: The values by field name, m2m fields as lists of keys.
        fields: The model's fields.
        by_natural_key: Returns the key of the object that a field refers to by a natural key.

    """
    snapshot: dict[str, Any] = {}
    members: dict[str, Any] = {}
    for name, value in values.items():
        field = fields.columns.get(name)
        try:
            if name in fields.members:
                members[name] = [_referred(fields.members[name], one, by_natural_key) for one in value]
            elif field is None:
                snapshot[name] = value
            else:
                snapshot[name] = typed(field, _referred(field, value, by_natural_key))
        except NoValue:
            entry.unclear[name] = value
    entry.snapshot, entry.members = snapshot, members


def _referred(field: Any, value: Any, by_natural_key: Any) -> Any:
    if by_natural_key is None or not field.is_relation or not isinstance(value, (list, tuple)):
        return value
    return by_natural_key(field, tuple(value))


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        try:
            return ast.literal_eval(text)
        except ERRORS as error:
            raise NoValue from error


def _datetime(value: object) -> Any:
    found = parse_datetime(value) if isinstance(value, str) else value
    if not isinstance(found, dt.datetime):
        raise NoValue
    # Packages that write a naive text have converted the time to UTC before, with USE_TZ.
    return found.replace(tzinfo=dt.UTC) if settings.USE_TZ and found.tzinfo is None else found


def _at_scale(field: models.DecimalField[Any, Any], value: Decimal | None) -> Decimal | None:
    """Return a decimal with as many places as its column has."""
    if value is None or not value.is_finite():
        return value
    return at_scale(value, field.decimal_places)
