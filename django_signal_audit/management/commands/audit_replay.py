"""``manage.py audit_replay``: proves that folding the events gives the tables, or names each difference."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TypedDict, Unpack

from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from tabulate import tabulate
from tqdm import tqdm

from django_signal_audit.capture.images import chunks
from django_signal_audit.events.keys import object_id
from django_signal_audit.management.base import WRONG, AuditCommand
from django_signal_audit.management.filtering import select_plans
from django_signal_audit.replay import Difference, Kind, LeftOut, Replay
from django_signal_audit.reports.display import printable, shorten
from django_signal_audit.rules.plans import ModelPlan

# Of a value that is printed for people.
LONGEST = 40
# Of rows that need a baseline, so many keys are named for each model; the JSON has all.
FIRST_KEYS = 3


class Options(TypedDict):
    """What the command was called with."""

    models: list[str]
    tenant: str | None
    check: bool
    format: str
    database: str


class Command(AuditCommand):
    """Compares the recorded state of every audited row with the table. Nothing is written and nothing locked."""

    help = "Replay the events of every audited row and report where the row differs."
    requires_system_checks: list[str] = []  # the proof must be had while the settings are being mended
    database_code = WRONG
    exit_codes = (
        "Exit codes: 0 done (with --check: and there is no difference), 1 with --check: there are differences, "
        "2 a wrong model, database or option, or the database cannot be used."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add what to compare and how to say it."""
        parser.add_argument("models", nargs="*", metavar="MODEL", help="app_label.Model or app_label.*; default: all.")
        parser.add_argument("--tenant", help="Only rows of this tenant; default: all, or those of the current one.")
        parser.add_argument("--check", action="store_true", help="Exit with code 1 if there is a difference.")
        parser.add_argument("--format", choices=["table", "json"], default="table", help="Default: table.")
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help='Alias of the database (default: "default").')

    def handle(self, *args: object, **options: Unpack[Options]) -> None:
        """Compare, print, and say by the exit code what was found if asked to."""
        plans = select_plans(options["models"], options["database"])
        self.stdout.ending = ""
        try:
            found = self._replay(plans, options)
        except (DatabaseError, InterfaceError) as error:
            msg = f'The database "{options["database"]}" cannot be used: {" ".join(str(error).split())}'
            raise CommandError(msg, returncode=WRONG) from error
        if found and options["check"]:
            sys.exit(1)

    def _replay(self, plans: Sequence[ModelPlan], options: Options) -> int:
        """Print what the replay finds and return how many differences there are."""
        is_terminal = sys.stderr.isatty()
        with tqdm(unit="row", disable=not is_terminal) as bar:
            replay = Replay(plans, options["database"], on_rows=bar.update)
            if plans and not replay.has_tables:
                msg = (
                    f'None of the audited tables exists in the database "{options["database"]}"; nothing was compared.'
                )
                raise CommandError(msg, returncode=WRONG)
            bar.total = replay.count() if is_terminal else None
            write = self._write_json if options["format"] == "json" else self._write_tables
            return write(replay)

    def _write_json(self, replay: Replay) -> int:
        """Write one document, a difference per line as it is found."""
        found = 0
        self.stdout.write('{"differences": [')
        for found, difference in enumerate(replay.differences(), 1):
            self.stdout.write(f"{',' if found > 1 else ''}\n{json.dumps(_record(difference))}")
        left_out = [
            {"model": item.model._meta.label_lower, "field": item.field, "reason": item.reason, "rows": item.rows}
            for item in replay.left_out()
        ]
        rest = json.dumps({"left_out": left_out, "rows": replay.rows})
        self.stdout.write(f"\n], {rest[1:]}\n")
        return found

    def _write_tables(self, replay: Replay) -> int:
        """Write the differences in tables, what was left out, and how many there are of each."""
        found, summary = 0, Summary()
        for chunk in chunks(replay.differences()):
            found += len(chunk)
            listed = [difference for difference in chunk if not summary.takes(difference)]
            if listed:
                self._write_table(("model", "key", "field", "recorded", "actual", "difference"), map(_line, listed))
        if summary.rows:
            self._write_table(("model", "rows", "keys", "difference"), summary.lines())
        left_out = list(_by_reason(replay.left_out()))
        if left_out:
            self.stdout.write(_("Not compared:\n"))
            self._write_table(("model", "fields", "rows", "why"), left_out)
        text = ngettext(
            "%(rows)d row compared with its recorded history, %(differences)s.\n",
            "%(rows)d rows compared with their recorded history, %(differences)s.\n",
            replay.rows,
        )
        differences = ngettext("%(count)d difference", "%(count)d differences", found) % {"count": found}
        self.stdout.write(text % {"rows": replay.rows, "differences": differences})
        return found

    def _write_table(self, headers: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
        table = tabulate([[printable(cell) for cell in row] for row in rows], headers=[*headers], disable_numparse=True)
        self.stdout.write(f"{table}\n\n")


class Summary:
    """The rows that need a baseline: before there is one these are all rows, so each model has a line."""

    kinds = (Kind.UNRECORDED, Kind.UNSTARTED)

    def __init__(self) -> None:
        self.rows: Counter[tuple[str, Kind]] = Counter()
        self._keys: dict[tuple[str, Kind], list[str]] = {}

    def takes(self, difference: Difference) -> bool:
        """Return whether a difference is summed up here, and add it."""
        if difference.kind not in self.kinds:
            return False
        group = difference.model._meta.label_lower, difference.kind
        self.rows[group] += 1
        keys = self._keys.setdefault(group, [])
        if len(keys) < FIRST_KEYS:
            keys.append(shorten(object_id(difference.pk), LONGEST))
        return True

    def lines(self) -> Iterator[tuple[str, ...]]:
        """Yield model, number of rows, the first keys and what is wrong, for each model."""
        for group, count in self.rows.items():
            label, kind = group
            keys = self._keys[group]
            yield label, f"{count:,}", ", ".join([*keys, *(["…"] if count > len(keys) else [])]), str(kind.label)


def _record(difference: Difference) -> dict[str, object]:
    return {
        "model": difference.model._meta.label_lower,
        "pk": object_id(difference.pk),
        "kind": difference.kind.value,
        "field": difference.field,
        "recorded": difference.recorded,
        "actual": difference.actual,
    }


def _line(difference: Difference) -> tuple[str, ...]:
    values = (_shown(difference.recorded), _shown(difference.actual)) if difference.field else ("", "")
    name = object_id(difference.pk)
    return (difference.model._meta.label_lower, name, difference.field, *values, str(difference.kind.label))


def _shown(value: object) -> str:
    return shorten(json.dumps(value, ensure_ascii=False), LONGEST)


def _by_reason(items: Iterable[LeftOut]) -> Iterator[tuple[str, ...]]:
    """Return a line per model, reason and number of rows, with the fields that share them."""
    lines: dict[tuple[str, str, str], list[str]] = {}
    for item in items:
        rows = _("all") if item.rows is None else str(item.rows)
        lines.setdefault((item.model._meta.label_lower, rows, item.reason), []).append(item.field or _("all"))
    for (label, rows, reason), fields in lines.items():
        yield label, ", ".join(fields), rows, reason
