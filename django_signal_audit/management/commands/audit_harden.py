"""``manage.py audit_harden``: triggers and grants after which the application can only add to the audit log."""

from __future__ import annotations

from argparse import ArgumentParser

from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.template.defaultfilters import pluralize

from django_signal_audit.evidence.hardening import hardening_problems, is_role, statements
from django_signal_audit.management.base import AuditCommand
from django_signal_audit.models.guards import unguarding
from django_signal_audit.reports.arguments import check_database
from django_signal_audit.reports.base import WrongArgument


class Command(AuditCommand):
    """Prints the statements, or runs them as the owner of the tables."""

    help = "Print the SQL after which the application's role can only insert and select events; --apply runs it."
    requires_system_checks: list[str] = []
    database_code = 2
    exit_codes = (
        "Exit codes: 0 printed or done, 2 a wrong option, or the database refused. Run it again to complete it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add for whom, and whether to run it."""
        parser.add_argument("--role", default="", help="The application's role, which must not own the tables.")
        parser.add_argument("--apply", action="store_true", help="Run the statements instead of printing them.")
        parser.add_argument("--remove", action="store_true", help="Remove the triggers; grants stay as they are.")
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help='Alias of the database (default: "default").')

    def handle(self, *, database: str, role: str, apply: bool, remove: bool, **options: object) -> None:
        """Print or run."""
        try:
            check_database(database)
            self._check_role(role, database)
        except WrongArgument as error:
            raise CommandError(str(error), returncode=2) from error
        found = unguarding(connections[database]) if remove else statements(database, role)
        if not apply:
            for statement in found:
                self.stdout.write(f"{statement};")
            return
        with transaction.atomic(using=database), connections[database].cursor() as cursor:
            for statement in found:
                cursor.execute(statement)
        self.stdout.write(f"{len(found)} statement{pluralize(len(found))} run.")
        for problem in hardening_problems([database]):
            self.stderr.write(f"{problem.path} {problem.message} {problem.hint}")

    def _check_role(self, role: str, using: str) -> None:
        connection = connections[using]
        if not role:
            return
        if connection.vendor == "sqlite":
            msg = "SQLite has no roles. Leave --role out: the triggers are all there is."
            raise WrongArgument(msg)
        if not is_role(role):
            msg = f"{role!r} isn't the name of a role. Write app, or app@localhost on MariaDB."
            raise WrongArgument(msg)
        if role.partition("@")[0] == str(connection.settings_dict["USER"]):
            msg = f"{role} is the role of this process, which owns the tables. Name the application's role."
            raise WrongArgument(msg)
