"""``manage.py audit_baseline``: gives rows that are older than the package the starting point of their trail."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, connections
from tqdm import tqdm

from django_signal_audit.baseline import BATCH_SIZE, Baseline
from django_signal_audit.exceptions import EventNotWritten
from django_signal_audit.management.base import AuditCommand
from django_signal_audit.management.selection import WRONG, select_plans


class Command(AuditCommand):
    """Writes one event with the source "baseline" for each row of which no event tells how it began."""

    help = "Record the state of rows that are older than the audit as the starting point of their trail."
    exit_codes = (
        "Exit codes: 0 every row has a starting point, 1 a batch could not be written, "
        "2 a wrong model, database or option. It may be ended at any moment: run it again and it goes on."
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

    def handle(self, *args: Any, **options: Any) -> None:
        """Write what is missing, model by model."""
        if options["batch_size"] < 1:
            msg = "--batch-size must be at least 1."
            raise CommandError(msg, returncode=WRONG)
        using = options["database"]
        tables = None
        for plan in select_plans(options["models"], using):
            tables = tables or set(connections[using].introspection.table_names())
            if plan.model._meta.db_table not in tables:
                continue
            try:
                self._give(Baseline(plan, using), options["batch_size"])
            except (EventNotWritten, DatabaseError, InterfaceError) as error:
                msg = f"{plan.label}: {' '.join(str(error).split())} What was written so far stays; run it again."
                raise CommandError(msg) from error

    def _give(self, baseline: Baseline, batch_size: int) -> None:
        label = baseline.plan.label
        if not baseline.names:
            self.stdout.write(f"{label}: every rule has a condition, so there is no starting point to give.")
            return
        is_terminal = sys.stderr.isatty()
        total = baseline.count() if is_terminal else None
        rows = written = 0
        with tqdm(total=total, desc=label, unit="row", disable=not is_terminal) as bar:
            for batch in baseline.run(batch_size):
                rows += batch.rows
                written += batch.written
                bar.update(batch.rows)
        self.stdout.write(f"{label}: {written} of {rows} rows got a starting point.")
