"""The table a terminal shows."""

from __future__ import annotations

from django_signal_audit.reports.display import printable

from .base import TextTable


class TableFormat(TextTable):
    """Aligned columns under their headings."""

    style = "simple"

    def escape(self, text: str) -> str:
        """Return the text without what steers a terminal."""
        return printable(text)
