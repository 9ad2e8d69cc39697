"""Durations as settings and commands write them: ``90m``, ``12h``, ``7d``, ``2w``."""

from __future__ import annotations

import datetime as dt
import re
from typing import NamedTuple

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
