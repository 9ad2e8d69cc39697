"""``manage.py audit_verify``: names every sealed event that was changed, deleted or slipped in."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from tqdm import tqdm

from django_signal_audit.evidence.anchoring import anchored_notes
from django_signal_audit.evidence.config import get_evidence, verifying_keys
from django_signal_audit.evidence.findings import Finding, Verdict
from django_signal_audit.evidence.notes import Checkpoint, NoteError, PublicKey, signers_of, split_note
from django_signal_audit.evidence.verification import Verifier
from django_signal_audit.exceptions import InvalidSettings
from django_signal_audit.management.base import AuditCommand
from django_signal_audit.reports.arguments import check_database
from django_signal_audit.reports.base import WrongArgument

TAMPERED, INCOMPLETE, LATE = 1, 2, 3
_UNSIGNED = (
    "No checkpoint is signed by a known key. Either nothing was sealed since the key was set, or the whole log was "
    "rewritten without it. Compare the log with a checkpoint that you kept: --checkpoint FILE."
)
_UNCONFIRMED = (
    "The log was pruned up to a checkpoint that is newer than all that were kept elsewhere: they say nothing about "
    "what is left. Compare it with a newer one: --checkpoint FILE."
)


class Command(AuditCommand):
    """Reads the whole log, in constant memory; nothing is written and nothing locked."""

    help = "Verify that no sealed event was changed, deleted or slipped in."
    requires_system_checks: list[str] = []  # the proof must be had while the settings are being mended
    database_code = INCOMPLETE
    exit_codes = (
        "Exit codes: 0 nothing differs, 1 tampering was found, 2 it could not be completed (options, keys, anchors, "
        "database), a key is known but has signed nothing, or all kept checkpoints are older than what a prune left, "
        "3 nothing differs but events older than the interval are not sealed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add what to compare with, and how much of it."""
        parser.add_argument(
            "--since",
            metavar="FILE",
            help="Verify only what came after the checkpoint in this file, which you have verified and kept.",
        )
        parser.add_argument("--sample", type=int, metavar="N", help="Verify N events at random places.")
        parser.add_argument(
            "--checkpoint", action="append", default=[], metavar="FILE", help="Compare with a checkpoint; repeatable."
        )
        parser.add_argument("--no-anchors", action="store_true", help="Don't read checkpoints back from the anchors.")
        parser.add_argument(
            "--key", action="append", default=[], metavar="KEY", help="A public key that may have signed; repeatable."
        )
        parser.add_argument(
            "--jobs",
            type=int,
            default=1,
            metavar="N",
            help="Check events in N processes beside each other (default: 1).",
        )
        parser.add_argument("--format", choices=["text", "json"], default="text", help="Default: text.")
        parser.add_argument("--limit", type=int, default=1000, help="Print at most so many findings (default: 1000).")
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help='Alias of the database (default: "default").')

    def handle(self, *args: Any, **options: Any) -> None:
        """Verify, print, and say by the exit code what was found."""
        is_terminal = sys.stderr.isatty()
        try:
            check_database(options["database"])
            with tqdm(unit="event", disable=not is_terminal) as bar:
                verifier = self._verifier(options, bar.update)
                bar.total = verifier.count() if is_terminal and not options["sample"] else None
                found = verifier.sample(options["sample"]) if options["sample"] else verifier.findings()
                self._write(found, verifier.verdict, options)
        except (WrongArgument, NoteError, InvalidSettings, OSError) as error:
            raise CommandError(str(error), returncode=INCOMPLETE) from error
        except BrokenExecutor as error:
            msg = "A process that checked events was ended from outside; perhaps memory ran out. Use fewer --jobs."
            raise CommandError(msg, returncode=INCOMPLETE) from error
        verdict = verifier.verdict
        if (verdict.is_unsigned or verdict.is_unconfirmed) and not verdict.findings:
            raise CommandError(_UNSIGNED if verdict.is_unsigned else _UNCONFIRMED, returncode=INCOMPLETE)
        code = TAMPERED if verdict.findings else LATE if verdict.is_late else 0
        if code:
            sys.exit(code)

    def _verifier(self, options: dict[str, Any], on_leaves: Any) -> Verifier:
        for name, what in (("jobs", "processes"), ("sample", "events"), ("limit", "findings")):
            number = options[name]
            if number is not None and number < 1:
                msg = f"--{name} {number} isn't a number of {what}. Write 1 or more."
                raise WrongArgument(msg)
        keys = [PublicKey.of(text) for text in options["key"]] or None
        held = [_note(Path(name), options["database"]) for name in options["checkpoint"]]
        if not options["no_anchors"]:
            held += self._anchored(options["database"])
        since, was_signed = None, False
        if options["since"]:
            since, was_signed = self._since(Path(options["since"]), keys, options["database"])
        return Verifier(
            options["database"],
            held=held,
            keys=keys,
            since=since,
            was_signed=was_signed,
            on_leaves=on_leaves,
            jobs=options["jobs"],
        )

    def _since(self, path: Path, keys: list[PublicKey] | None, using: str) -> tuple[Checkpoint, bool]:
        """Return the checkpoint in a file, and whether it is signed; it has to be by a key that was asked for."""
        checkpoint, signers = signers_of(_note(path, using), verifying_keys() if keys is None else keys)
        if keys is not None and not signers:
            msg = f"{path.name} isn't signed by any of the keys."
            raise NoteError(msg)
        return checkpoint, bool(signers)

    def _anchored(self, using: str) -> list[str]:
        try:
            return anchored_notes(using)
        except InvalidSettings:
            raise
        except Exception as error:
            msg = f"The anchors cannot be read back: {error} (--no-anchors leaves them out)"
            raise CommandError(msg, returncode=INCOMPLETE) from error

    def _write(self, found: Iterator[Finding], verdict: Verdict, options: dict[str, Any]) -> None:
        shown: list[Finding] = []
        for finding in found:
            if len(shown) < options["limit"]:
                shown.append(finding)
                if options["format"] == "text":
                    self.stdout.write(_line(finding))
        if options["format"] == "json":
            record = {**vars(verdict), "findings": [asdict(finding) for finding in shown], "found": verdict.findings}
            self.stdout.write(json.dumps(record))
            return
        for line in _summary(verdict):
            self.stdout.write(line)


