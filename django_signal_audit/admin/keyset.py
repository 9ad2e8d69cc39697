"""Paging by where one is, not by how far one has come: the millionth page costs what the first one does."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from django.conf import settings
from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Field, Func, Lookup, Q, Value
from django.db.models.functions import Coalesce
from django.db.models.lookups import Exact
from django.db.models.sql.compiler import SQLCompiler

from django_signal_audit.models import AuditEvent, AuditEventQuerySet
from django_signal_audit.models.events import BEFORE_ALL
from django_signal_audit.models.fields import UtcDateTimeField
from django_signal_audit.models.names import Lowered
from django_signal_audit.models.renames import current_label, renamed_changes
from django_signal_audit.models.state import shaped as without_odd_documents

if TYPE_CHECKING:
    from django_signal_audit.admin.access import Access
    from django_signal_audit.admin.search.conditions import Condition

OLDEST = "oldest"
LAST_ID = 2**63 - 1
_CURSOR = re.compile(r"(older|newer)-(-?\d{1,17})-(-?\d{1,18})")
_MICROSECOND = dt.timedelta(microseconds=1)


def _utc(year: int) -> dt.datetime:
    return dt.datetime(year, 1, 1, tzinfo=dt.UTC if settings.USE_TZ else None)


class Position(NamedTuple):
    """A place in the log, at an event or between two: it is in the order of these."""

    moment: dt.datetime
    event_id: int = BEFORE_ALL


@dataclass(frozen=True, slots=True)
class TimeRange:
    """The part of the log between two positions, neither of them included."""

    after: Position
    before: Position

    @classmethod
    def of(cls, since: dt.datetime | None, until: dt.datetime | None) -> Self:
        """Return the time range from a moment, included, to another, not included; None for an open end."""
        # A moment's own position precedes the events of that moment.
        return cls(Position(since or _utc(1000)), Position(until or _utc(9000)))


ALL_TIME = TimeRange.of(None, None)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page begins: after an event, towards older or newer ones; without an event, at that end of the log."""

    is_older: bool = True
    position: Position | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the cursor that a page's address names; the newest page's for what is none."""
        if text == OLDEST:
            return cls(is_older=False)
        found = _CURSOR.fullmatch(text)
        try:
            moment = _utc(1970) + int(found[2]) * _MICROSECOND if found else None
        except OverflowError:
            moment = None
        return cls(found[1] == "older", Position(moment, int(found[3]))) if found and moment else cls()

    @classmethod
    def from_event(cls, event: AuditEvent, *, is_older: bool) -> Self:
        """Return the cursor of the page that begins after an event."""
        return cls(is_older, Position(event.recorded_at, event.pk))

    def __str__(self) -> str:
        if self.position is None:
            return "" if self.is_older else OLDEST
        direction = "older" if self.is_older else "newer"
        return f"{direction}-{(self.position.moment - _utc(1970)) // _MICROSECOND}-{self.position.event_id}"

    def narrow(self, time_range: TimeRange) -> TimeRange:
        """Return the part of the time range in which the page is."""
        if self.position is None:
            return time_range
        if self.is_older:
            return TimeRange(time_range.after, min(time_range.before, self.position))
        return TimeRange(max(time_range.after, self.position), time_range.before)


class Row(Func):
    """Columns or values taken together: ``(a, b)``."""

    function = ""
    output_field = Field()


class Above(Lookup):
    """True where one row comes after another in their order: ``(a, b) > (1, 2)``."""

    lookup_name = "above"
    operator = ">"

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        """Return the comparison; every supported database has it."""
        left, values = compiler.compile(self.lhs)
        right, more = compiler.compile(self.rhs)
        return f"{left} {self.operator} {right}", [*values, *more]


class Below(Above):
    """True where one row comes before another in their order."""

    lookup_name = "below"
    operator = "<"


@dataclass(frozen=True, slots=True)
class IndexScan:
    """Events that one index leads to in the order of time: those with a value in a column, or all.

    Asked for ``column = value``, a database may as well walk down the whole log in the hope of soon meeting enough of
    them. Both ends of the index's part, and its order, leave nothing to hope for.
    """

    order: ClassVar[tuple[str, ...]] = ("recorded_at", "id")

    events: AuditEventQuerySet
    column: str | Lowered = ""
    value: Any = None

    def rows(self, time_range: TimeRange, *, is_older: bool) -> AuditEventQuerySet:
        """Return the events of the time range, the newest or the oldest first."""
        columns: list[str | Lowered] = [self.column, *self.order] if self.column else [*self.order]
        vendor = connections[self.events.db].vendor
        if self.column and (vendor == "mysql" or (vendor == "sqlite" and isinstance(self.column, Lowered))):
            # These look up what is equal, whatever the order. MariaDB compares rows by no index, SQLite by none on
            # expressions; the first column of the rows is named once more for them.
            columns = [*self.order]
            column = F(self.column) if isinstance(self.column, str) else self.column
            events = self.events.filter(Exact(column, _typed(self.value))).filter(_around(time_range))
            found = _between(events, columns, time_range)
        else:
            found = _between(self.events, columns, time_range, *([self.value] if self.column else []))
        named = [F(column) if isinstance(column, str) else column for column in columns]
        return found.order_by(*(column.desc() if is_older else column.asc() for column in named))


@dataclass(frozen=True, slots=True)
class SortedScan(IndexScan):
    """Events that an index leads to in another order, few enough to be sorted."""

    def rows(self, time_range: TimeRange, *, is_older: bool) -> AuditEventQuerySet:
        """Return the events of the time range, the newest or the oldest first."""
        # By the bare column, a database might walk down the log to be spared the sorting.
        time = Coalesce("recorded_at", "recorded_at")
        found = _between(self.events, [time, "id"], time_range)
        return found.order_by(time.desc(), "-id") if is_older else found.order_by(time.asc(), "id")


@dataclass(frozen=True, slots=True)
class HistoryScan:
    """The events of one row. Their order is that of their keys, which ascend from one event of a row to the next."""

    order: ClassVar[tuple[str, ...]] = ("id",)

    events: AuditEventQuerySet
    label: str
    key: str

    def rows(self, time_range: TimeRange, *, is_older: bool) -> AuditEventQuerySet:
        """Return the events between the keys of the time range's ends, the newest or the oldest first."""
        first, last = time_range.after.event_id, time_range.before.event_id
        last = LAST_ID if last == BEFORE_ALL else last  # a moment is no event
        if connections[self.events.db].vendor != "postgresql":
            # These look up what is equal, and of rows that are compared they take the first columns alone.
            found = self.events.filter(model=self.label, object_id=self.key, id__gt=first, id__lt=last)
            return found.order_by("-id" if is_older else "id")
        # Asked for what is equal, it may walk down the keys of all events in the hope of soon meeting enough of them.
        # The model is none of what is compared: the end of the part would not be seen, and all of the model be read.
        found = _within(self.events.filter(model=self.label), ["object_id", "id"], (self.key, first), (self.key, last))
        return found.order_by(*(("-object_id", "-id") if is_older else ("object_id", "id")))


