"""``manage.py audit_deliver``: sends the notifications that are due."""

from __future__ import annotations

import logging
import os
import sys
import threading
from argparse import RawDescriptionHelpFormatter
from collections.abc import Iterator
from functools import partial
from typing import Any

from django.core.management.base import CommandError, CommandParser, DjangoHelpFormatter
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, connections
from django.template.defaultfilters import pluralize
from tqdm import tqdm

from django_signal_audit.conf import get_settings
from django_signal_audit.delivery import identity, outbox
from django_signal_audit.delivery.connection_pools import DEFAULT_CONCURRENCY, pool_problem
from django_signal_audit.delivery.listener import Listener
from django_signal_audit.delivery.pool import Pool
from django_signal_audit.delivery.statistics import prometheus
from django_signal_audit.delivery.turns import BATCH_SIZE, Turns, serving
from django_signal_audit.delivery.watch import can_share
from django_signal_audit.delivery.worker import DeliveryReport, deliver
from django_signal_audit.management.base import AuditCommand
from django_signal_audit.management.delivering import (
    discard_pending,
    health,
    rolling_up_beside,
    sealing_beside,
    stats,
    test_channel,
)
from django_signal_audit.management.stopping import NoAnswerError, answer_within, stop_signals
from django_signal_audit.models import Notification
from django_signal_audit.problems import did_you_mean, nearest
from django_signal_audit.reports.rollups import roll_up
from django_signal_audit.rules.durations import parse_duration

logger = logging.getLogger("django_signal_audit")

EXIT_CODES = """\
exit codes:
  0  everything that was due was tried; failed notifications are tried again later
  1  the command could not run: a wrong option, or the database cannot be reached
  3  at least one notification became dead in this run (see its last_error)
  4  with --health: a notification has been due for longer than --max-age, or has waited for an hour for a worker whose
     settings know its rule and channel, or nothing is sent from this database
  5  too many sends did not come back: start it again

SIGTERM and SIGINT stop it after the current messages, and within --grace seconds whatever hangs; a second one stops it
at once.
"""
GIVEN_UP = 3
LATE = 4
HANGING = 5
LONGEST_INTERVAL = 86_400
# Monitoring must notice a database that doesn't answer.
ANSWER_SECONDS = 30.0
# Each has a connection to the database.
MOST_THREADS = 100


class HelpFormatter(DjangoHelpFormatter, RawDescriptionHelpFormatter):
    """Keeps Django's order of the options, and our line breaks."""


