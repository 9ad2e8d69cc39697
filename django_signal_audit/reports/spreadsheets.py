"""Rows as a spreadsheet, written one by one into a file on disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import IO

# A cell holds no more.
MAX_CELL = 32_767


def can_write() -> bool:
    """Return whether XlsxWriter is installed."""
    return find_spec("xlsxwriter") is not None


def write_xlsx(rows: Iterable[Sequence[str]], stream: IO[bytes]) -> None:
    """Write rows of texts, the first of which is the head."""
    from xlsxwriter import Workbook

    workbook = Workbook(stream, {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False})
    sheet = workbook.add_worksheet()
    sheet.freeze_panes(1, 0)
    for number, row in enumerate(rows):
        for column, text in enumerate(row):
            sheet.write_string(number, column, text[:MAX_CELL])
    workbook.close()