def _between(
    events: AuditEventQuerySet, columns: Sequence[object], time_range: TimeRange, *value: object
) -> AuditEventQuerySet:
    return _within(events, columns, (*value, *time_range.after), (*value, *time_range.before))


def _around(time_range: TimeRange) -> Q:
    """Return the condition that an event is of the time range, or at the moment of one of its ends."""
    return Q(recorded_at__gte=time_range.after.moment, recorded_at__lte=time_range.before.moment)


def _within(events: AuditEventQuerySet, columns: Sequence[object], *ends: tuple[object, ...]) -> AuditEventQuerySet:
    after, before = (Row(*map(_typed, end)) for end in ends)
    return events.filter(Above(Row(*columns), after), Below(Row(*columns), before))


def _typed(value: object) -> Value:
    return Value(value, output_field=UtcDateTimeField() if isinstance(value, dt.datetime) else None)


def shaped(events: Iterable[AuditEvent]) -> list[AuditEvent]:
    """Return the events, in memory without what cannot be read of their documents."""
    return [_shaped(event) for event in events]


def _shaped(event: AuditEvent) -> AuditEvent:
    if "changes" in event.__dict__:
        event = without_odd_documents(event)
        event.model, event.changes = current_label(event.model), renamed_changes(event.model, event.changes)
    return event


@dataclass(frozen=True, slots=True)
class Page:
    """The keys of a page's events, the newest first, and whether there are events on either side."""

    keys: list[int]
    has_newer: bool = False
    has_older: bool = False


