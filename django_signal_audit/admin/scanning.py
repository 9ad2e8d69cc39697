"""Reading pages of the log for a user who sees some rows of a model only: what they may not see is passed over."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from django_signal_audit.models import AuditEvent, AuditEventQuerySet

from .access import Access
from .keyset import Cursor, HistoryScan, IndexScan, Page, TimeRange, find_keys, find_page
from .shapes import shaped

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
    if not any(map(scan.access.is_partial, labels)):
        page = find_page(scan.scans, scan.time_range, cursor, scan.size)
        return Found(page, _fetch(scan.events, page.keys))
    found = scan.read(cursor)
    if not cursor.is_older and cursor.position is not None and not found.page.has_newer and found.further is None:
        # So few are newer that they are on the first page, which is to be a full one.
        return scan.read(Cursor())
    return found


def _fetch(events: AuditEventQuerySet, keys: Sequence[int]) -> list[AuditEvent]:
    rows = events.in_bulk(keys)
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

    """

    access: Access
    events: AuditEventQuerySet
    scans: Sequence[IndexScan | HistoryScan]
    time_range: TimeRange
    size: int

    def read(self, cursor: Cursor) -> Found:
        """Return the page at the cursor."""
        seen: list[AuditEvent] = []
        at, step, count, is_end, last = cursor, self.size + 1, 0, False, None
        while len(seen) <= self.size and count < MOST_READ and not is_end:
            step = min(step, MOST_READ - count)
            read = self._read(at, step)
            count, is_end = count + step, len(read) < step
            seen += self.access.filter(read)
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

    def _read(self, cursor: Cursor, limit: int) -> list[AuditEvent]:
        keys = find_keys(self.scans, cursor.narrow(self.time_range), limit, cursor)
        return _fetch(self.events.only(*_COLUMNS), keys)
