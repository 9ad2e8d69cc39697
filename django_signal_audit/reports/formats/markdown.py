"""A Markdown table, for issues, wikis and mails."""

from __future__ import annotations

import re
from typing import TextIO

from tabulate import tabulate

from django_signal_audit.reports.base import Cell, Report, cell_lines
from django_signal_audit.reports.display import printable

from .base import ReportFormat

# What could end the cell, start markup or HTML, or make a link. An underscore in a word (login_failed) starts nothing.
_MARKUP = re.compile(r"[\\`*\[\]<>|~&]|:(?=//)|(?<=www)\.|(?<![^\W_])_|_(?![^\W_])", re.IGNORECASE)


def _escape(text: str) -> str:
    return _MARKUP.sub(lambda match: f"\\{match[0]}", printable(text))


def _cell(cell: Cell) -> str:
    return "<br>".join(map(_escape, cell_lines(cell)))


class MarkdownFormat(ReportFormat):
    """A heading and a GitHub-flavoured table."""

    says_empty = True
    most_groups = 1000

    def write(self, report: Report, stream: TextIO) -> None:
        """Write the heading and the table, or that there is nothing to show."""
        stream.write(f"# {_escape(report.title)}\n\n")
        if not report.rows:
            stream.write(f"{_escape(report.empty)}\n")
            return
        for number, rows in enumerate(report.batches()):
            table = tabulate(
                [[_cell(cell) for cell in row] for row in rows],
                headers=[_escape(str(column.heading)) for column in report.columns],
                tablefmt="pipe",
                disable_numparse=True,
                colalign=["right" if column.is_number else "left" for column in report.columns],
            )
            before = "\n" if number else ""
            stream.write(f"{before}{table}\n")
        if report.rest:
            stream.write(f"\n{_escape(report.rest)}\n")
