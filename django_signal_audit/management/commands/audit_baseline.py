"""``manage.py audit_baseline``: records the current values of rows that have no history."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import TypedDict, Unpack

from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError
from django.template.defaultfilters import pluralize
from tqdm import tqdm

from django_signal_audit.exceptions import EventNotWritten
from django_signal_audit.management.base import WRONG, AuditCommand
from django_signal_audit.management.filtering import select_plans
from django_signal_audit.models.tables import table_exists
from django_signal_audit.replay.baseline import BATCH_SIZE, Baseline
from django_signal_audit.rules.plans import ModelPlan

LARGEST_BATCH = 100_000


class Options(TypedDict):
    """What the command was called with."""

    models: list[str]
    database: str
    batch_size: int
    repair: bool
    dry_run: bool


class Command(AuditCommand):
    """Writes one event with the source "baseline" for each row that has no recorded beginning, or a wrong history."""

    help = "Record a baseline for rows that have no recorded history."
    exit_codes = (
        "Exit codes: 0 every row has a baseline, 1 a batch could not be written, 2 a wrong model, database or "
        "option, or none of the tables exists. It can be stopped at any time; run it again to continue."
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
            help="Also record a new baseline for rows that differ from their recorded state, and a deletion for rows "
            "that are gone. These events are marked as repairs, and nobody is notified.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Show what would be recorded, and record nothing.")

    def handle(self, *args: object, **options: Unpack[Options]) -> None:
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
            msg = f'None of the audited tables exists in the database "{options["database"]}"; nothing was recorded.'
            raise CommandError(msg, returncode=WRONG)

    def _give(self, plan: ModelPlan, options: Options) -> bool:
        """Write what is missing of one model; return whether its table is there."""
        using = options["database"]
        try:
            if not table_exists(plan.model, using):
                self.stderr.write(f"{plan.label}: the table doesn't exist in this database.")
                return False
            baseline = Baseline(plan, using, repair=options["repair"], is_dry=options["dry_run"])
            self._run(baseline, options)
        except (EventNotWritten, DatabaseError, InterfaceError) as error:
            msg = f"{plan.label}: {' '.join(str(error).split())} Completed batches are kept; run the command again."
            raise CommandError(msg) from error
        return True

    def _run(self, baseline: Baseline, options: Options) -> None:
        label = baseline.plan.label
        if not baseline.names:
            has_fields = baseline.plan.all_fields or baseline.plan.all_members
            why = "every rule has a condition" if has_fields else "the model has no field besides its primary key"
            self.stdout.write(f"{label}: skipped, because {why}.")
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
        recorded = "would be recorded" if options["dry_run"] else "recorded"
        summary = f"{label}: baseline {recorded} for {written:,} of {rows:,} row{pluralize(rows)}"
        if options["repair"]:
            rows_gone = f"{gone:,} row{pluralize(gone)} that {pluralize(gone, 'is,are')} gone"
            summary += f" ({repaired:,} of them differed); deletion {recorded} for {rows_gone}"
        self.stdout.write(f"{summary}.")