def _note(path: Path, using: str) -> str:
    """Return the note of a checkpoint, which must be one of this log."""
    note = path.read_text(encoding="utf-8")
    origin, own = Checkpoint.of(split_note(note)[0]).origin, get_evidence().origin_of(using)
    if origin != own:
        msg = f"{path.name} is of another log: its origin is {origin}, and this one's is {own}."
        raise NoteError(msg)
    return note


def _line(finding: Finding) -> str:
    place = "" if finding.index is None else f" {finding.index}"
    event = f" {finding.event}" if finding.event else ""
    return f"{finding.kind}{place}{event}: {finding.detail}"


def _summary(verdict: Verdict) -> Iterator[str]:
    yield _verified(verdict)
    if not verdict.signed:
        yield _("No checkpoint has a signature of a known key: this shows consistency, not who sealed.")
    elif verdict.signed < verdict.checkpoints:
        counts = {"count": verdict.checkpoints - verdict.signed, "checkpoints": verdict.checkpoints}
        yield _("Checkpoints without a signature of a known key: %(count)d of %(checkpoints)d.") % counts
    if not verdict.anchored:
        yield _("No checkpoint was compared with one that is kept elsewhere: an older backup would go unnoticed.")
    if verdict.pruned or verdict.erased:
        text = ngettext(
            "%(pruned)d event was pruned and %(erased)d had personal values erased, as recorded.",
            "%(pruned)d events were pruned and %(erased)d had personal values erased, as recorded.",
            verdict.pruned,
        )
        yield text % {"pruned": verdict.pruned, "erased": verdict.erased}
    if verdict.imported:
        yield _("Imported events, whose times nobody can verify: %(count)d.") % {"count": verdict.imported}
    if verdict.pending_records:
        text = ngettext(
            "%(count)d record of prunes and erasures is not sealed yet.",
            "%(count)d records of prunes and erasures are not sealed yet.",
            verdict.pending_records,
        )
        yield text % {"count": verdict.pending_records}
    if verdict.unsealed:
        text = ngettext(
            "%(count)d event is not sealed yet: nothing is shown about it.",
            "%(count)d events are not sealed yet: nothing is shown about them.",
            verdict.unsealed,
        )
        yield text % {"count": verdict.unsealed}


def _verified(verdict: Verdict) -> str:
    text = ngettext(
        "%(leaves)d event and %(checkpoints)s verified, %(differences)s.",
        "%(leaves)d events and %(checkpoints)s verified, %(differences)s.",
        verdict.leaves,
    )
    checkpoints = ngettext("%(count)d checkpoint", "%(count)d checkpoints", verdict.checkpoints)
    differences = ngettext("%(count)d difference", "%(count)d differences", verdict.findings)
    return text % {
        "leaves": verdict.leaves,
        "checkpoints": checkpoints % {"count": verdict.checkpoints},
        "differences": differences % {"count": verdict.findings},
    }
