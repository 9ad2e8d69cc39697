"""Charts as SVG, for a file that is mailed and for a page of the admin: the one place that knows pygal."""

from __future__ import annotations

import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec
from itertools import accumulate
from pathlib import Path
from typing import Any

from django.utils.formats import number_format
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

import django_signal_audit
from django_signal_audit.reports.display import printable, shorten

try:
    import pygal
except ImportError as error:
    msg = "Charts need pygal. Run: pip install 'django-signal-audit[charts]'"
    raise ImportError(msg) from error

if not hasattr(pygal.PluginImportFixer, "find_spec"):

    def _find_spec(finder: Any, name: str, *_: object) -> ModuleSpec | None:
        return ModuleSpec(name, finder) if finder.find_module(name) else None

    # pygal adds a finder of modules by a protocol that Python 3.12 knows no longer, and of whose use, by every import
    # that finds nothing, Python 3.11 warns; projects whose warnings are errors could import nothing optional any more.
    pygal.PluginImportFixer.find_spec = _find_spec

STYLESHEET = "django_signal_audit/charts.css"
# A label that is longer, in letters of usual width, would leave no room for the bars.
_LABEL = 28
# pygal leaves 0.6 of this for each character; the stylesheet's letters are as wide in most fonts.
_STYLE = pygal.style.Style(label_font_size=12)
_HREF = "{http://www.w3.org/1999/xlink}href"
_ROW_HEIGHT, _WIDTH, _TIME_HEIGHT = 26, 720, 240


@dataclass(frozen=True, slots=True)
class Mark:
    """One bar: what it stands for, how long it is, and where it leads."""

    label: str
    value: int
    href: str = ""


def bars(title: str, marks: Sequence[Mark]) -> SafeString:
    """Return a bar for each mark below each other, the first on top.

    The SVG has neither script nor style, so that a strict Content-Security-Policy lets it pass: its look is in the
    stylesheet ``STYLESHEET``. For who does not see it, it says what it shows, and each link what its bar does.
    """
    height = 40 + _ROW_HEIGHT * max(1, len(marks))
    chart = pygal.HorizontalBar(**_options(height), show_y_guides=False, print_values=True, print_values_position="top")
    # pygal begins at the bottom.
    return _draw(chart, marks[::-1], _describe(title, marks))


def columns(title: str, marks: Sequence[Mark]) -> SafeString:
    """Return a bar for each mark side by side, as time goes; else the same as ``bars``."""
    chart = pygal.Bar(
        **_options(_TIME_HEIGHT),
        margin_left=40,
        margin_right=40,
        x_labels_major_count=min(4, len(marks)),
        show_minor_x_labels=False,
    )
    return _draw(chart, marks, _describe(title, marks))


@cache
def stylesheet() -> str:
    """Return the look of the charts, for a page that cannot link to it."""
    path = Path(django_signal_audit.__file__).parent / "static" / STYLESHEET
    return path.read_text(encoding="utf-8")


def _options(height: int) -> dict[str, object]:
    return {
        "js": [],
        "css": [],
        "classes": ["audit-chart"],
        "width": _WIDTH,
        "height": height,
        "margin": 8,
        "spacing": 4,
        "truncate_label": -1,
        "show_legend": False,
        "include_x_axis": True,
        "min_scale": 2,
        "max_scale": 6,
        "no_data_text": "",
        "style": _STYLE,
        "value_formatter": _count,
    }


def _count(value: float | None) -> str:
    # Between whole numbers there is nothing to read off.
    return number_format(int(value), force_grouping=True) if value is not None and value == int(value) else ""


def _draw(chart: pygal.Graph, marks: Sequence[Mark], description: str) -> SafeString:
    chart.x_labels = [_fit(printable(mark.label)) for mark in marks]
    chart.add("", [{"value": mark.value, "xlink": {"href": f"#{index}"}} for index, mark in enumerate(marks)])
    root = chart.render_tree()
    for element in list(root.iter()):
        _clean(element)
    for link in root.iter("a"):
        _link(link, marks[int(link.attrib.pop(_HREF).removeprefix("#"))])
    root.attrib.pop("id", None)
    root.attrib |= {"role": "group", "aria-label": description}
    return mark_safe(ET.tostring(root, encoding="unicode"))  # noqa: S308  # ElementTree escapes


def _fit(label: str) -> str:
    """Return the label, shortened so that it does not reach out of the chart."""
    widths = accumulate(_letter_width(letter) for letter in label)
    fitting = sum(width <= _LABEL for width in widths)
    return shorten(label, fitting)


def _letter_width(letter: str) -> float:
    """Return about how wide a letter is beside those of usual width."""
    if letter in "mwMW@%" or unicodedata.east_asian_width(letter) in "WF":
        return 1.7
    return 1.2 if letter.isupper() else 1


def _clean(element: ET.Element) -> None:
    """Take out what needs a script or a style of its own, and what helps pygal's script alone."""
    element.attrib.pop("style", None)
    for child in list(element):
        is_comment = not isinstance(child.tag, str)
        if is_comment or child.tag in ("defs", "desc", "title") or "tooltip-overlay" in child.get("class", ""):
            element.remove(child)


def _link(link: ET.Element, mark: Mark) -> None:
    link.attrib.pop("target", None)
    if mark.href:
        link.set("href", mark.href)
    else:
        link.tag = "g"
    title = ET.Element("title")
    title.text = f"{printable(mark.label)}: {number_format(mark.value, force_grouping=True)}"
    link.insert(0, title)


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
    return printable(_("%(title)s: chart of %(count)d bars, the largest is %(label)s with %(value)s.") % words)
