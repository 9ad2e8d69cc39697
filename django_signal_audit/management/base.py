"""What the commands of this package have in common: exit codes in the help, and errors that are one line."""

from __future__ import annotations

import atexit
import os
import re
import sys
from abc import ABC, abstractmethod
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TextIO, cast

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser, OutputWrapper, SystemCheckError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError
from django.template.defaultfilters import pluralize

from django_signal_audit.context.scopes import choosing_tenant
from django_signal_audit.events.documents import printable
from django_signal_audit.problems import did_you_mean
from django_signal_audit.reports.arguments import check_database
from django_signal_audit.reports.base import Report, WrongArgument
from django_signal_audit.reports.files import open_text, output_path, why_not
from django_signal_audit.reports.formats import format_paths, get_format
from django_signal_audit.reports.formats.base import ReportFormat

# What ends a command that was asked for something that means nothing; 1 says something else.
WRONG = 2
INTERRUPTED = 130  # what shells say of a process that Ctrl-C has ended
_CHOICE = re.compile(r"argument (\S+): invalid choice: '(.*?)' \(")


class AuditCommand(BaseCommand):
    """A command that says its exit codes at the end of its help, and whatever goes wrong in one line."""

    exit_codes: ClassVar[str]
    # The exit code where the database cannot be used.
    database_code: ClassVar[int] = 1

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: object) -> CommandParser:
        """Return the parser with the exit codes at the end of its help, and with errors that propose what is right."""
        parser = super().create_parser(prog_name, subcommand, **{"epilog": self.exit_codes, **kwargs})
        original: Callable[[str], NoReturn] = parser.error

        def error(message: str) -> NoReturn:
            said = f"{message}{_hint(parser, message)}"
            if getattr(self, "_called_from_command_line", False):
                parser.exit(2, printable(f"{parser.prog}: error: {said}") + "\n")
            original(said)

        setattr(parser, "error", error)  # noqa: B010  # Django makes the parser, of its own class
        return parser

    def run_from_argv(self, argv: list[str]) -> None:
        """Run the command; neither Ctrl-C nor a closed pipe, nor what nobody expected, ends in a traceback."""
        self._prepare_streams()
        with _one_line(show_all="--traceback" in argv):
            super().run_from_argv(argv)

    def execute(self, *args: object, **options: object) -> str | None:
        """Run the command; a database that cannot be used is a CommandError."""
        try:
            with choosing_tenant(str(options.get("tenant") or "") or None):
                return super().execute(*args, **options)
        except SystemCheckError:
            raise  # Django's own list of what is wrong, line by line
        except CommandError as error:
            # It may quote what somebody typed, and has to leave the terminal alone.
            text = printable(str(error))
            if text == str(error):
                raise
            raise CommandError(text, returncode=error.returncode) from error
        except (DatabaseError, InterfaceError, ImproperlyConfigured) as error:
            msg = f'The database "{options.get("database") or "default"}" cannot be used: {one_line(error)}'
            raise CommandError(msg, returncode=self.database_code) from error

    def _prepare_streams(self) -> None:
        """Have something to write to where a stream is closed, and no character that ends the command."""
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is None:
                stream = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # open as long as the process
                atexit.register(stream.close)
                setattr(sys, name, stream)
                setattr(self, name, OutputWrapper(stream))
            elif hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")


def one_line(error: object) -> str:
    """Return the text of an error without line breaks."""
    return printable(" ".join(str(error).split()))


@contextmanager
def _one_line(*, show_all: bool) -> Iterator[None]:
    """Turn what would be a traceback into one line and an exit code.

    Args:
        show_all: Let an error that nobody expected have its traceback.

    """
    try:
        try:
            yield
        finally:
            # What is still in the buffer would fail after us, at the end of the process.
            sys.stdout.flush()
    except KeyboardInterrupt:
        _end("Interrupted.", INTERRUPTED)
    except BrokenPipeError:
        discard_output()  # the reader (head, less) has seen enough
    except OSError as error:
        discard_output()
        _end(f"The output cannot be written: {error.strerror or one_line(error)}.", 1)
    except Exception as error:
        if show_all:
            raise
        _end(f"{type(error).__name__}: {one_line(error)} (--traceback shows where)", 1)


def discard_output() -> None:
    """Send what is written to the standard output from now on to nowhere."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _end(message: str, code: int) -> NoReturn:
    sys.stderr.write(f"{message}\n")
    sys.exit(code)


def _hint(parser: ArgumentParser, message: str) -> str:
    """Return what was most likely meant by an unknown option or choice, with a blank before it."""
    options = {name: action for action in parser._actions for name in action.option_strings}  # noqa: SLF001
    choice = _CHOICE.match(message)
    if choice and choice[1] in options:
        return f". {did_you_mean(choice[2], options[choice[1]].choices or ())}"
    unknown = message.removeprefix("unrecognized arguments: ").partition(" ")[0].partition("=")[0]
    if unknown != message and unknown.startswith("--"):
        return f". {did_you_mean(unknown, [name for name in options if name.startswith('--')])}"
    return ""


class ReportCommand(AuditCommand, ABC):
    """Makes a report, and writes it in the wanted format where it is wanted. Subclasses write ``make_report``."""

    exit_codes = "Exit codes: 0 the report was written (it may be empty), 1 a wrong argument, 2 a wrong option."
    requires_system_checks: list[str] = []  # a report must be had while the settings are being mended

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options that say what to write and where."""
        parser.add_argument("--format", default="table", help=f"One of {', '.join(format_paths())}; default: table.")
        parser.add_argument("--output", metavar="FILE", help="Write to this file (UTF-8) instead of printing.")
        parser.add_argument(
            "--database", default=DEFAULT_DB_ALIAS, help='Alias of the database to read (default: "default").'
        )

    def handle(self, *args: object, **options: Any) -> None:
        """Make the report and write it; every mistake is one line."""
        try:
            report_format = get_format(options["format"])
            check_database(options["database"])
            report = self.make_report(options)
        except WrongArgument as error:
            raise CommandError(str(error)) from error
        if not report.rows and not report_format.says_empty:
            self.stderr.write(printable(report.empty))
        if path := output_path(options["output"]):
            self._write_file(report_format, report, path)
        else:
            print_to(self.stdout, partial(report_format.write, report))

    @abstractmethod
    def make_report(self, options: dict[str, object]) -> Report:
        """Return the report that the options ask for, or raise WrongArgument."""

    def _write_file(self, report_format: ReportFormat, report: Report, path: Path) -> None:
        with writing(path), open_text(path) as stream:
            report_format.write(report, stream)
        count = len(report.rows)
        self.stdout.write(f"{count} row{pluralize(count)} written to {path}")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Have a file that cannot be written reported in one line."""
    try:
        yield
    except OSError as error:
        msg = f"Cannot write {str(path)!r}: {why_not(error)}."
        raise CommandError(msg) from error


def print_to(stdout: OutputWrapper, write: Callable[[TextIO], None]) -> None:
    """Have something written to the standard output, which may be closed before its end."""
    stdout.ending = ""  # formats end their lines themselves, and may write half of one
    try:
        write(cast("TextIO", stdout))
        stdout.flush()
    except BrokenPipeError:
        discard_output()  # the reader (head, less) has seen enough
