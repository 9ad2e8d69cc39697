"""Comma-separated values that a spreadsheet opens without running anything."""

from __future__ import annotations

import csv
import re
from typing import TextIO

from django_signal_audit.reports.base import Cell, Report, cell_data, cell_lines
from django_signal_audit.reports.display import printable

from .base import ReportFormat

# Spreadsheets take a cell that begins so for a formula; the full-width forms are read like their narrow ones.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
# Where a comma is the decimal point, spreadsheets take a semicolon for the end of a cell.
_INNER = re.compile(r"""([;|][\s"']*)(?=[=+@\uff1d\uff0b\uff0d\uff20-])(?![+-]?\d+(?:\.\d+)?(?:[;|]|$))""")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
# Most texts: nothing in them is a formula, or cannot be shown. A report may have a million.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.,:/#()-]*")


def harmless(text: str) -> str:
    """Return a text as a spreadsheet takes it for a text, whatever it begins with."""
    if _PLAIN.fullmatch(text):
        return text
    shown = printable(text)
    if (text.startswith(_FORMULA_STARTS) or text.lstrip().startswith(_FORMULA_STARTS)) and not _NUMBER.fullmatch(text):
        shown = f"'{shown}"
    return _INNER.sub(r"\1'", shown)


def _cell(cell: Cell) -> object:
    if isinstance(cell, int):
        return cell
    if isinstance(cell, str):
        return harmless(cell)
    data = cell_data(cell)
    return harmless(data if isinstance(data, str) else "; ".join(cell_lines(cell)))


class CsvFormat(ReportFormat):
    """A header of column names, then one line per row."""

    def write(self, report: Report, stream: TextIO) -> None:
        """Write the header and the rows."""
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([column.name for column in report.columns])
        writer.writerows([_cell(cell) for cell in row] for row in report.rows)
