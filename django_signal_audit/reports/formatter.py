"""Who reads values: what they may know by name, and in which formats."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.formats import date_format, get_format, number_format, time_format

from django_signal_audit.events.values import plain_field, safe_str
from django_signal_audit.models.events import utc_now
from django_signal_audit.reports.relations import Names, Target, target_of

# Formats of a time end with its minutes in most languages; some have a.m. and p.m. after them.
_MINUTES = re.compile(r"([:.])i")
_TO_THE_SECOND = "H:i:s"


def local(moment: dt.datetime) -> dt.datetime:
    """Return the moment of an event in the current time zone, one at the end of time as it is.

    A naive one is in UTC, as events have it without ``USE_TZ``. It gets its zone, so that nobody takes it for the time
    of the project's clocks.
    """
    try:
        return timezone.localtime(moment) if timezone.is_aware(moment) else moment.replace(tzinfo=dt.UTC)
    except OverflowError:
        return moment


def zone_name() -> str:
    """Return the name of the time zone in which times are shown; without ``USE_TZ``, the log's are in UTC."""
    return timezone.get_current_timezone_name() if settings.USE_TZ else "UTC"


def show_date(day: dt.date) -> str:
    """Return a date, or the date of a moment, in words."""
    return date_format(day, "DATE_FORMAT")


def show_day(day: dt.date) -> str:
    """Return a date with its day of the week, as a heading."""
    return f"{date_format(day, 'l')}, {show_date(day)}"


def show_clock(time: dt.time | dt.datetime) -> str:
    """Return a time to the second: Django's own formats leave the seconds out, and with them an order."""
    pattern, found = _MINUTES.subn(r"\1i\1s", get_format("TIME_FORMAT"))
    return time_format(time, pattern if found else _TO_THE_SECOND)


def show_moment(moment: dt.datetime) -> str:
    """Return a moment to the second in the current time zone, with its offset."""
    return _show_moment(local(moment), "")


def show_brief(moment: dt.datetime) -> str:
    """Return a moment to the second in the current time zone, for a place where many stand."""
    here = local(moment)
    return f"{show_date(here)} {show_clock(here)}"


def show_short(moment: dt.datetime) -> str:
    """Return a moment to the minute in the current time zone, in short: without the year where that is this one."""
    here = local(moment)
    is_this_year = here.year == local(utc_now()).year
    day = get_format("MONTH_DAY_FORMAT" if is_this_year else "DATE_FORMAT").replace("F", "M").replace("N", "M")
    return f"{date_format(here, day)}, {time_format(here, 'H:i')}"


def show_exactly(value: object) -> str | None:
    """Return a date, time or number with all that it holds, None for values of other types."""
    if isinstance(value, dt.datetime):
        return _show_moment(_here(value), _fraction(value))
    if isinstance(value, dt.date):
        return show_date(value)
    if isinstance(value, dt.time):
        return show_clock(value) + _fraction(value)
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        return str(number_format(value)) if Decimal(value).is_finite() else None
    return None


def _here(value: dt.datetime) -> dt.datetime:
    """Return a value of an object in the current time zone; a naive one is in that of its column."""
    return local(value) if timezone.is_aware(value) else value


def _show_moment(here: dt.datetime, fraction: str) -> str:
    parts = [show_date(here), show_clock(here) + fraction]
    if timezone.is_aware(here):
        parts.append(here.isoformat()[-6:])
    return " ".join(parts)


def _fraction(value: dt.datetime | dt.time) -> str:
    return f"{get_format('DECIMAL_SEPARATOR')}{value.microsecond:06d}" if value.microsecond else ""


# What Django's admin shows in the formats of the language. Of other fields, numbers may be keys.
_LOCALISED = (
    models.DateField,
    models.TimeField,
    models.IntegerField,
    models.FloatField,
    models.DecimalField,
)


def show_time(moment: dt.datetime) -> str:
    """Return the moment of an event as in ISO 8601, exact to what it holds, with its offset."""
    return local(moment).isoformat(sep=" ")


def _exact(value: object) -> str:
    if isinstance(value, dt.datetime):
        return _here(value).isoformat(sep=" ")
    return format(value, "f") if isinstance(value, Decimal) and value.is_finite() else safe_str(value)


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads values, and how.

    Attributes:
        names: What the keys of other rows are called now (``related_names``); those left out are shown as keys.
        is_localised: Whether values have the formats of the active language; they are as in ISO 8601 if not.
        past: What they were called at the time of some events, by field, key and event.
        at: The event at whose time they are called so; None for the event that is read, 0 for now.

    """

    names: Names = field(default_factory=dict)
    is_localised: bool = False
    past: Mapping[tuple[Target, str, int], str] = field(default_factory=dict)
    at: int | None = None

    def as_of(self, event_id: int | None) -> Reader:
        """Return the reader as of the time of an event, unless there is a time already."""
        return self if self.at is not None else replace(self, at=event_id or 0)

    def name_of(self, target: Target, key: str) -> tuple[str | None, bool] | None:
        """Return what a key was called then, and whether its row is there; None if nothing is known of it."""
        now: Mapping[str, str | None] = self.names.get(target, {})
        then = self.past.get((target, key, self.at or 0))
        if then is None and key not in now:
            return None
        return then or now[key], now.get(key, "") is not None

    def write(self, column: models.Field[object, object] | None, value: object) -> str:
        """Return the text of a single value of a field, which may be gone (None)."""
        is_known = self.is_localised and column is not None and target_of(column) is None
        if is_known and isinstance(plain_field(column), _LOCALISED):  # type: ignore[arg-type]
            return show_exactly(value) or _exact(value)
        return _exact(value)


# A command, a file: the same in every language.
ANYBODY = Reader()
