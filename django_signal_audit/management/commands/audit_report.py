"""``manage.py audit_report``: how much happened, by whatever you ask for."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import replace
from typing import Any

from django_signal_audit.management.base import ReportCommand
from django_signal_audit.management.filtering import add_filter_options, describe, filter_of
from django_signal_audit.reports.activity import DIMENSIONS, activity
from django_signal_audit.reports.base import Report


class Command(ReportCommand):
    """Counts events."""

    help = "Count audit events by model, event, actor, day and more."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add what to count by and which events to count."""
        parser.add_argument(
            "--by",
            action="append",
            metavar="DIMENSION",
            help=f"One of {', '.join(DIMENSIONS)}; may be repeated. Default: model and event. "
            "By rule and field an event counts once for each of its rules and fields.",
        )
        add_filter_options(parser)
        super().add_arguments(parser)

    def make_report(self, options: dict[str, Any]) -> Report:
        """Return the counts."""
        by = options["by"] or []
        wanted = filter_of(options)
        report = activity(wanted.find(options["database"]), [by] if isinstance(by, str) else by)
        return replace(report, scope=describe(wanted))