class Command(AuditCommand):
    """Delivers what is due, once or for as long as it runs. Any number of them may run at a time."""

    help = "Send the notifications that are due."
    exit_codes = EXIT_CODES
    # Do threads hang at the end?
    _is_hanging = False
    # Were too many lost?
    _is_spent = False

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
        mode.add_argument("--test", metavar="ALIAS", help="Send a test message by this channel, and nothing else.")
        parser.add_argument("--to", default="", help='With --test: an address, or a user as "user:NAME".')
        parser.add_argument("--discard-pending", action="store_true", help="Skip all that waits, and send nothing.")
        parser.add_argument(
            "--confirm-database", action="store_true", help="Note that messages are sent from this database, and end."
        )
        parser.add_argument(
            "--format", choices=("table", "prometheus"), default="table", help='With --stats (default: "table").'
        )
        parser.add_argument("--max-age", default="5m", help='With --health: what is overdue (default: "5m").')
        parser.add_argument("--retry-dead", action="store_true", help="First queue dead notifications again.")
        parser.add_argument("--interval", type=float, default=5.0, help="Seconds between two polls (default: 5).")
        parser.add_argument("--limit", type=int, help="Try at most this many messages (with --watch: each time).")
        parser.add_argument(
            "--concurrency",
            type=int,
            default=DEFAULT_CONCURRENCY,
            help=f"How many messages at a time (default: {DEFAULT_CONCURRENCY}, at most {MOST_THREADS}).",
        )
        parser.add_argument(
            "--channel", action="append", default=[], metavar="ALIAS", help="Send by this channel only; repeatable."
        )
        parser.add_argument(
            "--exclude-channel", action="append", default=[], metavar="ALIAS", help="Do not send by it; repeatable."
        )
        parser.add_argument(
            "--grace", type=float, default=8.0, help="Seconds to wait for what is being sent at the end (default: 8)."
        )
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help='Alias of the database (default: "default").')

    def execute(self, *args: object, **options: object) -> str | None:
        """Run the command; what only looks ends in time, also where Django's checks wait for the database."""
        database, run = str(options["database"]), partial(super().execute, *args, **options)
        late = f'The database "{database}" did not answer within {ANSWER_SECONDS:g} s.'
        try:
            if options["stats"] or options["health"]:
                return answer_within(ANSWER_SECONDS, run, database, late)
            return run()
        except NoAnswerError as error:
            self._is_hanging = True
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            self._is_hanging = options["test"] is not None  # as the channel may be
            raise

    def handle(self, *, database: str, retry_dead: bool, **options: object) -> None:
        """Do what was asked for."""
        self._check_database(database)
        try:
            if problem := next(_problems({**options, "retry_dead": retry_dead}, database), None):
                raise CommandError(problem)
            # What is wrong with the database is one line here; a thread would try again.
            Notification.objects.using(database).exists()
            if retry_dead:
                count = outbox.retry_dead(database)
                self.stdout.write(f"{count} dead notification{pluralize(count)} queued again.")
            self._run(database, options)
        except (DatabaseError, InterfaceError) as error:
            msg = f'The database "{database}" cannot be used: {" ".join(str(error).split())}'
            raise CommandError(msg) from error

    def _run(self, database: str, options: dict[str, Any]) -> None:
        if options["test"] is not None:
            self.stdout.write(test_channel(options["test"], options["to"], database))
        elif options["discard_pending"] or options["confirm_database"]:
            self._settle(database, options)
        elif options["stats"]:
            self.stdout.write(prometheus(database) if options["format"] == "prometheus" else stats(database), ending="")
        elif options["health"]:
            text, is_bad = health(database, options["max_age"], options["channel"], options["exclude_channel"])
            self.stdout.write(text, ending="")
            if is_bad:
                sys.exit(LATE)
        elif not self._may_send(database):
            return
        elif options["watch"]:
            self._watch(database, options)
        else:
            self._once(database, options)

    def _check_database(self, database: str) -> None:
        if database not in connections:
            near = nearest(database, connections, 0.7)
            hint = f"Did you mean {near!r}?" if near else f"Known are: {', '.join(connections)}."
            msg = f'There is no database "{database}" in DATABASES. {hint}'
            raise CommandError(msg)

    def _settle(self, database: str, options: dict[str, Any]) -> None:
        if options["discard_pending"]:
            count = discard_pending(database, options["channel"], options["exclude_channel"])
            self.stdout.write(f"{count} notification{pluralize(count)} discarded.")
        if options["confirm_database"]:
            self.stdout.write(f"Messages are sent from {identity.confirm(database)}.")

    def _may_send(self, database: str) -> bool:
        identity.forget()
        problem = identity.obstacle(database)
        if problem and problem != identity.NOT_ENABLED:
            msg = f"Nothing is sent: {problem}."
            raise CommandError(msg)
        if problem:
            self.stdout.write(f"Nothing is sent: {problem}.")
        return not problem

    def _once(self, database: str, options: dict[str, Any]) -> None:
        is_terminal = sys.stderr.isatty()
        total = outbox.count_due(database) if is_terminal else None
        bar = tqdm(total=total, unit="message", disable=not is_terminal)
        with stop_signals(options["grace"]) as stop, bar:
            turns = self._turns(database, options)
            if can_share(database):
                report = self._drain(Pool(turns, bar.update), stop, options["grace"])
            else:
                report = deliver(database, turns=turns, should_stop=stop.is_set, on_attempt=bar.update)
            self.stdout.write(_summary(report))
            if not stop.is_set():
                roll_up(database)
        self._exit_if_spent()
        if report.dead:
            # The notifications say why; this is for cron and monitoring.
            sys.exit(GIVEN_UP)

    def _drain(self, pool: Pool, stop: threading.Event, grace: float) -> DeliveryReport:
        with pool:
            pool.drain(stop)
            report = self._end(pool, grace)
        if pool.error is not None:
            raise pool.error
        return report

    def _watch(self, database: str, options: dict[str, Any]) -> None:
        outbox.count_due(database)  # a database that is not there is an error now, and a pause later
        with (
            stop_signals(options["grace"]) as stop,
            sealing_beside(database),
            rolling_up_beside(database),
            Listener(database) as listener,
            Pool(self._turns(database, options)) as pool,
        ):
            shown = DeliveryReport()

            def show() -> None:
                nonlocal shown
                news, shown = pool.report.since(shown), pool.report
                if news.attempted:
                    self.stdout.write(_summary(news))

            pool.watch(listener, options["interval"], stop, show)
            self._end(pool, options["grace"])
            show()
        self._exit_if_spent()

    def _turns(self, database: str, options: dict[str, Any]) -> Turns:
        is_shared = can_share(database)
        # Of the default number, W094 has told.
        is_chosen = is_shared and options["concurrency"] != DEFAULT_CONCURRENCY
        if is_chosen and (problem := pool_problem(database, options["concurrency"])):
            self.stderr.write(f"{problem.path} {problem.message} {problem.hint}")
        return Turns(
            database,
            threads=options["concurrency"] if is_shared else 1,
            first=1 if is_shared else BATCH_SIZE,
            limit=options["limit"],
            is_served=serving(options["channel"], options["exclude_channel"]),
        )

    def _end(self, pool: Pool, grace: float) -> DeliveryReport:
        self._is_spent = pool.is_spent
        pool.stop(grace)
        self._is_hanging = bool(pool.hanging)
        return pool.report

    def _exit_if_spent(self) -> None:
        if self._is_spent:
            self.stderr.write("Too many sends did not come back. Start it again.")
            sys.exit(HANGING)

    def run_from_argv(self, argv: list[str]) -> None:
        """Run the command; what still hangs at its end does not keep the process."""
        code: Any = 0
        try:
            super().run_from_argv(argv)
        except SystemExit as end:
            if not self._is_hanging:
                raise
            code = end.code
        if self._is_hanging:
            # Some threads that a message may have started are waited for at the end, without end.
            logging.shutdown()
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(code if isinstance(code, int) else 1)


