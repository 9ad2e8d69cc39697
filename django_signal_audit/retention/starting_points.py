"""Starting points: what takes the place of pruned events, so that states and replay stay what they were.

The pruned events of an object that follow each other without one that is kept between them are a run. An event with
the id of the newest of a run says what the run came to: all that was recorded by then at the beginning of a history,
and the difference that the run made anywhere else. The next prune replaces it along with what follows it.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from django.apps import apps
from django.db.models import Exists, OuterRef, Value

from django_signal_audit.capture.rows import is_one_of
from django_signal_audit.conf import on_settings_changed
from django_signal_audit.enums import LAST_EVENTS, ROW_EVENTS, EventType, Source
from django_signal_audit.events.keys import new_uid
from django_signal_audit.evidence.leaf import as_text
from django_signal_audit.models import AuditEvent, AuditEventQuerySet, AuditLeaf
from django_signal_audit.models.inheritance import labels_including_children, shares_key
from django_signal_audit.models.renames import current_label, renamed_changes
from django_signal_audit.models.state import Recorded, RecordedState, in_order
from django_signal_audit.models.tenants import tenant_function
from django_signal_audit.reports.exports.base import utc

# The key in the data of a starting point that says what it replaces, and the one that names the event of the prune.
REPLACES = "replaces"
PRUNE = "prune"
# How many objects are asked for at once.
_CHUNK = 500
_COLUMNS = (
    "id",
    "uid",
    "recorded_at",
    "event_type",
    "source",
    "rules_text",
    "model",
    "object_id",
    "object_repr",
    "changes",
    "tenant",
)


def is_starting_point(source: str, rules: object) -> bool:
    """Return whether an event is a starting point of a prune or an import: the only baselines without rules."""
    return source == Source.BASELINE and not rules


class KnownEvent(NamedTuple):
    """What is read of an event to decide whether it goes."""

    pk: int
    uid: UUID
    recorded_at: dt.datetime
    event_type: str
    source: str
    model: str
    object_id: str
    tenant: str
    rules: tuple[str, ...]


def known_columns(events: AuditEventQuerySet) -> Any:
    """Return the columns that ``known`` makes events of."""
    columns = (*KnownEvent._fields[:-1], "rules_text")
    return events.annotate(rules_text=as_text("rules")).values_list(*columns, named=True)


def known(rows: Iterable[tuple[Any, ...]]) -> list[KnownEvent]:
    """Return events by their columns."""
    return [KnownEvent._make((*columns, rule_names(text))) for *columns, text in rows]


def known_events(ids: Collection[int], using: str) -> list[KnownEvent]:
    """Return the events with these primary keys that are there."""
    events = AuditEvent.of_all_tenants.using(using).filter(is_one_of(AuditEvent, list(ids), using))
    return known(known_columns(events.order_by()))


@lru_cache(1000)
def rule_names(text: str) -> tuple[str, ...]:
    """Return the names of rules in JSON, which is the same for most events; SQL can have stored any."""
    rules = json.loads(text)
    return tuple(name for name in rules if isinstance(name, str)) if isinstance(rules, list) else ()


class _Row(NamedTuple):
    """An event as far as it matters here, and whether it has a leaf where that is asked for."""

    id: int
    uid: UUID
    recorded_at: dt.datetime
    event_type: str
    source: str
    rules_text: str
    model: str
    object_id: str
    object_repr: str
    changes: Recorded
    tenant: str
    is_sealed: bool


@dataclass
class Replacement:
    """What a prune takes and leaves.

    Attributes:
        events: The ids of the events that go.
        absorbed: The ids of former starting points that go with them.
        starts: The starting points to be written, not yet saved.

    """

    events: set[int] = field(default_factory=set)
    absorbed: set[int] = field(default_factory=set)
    starts: list[AuditEvent] = field(default_factory=list)

    @property
    def gone(self) -> set[int]:
        """Return the ids of all that goes."""
        return self.events | self.absorbed


@dataclass
class _Run:
    """Pruned events of one label that follow each other."""

    label: str
    before: RecordedState
    rows: list[tuple[int, str]] = field(default_factory=list)
    events: list[int] = field(default_factory=list)
    absorbed: list[int] = field(default_factory=list)
    first: dt.datetime | None = None
    last: _Row | None = None

    # Does one of them describe the row as a whole?
    has_start: bool = False

    def add(self, row: _Row, *, is_start: bool) -> None:
        self.has_start |= row.event_type in (EventType.CREATE, EventType.BASELINE)
        (self.absorbed if is_start else self.events).append(row.id)
        self.first = self.first or row.recorded_at
        self.last = row


class _Object:
    """The events of one object, given one by one in the order of their ids."""

    def __init__(self, wanted: Collection[int]) -> None:
        self._wanted = wanted
        self._newest = max(wanted)
        self._state = RecordedState()
        self._run: _Run | None = None
        # Is there nothing left of the history before?
        self._is_beginning = True
        # Each with the type of the starting point that it needs, and the changes in that.
        self.runs: list[tuple[_Run, EventType | None, Mapping[str, Any]]] = []

    def add(self, row: _Row) -> None:
        """Take the next event."""
        if row.id > self._newest:
            return
        is_any_start = is_starting_point(row.source, rule_names(row.rules_text))
        is_start = row.is_sealed and is_any_start
        goes = is_start or (row.id in self._wanted and not is_any_start)
        if row.event_type in LAST_EVENTS and not self._is_beginning:
            goes = False  # a deletion stays as long as anything before it does
        label = current_label(row.model)
        if self._run is not None and (not goes or self._run.label != label):
            self.close()
        if goes and self._run is None:
            self._run = _Run(label, self._state.copy())
        if goes and self._run is not None:
            self._run.add(row, is_start=is_start)
        else:
            self._is_beginning = False
        self._state.apply(row.event_type, renamed_changes(row.model, row.changes))

    def close(self) -> None:
        """End the run that is open."""
        run, self._run = self._run, None
        if run is None:
            return
        if not run.events or (self._state.values is None and self._state.has_orphans):
            self._is_beginning = False
            return
        changes = _net_changes(run, self._state)
        is_needed = changes is not None and (bool(changes) or run.has_start)
        self.runs.append((run, _start_type(changes, self._state) if is_needed else None, changes or {}))
        self._is_beginning = self._is_beginning and not is_needed


def _start_type(changes: Mapping[str, object] | None, state: RecordedState) -> EventType:
    """Return the type of event that has replay know as much of the row as the events did."""
    if state.has_start:
        return EventType.BASELINE
    return EventType.M2M if changes and all(isinstance(one, dict) for one in changes.values()) else EventType.UPDATE


def _net_changes(run: _Run, after: RecordedState) -> dict[str, Any] | None:
    """Return what a run changed of a state, as one event would say it; None if it ends it.

    What describes the row as a whole goes on doing so: events of a multi-table child are also read without those of
    its parent.
    """
    if after.values is None:
        return None
    old = run.before.values or {}
    changes: dict[str, Any] = {}
    for name, value in after.values.items():
        if not run.has_start and name in old and old[name] == value:
            continue
        if name in after.member_names:
            known, now = _members(old.get(name)), _members(value)
            added = [key for key in now if run.has_start or key not in known]
            changes[name] = {"added": added, "removed": [key for key in known if key not in now]}
        else:
            changes[name] = [old.get(name), value]
    return changes


def _members(keys: object) -> list[Any]:
    return keys if isinstance(keys, list) else []


def replacement_of(events: Iterable[KnownEvent], using: str, *, is_evidence: bool) -> Replacement:
    """Return what goes and what is left where events are pruned.

    Args:
        events: The events.
        using: The database.
        is_evidence: Whether only sealed starting points may go, as the others have no proof yet.

    """
    found = Replacement()
    for (labels, tenant), objects in _by_object(events, found).items():
        names = list(objects)
        for at in range(0, len(names), _CHUNK):
            chunk = {name: _Object(objects[name]) for name in names[at : at + _CHUNK]}
            newest = max(max(objects[name]) for name in chunk)
            for row in _rows(labels, chunk, newest, using, tenant, is_evidence=is_evidence):
                if row.object_id in chunk:  # some databases find "a" where "A" was asked for
                    chunk[row.object_id].add(row)
            for one in chunk.values():
                one.close()
                _note(found, one)
    _count_replaced(found, using)
    return found


# By the labels of the events and, where their keys meet, the tenant.
_Family: TypeAlias = "tuple[tuple[str, ...], str | None]"
_ByObject: TypeAlias = "dict[_Family, dict[str, set[int]]]"


def _by_object(events: Iterable[KnownEvent], found: Replacement) -> _ByObject:
    """Return the events that say what rows hold by the labels and the names of these; note all others as they are."""
    wanted: _ByObject = defaultdict(lambda: defaultdict(set))
    keys_meet = bool(tenant_function())
    for event in events:
        if event.event_type not in ROW_EVENTS or not event.object_id:
            found.events.add(event.pk)
        elif not is_starting_point(event.source, event.rules):
            wanted[family_of(event.model), event.tenant if keys_meet else None][event.object_id].add(event.pk)
    return wanted


def _rows(
    labels: Collection[str], names: Iterable[str], newest: int, using: str, tenant: str | None, *, is_evidence: bool
) -> Iterator[_Row]:
    events = AuditEvent.of_all_tenants.using(using).filter(model__in=labels, object_id__in=list(names), id__lte=newest)
    events = events if tenant is None else events.filter(tenant=tenant)
    leaves = AuditLeaf.objects.using(using).filter(event=OuterRef("uid"))
    sealed: Any = Exists(leaves) if is_evidence else Value(True)
    events = events.annotate(sealed=sealed, rules_text=as_text("rules"))
    # In the order of ids alone, PostgreSQL would read all events from the first on.
    rows = events.filter(event_type__in=ROW_EVENTS).order_by("object_id", "id")
    for row in rows.values_list(*_COLUMNS, "sealed").iterator(chunk_size=1000):
        yield _Row(*row)


def _note(found: Replacement, one: _Object) -> None:
    for run, event_type, changes in one.runs:
        found.events.update(run.events)
        found.absorbed.update(run.absorbed)
        last = run.last
        if event_type is None or last is None or run.first is None:
            continue
        first, until = utc(run.first).isoformat(), utc(last.recorded_at).isoformat()
        replaced = {"events": len(run.events), "first": first, "last": until}
        found.starts.append(
            AuditEvent(
                id=last.id,
                uid=new_uid(),
                recorded_at=last.recorded_at,
                event_type=event_type,
                source=Source.BASELINE,
                model=run.label,
                object_id=last.object_id,
                object_repr=last.object_repr,
                changes={name: changes[name] for name in in_order(_model(run.label), changes)},
                tenant=last.tenant,
                data={REPLACES: {**replaced, "absorbed": run.absorbed}},
            )
        )


def _count_replaced(found: Replacement, using: str) -> None:
    """Add to the counts of the starting points what those that they replace stood for."""
    former: dict[int, Any] = {}
    if found.absorbed:
        events = (
            AuditEvent.of_all_tenants.using(using).filter(is_one_of(AuditEvent, list(found.absorbed), using)).order_by()
        )
        former = dict(events.values_list("pk", "data"))
    for start in found.starts:
        said = start.data[REPLACES]
        for pk in said.pop("absorbed"):
            told = former.get(pk, {}).get(REPLACES, {})
            said["events"] += told.get("events", 0)
            said["first"] = min(said["first"], told.get("first", said["first"]))


@cache
def family_of(label: str) -> tuple[str, ...]:
    """Return the labels of the events that may describe one row: those of multi-table parents and children too."""
    model = _model(label)
    if model is None:
        return (label,)
    parents = [parent for parent in model._meta.get_parent_list() if shares_key(model, parent)]
    return tuple(dict.fromkeys(name for one in (model, *parents) for name in labels_including_children(one)))


on_settings_changed(family_of.cache_clear)


def _model(label: str) -> Any:
    try:
        return apps.get_model(current_label(label))
    except (LookupError, ValueError):
        return None
