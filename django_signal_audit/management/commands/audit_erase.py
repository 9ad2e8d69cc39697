"""``manage.py audit_erase``: takes out what events tell of one person; proofs stay."""

from __future__ import annotations

import sys
from argparse import ArgumentParser

from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS
from django.template.defaultfilters import pluralize
from tqdm import tqdm

from django_signal_audit.context.scopes import audit_context, context_scope
from django_signal_audit.evidence.erasure import Erasure
from django_signal_audit.evidence.sealing import CannotSeal
from django_signal_audit.exceptions import EventNotWritten, InvalidSettings
from django_signal_audit.management.base import AuditCommand
from django_signal_audit.reports.arguments import check_database, parse_object
from django_signal_audit.reports.base import WrongArgument


class Command(AuditCommand):
    """Empties personal values, and records that without personal data. It can't be undone."""

    help = "Erase personal values from the events about one object. Events, leaves and proofs stay."
    database_code = 2
    exit_codes = (
        "Exit codes: 0 erased (or nothing told of the subject), 1 that could not be recorded or sealed, "
        "2 a wrong option, model or database. It can be stopped at any time; run it again to continue."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add whose data, and who erases it."""
        parser.add_argument(
            "--subject", nargs=2, required=True, metavar=("MODEL", "PK"), help="The object: shop.Customer 3."
        )
        parser.add_argument("--actor", default="", help="Who erases, as the event names them.")
        parser.add_argument("--reason", default="", help="Why, such as the number of the request. No personal data.")
        parser.add_argument("--dry-run", action="store_true", help="Only show how many values would be erased.")
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help='Alias of the database (default: "default").')

    def handle(
        self, *, subject: tuple[str, str], actor: str, reason: str, dry_run: bool, database: str, **options: object
    ) -> None:
        """Erase, and say what is gone."""
        label, pk = subject
        try:
            check_database(database)
            model, pk = parse_object(label, pk, database)
            erasure = Erasure(model, pk, database, is_dry=dry_run)
            if erasure.is_held:
                msg = f"{label} {pk} is on legal hold. Release it first: audit_hold {label} {pk} --release."
                raise WrongArgument(msg)
            is_terminal = sys.stderr.isatty()
            total = erasure.events().count() if is_terminal else None
            with (
                context_scope(command="audit_erase"),
                audit_context(actor=actor or None, reason=reason),
                tqdm(total=total, unit="event", disable=not is_terminal) as bar,
            ):
                report = erasure.run(bar.update)
        except (EventNotWritten, CannotSeal) as error:
            raise CommandError(str(error), returncode=1) from error
        except (WrongArgument, InvalidSettings) as error:
            raise CommandError(str(error), returncode=2) from error
        verb = "would be erased" if dry_run else "erased"
        values = f"{report.values} value{pluralize(report.values)} in {report.events} event{pluralize(report.events)}"
        emptied = f"{report.messages} message{pluralize(report.messages)} emptied"
        self.stdout.write(f"{values} {verb}, {emptied}.")
