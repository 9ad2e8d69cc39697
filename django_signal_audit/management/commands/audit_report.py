"""``manage.py audit_report``: how much happened, by whatever you ask for."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import replace
from typing import Any

from django_signal_audit.management.base import ReportCommand
from django_signal_audit.management.filtering import FILTERS, add_filter_options, describe, filter_of
from django_signal_audit.reports.activity import DIMENSIONS, activity
from django_signal_audit.reports.base import Report, WrongArgument
from django_signal_audit.reports.formats import get_format
from django_signal_audit.reports.subject import Subject
from django_signal_audit.rules.patterns import find_model, meant_label

# For people who choose the options of the command, which are English.
_ALL = "--top N has more of them, --format csv all."


class Command(ReportCommand):
    """Counts events."""

    help = "Count audit events by model, event, actor, day and more, or list all about one person."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add what to count by and which events to count."""
        parser.add_argument(
            "--by",
            action="append",
            metavar="DIMENSION",
            help=f"One of {', '.join(DIMENSIONS)}; may be repeated. Default: model and event. "
            "By rule and field an event counts once for each of its rules and fields.",
        )
        parser.add_argument(
            "--top",
            type=int,
            metavar="N",
            help="Only the N groups with the most events. Of a large log this is much faster. Without it, formats for "
            "people have the 1,000 with the most events, and all days and hours.",
        )
        parser.add_argument(
            "--subject",
            nargs=2,
            metavar=("MODEL", "PK"),
            help="Instead, list everything about one person: events about them, by them and naming them, and "
            "their notifications.",
        )
        add_filter_options(parser)
        super().add_arguments(parser)

    def make_report(self, options: dict[str, Any]) -> Report:
        """Return the counts, or all about one person."""
        if options["subject"]:
            return self._about(options)
        if options["top"] is not None and options["top"] < 1:
            msg = f"--top must be at least 1, not {options['top']}."
            raise WrongArgument(msg)
        by = options["by"] or []
        wanted = filter_of(options)
        events, by = wanted.find(options["database"]), [by] if isinstance(by, str) else by
        report = activity(events, by, options["top"], get_format(options["format"]).most_groups)
        if report.rest:
            report = replace(report, rest=f"{report.rest} {_ALL}")
        return replace(report, scope=describe(wanted))

    def _about(self, options: dict[str, Any]) -> Report:
        others = [name for name in ("by", "top", *FILTERS) if options[name] and name != "tenant"]
        if others:
            msg = f"--subject lists everything, and can't be combined with --{others[0]}."
            raise WrongArgument(msg)
        label, pk = options["subject"]
        model = find_model(label)
        if model is None:
            msg = f"There is no model {label!r}. {meant_label(label) or 'Write app_label.Model.'}"
            raise WrongArgument(msg)
        return Subject(model, pk, options["database"]).report()
