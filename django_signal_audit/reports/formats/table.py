"""The table a terminal shows."""

from __future__ import annotations

from typing import TextIO

from tabulate import tabulate

from django_signal_audit.reports.base import Report, cell_lines
from django_signal_audit.reports.display import printable

from .base import ReportFormat


class TableFormat(ReportFormat):
    """Aligned columns under their headings."""

    says_empty = True
    most_groups = 1000

    def write(self, report: Report, stream: TextIO) -> None:
        """Write the title and the table, or that there is nothing to show."""
        stream.write(f"{printable(report.title)}\n\n")
        if not report.rows:
            stream.write(f"{printable(report.empty)}\n")
            return
        for number, rows in enumerate(report.batches()):
            table = tabulate(
                [["\n".join(map(printable, cell_lines(cell))) for cell in row] for row in rows],
                headers=[printable(str(column.heading)) for column in report.columns],
                tablefmt="simple",
                # Otherwise the key "1e5" would be printed as the number 100000.
                disable_numparse=True,
                colalign=["right" if column.is_number else "left" for column in report.columns],
            )
            before = "\n" if number else ""
            stream.write(f"{before}{table}\n")
        if report.rest:
            stream.write(f"\n{printable(report.rest)}\n")
