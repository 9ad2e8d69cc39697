"""Charts as SVG, for a file that is mailed and for a page of the admin.

They have neither script nor style of their own, so that a strict Content-Security-Policy lets them pass. Their look is
in the stylesheet ``STYLESHEET``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from django.utils.formats import number_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import ngettext

import django_signal_audit
from django_signal_audit.reports.display import printable

STYLESHEET = "django_signal_audit/charts.css"
# The drawing in its own units: about the pixels of a wide screen.
_WIDTH, _HEIGHT = 840, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 12, 26
_MOST_LABELS, _MOST_LINES = 7, 4
# Between two bars, as a part of what each has for itself.
_GAP = 0.2
# However few there are of one kind, they can be seen.
_THINNEST = 1.0


@dataclass(frozen=True, slots=True)
class Mark:
    """What one bar stands for.

    Attributes:
        label: The day, the hour or whatever was counted.
        parts: How many there are of each kind, from the bottom of the bar to its top.
        href: Where the bar leads, ``""`` for nowhere.
        brief: What stands below the bar; the label if empty.

    """

    label: str
    parts: Mapping[str, int]
    href: str = ""
    brief: str = ""

    @property
    def value(self) -> int:
        """Return how many there are of all kinds."""
        return sum(self.parts.values())


def columns(title: str, marks: Sequence[Mark], kinds: Mapping[str, str]) -> SafeString:
    """Return a bar for each mark side by side, as time goes.

    Args:
        title: What is shown.
        marks: The bars, in the order of time.
        kinds: The name of each kind, by the class that gives it its colour (``audit-chart-KIND``).

    """
    step, most = _scale(max((mark.value for mark in marks), default=0))
    return format_html(
        '<svg class="audit-chart" viewBox="0 0 {} {}" role="group" aria-label="{}">{}{}{}</svg>',
        _WIDTH,
        _HEIGHT,
        _describe(title, marks),
        format_html_join("", "{}", ((line,) for line in _lines(step, most))),
        format_html_join("", "{}", ((bar,) for bar in _bars(marks, kinds, most))),
        format_html_join("", "{}", ((text,) for text in _labels(marks))),
    )


def bar(value: int, largest: int) -> SafeString:
    """Return the bar of one row of a table: as much of its width as the value is of the largest."""
    width = max(100 * value / largest, _THINNEST) if value and largest else 0
    return format_html(
        '<svg class="audit-bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
        '<rect class="audit-bar-all" width="100" height="10"/>'
        '<rect class="audit-bar-part" width="{}" height="10"/></svg>',
        _number(width),
    )


def swatch(kind: str) -> SafeString:
    """Return a patch of the colour of a kind, for the legend."""
    return format_html(
        '<svg class="audit-swatch" viewBox="0 0 10 10" aria-hidden="true" focusable="false">'
        '<rect class="audit-chart-{}" width="10" height="10" rx="2"/></svg>',
        kind,
    )


@cache
def stylesheet() -> str:
    """Return the look of the charts, for a page that cannot link to it."""
    path = Path(django_signal_audit.__file__).parent / "static" / STYLESHEET
    return path.read_text(encoding="utf-8")


def _scale(largest: int) -> tuple[int, int]:
    """Return the distance of the lines and where the highest of them is: 1, 2 or 5 with zeros."""
    step = 1
    while step * (_MOST_LINES - 1) < largest:
        step = step * 5 // 2 if str(step)[0] == "2" else step * 2
    return step, step * max(1, -(-largest // step))


def _y(value: int, most: int) -> float:
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - value / most)


def _lines(step: int, most: int) -> Iterator[SafeString]:
    for value in range(0, most + 1, step):
        y = _number(_y(value, most))
        yield format_html(
            '<path class="audit-chart-line" d="M{} {}H{}"/><text class="audit-chart-y" x="{}" y="{}" dy="4">{}</text>',
            _LEFT,
            y,
            _WIDTH - _RIGHT,
            _LEFT - 8,
            y,
            number_format(value, force_grouping=True),
        )


def _slot(count: int) -> float:
    return (_WIDTH - _LEFT - _RIGHT) / max(count, 1)


def _bars(marks: Sequence[Mark], kinds: Mapping[str, str], most: int) -> Iterator[SafeString]:
    slot = _slot(len(marks))
    for place, mark in enumerate(marks):
        left = _LEFT + slot * (place + _GAP / 2)
        text = _says(mark, kinds)
        content = format_html(
            '<title>{}</title><rect class="audit-chart-all" x="{}" y="{}" width="{}" height="{}"/>{}',
            text,
            _number(_LEFT + slot * place),
            _TOP,
            _number(slot),
            _HEIGHT - _TOP - _BOTTOM,
            format_html_join("", "{}", ((part,) for part in _parts(mark, left, slot * (1 - _GAP), most))),
        )
        if mark.href:
            yield format_html('<a href="{}" aria-label="{}">{}</a>', mark.href, text, content)
        else:
            yield format_html("<g>{}</g>", content)


def _parts(mark: Mark, left: float, width: float, most: int) -> Iterator[SafeString]:
    below = 0
    for kind, value in mark.parts.items():
        if not value:
            continue
        top, bottom = _y(below + value, most), _y(below, most)
        below += value
        # A line of the ground between two parts tells them apart where colours don't.
        height = max(bottom - top - 1, _THINNEST)
        yield format_html(
            '<rect class="audit-chart-{}" x="{}" y="{}" width="{}" height="{}" rx="1"/>',
            kind,
            *map(_number, (left, bottom - height, width, height)),
        )


def _labels(marks: Sequence[Mark]) -> Iterator[SafeString]:
    slot, every = _slot(len(marks)), -(-len(marks) // _MOST_LABELS) or 1
    shown = set(range(0, len(marks), every))
    last = len(marks) - 1
    if last not in shown and marks:
        # The newest is named, in place of one that would be in its way.
        shown = {place for place in shown if last - place >= every} | {last}
    for place in sorted(shown):
        is_edge = place == last and len(marks) > 1
        x = _WIDTH - _RIGHT if is_edge else _LEFT + slot * (place + 0.5)
        yield format_html(
            '<text class="{}" x="{}" y="{}">{}</text>',
            "audit-chart-last" if is_edge else "audit-chart-x",
            _number(x),
            _HEIGHT - 8,
            printable(marks[place].brief or marks[place].label),
        )


def _says(mark: Mark, kinds: Mapping[str, str]) -> str:
    """Return in words what a bar stands for."""
    total = number_format(mark.value, force_grouping=True)
    named = [
        f"{number_format(value, force_grouping=True)} {kinds[kind]}"
        for kind, value in mark.parts.items()
        if value and kinds.get(kind)
    ]
    text = f"{mark.label}: {total}"
    return printable(f"{text} ({', '.join(named)})" if named else text)


def _number(value: float) -> str:
    """Return a coordinate, the same in every language."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _describe(title: str, marks: Sequence[Mark]) -> str:
    """Return in words what the chart shows."""
    if not marks:
        return printable(title)
    largest = max(marks, key=lambda mark: mark.value)
    words = {
        "title": title,
        "count": len(marks),
        "label": largest.label,
        "value": number_format(largest.value, force_grouping=True),
    }
    text = ngettext(
        "%(title)s: chart of %(count)d bar, %(label)s with %(value)s.",
        "%(title)s: chart of %(count)d bars, the largest is %(label)s with %(value)s.",
        len(marks),
    )
    return printable(text % words)
