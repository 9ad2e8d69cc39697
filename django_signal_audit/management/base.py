"""What the commands of this package have in common."""

from __future__ import annotations

from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandParser


class AuditCommand(BaseCommand):
    """A command that tells its exit codes at the end of its help."""

    exit_codes: ClassVar[str]

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Return the parser with the exit codes at the end of its help."""
        return super().create_parser(prog_name, subcommand, epilog=self.exit_codes, **kwargs)