def find_page(scans: Sequence[IndexScan | HistoryScan], time_range: TimeRange, cursor: Cursor, size: int) -> Page:
    """Return the page at the cursor of the events of the time range that are in any of the scans.

    Each scan is read for one page at most, and the pages are merged. All scans have the same order.
    """
    if not scans:
        return Page([])
    part = cursor.narrow(time_range)
    keys = find_keys(scans, part, size + 1, cursor)
    has_more, keys = len(keys) > size, keys[:size]
    if cursor.is_older:
        return Page(keys, has_newer=cursor.position is not None, has_older=has_more)
    if not has_more and cursor.position is not None:
        # So few are newer that they are on the first page, which is to be a full one.
        return find_page(scans, time_range, Cursor(), size)
    return Page(keys[::-1], has_newer=has_more, has_older=cursor.position is not None)


def neighbours(cursor: Cursor, page: Page, events: Sequence[AuditEvent]) -> dict[str, Cursor]:
    """Return the cursors of the pages on either side and at both ends, by name; there are none where nothing is.

    Args:
        cursor: Where the page begins.
        page: The page.
        events: What is shown of it, the newest first.

    """
    if not events:
        return {"newest": Cursor()} if str(cursor) else {}
    found: dict[str, Cursor] = {}
    if page.has_newer:
        found |= {"newest": Cursor(), "newer": Cursor.from_event(events[0], is_older=False)}
    if page.has_older:
        older = Cursor.from_event(events[-1], is_older=True)
        found |= {"older": older, "oldest": Cursor(is_older=False)}
    return found


def newest_keys(scans: Sequence[IndexScan | HistoryScan], limit: int) -> list[int]:
    """Return the keys of the newest events that are in any of the scans; each scan is read for so many."""
    return find_keys(scans, ALL_TIME, limit, Cursor())


def find_keys(scans: Sequence[IndexScan | HistoryScan], time_range: TimeRange, limit: int, cursor: Cursor) -> list[int]:
    """Return the keys of the first events at the cursor, in the order in which it reads."""
    if not scans:
        return []
    rows = [scan.rows(time_range, is_older=cursor.is_older) for scan in scans]
    columns = scans[0].order
    if len(rows) == 1:
        return list(rows[0].values_list("pk", flat=True)[:limit])
    parts: list[str] = []
    params: list[Any] = []
    for scan in rows:
        found = scan.values_list(*columns)[:limit]
        try:
            sql, given = found.query.get_compiler(found.db).as_sql()
        except EmptyResultSet:
            continue
        # SQLite takes no LIMIT in the parts of a UNION, only in what these select from.
        parts.append(f"SELECT * FROM ({sql}) branch_{len(parts)}")  # noqa: S608  # what Django made, with parameters
        params += given
    if not parts:
        return []
    direction = "DESC" if cursor.is_older else "ASC"
    order = ", ".join(f"{number} {direction}" for number in range(1, len(columns) + 1))
    with connections[rows[0].db].cursor() as merged:
        merged.execute(f"{' UNION '.join(parts)} ORDER BY {order} LIMIT {limit}", params)
        return [row[-1] for row in merged.fetchall()]


# What stands for the label, the key and the end of a scan, to be replaced in the parameters of its statement.
_LABEL, _KEY, _END = "label of a scan", "key of a scan", LAST_ID - 1


def newest_up_to(events: AuditEventQuerySet, places: Sequence[tuple[str, str, int]]) -> list[int]:
    """Return the keys of the newest events of rows, each up to an event of whichever row, by one statement.

    Args:
        events: All events.
        places: The label, the key and the last event of each.

    """
    span = TimeRange(ALL_TIME.after, Position(ALL_TIME.before.moment, _END))
    newest = HistoryScan(events, _LABEL, _KEY).rows(span, is_older=True).values_list("id")[:1]
    # They are alike: one is compiled, and the others differ in their parameters.
    sql, params = newest.query.get_compiler(newest.db).as_sql()
    given: list[Any] = []
    for label, key, last in places:
        found = {_LABEL: label, _KEY: key, _END: last + 1}
        given += [found.get(value, value) for value in params]
    parts = (f"SELECT * FROM ({sql}) branch_{number}" for number in range(len(places)))  # noqa: S608  # Django made it
    with connections[events.db].cursor() as merged:
        merged.execute(" UNION ".join(parts), given)
        return [row[0] for row in merged.fetchall()]


