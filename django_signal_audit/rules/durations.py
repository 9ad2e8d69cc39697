"""Durations as settings and commands write them: ``90m``, ``12h``, ``7d``, ``2w``."""

from __future__ import annotations

import datetime as dt
import re

_PATTERN = re.compile(r"(\d+)\s*([smhdw])")
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
