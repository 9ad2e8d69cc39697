"""``manage.py audit_export``: streams events to where they are kept or looked at."""

from __future__ import annotations

import gzip
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any, TextIO, cast

from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError
from django.template.defaultfilters import pluralize
from tqdm import tqdm

from django_signal_audit.context.scopes import context_scope
from django_signal_audit.enums import Source
from django_signal_audit.events.changes import Change
from django_signal_audit.exceptions import EventNotWritten
from django_signal_audit.management.base import AuditCommand, print_to, writing
from django_signal_audit.management.filtering import add_filter_options, filter_of
from django_signal_audit.models import AuditEvent, AuditEventQuerySet
from django_signal_audit.models.events import utc_now
from django_signal_audit.recorder import record_changes
from django_signal_audit.reports.arguments import EventFilter, check_database
from django_signal_audit.reports.base import WrongArgument
from django_signal_audit.reports.exports import export_paths, get_export_format
from django_signal_audit.reports.exports.base import ExportFormat
from django_signal_audit.reports.files import open_private, open_text, output_path

EVENTS_EXPORTED = "events_exported"
PAGE = 1000


class Command(AuditCommand):
    """Writes the events of a range, oldest first, in constant memory."""

    help = "Export audit events as JSON lines, OCSF or CloudEvents."
    requires_system_checks: list[str] = []  # the audit log must be had while the settings are being mended
    exit_codes = (
        "Exit codes: 0 the export is complete (it may be empty), 1 a wrong argument, or it could not be completed, "
        "2 a wrong option."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add which events, how and where to."""
        add_filter_options(parser)
        parser.add_argument("--format", default="jsonl", help=f"One of {', '.join(export_paths())}; default: jsonl.")
        parser.add_argument("--output", metavar="FILE", help="Write to this file instead of printing; .gz compresses.")
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help='Alias of the database (default: "default").')

    def handle(self, *args: object, **options: Any) -> None:
        """Note that there is an export, then write it; every mistake is one line."""
        try:
            export_format = get_export_format(options["format"])
            wanted = _until_now(filter_of({**options, "database": check_database(options["database"])}))
        except WrongArgument as error:
            raise CommandError(str(error)) from error
        try:
            self._export(export_format, wanted, options)
        except (EventNotWritten, DatabaseError, InterfaceError) as error:
            msg = f"The export is incomplete: {' '.join(str(error).split())}"
            raise CommandError(msg) from error

    def _export(self, export_format: ExportFormat, wanted: EventFilter, options: dict[str, Any]) -> None:
        output = output_path(options["output"])
        with context_scope(command="audit_export"):  # without rules nobody has noted which command this is
            _note(wanted, options)
        events = _Counted(wanted.find(options["database"]), is_shown=_shows_progress(output))
        if output:
            with writing(output), _opened(output) as stream:
                export_format.write(events, stream)
            self.stdout.write(f"{events.count} event{pluralize(events.count)} written to {output}")
        else:
            print_to(self.stdout, partial(export_format.write, events))


def _until_now(wanted: EventFilter) -> EventFilter:
    """Return the filter with an end, so that an export does not run after those who write meanwhile."""
    now = utc_now()
    return replace(wanted, until=min(wanted.until or now, now))


def _note(wanted: EventFilter, options: dict[str, Any]) -> None:
    """Record the export before the first event leaves: one that is broken off has shown something as well."""
    using = options["database"]
    named = {name: value for name, value in asdict(wanted).items() if value}
    data = {"format": options["format"], "output": options["output"], "filter": named}
    change = Change(event_type=EVENTS_EXPORTED, source=Source.MANUAL, using=using, data=data)
    if not record_changes([change], using):
        msg = "it could not be recorded. See the log for the cause."
        raise EventNotWritten(msg)


def _shows_progress(output: Path | None) -> bool:
    # Where the events themselves go to the terminal, a bar would stand between them.
    return sys.stderr.isatty() and (output is not None or not sys.stdout.isatty())


class _Counted:
    """The events page by page, counted as they go."""

    def __init__(self, rows: AuditEventQuerySet, *, is_shown: bool) -> None:
        self._rows, self._is_shown = rows, is_shown
        self.count = 0

    def __iter__(self) -> Iterator[AuditEvent]:
        total = self._rows.count() if self._is_shown else None
        with tqdm(total=total, unit="event", disable=not self._is_shown) as bar:
            for page in self._rows.in_pages(PAGE):
                yield from page
                self.count += len(page)
                bar.update(len(page))


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """Open the file for its owner alone: what is in it is as confidential as the audit log."""
    if path.suffix != ".gz":
        with open_text(path) as stream:
            yield stream
        return
    with FileIO(path, "w", opener=open_private) as file, gzip.open(file, "wt", encoding="utf-8") as stream:
        yield cast("TextIO", stream)
