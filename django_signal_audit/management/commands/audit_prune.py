"""``manage.py audit_prune``: takes away events that have been kept long enough."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError
from django.template.defaultfilters import pluralize
from tqdm import tqdm

from django_signal_audit.context.scopes import context_scope
from django_signal_audit.evidence.sealing import CannotSeal
from django_signal_audit.exceptions import EventNotWritten, InvalidSettings
from django_signal_audit.management.base import WRONG, AuditCommand
from django_signal_audit.management.filtering import check_rule
from django_signal_audit.models.events import utc_now
from django_signal_audit.problems import shown
from django_signal_audit.reports.arguments import check_database
from django_signal_audit.reports.base import WrongArgument
from django_signal_audit.retention.archive import Archive, ArchiveError
from django_signal_audit.retention.pruning import BATCH_SIZE, Pruning, Retention, counts_of, periods_of
from django_signal_audit.rules.durations import Period, parse_period, period_hint
from django_signal_audit.rules.registry import get_registry

LARGEST_BATCH = 10_000


class Command(AuditCommand):
    """Archives and deletes in batches, each told of by an event."""

    help = "Delete audit events that are past their retention; --archive saves them to a file first."
    exit_codes = (
        "Exit codes: 0 nothing is left to prune, 1 a batch could not be archived or deleted (those before it are "
        "gone), 2 a wrong option, rule, archive or database, or mistakes in the rules. "
        "It can be stopped at any time; run it again to continue."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add what is to go, and where to."""
        parser.add_argument(
            "--older-than",
            metavar="AGE",
            help="Events of at least this age: 365d, 104w, 6mo, 1y. A rule's longer retention still keeps its events. "
            "Default: only events past the retention of their rules.",
        )
        parser.add_argument(
            "--keep-last",
            type=int,
            metavar="N",
            help="Events that N newer ones of their object follow. A rule's longer retention still keeps its events. "
            "With --older-than, only those of at least that age.",
        )
        parser.add_argument("--rule", help="Only events this rule matched.")
        parser.add_argument("--tenant", help="Only events of this tenant.")
        parser.add_argument("--archive", metavar="FILE", help="First append them here as JSON lines; .gz compresses.")
        parser.add_argument("--dry-run", action="store_true", help="Only show how many events would be deleted.")
        parser.add_argument(
            "--batch-size",
            type=int,
            default=BATCH_SIZE,
            help=f"Events archived and deleted together (default: {BATCH_SIZE}, at most {LARGEST_BATCH}).",
        )
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help='Alias of the database (default: "default").')

    def handle(self, *args: Any, **options: Any) -> None:
        """Prune, and say what is gone."""
        try:
            retention = _retention(options)
        except WrongArgument as error:
            raise CommandError(str(error), returncode=WRONG) from error
        try:
            # Without rules nobody has noted which command this is.
            with context_scope(command="audit_prune"), self._archive(options) as archive:
                pruning = Pruning(retention, options["database"], archive=archive, is_dry=options["dry_run"])
                self._prune(pruning, options)
        except ArchiveError as error:
            raise CommandError(str(error), returncode=WRONG) from error
        except (EventNotWritten, CannotSeal, InvalidSettings, DatabaseError, InterfaceError, OSError) as error:
            msg = f"{' '.join(str(error).split())} Completed batches stay pruned; run the command again."
            raise CommandError(msg) from error

    def _archive(self, options: dict[str, Any]) -> Any:
        if not options["archive"] or options["dry_run"]:
            return nullcontext()
        return Archive(Path(options["archive"]))

    def _prune(self, pruning: Pruning, options: dict[str, Any]) -> None:
        is_terminal = sys.stderr.isatty()
        total = pruning.candidates().count() if is_terminal else 0
        pruned = awaited = held = 0
        with tqdm(total=total or None, unit="event", disable=not is_terminal) as bar:
            for batch in pruning.run(options["batch_size"]):
                pruned += batch.pruned
                awaited += batch.awaited
                held += batch.held
                bar.update(batch.examined)
        verb = "would be pruned" if options["dry_run"] else "pruned"
        self.stdout.write(f"{pruned} event{pluralize(pruned)} {verb}.")
        if awaited:
            kept = f"{awaited} event{pluralize(awaited)} {pluralize(awaited, 'is,are')} kept"
            self.stderr.write(f"{kept} until {pluralize(awaited, 'its,their')} notifications are sent or dead.")
        if held:
            self.stderr.write(f"{held} event{pluralize(held)} {pluralize(held, 'is,are')} kept by a legal hold.")


def _retention(options: dict[str, Any]) -> Retention:
    """Return what is to be kept, or raise WrongArgument."""
    if not 1 <= options["batch_size"] <= LARGEST_BATCH:
        msg = f"--batch-size must be 1 to {LARGEST_BATCH}."
        raise WrongArgument(msg)
    check_database(options["database"])
    registry = get_registry()
    mistakes = [problem for problem in registry.problems if problem.is_error]
    if mistakes:
        # What a rule that cannot be read wants to have kept is not known.
        msg = f"{mistakes[0].path} {mistakes[0].message} Fix it first; nothing was pruned."
        raise WrongArgument(msg)
    rules = [item.rule for item in registry.parsed]
    periods, counts = periods_of(rules), counts_of(rules)
    older_than, keep_last = _age(options["older_than"]), options["keep_last"]
    if keep_last is not None and keep_last < 1:
        msg = "--keep-last must be 1 or more."
        raise WrongArgument(msg)
    if options["rule"]:
        check_rule(options["rule"], options["database"])
    known = {*periods, *counts}
    if older_than is None and keep_last is None and not (known & {options["rule"]} if options["rule"] else known):
        msg = f"No retention is set for {options['rule'] or 'any rule'}. Set one, or write --older-than 365d."
        raise WrongArgument(msg)
    return Retention(
        now=utc_now(),
        periods=periods,
        counts=counts,
        older_than=older_than,
        keep_last=keep_last,
        rule=options["rule"] or "",
    )


def _age(text: str | None) -> Period | None:
    if text is None:
        return None
    age = parse_period(text)
    if age is None:
        hint = period_hint(text).removeprefix(f"It is {shown(text)}.").replace('"', "").strip()
        msg = f"{shown(text)} isn't an age. {f'{hint} ' if hint else ''}Write 12h, 365d, 104w, 6mo or 1y."
        raise WrongArgument(msg)
    return age
