"""Durations and periods as settings and commands write them: ``90m``, ``12h``, ``7d``, ``2w``, ``6mo``, ``1y``."""

from __future__ import annotations

import datetime as dt
import re
from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from django_signal_audit.problems import Problem, shown
from django_signal_audit.rules.schema import Rule

_PATTERN = re.compile(r"([0-9]{1,10})\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_duration(text: str) -> dt.timedelta | None:
    """Return the duration a text such as ``"365d"`` names, None if it names none."""
    match = _PATTERN.fullmatch(text.strip().lower())
    if match is None:
        return None
    try:
        return dt.timedelta(**{_UNITS[match[2]]: int(match[1])})
    except OverflowError:
        return None


class Rate(NamedTuple):
    """So many within any stretch of that length."""

    limit: int
    window: dt.timedelta


# Their moments are kept, and looked through for every message.
MAX_COUNT = 1000


def parse_rate(text: str) -> Rate | None:
    """Return the rate a text such as ``"5/1h"`` names, or ``"1h"`` for one; None if it names none."""
    count, _, duration = text.rpartition("/")
    window = parse_duration(duration)
    number = count.strip() or ("" if "/" in text else "1")
    if not window or not (number.isdecimal() and 1 <= int(number) <= MAX_COUNT):
        return None
    return Rate(int(number), window)


EXAMPLES = '"365d", "12w", "6mo" or "1y"'
_MONTHS = {"mo": 1, "y": 12}
_PERIOD_UNITS = {"s": "seconds", "h": "hours", "d": "days", "w": "weeks"}
# Ten digits are more than any date can take.
_PERIOD = re.compile(r"([0-9]{1,10})\s*(s|h|d|w|mo|y)")
# What people write instead, by its beginning, and whether it is a number of minutes or months cannot be told.
_SPELLED = re.compile(r"([0-9]{1,10})\s*(minute|min|month|mon|year|yr|week|day|hour|hr|second|sec|m)[a-z]*\.?")
_SHORT = {"mon": "mo", "yea": "y", "yr": "y", "wee": "w", "day": "d", "hou": "h", "hr": "h", "sec": "s"}


@dataclass(frozen=True, slots=True)
class Period:
    """A length of time that may be a number of calendar months."""

    months: int = 0
    rest: dt.timedelta = dt.timedelta()

    def before(self, moment: dt.datetime) -> dt.datetime | None:
        """Return the moment that is this long before another one, None if there is no such date.

        Six months before August 31 is the last day of February: events are never kept shorter than promised by more
        than the days that the month lacks.
        """
        years, months = divmod(moment.year * 12 + moment.month - 1 - self.months, 12)
        if years < dt.MINYEAR:
            return None
        day = min(moment.day, monthrange(years, months + 1)[1])
        try:
            return moment.replace(year=years, month=months + 1, day=day) - self.rest
        except OverflowError:
            return None

    @property
    def is_below_a_day(self) -> bool:
        """Return whether the period is shorter than a day, which is most likely a mistake."""
        return not self.months and self.rest < dt.timedelta(days=1)


def parse_period(value: object) -> Period | None:
    """Return the period that a text or a timedelta means, None if it means none or one that is not above zero."""
    if isinstance(value, dt.timedelta):
        return Period(rest=value) if value > dt.timedelta() else None
    match = _PERIOD.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    number = int(match[1]) if match else 0
    if match is None or not number:
        return None
    if match[2] in _MONTHS:
        return Period(months=number * _MONTHS[match[2]])
    try:
        return Period(rest=dt.timedelta(**{_PERIOD_UNITS[match[2]]: number}))
    except OverflowError:
        return None


def is_count(value: object) -> bool:
    """Return whether the value means to keep a number of events per object: ``{"last": 50}``."""
    if not isinstance(value, Mapping) or set(value) != {"last"}:
        return False
    last = value["last"]
    return isinstance(last, int) and not isinstance(last, bool) and last > 0


def is_retention(value: object) -> bool:
    """Return whether the value may stand as the ``retention`` of a rule."""
    return value == "" or parse_period(value) is not None or is_count(value)


def period_hint(value: object) -> str:
    """Return what to write in place of a value that is no period."""
    said = f"It is {shown(value)}."
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return f'{said} Write "{value}d" for days.'
    if isinstance(value, Mapping):
        return f'{said} Write {{"last": 50}} to keep a number of events per object.'
    match = _SPELLED.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if match is None:
        return said
    number, unit = match[1], match[2]
    if unit == "m":
        return f'{said} "m" could mean minutes or months: write "{number}mo" for months or "{number}y" for years.'
    short = _SHORT.get(unit[:3])
    return f'{said} Write "{number}{short}".' if short else f"{said} Minutes are too short: write hours or days."


def retention_problems(rule: Rule, path: str) -> list[Problem]:
    """Return warnings about a ``retention`` that can be read."""
    where = f'{path}["retention"]'
    if is_count(rule.retention):
        message = "keeps a number of events per object, which audit_prune doesn't support yet: no event is pruned."
        return [Problem("W030", where, message, f"Write a period such as {EXAMPLES}, or remove it.")]
    period = parse_period(rule.retention)
    if period is None or not period.is_below_a_day:
        return []
    message = f"is {shown(rule.retention)}: audit_prune deletes events that are less than a day old."
    return [Problem("W029", where, message, f"Write a longer period, such as {EXAMPLES}.")]
