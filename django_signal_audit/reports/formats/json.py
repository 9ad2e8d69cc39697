"""JSON: one array of objects."""

from __future__ import annotations

import json
from typing import TextIO

from django_signal_audit.reports.base import Report

from .base import ReportFormat


class JsonFormat(ReportFormat):
    """An array with one object per row, its keys the column names; ASCII only, so that no terminal obeys any of it."""

    def write(self, report: Report, stream: TextIO) -> None:
        """Write the array, one row per line."""
        separator = "[\n"
        for record in report.records():
            stream.write(f"{separator}{json.dumps(record)}")
            separator = ",\n"
        stream.write("\n]\n" if report.rows else "[]\n")
