"""``manage.py audit_loaddata``: loads fixtures without recording the rows, and records that."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any, cast

from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import router, transaction

from django_signal_audit.api import record_suspension
from django_signal_audit.context.scopes import ALL_MODELS, context_scope, resume, suspend
from django_signal_audit.management.base import WRONG, AuditCommand
from django_signal_audit.models import AuditEvent


def _project_loaddata() -> type[BaseCommand]:
    """Return the class of the project's ``loaddata``, which may be another package's."""
    found = get_commands()["loaddata"]
    return type(found if isinstance(found, BaseCommand) else load_command_class(found, "loaddata"))


class Command(AuditCommand, _project_loaddata()):  # type: ignore[misc]  # known at run time only
    """Runs ``loaddata`` with auditing suspended for all models, in one transaction with the events that say so."""

    help = "Load fixtures without auditing their rows. One event records the load and its reason."
    exit_codes = "Exit codes: 0 loaded, 1 nothing was loaded, 2 the reason or the audit tables are missing."
    # Nothing is compared with a history that the fixtures bring.
    completes_history = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the reason to the arguments of ``loaddata``."""
        super().add_arguments(cast("CommandParser", parser))
        parser.add_argument("--reason", required=True, help="Why these rows aren't audited; stored in the event.")

    def handle(self, *args: Any, **options: Any) -> Any:
        """Load, then record that auditing was suspended: events of the dump may have the first primary keys."""
        reason, using = options.pop("reason").strip(), options["database"]
        if not reason:
            msg = "--reason must not be empty: say why these rows aren't audited."
            raise CommandError(msg, returncode=WRONG)
        if not router.allow_migrate_model(using, AuditEvent):
            msg = f'The database "{using}" has no audit tables. Use loaddata.'
            raise CommandError(msg, returncode=WRONG)
        with context_scope(command="audit_loaddata", reason=reason), transaction.atomic(using=using):
            before = suspend(ALL_MODELS)
            try:
                found = super().handle(*args, **options)
            finally:
                resume(before)
            record_suspension(reason, using, fixtures=list(args))
        return found
