"""``manage.py audit_prove``: writes what proves an event to people who have neither Django nor the database."""

from __future__ import annotations

import shutil
from argparse import ArgumentParser
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS

from django_signal_audit.evidence import standalone
from django_signal_audit.evidence.proofs import ProofError, as_json, bundle_of, growth_of, tlog_proof
from django_signal_audit.evidence.sealing import latest_checkpoint
from django_signal_audit.exceptions import InvalidSettings
from django_signal_audit.management.base import AuditCommand
from django_signal_audit.models import AuditEvent
from django_signal_audit.reports.arguments import check_database
from django_signal_audit.reports.base import WrongArgument
from django_signal_audit.reports.files import open_text, why_not


class Command(AuditCommand):
    """Proves one event, or that the log only grew; writes the verifier too if asked to."""

    help = "Write a proof of an event, which anybody can verify without Django and without the database."
    requires_system_checks: list[str] = []
    database_code = 2
    exit_codes = "Exit codes: 0 the proof was written, 1 there is none, 2 a wrong option, event or database."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add what to prove, and where to write it."""
        parser.add_argument("event", nargs="?", metavar="EVENT", help="The uid or the id of the event.")
        parser.add_argument("--size", type=int, help="Prove by the checkpoint of this size (default: the newest).")
        parser.add_argument("--since", type=int, metavar="SIZE", help="Prove that the log only grew since this size.")
        parser.add_argument(
            "--format", choices=["json", "tlog-proof"], default="json", help="json (default) or C2SP's tlog-proof."
        )
        parser.add_argument("--verifier", metavar="FILE", help="Also write the standalone verifier to this file.")
        parser.add_argument("--output", metavar="FILE", help="Write to this file instead of printing.")
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help='Alias of the database (default: "default").')

    def handle(self, *args: Any, **options: Any) -> None:
        """Write the proof."""
        try:
            check_database(options["database"])
            if options["verifier"]:
                shutil.copyfile(Path(standalone.__file__), options["verifier"])
            if not options["event"] and options["since"] is None:
                if options["verifier"]:
                    return
                msg = "Name an event, or write --since SIZE."
                raise WrongArgument(msg)
            text = self._proof(options)
            self._write(text, options["output"])
        except ProofError as error:
            raise CommandError(str(error), returncode=1) from error
        except (WrongArgument, InvalidSettings) as error:
            raise CommandError(str(error), returncode=2) from error
        except OSError as error:
            msg = f"Cannot write the file: {why_not(error)}."
            raise CommandError(msg, returncode=2) from error

    def _proof(self, options: dict[str, Any]) -> str:
        using = options["database"]
        if not options["event"]:
            newest = _newest(using) if options["size"] is None else options["size"]
            return as_json(growth_of(using, options["since"], newest)) + "\n"
        bundle = bundle_of(_event(options["event"], using), using, options["size"])
        return tlog_proof(bundle) if options["format"] == "tlog-proof" else as_json(bundle) + "\n"

    def _write(self, text: str, output: str | None) -> None:
        if output is None or output == "-":
            self.stdout.write(text, ending="")
            return
        with open_text(Path(output)) as stream:
            stream.write(text)


def _newest(using: str) -> int:
    newest = latest_checkpoint(using)
    if newest is None:
        msg = "Nothing is sealed yet. Run manage.py audit_seal."
        raise ProofError(msg)
    return newest.size


def _event(text: str, using: str) -> AuditEvent:
    try:
        which = {"pk": int(text)} if text.lstrip("-").isdecimal() else {"uid": UUID(text)}
        return AuditEvent.objects.using(using).get(**which)
    except (ValueError, OverflowError, AuditEvent.DoesNotExist) as error:
        msg = f"There is no event {text!r}. Write its uid or its id."
        raise WrongArgument(msg) from error
