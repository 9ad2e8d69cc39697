"""The moment from which this package records an object itself, and the event that closes what was imported."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db.models import Min

from django_signal_audit.enums import ROW_EVENTS, EventType
from django_signal_audit.events.keys import parse_id
from django_signal_audit.importing.target import Changes, Drafted, Target, ended
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.inheritance import labels_including_children
from django_signal_audit.models.state import RecordedState, member_order
from django_signal_audit.models.tables import table_exists
from django_signal_audit.replay.comparison import RowReader, StoredRow, rows_named
from django_signal_audit.rules.matching import match_baseline

# The other package writes a change some milliseconds before us; with long transactions, seconds.
_TOGETHER = dt.timedelta(minutes=1)
_PAGE = 2000


@dataclass(frozen=True, slots=True)
class FirstOwn:
    """The first event that this package recorded of an object itself."""

    at: dt.datetime
    event_type: str
    changes: Changes

    def says(self, drafted: Drafted, at: dt.datetime) -> bool:
        """Return whether an imported event is the same change, recorded by the other package."""
        if drafted.event_type != self.event_type or not self.at - _TOGETHER <= at <= self.at:
            return False
        if drafted.event_type in (EventType.CREATE, EventType.DELETE):
            return True
        common = drafted.changes.keys() & self.changes.keys()
        return bool(common) and all(_agree(drafted.changes[name], self.changes[name]) for name in common)


def _agree(imported: Any, own: Any) -> bool:
    if isinstance(imported, list) or isinstance(own, list):
        # Some packages cut times to milliseconds.
        return type(imported) is type(own) and _cut(imported[1]) == _cut(own[1])
    return all(set(imported[side]) <= set(own[side]) for side in ("added", "removed"))


def _cut(value: object) -> Any:
    """Return a recorded time without its microseconds, and any other value."""
    if not isinstance(value, str) or len(value) < len("2026-01-01T00:00:00.000"):
        return value
    try:
        found = dt.datetime.fromisoformat(value)
    except ValueError:
        return value
    return found.replace(microsecond=found.microsecond // 1000 * 1000)


def as_aware(moment: dt.datetime) -> dt.datetime:
    """Return a time of an event as an aware one."""
    return moment if settings.USE_TZ else moment.replace(tzinfo=dt.UTC)


class Takeover:
    """Compares the imported states of a model's objects with what they held when this package took over.

    Args:
        target: The model.
        using: The database.

    """

    def __init__(self, target: Target, using: str) -> None:
        self._target, self._using = target, using
        labels = labels_including_children(target.model) if target.model else (target.label,)
        own = AuditEvent.objects.using(using).filter(model__in=labels, id__gt=0, event_type__in=ROW_EVENTS)
        # A deletion that a repair of the baseline has found is one; a baseline is no change.
        self._own = own.exclude(event_type=EventType.BASELINE)
        match = match_baseline(target.plan) if target.plan and target.is_audited else None
        self._names = match.names if match else frozenset()
        self.can_close = bool(self._names and target.model and table_exists(target.model, using))
        if target.plan is not None and self.can_close:
            self._reader = RowReader(target.plan, using, self._names & set(target.members))

    def first_own(self, rows: Iterable[str]) -> dict[str, FirstOwn]:
        """Return the first own event of each of these objects that has one."""
        wanted = set(rows)
        if not wanted:
            return {}
        firsts = self._own.filter(object_id__in=wanted).order_by().values("object_id").annotate(first=Min("id"))
        ids = [first["first"] for first in firsts]
        columns = ("object_id", "recorded_at", "event_type", "changes")
        found = self._own.filter(pk__in=ids).order_by().values_list(*columns) if ids else ()
        # Some databases find "a" where "A" was asked for.
        return {row: FirstOwn(as_aware(at), kind, changes) for row, at, kind, changes in found if row in wanted}

    def closing(self, states: Mapping[str, RecordedState], *, lock: bool) -> Iterator[tuple[str, Drafted]]:
        """Yield, by object, the event that makes its imported state true.

        Args:
            states: The imported states.
            lock: Whether nobody else may write the rows until the transaction ends.

        """
        names, there = self._read(list(states), lock=lock)
        undone = self._undone(states, names)
        for row, state in states.items():
            if row in there and row not in names:
                continue  # a child's events go on with it
            drafted = self._difference(state, undone[row])
            if drafted is not None:
                yield row, drafted

    def _read(self, rows: Sequence[str], *, lock: bool) -> tuple[dict[str, StoredRow], set[str]]:
        """Return the rows that are the model's own, and the names of all that are there."""
        model: Any = self._target.model
        keys = [key for row in rows if (key := parse_id(model, row)) is not None]
        found = {row.name: row for row in self._reader.read(keys, lock=lock)}
        missing = [row for row in rows if row not in found]
        return found, {*found, *(rows_named(model, missing, self._using) if missing else ())}

    def _undone(self, rows: Iterable[str], found: Mapping[str, StoredRow]) -> dict[str, Changes | None]:
        """Return what the objects held before their own events, None for those that were not there."""
        plan: Any = self._target.plan
        states: dict[str, Changes | None] = dict.fromkeys(rows)
        for name, row in found.items():
            values = self._reader.images.row(row.image, self._names)
            kept = {field: plan.serializers[field](value, row.pk) for field, value in values.items()}
            states[name] = {**kept, **{field: sorted(keys, key=member_order) for field, keys in row.members.items()}}
        for name, event_type, changes in self._newest_first(states):
            if name in states:
                told = {field: change for field, change in changes.items() if field in self._names}
                states[name] = _before(states[name], event_type, told)
        return states

    def _newest_first(self, rows: Iterable[str]) -> Iterator[tuple[str, str, Changes]]:
        own = self._own.filter(object_id__in=list(rows)).order_by("-id")
        columns = own.values_list("id", "object_id", "event_type", "changes")
        page = list(columns[:_PAGE])
        while page:
            yield from (row[1:] for row in page)
            page = list(columns.filter(id__lt=page[-1][0])[:_PAGE]) if len(page) == _PAGE else []

    def _difference(self, state: RecordedState, actual: Changes | None) -> Drafted | None:
        recorded = state.values
        if actual is None:
            return None if recorded is None else Drafted(EventType.DELETE, ended(recorded, self._target), True)
        changes: Changes = {}
        for name, value in actual.items():
            known = (recorded or {}).get(name)
            if name in self._target.members:
                change = {
                    "added": [key for key in value if key not in (known or [])],
                    "removed": [key for key in known or [] if key not in value],
                }
                if change["added"] or change["removed"]:
                    changes[name] = change
            elif recorded is None or name not in recorded or known != value:
                changes[name] = [known, value]
        return Drafted(EventType.BASELINE, changes) if changes or not state.has_start else None


def _before(values: Changes | None, event_type: str, changes: Changes) -> Changes | None:
    """Return what a row held before an event, None if it was not there."""
    if event_type == EventType.CREATE:
        return None
    if event_type == EventType.DELETE:
        gone = {name: change["removed"] for name, change in changes.items() if isinstance(change, dict)}
        return gone | {name: change[0] for name, change in changes.items() if isinstance(change, list)}
    if values is None:
        return None
    for name, change in changes.items():
        if isinstance(change, list):
            values[name] = change[0]
        else:
            keys = {*values.get(name, ())} - {*change["added"]} | {*change["removed"]}
            values[name] = sorted(keys, key=member_order)
    return values
