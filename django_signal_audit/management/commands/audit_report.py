"""``manage.py audit_report``: how much happened, by whatever you ask for."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django_signal_audit.enums import Level
from django_signal_audit.management.reporting import ReportCommand
from django_signal_audit.models.events import utc_now
from django_signal_audit.problems import did_you_mean
from django_signal_audit.reports.activity import activity
from django_signal_audit.reports.arguments import parse_model, parse_moment
from django_signal_audit.reports.base import Report, WrongArgument
from django_signal_audit.reports.dimensions import DIMENSIONS
from django_signal_audit.reports.queries import EventFilter

MOMENTS = "12h, 7d or 2w ago, a date (its first instant), or a date and time"


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
        parser.add_argument("--since", metavar="TIME", help=f"From then on: {MOMENTS}.")
        parser.add_argument("--until", metavar="TIME", help=f"Before then, that moment not included: {MOMENTS}.")
        parser.add_argument("--model", help="Only events of this model: app_label.Model.")
        parser.add_argument("--event", help="Only events of this type: create, update, … or a custom name.")
        parser.add_argument("--actor", help="Only events of this actor, by key or by exact name.")
        parser.add_argument("--object", metavar="KEY", help="Only events of objects with this primary key.")
        parser.add_argument("--rule", help="Only events this rule matched.")
        parser.add_argument("--level", help=f"Only events of this level: {', '.join(Level.values)}.")
        super().add_arguments(parser)

    def make_report(self, options: dict[str, Any]) -> Report:
        """Return the counts."""
        by = options["by"] or []
        events = _filter_of(options).find(options["database"])
        return activity(events, [by] if isinstance(by, str) else by)


def _filter_of(options: dict[str, Any]) -> EventFilter:
    now = utc_now()
    moments = {name: parse_moment(options[name], now) for name in ("since", "until") if options[name]}
    return EventFilter(
        model=parse_model(options["model"], options["database"]) if options["model"] else "",
        object_id=options["object"] or "",
        event_type=options["event"] or "",
        actor=options["actor"] or "",
        rule=options["rule"] or "",
        level=_level(options["level"]),
        **moments,
    )


def _level(text: str | None) -> str:
    if text and text not in Level.values:
        msg = f"There is no level {text!r}. {did_you_mean(text, Level.values)}"
        raise WrongArgument(msg)
    return text or ""
