"""``manage.py audit_seal``: seals events, signs checkpoints and publishes them."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS
from django.template.defaultfilters import pluralize
from tqdm import tqdm

from django_signal_audit.context.scopes import context_scope
from django_signal_audit.evidence.anchoring import anchor, keep_sealing
from django_signal_audit.evidence.config import get_evidence, get_signer
from django_signal_audit.evidence.notes import NoteError, PrivateKey
from django_signal_audit.evidence.sealing import CannotSeal, Sealer, SealReport
from django_signal_audit.exceptions import InvalidSettings
from django_signal_audit.management.base import AuditCommand
from django_signal_audit.management.stopping import stop_signals
from django_signal_audit.reports.arguments import check_alias, check_database
from django_signal_audit.reports.base import WrongArgument


class Command(AuditCommand):
    """Seals what is committed. Any number of them may run at a time, and any may be killed."""

    help = "Seal recorded events, so that later edits, deletions and insertions can be shown."
    requires_system_checks: list[str] = []
    database_code = 2
    exit_codes = (
        "Exit codes: 0 everything committed is sealed (signed only if EVIDENCE has a key), 2 a wrong option, key or "
        "database, a signer that fails, or a newest checkpoint that was changed. An anchor that fails is logged and "
        "tried again with the next run."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add how often, and where to look."""
        mode = parser.add_mutually_exclusive_group()
        mode.add_argument("--once", action="store_true", help="Seal until nothing is left, then end (the default).")
        mode.add_argument("--watch", action="store_true", help="Keep running, and seal once every INTERVAL.")
        mode.add_argument("--generate-key", metavar="FILE", help="Write a new signing key and print its public key.")
        parser.add_argument("--full", action="store_true", help="Search the whole table for unsealed events.")
        parser.add_argument("--no-anchors", action="store_true", help="Publish no checkpoint.")
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help='Alias of the database (default: "default").')

    def handle(self, *args: Any, **options: Any) -> None:
        """Seal, or make a key."""
        try:
            if options["generate_key"]:
                # The settings may name the key already, and then "migrate" fails its checks until the key is there.
                check_alias(options["database"])
                self._generate(Path(options["generate_key"]), options["database"])
                return
            check_database(options["database"])
            signer = get_signer()
        except (WrongArgument, NoteError, InvalidSettings) as error:
            raise CommandError(str(error), returncode=2) from error
        if signer is None:
            self.stderr.write('Checkpoints are not signed: SIGNAL_AUDIT["EVIDENCE"] has no KEY.')
        with context_scope(command="audit_seal"):
            if options["watch"]:
                self._watch(options)
                return
            try:
                self._once(options)
            except CannotSeal as error:
                raise CommandError(str(error), returncode=2) from error

    def _generate(self, path: Path, using: str) -> None:
        key = PrivateKey.generate(get_evidence().origin_of(using))
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            msg = f"Cannot write {str(path)!r}: {error.strerror}."
            raise CommandError(msg, returncode=2) from error
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{key}\n")
        self.stdout.write(PrivateKey(key).public_key)

    def _once(self, options: dict[str, Any]) -> None:
        is_terminal = sys.stderr.isatty()
        with stop_signals() as stop, tqdm(unit="event", disable=not is_terminal) as bar:
            sealer = Sealer(options["database"], is_full=options["full"])
            report = sealer.run(should_stop=stop.is_set, on_events=bar.update)
        self._say(report)
        self._anchor(options)

    def _anchor(self, options: dict[str, Any]) -> None:
        if options["no_anchors"]:
            return
        for alias, error in anchor(options["database"]).failed.items():
            self.stderr.write(f'The anchor "{alias}" failed: {error}')

    def _watch(self, options: dict[str, Any]) -> None:
        with stop_signals() as stop:
            keep_sealing(
                options["database"],
                stop,
                is_full=options["full"],
                with_anchors=not options["no_anchors"],
                on_sealed=self._say,
            )

    def _say(self, report: SealReport) -> None:
        self.stdout.write(f"{report.sealed} event{pluralize(report.sealed)} sealed, {report.size} in all.")
        self.stdout.flush()
