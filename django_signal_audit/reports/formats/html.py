"""One HTML file that needs nothing else: to be mailed, printed, or kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import TextIO

from django.utils.formats import number_format
from django.utils.html import conditional_escape, format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language, get_language_bidi
from django.utils.translation import gettext as _

from django_signal_audit.models.events import utc_now
from django_signal_audit.reports.base import Cell, Column, Report, Series, cell_lines
from django_signal_audit.reports.charts import Mark, bar, columns, stylesheet
from django_signal_audit.reports.display import printable
from django_signal_audit.reports.formatter import local

from .base import ReportFormat

# More bars than these cannot be told apart; the tables have all.
MOST_COLUMNS = 92

_STYLE = """
:root { color-scheme: light dark; --text: #1b1b1b; --quiet: #595959; --back: #fff; --line: #d0d0d0; --link: #0b5675; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e9e9e9; --quiet: #b0b0b0; --back: #16181b; --line: #45484d; --link: #8fd0ea; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem; color: var(--text); background: var(--back);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0 1rem; color: var(--quiet); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; min-width: 20rem; }
th, td { padding: .3rem .8rem; text-align: start; vertical-align: top; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
th { border-bottom-width: 2px; }
th.bar { font-weight: normal; }
td.bar { min-width: 10rem; vertical-align: middle; }
th.number, td.number { text-align: end; font-variant-numeric: tabular-nums; white-space: nowrap; }
.wide:focus-visible { outline: 2px solid var(--link); outline-offset: 1px; }
tr:target td { outline: 2px solid var(--link); outline-offset: -2px; }
@media print {
  :root { color-scheme: light; --text: #000; --quiet: #333; --back: #fff; --line: #999; }
  body { max-width: none; padding: 0; }
  section, tr { break-inside: avoid; }
  thead { display: table-header-group; }
}
"""


class HtmlFormat(ReportFormat):
    """A page with the report's charts and tables, in light and dark, without a script or anything from elsewhere."""

    says_empty = True

    def write(self, report: Report, stream: TextIO) -> None:
        """Write the page."""
        title = printable(report.title)
        stream.write(
            format_html(
                '<!doctype html>\n<html lang="{}" dir="{}">\n<head>\n<meta charset="utf-8">\n'
                '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
                '<meta name="color-scheme" content="light dark">\n<title>{}</title>\n<style>{}</style>\n</head>\n'
                "<body>\n<main>\n<h1>{}</h1>\n<p>{}</p>\n",
                get_language() or "en",
                "rtl" if get_language_bidi() else "ltr",
                title,
                mark_safe(_STYLE + stylesheet()),  # noqa: S308  # our own, and a style element knows no escapes
                title,
                _about(report),
            )
        )
        for part in _parts(report):
            stream.write(f"{part}\n")
        stream.write("</main>\n</body>\n</html>\n")


def _about(report: Report) -> str:
    made = local(utc_now()).isoformat(sep=" ", timespec="minutes")
    return ". ".join(filter(None, (printable(report.scope), _("As of %(moment)s") % {"moment": made})))


def _parts(report: Report) -> Iterator[SafeString]:
    """Yield what was counted by one thing, days and hours drawn, and then the report's own table.

    The table of anything else is its chart: each row has a bar.
    """
    if not report.rows:
        yield format_html("<p>{}</p>", printable(report.empty))
        return
    # The table of a report that counts by one thing is the report's own.
    is_single = len(report.series) == 1
    for number, series in enumerate(report.series, 1):
        name = "row" if is_single else f"table-{number}"
        drawn = _chart(series, name) if series.is_time else SafeString()
        if drawn or not is_single:
            yield _section(series.title, format_html("{}{}", drawn, "" if is_single else _numbers(series, name)))
    heading = _("All together") if len(report.series) > 1 else ""
    values = [value for _label, value in report.series[0].values if value] if is_single else []
    bars = values if is_single and not report.series[0].is_time and len(values) == len(report.rows) else []
    title, first = heading or report.title, 1
    for batch in report.batches():
        rows = [[_cell(cell) for cell in row] for row in batch]
        name = title if first == 1 else f"{title} ({first})"
        yield _section(heading, _table(report.columns, rows, name="row", title=name, bars=bars, first=first))
        first += len(rows)


def _chart(series: Series, name: str) -> SafeString:
    index = count(1)
    # What did not happen has no row to lead to.
    marks = [
        Mark(label, {"changed": value}, f"#{name}-{next(index)}" if value else "") for label, value in series.values
    ]
    title = _("Chart: %(title)s") % {"title": printable(series.title)}
    drawn = columns(series.title, marks[-MOST_COLUMNS:], {})
    return format_html('<div class="wide" tabindex="0" role="region" aria-label="{}">{}</div>', title, drawn)


def _numbers(series: Series, name: str) -> SafeString:
    headings = (Column("name", series.heading), Column("count", _("Events"), is_number=True))
    counted = [(label, value) for label, value in series.values if value]
    rows = [[printable(label), _cell(value)] for label, value in counted]
    bars = [] if series.is_time else [value for _label, value in counted]
    return _table(headings, rows, name=name, title=series.title, bars=bars)


def _section(heading: str, content: SafeString) -> SafeString:
    title = format_html("<h2>{}</h2>\n", printable(heading)) if heading else ""
    return format_html("<section>\n{}{}\n</section>", title, content)


def _table(
    headings: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    name: str,
    title: str,
    bars: Sequence[int] = (),
    first: int = 1,
) -> SafeString:
    """Return a table, with a bar before the last cell of each row if there are numbers for them."""
    classes = [mark_safe(' class="number"') if column.is_number else "" for column in headings]
    heads = [printable(str(column.heading)) for column in headings]
    if bars:
        largest, before = max(bars), len(heads) - 1
        heads.insert(before, _("Bar"))
        classes.insert(before, mark_safe(' class="bar"'))
        drawn = (bar(value, largest) for value in bars)
        rows = [[*row[:before], drawing, *row[before:]] for row, drawing in zip(rows, drawn, strict=True)]
    head = format_html_join("", '<th scope="col"{}>{}</th>', zip(classes, heads, strict=True))
    body = format_html_join(
        "\n",
        '<tr id="{}-{}">{}</tr>',
        (
            (name, index, format_html_join("", "<td{}>{}</td>", zip(classes, row, strict=True)))
            for index, row in enumerate(rows, first)
        ),
    )
    return format_html(
        '<div class="wide" tabindex="0" role="region" aria-label="{}"><table>\n'
        "<thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody>\n</table></div>",
        printable(title),
        head,
        body,
    )


def _cell(cell: Cell) -> str:
    if isinstance(cell, int):
        return str(number_format(cell, force_grouping=True))
    lines = (conditional_escape(printable(line)) for line in cell_lines(cell))
    return mark_safe("<br>".join(lines))  # noqa: S308  # each line is escaped
