"""Paging by where one is, not by how far one has come: the millionth page costs what the first one does."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from django.conf import settings
from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import DateTimeField, Field, Func, Lookup, Value
from django.db.models.functions import Coalesce
from django.db.models.sql.compiler import SQLCompiler

from django_signal_audit.models import AuditEvent, AuditEventQuerySet

OLDEST = "oldest"
_CURSOR = re.compile(r"(older|newer)-(-?\d{1,17})-(\d{1,18})")
_MICROSECOND = dt.timedelta(microseconds=1)


def _utc(year: int) -> dt.datetime:
    return dt.datetime(year, 1, 1, tzinfo=dt.UTC if settings.USE_TZ else None)


class Position(NamedTuple):
    """A place in the log, at an event or between two: it is in the order of these."""

    moment: dt.datetime
    event_id: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """The part of the log between two positions, neither of them included."""

    after: Position
    before: Position

    @classmethod
    def of(cls, since: dt.datetime | None, until: dt.datetime | None) -> Self:
        """Return the span from a moment, included, to another, not included; None for an open end."""
        # Keys begin at 1, so a moment's own position, with 0, precedes the events of that moment.
        return cls(Position(since or _utc(1000)), Position(until or _utc(9000)))


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

    def narrow(self, span: Span) -> Span:
        """Return the part of the span in which the page is."""
        if self.position is None:
            return span
        if self.is_older:
            return Span(span.after, min(span.before, self.position))
        return Span(max(span.after, self.position), span.before)


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
class Branch:
    """Events that one index leads to in the order of time: those with a value in a column, or all.

    Asked for ``column = value``, a database may as well walk down the whole log in the hope of soon meeting enough of
    them. Both ends of the index's part, and its order, leave nothing to hope for.
    """

    events: AuditEventQuerySet
    column: str = ""
    value: Any = None

    def rows(self, span: Span, *, is_older: bool) -> AuditEventQuerySet:
        """Return the events of the span, the newest or the oldest first."""
        columns = [self.column, "recorded_at", "id"] if self.column else ["recorded_at", "id"]
        found = _between(self.events, columns, span, *([self.value] if self.column else []))
        return found.order_by(*(f"-{column}" if is_older else column for column in columns))


@dataclass(frozen=True, slots=True)
class Few(Branch):
    """Events that an index leads to in another order, few enough to be sorted."""

    def rows(self, span: Span, *, is_older: bool) -> AuditEventQuerySet:
        """Return the events of the span, the newest or the oldest first."""
        # By the bare column, a database might walk down the log to be spared the sorting.
        time = Coalesce("recorded_at", "recorded_at")
        found = _between(self.events, [time, "id"], span)
        return found.order_by(time.desc(), "-id") if is_older else found.order_by(time.asc(), "id")


def _between(events: AuditEventQuerySet, columns: Sequence[Any], span: Span, *value: Any) -> AuditEventQuerySet:
    after, before = (Row(*map(_typed, (*value, *end))) for end in (span.after, span.before))
    return events.filter(Above(Row(*columns), after), Below(Row(*columns), before))


def _typed(value: Any) -> Value:
    return Value(value, output_field=DateTimeField() if isinstance(value, dt.datetime) else None)


@dataclass(frozen=True, slots=True)
class Page:
    """The keys of a page's events, the newest first, and whether there are events on either side."""

    keys: list[int]
    has_newer: bool = False
    has_older: bool = False


def find_page(branches: Sequence[Branch], span: Span, cursor: Cursor, size: int) -> Page:
    """Return the page at the cursor of the events of the span that are in any of the branches.

    Each branch is read for one page at most, and the pages are merged.
    """
    if not branches:
        return Page([])
    part = cursor.narrow(span)
    keys = _keys([branch.rows(part, is_older=cursor.is_older) for branch in branches], size + 1, cursor)
    has_more, keys = len(keys) > size, keys[:size]
    if cursor.is_older:
        return Page(keys, has_newer=cursor.position is not None, has_older=has_more)
    if not has_more and cursor.position is not None:
        # So few are newer that they are on the first page, which is to be a full one.
        return find_page(branches, span, Cursor(), size)
    return Page(keys[::-1], has_newer=has_more, has_older=cursor.position is not None)


def _keys(rows: Sequence[AuditEventQuerySet], limit: int, cursor: Cursor) -> list[int]:
    if len(rows) == 1:
        return list(rows[0].values_list("pk", flat=True)[:limit])
    parts: list[str] = []
    params: list[Any] = []
    for branch in rows:
        found = branch.values_list("recorded_at", "id")[:limit]
        try:
            sql, given = found.query.get_compiler(found.db).as_sql()
        except EmptyResultSet:
            continue
        # SQLite takes no LIMIT in the parts of a UNION, only in what these select from.
        parts.append(f"SELECT * FROM ({sql}) branch_{len(parts)}")  # noqa: S608  # what Django made, with parameters
        params += given
    if not parts:
        return []
    order = "DESC" if cursor.is_older else "ASC"
    with connections[rows[0].db].cursor() as merged:
        merged.execute(f"{' UNION '.join(parts)} ORDER BY 1 {order}, 2 {order} LIMIT {limit}", params)
        return [row[1] for row in merged.fetchall()]