# So many events are read for one page. Who sees few of them is offered to look further.
MOST_READ = 5000
# So many are read at once, at most.
LARGEST_STEP = 1000
# What decides who may see an event, and where it is.
_COLUMNS = ("id", "model", "object_id", "event_type", "recorded_at")


@dataclass(frozen=True, slots=True)
class Found:
    """A page of events that the user may see, the newest first.

    Attributes:
        page: Their keys, and whether there are events on either side.
        events: The events, with all columns.
        further: Where to go on if reading ended before the page was full.
        searched_to: The time of the last event that was read then.

    """

    page: Page
    events: list[AuditEvent] = field(default_factory=list)
    further: Cursor | None = None
    searched_to: dt.datetime | None = None


def find_visible(scan: Scan, cursor: Cursor, labels: Iterable[str]) -> Found:
    """Return the page at the cursor, of those events in the scans that the user may see.

    Args:
        scan: What is to be read.
        cursor: Where the page begins.
        labels: The models that the events in the scans may be of.

    """
    if not scan.conditions and not any(map(scan.access.is_partial, labels)):
        page = find_page(scan.scans, scan.time_range, cursor, scan.size)
        return Found(page, _fetch(scan.events, page.keys))
    found = scan.read(cursor)
    if not cursor.is_older and cursor.position is not None and not found.page.has_newer and found.further is None:
        # So few are newer that they are on the first page, which is to be a full one.
        return scan.read(Cursor())
    return found


def _fetch(events: AuditEventQuerySet, keys: Sequence[int]) -> list[AuditEvent]:
    # In an order, a database may read all events in it rather than look these up.
    rows = events.order_by().in_bulk(keys)
    return shaped(rows[pk] for pk in keys if pk in rows)


@dataclass(frozen=True, slots=True)
class Scan:
    """Reads on until a page is full, the log ends, or enough was read.

    Attributes:
        access: What the user may see.
        events: All events of the models that they may see anything of.
        scans: Where to read.
        time_range: The part of the log to read.
        size: How many events a page has.
        conditions: What events have to fulfil besides.

    """

    access: Access
    events: AuditEventQuerySet
    scans: Sequence[IndexScan | HistoryScan]
    time_range: TimeRange
    size: int
    conditions: Sequence[Condition] = ()

    def read(self, cursor: Cursor) -> Found:
        """Return the page at the cursor."""
        seen: list[AuditEvent] = []
        at, step, count, is_end, last = cursor, self.size + 1, 0, False, None
        while len(seen) <= self.size and count < MOST_READ and not is_end:
            step = min(step, MOST_READ - count)
            keys, read = self._read(at, step)
            count, is_end = count + step, len(keys) < step
            seen += self.access.filter(self._fulfilling(read))
            if read:
                last = read[-1]
                at = Cursor.from_event(last, is_older=cursor.is_older)
            step = min(2 * step, LARGEST_STEP)
        has_more, seen = len(seen) > self.size, seen[: self.size]
        is_cut = not has_more and not is_end
        keys = [event.pk for event in seen]
        begins_inside = cursor.position is not None
        if cursor.is_older:
            page = Page(keys, has_newer=begins_inside, has_older=has_more)
        else:
            page = Page(keys[::-1], has_newer=has_more, has_older=begins_inside)
        shown = _fetch(self.events, page.keys)
        return Found(page, shown, at, last.recorded_at) if is_cut and last else Found(page, shown)

    def _fulfilling(self, read: list[AuditEvent]) -> list[AuditEvent]:
        """Return those of the events that fulfil the conditions."""
        for condition in self.conditions if read else ():
            asked = AuditEvent.objects.using(self.events.db).filter(condition.q, pk__in=[event.pk for event in read])
            found = condition.check(asked) if condition.check else set(asked.order_by().values_list("pk", flat=True))
            read = [event for event in read if event.pk in found]
        return read

    def _read(self, cursor: Cursor, limit: int) -> tuple[list[int], list[AuditEvent]]:
        """Return the next keys and their events, the user's or not."""
        keys = find_keys(self.scans, cursor.narrow(self.time_range), limit, cursor)
        return keys, _fetch(AuditEvent.objects.using(self.events.db).only(*_COLUMNS), keys)
