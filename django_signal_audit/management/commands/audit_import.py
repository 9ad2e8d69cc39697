"""``manage.py audit_import SOURCE``: takes over what another package has recorded."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist
from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError
from django.template.defaultfilters import pluralize
from tqdm import tqdm

from django_signal_audit.importing.base import CannotImport, Summary, load_source, source_names
from django_signal_audit.importing.importer import Importer, Options
from django_signal_audit.importing.takeover import as_aware
from django_signal_audit.management.base import WRONG, AuditCommand, one_line
from django_signal_audit.models.events import utc_now
from django_signal_audit.models.renames import get_renames
from django_signal_audit.models.tables import is_ready
from django_signal_audit.reports.arguments import MOMENTS, check_database, parse_moment
from django_signal_audit.reports.base import WrongArgument
from django_signal_audit.reports.display import printable

LARGEST_BATCH = 10_000


class Command(AuditCommand):
    """Writes events for the history that another package has recorded, with ids below those of all other events."""

    help = "Import the history that another package has recorded."
    exit_codes = (
        "Exit codes: 0 everything was imported that can be, 1 the import stopped before its end, or a table can't be "
        "read to its end, 2 a wrong source, model, database or option. It can be stopped at any time; run it again to "
        "continue."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add what to import, and how."""
        parser.add_argument(
            "source",
            metavar="SOURCE",
            help=f"One of {', '.join(source_names())}, or the dotted path of an ImportSource.",
        )
        parser.add_argument("models", nargs="*", metavar="MODEL", help="app_label.Model or app_label.*; default: all.")
        parser.add_argument("--since", metavar="TIME", help=f"Only what happened from this time on: {MOMENTS}.")
        parser.add_argument(
            "--rename",
            metavar="OLD=NEW",
            action="append",
            default=[],
            help="The present name of a model or a field, beside those of the setting RENAMED: shop.item=shop.product, "
            "shop.product.cost=price; repeatable.",
        )
        parser.add_argument(
            "--batch-size", type=int, default=1000, help="Events that are committed together (default: 1000)."
        )
        parser.add_argument("--dry-run", action="store_true", help="Show what would be imported, and write nothing.")
        parser.add_argument(
            "--no-close",
            action="store_true",
            help="Don't record what the source has missed: neither baselines nor deletions are inferred.",
        )
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help='Alias of the database (default: "default").')

    def handle(self, *args: object, **options: object) -> None:
        """Import, and print what was done."""
        importer = self._importer(options)
        is_terminal = sys.stderr.isatty()
        try:
            with tqdm(unit="row", disable=not is_terminal) as bar:
                importer.on_rows = bar.update
                bar.total = importer.count() if is_terminal else None
                importer.run()
        except (CannotImport, DatabaseError, InterfaceError) as error:
            self._print(importer.summary, options)
            msg = f"{one_line(error)} What was imported is kept; run the command again."
            raise CommandError(msg) from error
        self._print(importer.summary, options)
        if importer.summary.broken:
            msg = f"{', '.join(importer.summary.broken)} can't be read to the end; the log says why."
            raise CommandError(msg)

    def _importer(self, options: dict[str, Any]) -> Importer:
        """Return the import that the options ask for."""
        if not 1 <= options["batch_size"] <= LARGEST_BATCH:
            msg = f"--batch-size must be from 1 to {LARGEST_BATCH}."
            raise CommandError(msg, returncode=WRONG)
        using = options["database"]
        try:
            check_database(using)
            since = parse_moment(options["since"], utc_now()) if options["since"] else None
            if not is_ready(using):
                msg = f'The database "{using}" has no table for audit events. Run migrate.'
                raise CannotImport(msg)
            renamed = {**_renamed_in_settings(), **_renamed(options["rename"])}
            source = load_source(options["source"])(using, renamed)
            wanted = Options(
                models=tuple(options["models"]),
                since=as_aware(since) if since else None,
                renamed=renamed,
                batch_size=options["batch_size"],
                is_dry=options["dry_run"],
                closes=not options["no_close"],
            )
            return Importer(source, wanted)
        except (CannotImport, WrongArgument) as error:
            raise CommandError(str(error), returncode=WRONG) from error

    def _print(self, summary: Summary, options: dict[str, Any]) -> None:
        written = "would be written" if options["dry_run"] else "written"
        read = f"{summary.read:,} row{pluralize(summary.read)} read"
        self.stdout.write(f"{read}, {summary.written:,} event{pluralize(summary.written)} {written}.")
        for line in _lines(summary):
            self.stdout.write(f"  {printable(line)}")