_SHOWN = ("sent", "failed", "dead", "skipped", "left", "lost", "collected")


def _summary(report: DeliveryReport) -> str:
    counts = {name: getattr(report, name) for name in _SHOWN}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count or name == "sent")


def _problems(options: dict[str, Any], database: str) -> Iterator[str]:
    """Yield what is wrong with the options."""
    for name in ("limit", "concurrency"):
        if options[name] is not None and options[name] < 1:
            yield f"--{name} must be at least 1."
    if options["concurrency"] > MOST_THREADS:
        yield f"--concurrency must be at most {MOST_THREADS}."
    if not 0 < options["interval"] <= LONGEST_INTERVAL:
        bound = f"at most {LONGEST_INTERVAL}" if options["interval"] > 0 else "more than 0"
        yield f"--interval must be {bound} seconds."
    if options["grace"] < 0:
        yield "--grace must be at least 0 seconds."
    if parse_duration(options["max_age"]) is None:
        yield f'--max-age must be a duration such as "90s" or "5m", not "{options["max_age"]}".'
    yield from _contradictions(options)
    yield from _channel_problems(options, database)


def _contradictions(options: dict[str, Any]) -> Iterator[str]:
    """Yield options that another one would leave out of account, and messages might be sent that nobody meant."""
    is_test = options["test"] is not None
    given = [name for name in ("once", "watch", "stats", "health") if options[name]] + ["test"] * is_test
    for name in ("discard_pending", "confirm_database"):
        if options[name] and given:
            yield f"--{_dashed(name)} doesn't go with --{given[0]}: run one after the other."
    if options["discard_pending"] and options["retry_dead"]:
        yield "--discard-pending doesn't go with --retry-dead."
    if options["to"] and not is_test:
        yield "--to goes with --test."
    if options["format"] != "table" and not options["stats"]:
        yield "--format goes with --stats."
    choosing = options["channel"] or options["exclude_channel"]
    if choosing and (is_test or options["stats"] or options["confirm_database"] > options["discard_pending"]):
        yield "--channel and --exclude-channel say what to send, discard or look at with --health."


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _channel_problems(options: dict[str, Any], database: str) -> Iterator[str]:
    channels = set(get_settings().channels)
    if options["discard_pending"]:
        # What waits may be of a channel that has gone from the settings.
        channels |= set(outbox.waiting_channels(database))
    tested = [] if options["test"] is None else [options["test"]]
    for alias in (*options["channel"], *options["exclude_channel"], *tested):
        if alias not in channels:
            yield f'SIGNAL_AUDIT["CHANNELS"] has no "{alias}". {did_you_mean(alias, channels)}'
