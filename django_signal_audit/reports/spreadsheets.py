"""Rows as a spreadsheet, written one by one into a file on disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from itertools import chain, islice
from typing import IO

# A cell holds no more, counted as UTF-16 has it, and a sheet no more rows.
MAX_CELL = 32_767
MAX_ROWS = 1_048_576


def can_write() -> bool:
    """Return whether XlsxWriter is installed."""
    return find_spec("xlsxwriter") is not None


def write_xlsx(rows: Iterable[Sequence[str]], stream: IO[bytes]) -> None:
    """Write rows of texts, the first of which is the head of each sheet."""
    from xlsxwriter import Workbook

    workbook = Workbook(stream, {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False})
    found = iter(rows)
    head = next(found, ())
    while True:
        sheet = workbook.add_worksheet()
        sheet.freeze_panes(1, 0)
        for number, row in enumerate(chain([head], islice(found, MAX_ROWS - 1))):
            for column, text in enumerate(row):
                sheet.write_string(number, column, _fitting(text))
        # Looked at only once the sheet is full: most have one.
        if (following := next(found, None)) is None:
            break
        found = chain([following], found)
    workbook.close()


def _fitting(text: str) -> str:
    """Return the text as far as a cell holds it, and a mark where it goes on."""
    if len(text) <= MAX_CELL // 2:
        return text
    stored = text.encode("utf-16-le", "surrogatepass")
    return text if len(stored) <= 2 * MAX_CELL else f"{stored[: 2 * MAX_CELL - 2].decode('utf-16-le', 'ignore')}…"
