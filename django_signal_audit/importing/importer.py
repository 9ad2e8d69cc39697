"""The import: each object's rows become events in order, up to the moment from which this package recorded it."""

from __future__ import annotations

import datetime as dt
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import transaction

from django_signal_audit.capture.transactions import lock_database
from django_signal_audit.enums import ROW_EVENTS, EventType, Source
from django_signal_audit.events.documents import clean_text
from django_signal_audit.events.payloads import cut
from django_signal_audit.importing.base import (
    CannotImport,
    Entry,
    History,
    ImportSource,
    Summary,
    Unusable,
    is_of_one_row,
    renamed_fields,
)
from django_signal_audit.importing.takeover import FirstOwn, Takeover, as_aware
from django_signal_audit.importing.target import Drafted, Target, draft
from django_signal_audit.importing.writing import Actors, ImportedTenants, Writer, uid_of
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.events import utc_now
from django_signal_audit.models.state import RecordedState

logger = logging.getLogger(__name__)

_PAGE = 2000
# Columns of events.
_LONGEST_ACTOR = 255
_LONGEST_CORRELATION = 64


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to import.

    Attributes:
        models: Patterns of labels: ``shop.product``, ``shop.*``; none for all.
        since: Leave out what is older.
        renamed: Present labels by former ones, and present names of fields by ``label.former``, in lower case.
        batch_size: How many events a transaction has at most.
        is_dry: Whether nothing is written.
        closes: Whether to write what the source has missed.

    """

    models: tuple[str, ...] = ()
    since: dt.datetime | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    batch_size: int = 1000
    is_dry: bool = False
    closes: bool = True


class Importer:
    """Imports what a source has recorded; running it again goes on where it ended.

    Args:
        source: The source.
        options: How to.

    Attributes:
        on_rows: Is called with the number of rows that have been read since it was called last.

    """

    on_rows: Callable[[int], object] = staticmethod(lambda _rows: None)

    def __init__(self, source: ImportSource, options: Options) -> None:
        self._source, self._options = source, options
        self.summary = Summary()
        self.histories = self._chosen(list(source.histories()))

    def count(self) -> int:
        """Return how many rows the source has."""
        return sum(history.count() for history in self.histories)

    def run(self) -> Summary:
        """Import, and return what was done.

        Raises:
            CannotImport: It can't go on. What was written stays.

        """
        writer = Writer(self._source.using, self._options.batch_size, self.summary, is_dry=self._options.is_dry)
        actors = Actors(self._source.using)
        read: dict[str, str] = {}
        for history in self.histories:
            if history.has_values and (first := read.setdefault(self._label(history), history.table)) != history.table:
                reason = f"the history of {self._label(history)} is taken from {first}"
                self.summary.leave(reason, f"all of {history.table}")
                continue
            target = Target(
                self._label(history), renamed_fields(history.label, self._options.renamed), self.summary.unaudited
            )
            one = HistoryImport(history, target, self._source, self._options, self.summary, writer, actors)
            for rows in one.run():
                self.on_rows(rows)
        return self.summary

    def _chosen(self, histories: list[History]) -> list[History]:
        wanted = [pattern.lower() for pattern in self._options.models]
        found = [item for item in histories if not wanted or any(_fits(self._label(item), one) for one in wanted)]
        for pattern in wanted:
            if not any(_fits(self._label(history), pattern) for history in histories):
                labels = sorted({self._label(history) for history in histories if history.label})
                msg = f"The source has no rows about {pattern}. It has rows about {', '.join(labels) or 'no model'}."
                raise CannotImport(msg)
        # What a multi-table child says of its parent's row has the last word.
        return sorted(found, key=lambda history: _depth(self._label(history)))

    def _label(self, history: History) -> str:
        return self._options.renamed.get(history.label, history.label)


def _fits(label: str, pattern: str) -> bool:
    return label == pattern or (pattern.endswith(".*") and label.startswith(pattern[:-1]))


def _depth(label: str) -> int:
    model = Target(label, {}, Counter()).model
    return len(model._meta.get_parent_list()) if model else 0


@dataclass
class _Object:
    """One object, while its rows are read."""

    row: str
    text: str = ""
    state: RecordedState = field(default_factory=RecordedState)
    first_own: FirstOwn | None = None
    # What an earlier run has written last, and when it closed the object.
    last_place: Any = None
    last_key: str = ""
    first_at: dt.datetime | None = None
    closed_at: dt.datetime | None = None
    is_foreign: bool = False
    newest: dt.datetime | None = None
    # What this run has written last.
    newest_place: Any = None


class HistoryImport:
    """Imports the rows of one history."""

    def __init__(
        self,
        history: History,
        target: Target,
        source: ImportSource,
        options: Options,
        summary: Summary,
        writer: Writer,
        actors: Actors,
    ) -> None:
        self._history, self._target, self._source = history, target, source
        self._options, self._summary, self._writer, self._actors = options, summary, writer, actors
        self._takeover = Takeover(target, source.using)
        self._tenants = ImportedTenants(target.model, source.using)
        self._closes = options.closes and history.has_values and self._takeover.can_close
        # The model may have got another name since an earlier run.
        former = [old for old, new in options.renamed.items() if new == target.label]
        self._imported = AuditEvent.objects.using(source.using).filter(model__in=(target.label, *former), id__lt=0)
        self._has_imported = self._imported.exists()
        self._objects: dict[str, _Object] = {}

    def run(self) -> Iterator[int]:
        """Import, and yield how many rows were read, again and again."""
        for count, entries in self._slices():
            self._summary.read += count
            named = [(row, entry) for entry in entries if (row := self._named(entry)) is not None]
            if self._history.has_values:
                self._take_rows(named)
            else:
                self._take_others(named)
            self._writer.refresh_statistics()
            yield count
        self._close(list(self._objects))
        self._writer.flush()

    def _slices(self) -> Iterator[tuple[int, Sequence[Entry]]]:
        """Yield rows; those of other histories can be read where this one breaks off."""
        try:
            yield from self._history.slices(self._summary)
        except Exception as error:
            if not is_of_one_row(error):
                raise
            logger.exception("audit_import can't read on in the table %s.", self._history.table)
            self._summary.broken.append(self._history.table)
            # The last objects may have rows that were not read: a later run takes them and closes.
            self._objects.clear()

    def _named(self, entry: Entry) -> str | None:
        """Return the name of a row's object in the audit log, None if it is left out."""
        if self._options.since is not None and entry.at < self._options.since:
            self._summary.dropped += 1
            return None
        row = None
        with self._alone(entry):
            row = self._target.object_id(entry.object_id)
        # A key that is written in another way may come again: its rows aren't all together.
        self._has_imported |= row is not None and isinstance(entry.object_id, str) and entry.object_id != row
        return row

    @contextmanager
    def _alone(self, entry: Entry) -> Iterator[None]:
        """Leave out and name a row that can't be taken, and it alone."""
        try:
            yield
        except Unusable as error:
            self._summary.leave(str(error), self._name(entry))
        except Exception as error:
            if not is_of_one_row(error):
                raise
            self._summary.leave(f"it can't be taken ({type(error).__name__})", self._name(entry))

    def _name(self, entry: Entry) -> str:
        return f"{self._history.table} {entry.key}"

    def _take_others(self, named: Sequence[tuple[str, Entry]]) -> None:
        """Write rows that say nothing of what objects held."""
        uids = {self._uid(entry.at, entry.key, entry.event_type): (row, entry) for row, entry in named}
        known = set(
            AuditEvent.of_all_tenants.using(self._source.using).filter(uid__in=uids).values_list("uid", flat=True)
        )
        self._summary.known += len(known)
        for uid, (row, entry) in uids.items():
            if uid not in known:
                with self._alone(entry):
                    self._write(_Object(row, text=self._target.text(entry)), entry, Drafted(entry.event_type, {}))

    def _take_rows(self, named: Sequence[tuple[str, Entry]]) -> None:
        if not named:
            return  # the last object may go on
        rows = list(dict.fromkeys(row for row, _ in named))
        self._close([row for row in self._objects if row not in rows])
        self._open([row for row in rows if row not in self._objects])
        # Asked for after the rows were read: what both packages recorded in one transaction is in both or in none.
        for row, first in self._takeover.first_own(rows).items():
            self._objects[row].first_own = first
        for row, entry in named:
            with self._alone(entry):
                self._take(self._objects[row], entry)
        self._close(rows[:-1])

    def _open(self, rows: Iterable[str]) -> None:
        self._objects.update({row: _Object(row) for row in rows})
        if not self._has_imported:
            return
        self._writer.flush()
        events = self._imported.filter(object_id__in=list(rows)).order_by("id")
        columns = events.values_list("id", "object_id", "uid", "event_type", "recorded_at", "changes", "context")
        page = list(columns[:_PAGE])
        while page:
            for _, row, *event in page:
                if row in self._objects:
                    self._remember(self._objects[row], *event)
            page = list(columns.filter(id__gt=page[-1][0])[:_PAGE]) if len(page) == _PAGE else []

    def _remember(self, one: _Object, uid: UUID, event_type: str, at: dt.datetime, changes: Any, context: Any) -> None:
        """Bring an object's state forward by an event that an earlier run has written."""
        origin = context.get("imported", {}) if isinstance(context, dict) else {}
        at = as_aware(at)
        if event_type not in ROW_EVENTS and uid != self._uid(at, str(origin.get("id", "")), event_type):
            return  # another table's event about the object, which says nothing of what it held
        one.state.apply(event_type, self._target.renamed(changes))
        # The starting point that a prune has left is of the same source.
        one.is_foreign |= origin.get("from", self._source.name) != self._source.name
        if "id" not in origin:
            one.closed_at = at
        else:
            one.first_at = one.first_at or at
            one.last_key = str(origin["id"])
            one.last_place = self._history.place(at, one.last_key)

    def _take(self, one: _Object, entry: Entry) -> None:
        """Write the events that a row becomes, if it has to become any."""
        if one.is_foreign:
            self._summary.leave("its object's history was imported from another source", self._name(entry))
        elif one.first_own is not None and entry.at >= one.first_own.at:
            self._summary.overlap += 1
        elif not self._is_known(one, entry):
            place = self._history.place(entry.at, entry.key)
            if one.newest_place is not None and place < one.newest_place:
                self._summary.leave("its object's key is written in two ways, and it is older", self._name(entry))
                return
            one.newest_place = place
            self._draft(one, entry)

    def _is_known(self, one: _Object, entry: Entry) -> bool:
        """Return whether an earlier run has dealt with a row, and count it."""
        place = self._history.place(entry.at, entry.key)
        is_before = one.last_place is not None and (
            place < one.last_place or (place == one.last_place and bool(one.last_key))
        )
        if one.last_place == place and entry.key == one.last_key:
            one.last_key = ""  # what follows at the same time is new
        if one.first_at is not None and entry.at < one.first_at and is_before:
            self._summary.leave("it is older than what an earlier run has imported of its object", self._name(entry))
        elif is_before or (one.closed_at is not None and entry.at <= one.closed_at):
            self._summary.known += 1
        else:
            return False
        return True

    def _draft(self, one: _Object, entry: Entry) -> None:
        if entry.object_repr:
            one.text = self._target.text(entry)
        one.newest = max(entry.at, one.newest or entry.at)
        count = 0
        is_double = False
        for drafted in draft(entry, one.row, one.state, self._target):
            if one.first_own is not None and one.first_own.says(drafted, entry.at):
                is_double = True
                continue
            # A row that fails here leaves the state as the audit log has it.
            self._write(one, entry, drafted)
            one.state.apply(drafted.event_type, drafted.changes)
            count += 1
        if not count:
            if is_double:
                self._summary.overlap += 1
            else:
                self._summary.dropped += 1

    def _uid(self, at: dt.datetime, key: str, event_type: str) -> UUID:
        return uid_of(at, self._source.name, self._history.table, key, event_type, *self._tenants.origin)

    def _write(self, one: _Object, entry: Entry, drafted: Drafted) -> None:
        target = self._target
        actor_id, actor_repr = self._actors.of(entry.actor)
        data: dict[str, Any] = dict(entry.data)
        if drafted.is_inferred:
            data = {"inferred": True}
            self._summary.inferred += 1
        elif unclear := {name: value for name, value in entry.unclear.items() if target.name(name, count=False)}:
            data["unclear"] = unclear
            self._summary.unclear.update(f"{target.label}.{name}" for name in unclear)
        context = {**target.payload(entry.context, one.row)} if entry.context else {}
        self._writer.add(
            uid=self._uid(entry.at, entry.key, drafted.event_type),
            recorded_at=entry.at,
            event_type=str(drafted.event_type),
            source=Source.IMPORT.value,
            model=target.label,
            object_id=one.row,
            object_repr=one.text,
            actor_id=actor_id,
            actor_repr=cut(clean_text(actor_repr or entry.actor_repr), _LONGEST_ACTOR),
            # The state holds the same lists, and changes them.
            changes=drafted.changes,
            data=target.payload(data, one.row, drafted.event_type) if data else {},
            context={**context, "imported": {"from": self._source.name, "id": entry.key}},
            correlation_id=entry.correlation_id[:_LONGEST_CORRELATION],
            tenant=self._tenants.of(one.row, drafted.event_type, drafted.changes, one.state.values),
        )

    def _close(self, rows: Sequence[str]) -> None:
        """Write what the source had missed of these objects, and forget them."""
        ended = {row: self._objects.pop(row) for row in rows}
        open_ = {row: one for row, one in ended.items() if not one.is_foreign}
        if not open_ or not self._closes:
            return
        self._writer.flush()
        using = self._source.using
        with nullcontext() if self._options.is_dry else transaction.atomic(using=using):
            if not self._options.is_dry:
                lock_database(using)
            self._reread([row for row in open_ if (self._target.label, row) in self._writer.incomplete], open_)
            states = {row: one.state for row, one in open_.items()}
            found = list(self._takeover.closing(states, lock=not self._options.is_dry))
            first_own = self._takeover.first_own([row for row, _ in found])
            for row, drafted in found:
                self._write_closing(open_[row], drafted, first_own.get(row))
            self._writer.flush()

    def _reread(self, rows: Sequence[str], into: Mapping[str, _Object]) -> None:
        """Take the states of objects from the audit log: it lacks the events that the database has refused."""
        if rows:
            self._has_imported = True
            self._open(rows)
        for row in rows:
            into[row].state = self._objects.pop(row).state

    def _write_closing(self, one: _Object, drafted: Drafted, own: FirstOwn | None) -> None:
        now = as_aware(utc_now())
        at = max(now, one.newest or now) if own is None else own.at - dt.timedelta(microseconds=1)
        is_deletion = drafted.event_type == EventType.DELETE
        self._summary.inferred += is_deletion
        self._summary.closing += not is_deletion
        self._writer.add(
            uid=uid_of(at, self._source.name, self._target.label, one.row, "closing", *self._tenants.origin),
            recorded_at=at,
            event_type=str(drafted.event_type),
            source=(Source.IMPORT if is_deletion else Source.BASELINE).value,
            model=self._target.label,
            object_id=one.row,
            object_repr=one.text,
            changes=drafted.changes,
            data={"inferred": True} if is_deletion else {},
            context={"imported": {"from": self._source.name}},
            tenant=self._tenants.of(one.row, drafted.event_type, drafted.changes, one.state.values),
        )
