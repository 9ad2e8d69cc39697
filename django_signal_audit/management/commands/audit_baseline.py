"""``manage.py audit_baseline``: gives rows that are older than the package the starting point of their trail."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError
from tqdm import tqdm

from django_signal_audit.exceptions import EventNotWritten
from django_signal_audit.management.base import AuditCommand
from django_signal_audit.management.selection import WRONG, select_plans
from django_signal_audit.models.tables import table_exists
from django_signal_audit.replay.baseline import BATCH_SIZE, Baseline
from django_signal_audit.rules.plans import ModelPlan

LARGEST_BATCH = 100_000


class Command(AuditCommand):
    """Writes one event with the source "baseline" for each row that has no recorded beginning, or a wrong history."""

    help = "Record the state of rows that are older than the audit as the starting point of their trail."
    exit_codes = (
        "Exit codes: 0 every row has a starting point, 1 a batch could not be written, 2 a wrong model, database or "
        "option, or none of the tables is there. It may be ended at any moment: run it again and it goes on."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add whose rows, and how many at a time."""
        parser.add_argument("models", nargs="*", metavar="MODEL", help="app_label.Model or app_label.*; default: all.")
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help='Alias of the database (default: "default").')
        parser.add_argument(
            "--batch-size",
            type=int,
            default=BATCH_SIZE,
            help=f"Rows locked and committed together (default: {BATCH_SIZE}).",
        )
        parser.add_argument(
            "--repair",
            action="store_true",
            help="Also write a new starting point for rows that differ from what is recorded of them, and a deletion "
            "for rows that are gone. The event says that it repairs, and nobody is notified.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Only say what would be written.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Write what is missing, model by model."""
        if not 1 <= options["batch_size"] <= LARGEST_BATCH:
            msg = "--batch-size must be at least 1."
            if options["batch_size"] > 1:
                msg = f"--batch-size must be at most {LARGEST_BATCH}."
            raise CommandError(msg, returncode=WRONG)
        plans = select_plans(options["models"], options["database"])
        # Rows of multi-table children come first: their deletions end the parent's row too.
        plans.sort(key=lambda plan: len(plan.model._meta.get_parent_list()), reverse=True)
        missing = [plan for plan in plans if not self._give(plan, options)]
        if plans and len(missing) == len(plans):
            msg = f'None of the tables is on the database "{options["database"]}", so nothing was recorded.'
            raise CommandError(msg, returncode=WRONG)

    def _give(self, plan: ModelPlan, options: dict[str, Any]) -> bool:
        """Write what is missing of one model; return whether its table is there."""
        using = options["database"]
        try:
            if not table_exists(plan.model, using):
                self.stderr.write(f"{plan.label}: there is no such table on this database.")
                return False
            baseline = Baseline(plan, using, repair=options["repair"], is_dry=options["dry_run"])
            self._run(baseline, options)
        except (EventNotWritten, DatabaseError, InterfaceError) as error:
            msg = f"{plan.label}: {' '.join(str(error).split())} What was written so far stays; run it again."
            raise CommandError(msg) from error
        return True

    def _run(self, baseline: Baseline, options: dict[str, Any]) -> None:
        label = baseline.plan.label
        if not baseline.names:
            self.stdout.write(f"{label}: every rule has a condition, so there is no starting point to give.")
            return
        is_terminal = sys.stderr.isatty()
        total = baseline.count() if is_terminal else None
        rows = written = repaired = gone = 0
        with tqdm(total=total, desc=label, unit="row", disable=not is_terminal) as bar:
            for batch in baseline.run(options["batch_size"]):
                rows += batch.rows
                written += batch.written
                repaired += batch.repaired
                gone += batch.gone
                bar.update(batch.rows)
        verb = "would get" if options["dry_run"] else "got"
        summary = f"{label}: {written} of {rows} rows {verb} a starting point"
        if options["repair"]:
            summary += f", {repaired} of them because they differed; {gone} rows that are gone {verb} a deletion"
        self.stdout.write(f"{summary}.")
