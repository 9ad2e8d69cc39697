"""The narrowest index for a search, and reading it to the end of a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.db.models import Q

from django_signal_audit.admin.access import Access, readable
from django_signal_audit.admin.keyset import (
    ALL_TIME,
    Cursor,
    Found,
    IndexScan,
    Scan,
    TimeRange,
    find_keys,
    find_visible,
)
from django_signal_audit.models import AuditEventQuerySet

from .conditions import Condition

# Of several indexes the one is read in which less is found. Beyond so many events, none is narrow.
NARROW = 500
# So many parts of an index are not tried out.
MAX_TRIED = 20


@dataclass(frozen=True, slots=True)
class Search:
    """Conditions of which events have to fulfil all, within a period.

    Attributes:
        access: What the user may see.
        events: All events.
        conditions: What is asked for.
        time_range: The period.
        labels: The models that the events may be of.

    """

    access: Access
    events: AuditEventQuerySet
    conditions: Sequence[Condition]
    time_range: TimeRange
    labels: Iterable[str]

    def find(self, cursor: Cursor, size: int) -> Found:
        """Return the page at the cursor."""
        leading = self._leading()
        rest = [one for one in self.conditions if one is not leading]
        scans = leading.scans if leading and leading.scans is not None else [IndexScan(self.events)]
        time_range = self.time_range
        if leading and leading.is_history and time_range != ALL_TIME:
            # The keys of an object's events ascend, and say nothing of the time.
            rest.append(Condition(within(time_range)))
            time_range = ALL_TIME
        scan = Scan(self.access, readable(self.access, self.events), scans, time_range, size, rest)
        return find_visible(scan, cursor, self.labels)

    def _leading(self) -> Condition | None:
        """Return the condition whose index is read, None for the index of all events."""
        indexed = [one for one in self.conditions if one.scans is not None]
        if len(indexed) < 2:
            return indexed[0] if indexed else None
        return min(indexed, key=self._size)

    def _size(self, condition: Condition) -> int:
        """Return about how many events the index has for a condition."""
        scans = condition.scans or []
        if not scans:
            return 0
        if len(scans) > MAX_TRIED:
            return NARROW
        time_range = ALL_TIME if condition.is_history else self.time_range
        return len(find_keys(scans, time_range, NARROW, Cursor()))


def within(time_range: TimeRange) -> Q:
    """Return the condition that an event is of the period."""
    return Q(recorded_at__gte=time_range.after.moment, recorded_at__lt=time_range.before.moment)
