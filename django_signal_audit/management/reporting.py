"""What the commands that print a report have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from argparse import ArgumentParser
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TextIO, cast

from django.core.management.base import CommandError, OutputWrapper
from django.db import DEFAULT_DB_ALIAS

from django_signal_audit.events.safe_text import printable
from django_signal_audit.management.base import AuditCommand, discard_output
from django_signal_audit.reports.arguments import check_database
from django_signal_audit.reports.base import Report, WrongArgument
from django_signal_audit.reports.files import open_text, output_path, why_not
from django_signal_audit.reports.formats.base import ReportFormat
from django_signal_audit.reports.formats.registry import format_paths, get_format


class ReportCommand(AuditCommand, ABC):
    """Makes a report, and writes it in the wanted format where it is wanted. Subclasses write ``make_report``."""

    exit_codes = "Exit codes: 0 the report was written (it may be empty), 1 a wrong argument, 2 a wrong option."
    requires_system_checks: list[str] = []  # a report must be had while the settings are being mended

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options that say what to write and where."""
        parser.add_argument("--format", default="table", help=f"One of {', '.join(format_paths())}; default: table.")
        parser.add_argument("--output", metavar="FILE", help="Write to this file (UTF-8) instead of printing.")
        parser.add_argument(
            "--database", default=DEFAULT_DB_ALIAS, help='Alias of the database to read (default: "default").'
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Make the report and write it; every mistake is one line."""
        try:
            report_format = get_format(options["format"])
            check_database(options["database"])
            report = self.make_report(options)
        except WrongArgument as error:
            raise CommandError(str(error)) from error
        if not report.rows and not report_format.says_empty:
            self.stderr.write(printable(report.empty))
        if path := output_path(options["output"]):
            self._write_file(report_format, report, path)
        else:
            print_to(self.stdout, partial(report_format.write, report))

    @abstractmethod
    def make_report(self, options: dict[str, Any]) -> Report:
        """Return the report that the options ask for, or raise WrongArgument."""

    def _write_file(self, report_format: ReportFormat, report: Report, path: Path) -> None:
        try:
            with open_text(path) as stream:
                report_format.write(report, stream)
        except OSError as error:
            msg = f"Cannot write {str(path)!r}: {why_not(error)}."
            raise CommandError(msg) from error
        self.stdout.write(f"{len(report.rows)} rows written to {path}")


def print_to(stdout: OutputWrapper, write: Callable[[TextIO], None]) -> None:
    """Have something written to the standard output, which may be closed before its end."""
    stdout.ending = ""  # formats end their lines themselves, and may write half of one
    try:
        write(cast("TextIO", stdout))
        stdout.flush()
    except BrokenPipeError:
        discard_output()  # whoever reads (head, less) has seen enough
