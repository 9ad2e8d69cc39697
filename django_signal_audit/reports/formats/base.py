"""What a report format is: a class that writes a report to a stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, TextIO

from django_signal_audit.reports.base import Report, cell_lines


class ReportFormat(ABC):
    """Base class of report formats.

    Subclass it, write ``write``, and name the subclass in ``SIGNAL_AUDIT["REPORT_FORMATS"]``: alias to dotted path.
    """

    # Does the output say by itself that the report is empty?
    says_empty: bool = False
    # So many groups are counted for people to read, who learn from ``report.rest`` if there are more; None for all.
    most_groups: int | None = None

    @abstractmethod
    def write(self, report: Report, stream: TextIO) -> None:
        """Write the whole report, ending with a line feed."""


class TextTable(ReportFormat):
    """A heading and tables of text. Subclasses say how they look, and write ``escape``."""

    says_empty = True
    most_groups = 1000
    # What tabulate calls the look, what a heading begins with, and what stands between the lines of a cell.
    style: ClassVar[str]
    heading_mark: ClassVar[str] = ""
    line_break: ClassVar[str] = "\n"

    @abstractmethod
    def escape(self, text: str) -> str:
        """Return a text such that it reads as it is, whatever is in it."""

    def write(self, report: Report, stream: TextIO) -> None:
        """Write the heading and the tables, or that there is nothing to show."""
        # It takes a tenth of the time in which a process gets ready, and the admin needs the other formats alone.
        from tabulate import tabulate

        stream.write(f"{self.heading_mark}{self.escape(report.title)}\n\n")
        if not report.rows:
            stream.write(f"{self.escape(report.empty)}\n")
            return
        for number, rows in enumerate(report.batches()):
            table = tabulate(
                [[self.line_break.join(map(self.escape, cell_lines(cell))) for cell in row] for row in rows],
                headers=[self.escape(str(column.heading)) for column in report.columns],
                tablefmt=self.style,
                # Otherwise the key "1e5" would be printed as the number 100000.
                disable_numparse=True,
                colalign=["right" if column.is_number else "left" for column in report.columns],
            )
            before = "\n" if number else ""
            stream.write(f"{before}{table}\n")
        if report.rest:
            stream.write(f"\n{self.escape(report.rest)}\n")
