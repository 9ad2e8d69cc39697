"""A step chart of a numeric field: its value after each of some changes, drawn as SVG without a script or a style."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from django.db import models
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_signal_audit.models import AuditEvent
from django_signal_audit.reports.display import label_of
from django_signal_audit.reports.formatter import show_moment, show_short

# In units of the drawing. Beside it there is room for the numbers.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 800, 160, 64, 96, 12, 24
MOST_LINES, MOST_DAYS = 4, 5
_NUMBERS = (models.IntegerField, models.FloatField, models.DecimalField)


@dataclass(frozen=True, slots=True)
class Mark:
    """A number or a time beside the drawing."""

    text: str
    x: float
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """A chart ready for a template.

    Attributes:
        title: The field.
        note: Which changes are shown.
        text: What it shows, in words.
        line: The path of the line.
        area: The path of what is under it.
        numbers: The lines across, with their numbers.
        days: The times along it.
        last: The last value.

    """

    title: str
    note: str
    text: str
    line: str
    area: str
    numbers: Sequence[Mark]
    days: Sequence[Mark]
    last: Mark

    width = WIDTH
    height = HEIGHT
    left = LEFT
    right = WIDTH - RIGHT


def steps_of(name: str, events: Sequence[AuditEvent], *, is_newest: bool) -> Steps | None:
    """Return the chart of a field, None if it is not numeric, or too little is known.

    Args:
        name: The field.
        events: Events that changed it, the newest first.
        is_newest: Whether these are the last changes there were.

    """
    field = events[0].field(name) if events else None
    if not isinstance(field, _NUMBERS) or field.choices:
        return None
    points = list(_points(name, events))
    known = [value for _event, value in points if value is not None]
    if len(known) < 2 or points[-1][1] is None:
        return None
    low, high, step = _scale(min(known), max(known))
    x = [LEFT + (WIDTH - LEFT - RIGHT) * place / len(points) for place in range(len(points) + 1)]

    def y(value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low), 1)

    values = [None if value is None else y(float(value)) for _event, value in points]
    line = _path(x, values)
    newest = points[-1][1]
    return Steps(
        title=label_of(field, name),
        note=_note(len(events), is_newest=is_newest),
        text=_in_words(points),
        line=" ".join(line),
        area=" ".join(f"{part}V{y(low)}H{part[1:].partition(' ')[0]}Z" for part in line),
        numbers=[Mark(_number(number), LEFT, y(number)) for number in _numbers(low, high, step)],
        days=_days([event for event, _value in points], x),
        last=Mark(number_format(newest), x[-1], y(float(newest or 0))),
    )


def _points(name: str, events: Sequence[AuditEvent]) -> Iterator[tuple[AuditEvent, Decimal | float | None]]:
    for event in reversed(events):
        change = event.field_changes.get(name)
        if change is not None:
            value = change.new
            is_number = (
                isinstance(value, (int, float, Decimal)) and not isinstance(value, bool) and math.isfinite(value)
            )
            yield event, value if is_number else None


def _path(x: Sequence[float], values: Sequence[float | None]) -> list[str]:
    """Return the parts of a line that runs level at each value; where one is missing, the next part begins."""
    parts: list[str] = []
    is_open = False
    for place, value in enumerate(values):
        if value is not None:
            start = f"V{value}" if is_open else f"M{x[place]:.1f} {value}"
            end = f"H{x[place + 1]:.1f}"
            if is_open:
                parts[-1] += start + end
            else:
                parts.append(start + end)
        is_open = value is not None
    return parts


def _scale(lowest: Decimal | float, highest: Decimal | float) -> tuple[float, float, float]:
    """Return the ends of the axis, and the distance of its lines: 1, 2 or 5 times a power of ten."""
    low, high = float(lowest), float(highest)
    # An area says how much there is: it begins at zero, unless nothing would be seen of the steps then.
    if 0 <= low <= high / 2 or low == high >= 0:
        low = 0.0
    if low == high:
        low, high = low - 1, high + 1
    size = 10 ** math.floor(math.log10((high - low) / MOST_LINES))
    step = next(size * one for one in (1, 2, 5, 10, 20) if (high - low) / (size * one) <= MOST_LINES)
    return math.floor(low / step) * step, math.ceil(high / step) * step, step


def _numbers(low: float, high: float, step: float) -> list[float]:
    return [low + step * place for place in range(round((high - low) / step) + 1)]


def _number(value: float) -> str:
    return str(number_format(Decimal(f"{value:.6g}").normalize() + 0 if value else 0))


def _days(events: Sequence[AuditEvent], x: Sequence[float]) -> list[Mark]:
    """Return the times of some changes, evenly spread, the first and the last among them."""
    last = len(events) - 1
    places = dict.fromkeys(round(last * part / (MOST_DAYS - 1)) for part in range(MOST_DAYS)) if last else {0: None}
    return [Mark(show_short(events[place].recorded_at), x[place], HEIGHT - 6) for place in places]


def _note(count: int, *, is_newest: bool) -> str:
    if is_newest:
        return ngettext("last %(count)s change", "last %(count)s changes", count) % {"count": count}
    return ngettext("%(count)s change", "%(count)s changes", count) % {"count": count}


def _in_words(points: Sequence[tuple[AuditEvent, Decimal | float | None]]) -> str:
    known = [(event, value) for event, value in points if value is not None]
    first, last = known[0], known[-1]
    values = [value for _event, value in known]
    return _("From %(first)s (%(since)s) to %(last)s (%(until)s); lowest %(lowest)s, highest %(highest)s") % {
        "first": number_format(first[1]),
        "since": show_moment(first[0].recorded_at),
        "last": number_format(last[1]),
        "until": show_moment(last[0].recorded_at),
        "lowest": number_format(min(values)),
        "highest": number_format(max(values)),
    }
