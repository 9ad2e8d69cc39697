"""``manage.py audit_deliver``: sends the notifications that are due."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from argparse import RawDescriptionHelpFormatter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, close_old_connections, connections
from tabulate import tabulate
from tqdm import tqdm

from django_signal_audit.delivery import outbox
from django_signal_audit.delivery.worker import DeliveryReport, deliver

logger = logging.getLogger("django_signal_audit")

EXIT_CODES = """\
exit codes:
  0  everything that was due has been tried; what failed is tried again later
  1  the command could not run: a wrong option, or the database is out of reach
  3  at least one notification was given up in this run (see its last_error)

SIGTERM and SIGINT end it after the message that is under way; a second one ends it at once.
"""
GIVEN_UP = 3


class HelpFormatter(DjangoHelpFormatter, RawDescriptionHelpFormatter):
    """Keeps Django's order of the options, and our line breaks."""


class Command(BaseCommand):
    """Delivers what is due, once or for as long as it runs. Any number of them may run at a time."""

    help = "Sends the notifications that are due."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Return the parser, with the exit codes below the options."""
        kwargs |= {"epilog": EXIT_CODES, "formatter_class": HelpFormatter}
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        """Add what to do, and how much of it."""
        mode = parser.add_mutually_exclusive_group()
        mode.add_argument("--once", action="store_true", help="Send until nothing is due, then end (the default).")
        mode.add_argument("--watch", action="store_true", help="Go on and look for more every --interval seconds.")
        mode.add_argument("--stats", action="store_true", help="Send nothing; show how many are in which status.")
        parser.add_argument("--retry-dead", action="store_true", help="First make those that were given up due again.")
        parser.add_argument("--interval", type=float, default=5.0, help="Seconds between two looks (default: 5).")
        parser.add_argument("--limit", type=int, help="Try at most so many messages, with --watch at each look.")
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help='Alias of the database (default: "default").')

    def handle(self, *, database: str, watch: bool, stats: bool, retry_dead: bool, **options: Any) -> None:
        """Do what was asked for."""
        self._validate(database, options)
        try:
            if retry_dead:
                self.stdout.write(f"{outbox.retry_dead(database)} dead notifications are due again.")
            if stats:
                self._show_stats(database)
            elif watch:
                self._watch(database, options["limit"], options["interval"])
            else:
                self._once(database, options["limit"])
        except (DatabaseError, InterfaceError) as error:
            msg = f'The database "{database}" cannot be used: {" ".join(str(error).split())}'
            raise CommandError(msg) from error

    def _validate(self, database: str, options: dict[str, Any]) -> None:
        if database not in connections:
            msg = f'There is no database "{database}" in DATABASES. Known are: {", ".join(connections)}.'
            raise CommandError(msg)
        if options["limit"] is not None and options["limit"] < 1:
            msg = "--limit must be at least 1."
            raise CommandError(msg)
        if not options["interval"] > 0:
            msg = "--interval must be more than 0 seconds."
            raise CommandError(msg)

    def _show_stats(self, database: str) -> None:
        self.stdout.write(tabulate(outbox.count_by_status(database).items(), headers=("status", "count")))
        age = outbox.oldest_pending_age(database)
        self.stdout.write(f"oldest pending: {'none' if age is None else f'due for {age.total_seconds():.0f} s'}")

    def _once(self, database: str, limit: int | None) -> None:
        is_terminal = sys.stderr.isatty()
        total = outbox.count_due(database) if is_terminal else None
        with stop_signals() as stop, tqdm(total=total, unit="message", disable=not is_terminal) as bar:
            report = deliver(database, limit=limit, should_stop=stop.is_set, on_attempt=bar.update)
        self.stdout.write(_summary(report))
        if report.dead:
            # The notifications say why; this is for cron and monitoring.
            sys.exit(GIVEN_UP)

    def _watch(self, database: str, limit: int | None, interval: float) -> None:
        outbox.count_due(database)  # a database that is not there is an error now, and a pause later
        with stop_signals() as stop:
            while not stop.is_set():
                self._look(database, limit, stop)
                stop.wait(interval)

    def _look(self, database: str, limit: int | None, stop: threading.Event) -> None:
        close_old_connections()
        try:
            report = deliver(database, limit=limit, should_stop=stop.is_set)
        except (DatabaseError, InterfaceError):
            # What was claimed lapses and is sent then. The next look opens a new connection.
            logger.exception('The database "%s" cannot be used; trying again.', database)
            return
        if report.attempted:
            self.stdout.write(_summary(report))


def _summary(report: DeliveryReport) -> str:
    counts = {name: getattr(report, name) for name in ("sent", "failed", "dead", "skipped", "lost")}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count or name == "sent")


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Return an event that the first SIGTERM or SIGINT sets; the second acts as it would without us."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()
        restore()

    for number in before:
        signal.signal(number, end)
    try:
        yield stop
    finally:
        restore()
