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

from django.core.management.base import CommandError, CommandParser, DjangoHelpFormatter
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, connections
from tabulate import tabulate
from tqdm import tqdm

from django_signal_audit.delivery import outbox
from django_signal_audit.delivery.listener import Listener
from django_signal_audit.delivery.statistics import collect_statistics, lateness
from django_signal_audit.delivery.worker import DeliveryReport, deliver
from django_signal_audit.management.base import AuditCommand
from django_signal_audit.problems import nearest
from django_signal_audit.rules.durations import parse_duration

logger = logging.getLogger("django_signal_audit")

EXIT_CODES = """\
exit codes:
  0  everything that was due was tried; failed notifications are tried again later
  1  the command could not run: a wrong option, or the database cannot be reached
  3  at least one notification became dead in this run (see its last_error)
  4  with --health: a notification has been due for longer than --max-age

SIGTERM and SIGINT stop it after the current message; a second one stops it at once.
"""
GIVEN_UP = 3
LATE = 4
LONGEST_INTERVAL = 86_400


class HelpFormatter(DjangoHelpFormatter, RawDescriptionHelpFormatter):
    """Keeps Django's order of the options, and our line breaks."""


class Command(AuditCommand):
    """Delivers what is due, once or for as long as it runs. Any number of them may run at a time."""

    help = "Send the notifications that are due."
    exit_codes = EXIT_CODES

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: object) -> CommandParser:
        """Return the parser, with the exit codes below the options."""
        return super().create_parser(prog_name, subcommand, **{"formatter_class": HelpFormatter, **kwargs})

    def add_arguments(self, parser: CommandParser) -> None:
        """Add what to do, and how much of it."""
        mode = parser.add_mutually_exclusive_group()
        mode.add_argument("--once", action="store_true", help="Send until nothing is due, then end (the default).")
        mode.add_argument(
            "--watch", action="store_true", help="Keep running: look after commits and every --interval seconds."
        )
        mode.add_argument("--stats", action="store_true", help="Send nothing; count the notifications by status.")
        mode.add_argument("--health", action="store_true", help="Send nothing; exit with 4 if something is overdue.")
        parser.add_argument("--max-age", default="5m", help='With --health: what is overdue (default: "5m").')
        parser.add_argument("--retry-dead", action="store_true", help="First queue dead notifications again.")
        parser.add_argument("--interval", type=float, default=5.0, help="Seconds between two polls (default: 5).")
        parser.add_argument("--limit", type=int, help="Try at most this many messages (with --watch: each time).")
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help='Alias of the database (default: "default").')

    def handle(self, *, database: str, retry_dead: bool, **options: object) -> None:
        """Do what was asked for."""
        self._validate(database, options)
        try:
            if retry_dead:
                self.stdout.write(f"{outbox.retry_dead(database)} dead notifications queued again.")
            self._run(database, options)
        except (DatabaseError, InterfaceError) as error:
            msg = f'The database "{database}" cannot be used: {" ".join(str(error).split())}'
            raise CommandError(msg) from error

    def _run(self, database: str, options: dict[str, Any]) -> None:
        if options["stats"]:
            self._show_stats(database)
        elif options["health"]:
            self._show_health(database, options["max_age"])
        elif options["watch"]:
            self._watch(database, options["limit"], options["interval"])
        else:
            self._once(database, options["limit"])

    def _validate(self, database: str, options: dict[str, Any]) -> None:
        if database not in connections:
            near = nearest(database, connections, 0.7)
            hint = f"Did you mean {near!r}?" if near else f"Known are: {', '.join(connections)}."
            msg = f'There is no database "{database}" in DATABASES. {hint}'
            raise CommandError(msg)
        if options["limit"] is not None and options["limit"] < 1:
            msg = "--limit must be at least 1."
            raise CommandError(msg)
        if not 0 < options["interval"] <= LONGEST_INTERVAL:
            msg = "--interval must be more than 0 seconds."
            if options["interval"] > 0:
                msg = f"--interval must be at most {LONGEST_INTERVAL} seconds."
            raise CommandError(msg)
        if parse_duration(options["max_age"]) is None:
            msg = f'--max-age must be a duration such as "90s" or "5m", not "{options["max_age"]}".'
            raise CommandError(msg)

    def _show_stats(self, database: str) -> None:
        found = collect_statistics(database)
        self.stdout.write(tabulate(found.by_status.items(), headers=("status", "count")))
        age = "none" if found.oldest is None else f"due for {found.oldest.total_seconds():.0f} s"
        self.stdout.write(f"oldest pending: {age}")
        self.stdout.write(f"pending in a digest: {found.collecting}")
        self.stdout.write(f"skipped by a throttle: {found.throttled}")
        self.stdout.write(f"expired leases: {found.lapsed}")

    def _show_health(self, database: str, max_age: str) -> None:
        late, limit = lateness(database), parse_duration(max_age)
        self.stdout.write(f"the oldest has been due for {late.total_seconds():.0f} s" if late else "nothing is due")
        if limit is not None and late > limit:
            sys.exit(LATE)

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
        with stop_signals() as stop, Listener(database) as listener:
            while not stop.is_set():
                self._look(database, limit, stop)
                listener.wait(interval, stop)

    def _look(self, database: str, limit: int | None, stop: threading.Event) -> None:
        try:
            report = deliver(database, limit=limit, should_stop=stop.is_set)
        except (DatabaseError, InterfaceError):
            # What was claimed lapses and is sent then. The next look opens a new connection.
            logger.exception('The database "%s" cannot be used; trying again.', database)
            connections[database].close_if_unusable_or_obsolete()
            return
        if report.attempted:
            self.stdout.write(_summary(report))


def _summary(report: DeliveryReport) -> str:
    counts = {name: getattr(report, name) for name in ("sent", "failed", "dead", "skipped", "lost", "collected")}
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
