"""Durations and periods as settings and commands write them: ``90m``, ``12h``, ``7d``, ``2w``, ``6mo``, ``1y``."""

from __future__ import annotations

import datetime as dt
import re
from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from django_signal_audit.enums import EventType
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


def seconds_hint(value: object) -> str:
    """Return the number of seconds to write for what names some in another way, ``""`` for what names none."""
    text = value.strip() if isinstance(value, str) else str(value) if isinstance(value, Decimal) else ""
    named = value if isinstance(value, dt.timedelta) else parse_duration(text if text[-1:].isalpha() else f"{text}s")
    seconds = named.total_seconds() if named is not None else 0.0
    return f"Write {seconds:g}." if 0 < seconds <= dt.timedelta(days=1).total_seconds() else ""


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


# What people write in place of durations, rates and periods.
_WORDS = {
    **dict.fromkeys(("hourly", "hour", "h"), "1h"),
    **dict.fromkeys(("daily", "day", "d"), "1d"),
    **dict.fromkeys(("minute", "min", "m"), "1m"),
    "weekly": "7d",
}
_FOREVER = ("", "forever", "never", "none", "always", "unlimited")
_UNIT = re.compile(
    r"(\d+)\s*(s|m|h|d|w|seconds?|secs?|minutes?|mins?|hours?|hrs?|days?|weeks?)\.?|p?t?(\d+)([smhdw])", re.IGNORECASE
)
# 1h30m
_SEVERAL = re.compile(r"(\d+)\s*h[a-z]*\s*(?:and\s*)?(\d+)\s*m[a-z]*", re.IGNORECASE)
_PER = re.compile(r"\s+(?:per|an?|every|in|each)\s+|\s*/\s*", re.IGNORECASE)
_ZERO = re.compile(r"0+\s*[a-z]*(?:\s*/.*)?|.*/\s*0+\s*[a-z]*", re.IGNORECASE)
_TOO_MANY = re.compile(r"\d{4,}\s*/\s*(\d+[smhdw])")
_ONE = re.compile(r"^(?:an?|one)\s+")
_IN_MONTHS = re.compile(r"\s*(\d+)\s*mo(?:nths?)?\s*", re.IGNORECASE)


def duration_hint(key: str, value: object) -> str:
    """Return the edit to make to a ``digest`` or ``throttle`` that is wrong, ``""`` if it isn't known."""
    parse, meant_by = (parse_rate, _rate_meant) if key == "throttle" else (parse_duration, _duration_meant)
    if _is_nothing(value):
        without = "nothing is held back" if key == "throttle" else "each event is a message of its own"
        return f"It is {shown(value)}. Remove the key: {without} then."
    if isinstance(value, dt.timedelta):
        return f'Write "{abs(int(value.total_seconds()))}s".'
    meant = meant_by(value.strip().removeprefix("-").strip() if isinstance(value, str) else value)
    if meant and meant != value and parse(meant):
        unit = " for seconds" if isinstance(value, int) and key == "digest" else ""
        return f'It is {shown(value)}. Write "{meant}"{unit}.'
    if key == "digest" and isinstance(value, str) and parse_duration(value):
        return f'It is {shown(value)}. The longest is "366d".'
    too_many = _TOO_MANY.fullmatch(value.strip()) if key == "throttle" and isinstance(value, str) else None
    return f'It is {shown(value)}. Write "{MAX_COUNT}/{too_many[1]}" or less.' if too_many else ""


def _is_nothing(value: object) -> bool:
    """Return whether a duration or a rate is zero, or switched off."""
    if isinstance(value, str):
        return bool(_ZERO.fullmatch(value.strip()))
    return value in (False, 0, dt.timedelta()) if isinstance(value, (int, dt.timedelta)) else False


def _duration_meant(value: object) -> str:
    """Return the duration that a number, ``30 days``, ``daily``, ``1h30m`` or ``PT1H`` means, ``""`` if none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value}s"
    if not isinstance(value, str):
        return ""
    word = _ONE.sub("1 ", value.strip().lower())
    if month := _IN_MONTHS.fullmatch(word):
        return f"{int(month[1]) * 30}d"
    if several := _SEVERAL.fullmatch(word):
        return f"{int(several[1]) * 60 + int(several[2])}m"
    found = _UNIT.fullmatch(word)
    if found:
        return f"{found[1] or found[3]}{(found[2] or found[4])[0]}"
    return f"{word}s" if word.isdecimal() else _WORDS.get(word, "")


def _rate_meant(value: object) -> str:
    """Return the rate that ``5``, ``5 per hour``, ``(5, "1h")`` or ``{"1h": 5}`` means, ``""`` if none."""
    if isinstance(value, Mapping) and len(value) == 1:
        value = (*value.values(), *value)
    if isinstance(value, (list, tuple)) and len(value) == 2:  # a number and a duration
        value = "/".join(shown(part).strip("'") for part in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value}/1h"
    parts = _PER.split(value.strip()) if isinstance(value, str) else []
    if len(parts) == 1 and parts[0].isdecimal():
        return f"{parts[0]}/1h"
    count, *period = [part for part in parts if part] or [""]
    if not period:
        return _duration_meant(count)
    if period[0].isdecimal() and parse_duration(count):
        count, period = period[0], [count]
    number = re.match(r"\d+", count)
    return f"{number[0]}/{_duration_meant(period[0])}" if number else ""


def _is_negative(value: object) -> bool:
    if isinstance(value, str):
        return value.strip().startswith("-")
    return value < dt.timedelta() if isinstance(value, dt.timedelta) else isinstance(value, int) and value < 0


def retention_hint(value: object) -> str:
    """Return the edit to make to a ``retention`` that is wrong, or that it is."""
    if value is None or value is False or (isinstance(value, str) and value.strip().lower() in _FOREVER):
        return f"It is {shown(value)}. Remove the key: events are kept forever then."
    if _is_nothing(value) or _is_negative(value):
        return f"It is {shown(value)}. Write a period above zero, or remove the key to keep events forever."
    days = value.get("days") if isinstance(value, Mapping) else value
    if isinstance(days, str) and (found := re.fullmatch(r"P(\d+)([DWMY])", days.strip(), re.IGNORECASE)):
        return f'It is {shown(value)}. Write "{found[1]}{found[2].lower().replace("m", "mo")}".'
    if isinstance(days, str) and _ONE.match(days.strip().lower()):
        _, _, edit = period_hint(_ONE.sub("1 ", days.strip().lower())).partition(". ")
        return f"It is {shown(value)}. {edit}".rstrip()
    if isinstance(days, str) and days.strip().isdecimal():
        days = int(days)
    if isinstance(days, int) and not isinstance(days, bool) and days > 0:
        return f'It is {shown(value)}. Write "{days}d" for days.'
    return period_hint(value)


_WITHOUT_OBJECT = (EventType.REQUEST.value, EventType.LOGIN_FAILED.value)


def retention_problems(rule: Rule, path: str) -> list[Problem]:
    """Return warnings about a ``retention`` that can be read."""
    where = f'{path}["retention"]'
    without_object = [name for name in rule.events if name in _WITHOUT_OBJECT and not rule.models]
    if is_count(rule.retention) and without_object:
        message = f"keeps a number of events per object, and {without_object[0]!r} has no object: it is never pruned."
        return [Problem("W082", where, message, f"Write a period such as {EXAMPLES}.")]
    period = parse_period(rule.retention)
    if period is None or not period.is_below_a_day:
        return []
    message = f"is {shown(rule.retention)}: audit_prune deletes events that are less than a day old."
    return [Problem("W029", where, message, f"Write a longer period, such as {EXAMPLES}.")]
