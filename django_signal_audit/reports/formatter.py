"""Who reads values: what he may know by name, and in which formats."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from django.db import models

from django_signal_audit.events.values import plain_field, safe_str

from .localization import local, show_exactly
from .relations import Names, target_of

# What Django's admin shows in the formats of the language. Of other fields, numbers may be keys.
_LOCALISED = (
    models.DateField,
    models.TimeField,
    models.IntegerField,
    models.FloatField,
    models.DecimalField,
)


def show_time(moment: dt.datetime) -> str:
    """Return a moment in the current time zone as in ISO 8601, exact to what it holds, with its offset."""
    return local(moment).isoformat(sep=" ")


def _exact(value: Any) -> str:
    if isinstance(value, dt.datetime):
        return show_time(value)
    return format(value, "f") if isinstance(value, Decimal) and value.is_finite() else safe_str(value)


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads values, and how.

    Attributes:
        names: What the keys of other rows are called (``related_names``); those left out are shown as keys.
        is_localised: Whether values have the formats of the active language; they are as in ISO 8601 if not.

    """

    names: Names = field(default_factory=dict)
    is_localised: bool = False

    def write(self, column: models.Field[Any, Any] | None, value: Any) -> str:
        """Return the text of a single value of a field, which may be gone (None)."""
        is_known = self.is_localised and column is not None and target_of(column) is None
        if is_known and isinstance(plain_field(column), _LOCALISED):  # type: ignore[arg-type]
            return show_exactly(value) or _exact(value)
        return _exact(value)


# A command, a file: the same in every language.
ANYBODY = Reader()