def _lines(summary: Summary) -> Iterator[str]:
    """Yield what is to be said of an import besides its size."""
    said = (
        (summary.known, "row was imported by an earlier run", "rows were imported by an earlier run"),
        (
            summary.dropped,
            "row changed nothing, or is older than --since",
            "rows changed nothing, or are older than --since",
        ),
        (
            summary.overlap,
            "row is from when this package recorded the object itself",
            "rows are from when this package recorded the object itself",
        ),
        (
            summary.inferred,
            "deletion was inferred, because the row is gone",
            "deletions were inferred, because the row is gone",
        ),
        (summary.closing, "baseline closes what the source had missed", "baselines close what the source had missed"),
    )
    yield from (f"{count:,} {one if count == 1 else many}" for count, one, many in said if count)
    for name, count in sorted(summary.unaudited.items()):
        values = f"{count:,} value{pluralize(count)} of {name}"
        yield f"{values} {pluralize(count, 'was,were')} left out: no rule audits this field"
    for name, count in sorted(summary.unclear.items()):
        values = f"{count:,} value{pluralize(count)} of {name}"
        yield f"{values} can't be told from {pluralize(count, 'its,their')} text; it is in the event's data"
    for reason, count in sorted(summary.left.items()):
        names = [*summary.named[reason], *(["…"] if count > len(summary.named[reason]) else [])]
        rows = f"{count:,} row{pluralize(count)} {pluralize(count, 'was,were')}"
        yield f"{rows} left out, because {reason}: {', '.join(names)}"


def _renamed_in_settings() -> dict[str, str]:
    """Return what the setting RENAMED says, as ``_renamed`` does."""
    renames = get_renames()
    fields = {f"{label}.{old}": new for label, names in renames.fields.items() for old, new in names.items()}
    return {**renames.labels, **fields}


def _renamed(texts: Sequence[str]) -> dict[str, str]:
    """Return present names by former ones: of models by their label, of fields by the former label and name."""
    pairs = {}
    for text in texts:
        old, equals, new = text.partition("=")
        if not (old and equals and new):
            msg = f"--rename {text!r} isn't OLD=NEW."
            raise CannotImport(msg)
        pairs[old] = new
    labels = {old.lower(): new for old, new in pairs.items() if new.count(".") == 1}
    fields = {old: new for old, new in pairs.items() if new.count(".") != 1}
    for old, new in labels.items():
        _model(new, f"{old}={new}")
    return {old: new.lower() for old, new in labels.items()} | dict(_fields(fields, labels))


def _fields(fields: Mapping[str, str], labels: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the former label and name of each field, with its present name."""
    for old, new in fields.items():
        former, _, field = old.rpartition(".")
        name = new.rpartition(".")[2]
        owner = labels.get(former.lower(), former)
        try:
            _model(owner, f"{old}={new}")._meta.get_field(name)
        except FieldDoesNotExist as error:
            msg = f"--rename '{old}={new}': {owner} has no field {name!r}."
            raise CannotImport(msg) from error
        yield f"{former.lower()}.{field}", name


def _model(label: str, text: str) -> Any:
    try:
        return apps.get_model(label)
    except (LookupError, ValueError) as error:
        msg = f"--rename {text!r}: there is no model {label!r}."
        raise CannotImport(msg) from error
