"""``manage.py audit_rules``: what is audited, by which rule, and what a change would do."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import TextIO, cast

from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections, router
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_signal_audit.capture.engines import why_portable
from django_signal_audit.delivery.recipient_checks import unreached
from django_signal_audit.enums import EventType
from django_signal_audit.management.base import AuditCommand
from django_signal_audit.problems import did_you_mean
from django_signal_audit.reports.base import Cell, Column, Report, WrongArgument
from django_signal_audit.reports.explain import coverage, explain, likely_rules
from django_signal_audit.reports.formats.table import TableFormat
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.rules.registry import get_registry


class Command(AuditCommand):
    """Prints the rules in force and what they cover. No row is read, so it works before the first migration."""

    help = "Print which models are audited by which rules, or what a change would do."
    requires_system_checks: list[str] = []  # it tells which rules are in error, too
    exit_codes = "Exit codes: 0 printed, 1 an unknown model, event or database, 2 a wrong option."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add what to explain, and how to print it."""
        parser.add_argument(
            "--explain",
            nargs=2,
            metavar=("MODEL", "EVENT"),
            help="Print what a change would do: app_label.Model, and create, update, delete or m2m.",
        )
        parser.add_argument("--format", choices=["table", "json"], default="table", help="Default: table.")
        parser.add_argument("--database", help="Print only models whose rows may be on this database. Default: all.")

    def handle(self, *, explain: tuple[str, str] | None, database: str | None, **options: object) -> None:
        """Print the reports; every mistake is one line."""
        if database is not None and database not in connections:
            msg = f"There is no database {database!r}. {did_you_mean(database, connections)}"
            raise CommandError(msg)
        try:
            reports = _explain(*explain, database) if explain else coverage(database)
        except WrongArgument as error:
            raise CommandError(str(error)) from error
        if options["format"] == "json":
            document = {name: list(report.records()) for name, report in reports.items()}
            self.stdout.write(json.dumps(document, indent=2))
        else:
            self._print(list(reports.values()))

    def _print(self, reports: list[Report]) -> None:
        self.stdout.ending = ""  # the format ends its lines itself
        for position, report in enumerate(reports):
            if position:
                self.stdout.write("\n")
            TableFormat().write(report, cast("TextIO", self.stdout))


def _explain(label: str, event_type: str, alias: str | None) -> dict[str, Report]:
    """Return what a change would do, how rows are written, and who would not be notified."""
    reports = explain(label, event_type)
    model, likely = likely_rules(label, event_type)
    using = alias or router.db_for_write(model) or DEFAULT_DB_ALIAS
    plan = get_registry().plan_for(model)
    if likely and plan is not None and event_type in (EventType.CREATE, EventType.UPDATE):
        reports["writes"] = _writes(plan, using)
    if not any(item.notify for item in likely):
        return reports
    columns = (
        Column("rule", gettext_lazy("rule")),
        Column("channel", gettext_lazy("channel")),
        Column("recipient", gettext_lazy("recipient")),
        Column("why", gettext_lazy("why")),
    )
    rows: list[list[Cell]] = [list(item) for item in unreached(likely, model, using)]
    title, empty = _("Who would not be notified"), _("No recipient would be skipped.")
    return {**reports, "not_notified": Report(title=title, columns=columns, rows=rows, empty=empty)}


def _writes(plan: ModelPlan, using: str) -> Report:
    """Return how rows and their events reach the database, and why."""
    rows: list[list[Cell]] = []
    together = _("in one or two packets") if connections[using].vendor == "mysql" else _("one for both")
    for is_many, write in ((False, _("a save")), (True, _("a bulk update"))):
        try:
            reason = why_portable(plan, using, is_many=is_many)
        except DatabaseError as error:
            reason = str(error).strip().partition("\n")[0]
        rows.append([write, _("separate") if reason else together, reason])
    columns = (
        Column("write", gettext_lazy("write")),
        Column("statements", gettext_lazy("statements")),
        Column("why", gettext_lazy("why")),
    )
    title = _('Statements for a row and its event on the database "%(database)s"') % {"database": using}
    return Report(title=title, columns=columns, rows=rows, empty="")
