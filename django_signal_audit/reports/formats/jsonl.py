"""JSON Lines: one object per line."""

from __future__ import annotations

import json
from typing import TextIO

from django_signal_audit.reports.base import Report

from .base import ReportFormat


class JsonLinesFormat(ReportFormat):
    """One object per row and line, its keys the column names; ASCII only, so that no terminal obeys any of it."""

    def write(self, report: Report, stream: TextIO) -> None:
        """Write the rows."""
        for record in report.records():
            stream.write(f"{json.dumps(record)}\n")
