"""What a report format is: a class that writes a report to a stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TextIO

from django_signal_audit.reports.base import Report


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
