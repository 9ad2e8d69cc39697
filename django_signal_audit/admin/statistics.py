"""What is counted of a period of the audit log, as far as the user may see it."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, TypeAlias

from django.core.cache import cache
from django.db.models import Count, Max, Q

from django_signal_audit.admin.access import Access
from django_signal_audit.admin.base import written_in
from django_signal_audit.admin.keyset import MOST_READ
from django_signal_audit.admin.periods import Period
from django_signal_audit.enums import MODEL_EVENTS, EventType
from django_signal_audit.models import AuditEvent, AuditEventQuerySet, Notification
from django_signal_audit.models.events import second_of, utc_now
from django_signal_audit.models.fields import in_project_time
from django_signal_audit.models.tenants import current_tenant
from django_signal_audit.reports import rollups
from django_signal_audit.reports.arguments import EventFilter
from django_signal_audit.reports.functions import known_signatures
from django_signal_audit.reports.tallies import (
    Group,
    Key,
    Largest,
    Ranking,
    part_number,
    with_actors,
)

FAILURES = (Notification.STATUS.failed, Notification.STATUS.dead)
# What is drawn of an event, from the bottom of a bar to its top.
CHANGED, OTHER, CREATED, DELETED = "changed", "other", "created", "deleted"
KINDS = (CHANGED, OTHER, CREATED, DELETED)
_KIND_OF = {
    EventType.UPDATE.value: CHANGED,
    EventType.M2M.value: CHANGED,
    EventType.CREATE.value: CREATED,
    EventType.DELETE.value: DELETED,
}
_DAY = dt.timedelta(days=1)
# Events that were read one by one: what each of them counts for, and its primary key.
Shown: TypeAlias = Sequence[tuple[Key, int]]
# Stands for the models of these, of which a roll-up can't say what a user may see.
READ = "read one by one"


class Read(NamedTuple):
    """What decides who may see an event that is read one by one, and what it is counted by: there may be thousands."""

    id: int
    model: str
    object_id: str
    event_type: str
    recorded_at: dt.datetime
    signature: int
    actor_id: str
    actor_repr: str


@dataclass(frozen=True, slots=True)
class Ranked:
    """How many events something has; ``label`` is that of an object's model, all are ``""`` for nobody."""

    key: str
    name: str
    count: int
    label: str = ""


@dataclass(slots=True)
class EventCounts:
    """How many events there are in each part of the period by kind, and by rule."""

    parts: list[Counter[str]]
    rules: Counter[str] = field(default_factory=Counter)

    @property
    def kinds(self) -> Counter[str]:
        """Return how many there are of each kind."""
        return sum(self.parts, Counter())


class VisibleEvents:
    """The events of a period that a user may see, found by the index of their signatures.

    If the user sees only some rows of a model, its events are read one by one: the newest first, and not too many.
    """

    def __init__(self, access: Access, period: Period, using: str) -> None:
        self.access = access
        self.period = period
        self._known = known_signatures(using)
        self.signatures = {number: found for number, found in self._known.items() if access.may_view(found.model)}
        self._partial = [number for number, signature in self.signatures.items() if access.is_partial(signature.model)]
        self._found = EventFilter(since=period.since, until=period.until).find(using).order_by()

    @cached_property
    def _certain(self) -> list[int]:
        return sorted(self.signatures.keys() - set(self._partial))

    @cached_property
    def _certain_models(self) -> set[str]:
        return {self.signatures[number].model for number in self._certain}

    def _events(self, *event_types: str) -> AuditEventQuerySet:
        """Return the events of the models whose rows the user may all see."""
        wanted = [one for one in self._certain if not event_types or self.signatures[one].event_type in event_types]
        return self._found.filter(signature__in=wanted)

    @cached_property
    def _signed(self) -> dict[int, dict[int, tuple[int, int]]]:
        """Return number of events and newest event of each signature in each part: one query, of the index alone."""
        # All signatures are named even to who sees all: with these an index has all that is counted.
        events = self._found.filter(signature__in=self._known).annotate(
            part=part_number([part.start for part in self.period.parts])
        )
        rows = events.values_list("signature", "part").annotate(count=Count("id"), newest=Max("id"))
        found: dict[int, dict[int, tuple[int, int]]] = {}
        for number, part, count, newest in rows:
            found.setdefault(part, {})[number] = count, newest
        return found

    @cached_property
    def _rolled_up(self) -> rollups.Pieces | None:
        """Return what is kept of the period, None if nothing is."""
        if self.period.days_until_today not in rollups.DAYS:
            return None
        scope = rollups.Scope.current(written_in(self._found), self.period.days_until_today, current_tenant())
        return rollups.counts_for_view(
            scope, lambda: sum(n for part in self._signed.values() for n, _ in part.values())
        )

    @cached_property
    def _over(self) -> int:
        """Return how many parts are over, 0 where there are too few events for counting them once to be worth it."""
        now = utc_now()
        over = sum(part.end <= now for part in self.period.parts)
        total = sum(count for place in range(over) for count, _newest in self._signed.get(place, {}).values())
        return over if total >= ROLL_UP_FROM else 0

    @cached_property
    def _state(self) -> object:
        """Return what tells whether other events are in the parts that are over than when they were counted."""
        found = [self._signed.get(place, {}) for place in range(self._over)]
        counts = sorted((place, number, count) for place, one in enumerate(found) for number, (count, _) in one.items())
        newest = max(pk for one in found for _count, pk in one.values())
        uids = AuditEvent.objects.using(self._found.db).filter(pk=newest).values_list("uid", flat=True)
        return counts, [str(uid) for uid in uids]

    @cached_property
    def _read(self) -> list[Read]:
        if not self._partial:
            return []
        rows = self._found.filter(signature__in=self._partial).order_by("-recorded_at", "-id")
        return [Read(*row) for row in rows.values_list(*Read._fields)[: MOST_READ + 1]]

    @cached_property
    def _shown(self) -> list[Read]:
        found = self._read[:MOST_READ]
        seen = self.access.visible(found, self._found.db)
        return [one for one in found if one.id in seen]

    @property
    def is_cut(self) -> bool:
        """Return whether there are more events to be read one by one than are read."""
        return len(self._read) > MOST_READ

    def count(self) -> EventCounts:
        """Count the events by part and rule."""
        counts, certain = EventCounts([Counter() for _ in self.period.parts]), set(self._certain)
        for number, part, count in self._by_signature():
            if number in certain:
                self._add(counts, number, part, count)
        places = self.period.places_of(one.recorded_at for one in self._shown)
        shown = Counter(zip((one.signature for one in self._shown), places, strict=True))
        for (number, part), count in shown.items():
            self._add(counts, number, part, count)
        return counts

    def _by_signature(self) -> Iterator[tuple[int, int, int]]:
        """Yield signature, part of the period and number of the events that have both."""
        if self._rolled_up is None:
            for part, found in self._signed.items():
                yield from ((number, part, count) for number, (count, _newest) in found.items())
            return
        places = {second_of(part.start): place for place, part in enumerate(self.period.parts)}
        for _sign, tally in self._rolled_up.tallies:
            for (number, second), count in tally.signed.items():
                # What isn't among the parts was in the period when it was counted.
                if second in places:
                    yield number, places[second], count

    def _add(self, counts: EventCounts, number: int, part: int, count: int) -> None:
        signature = self.signatures[number]
        counts.parts[part][_KIND_OF.get(signature.event_type, OTHER)] += count
        counts.rules.update(dict.fromkeys(signature.rules, count))

    def actors(self, most: int) -> list[Ranked]:
        """Return those who caused the most events, each by the name in the newest of them."""
        events, columns = with_actors(self._events()), ("actor_id", "unkeyed")
        shown = [((one.actor_id, "" if one.actor_id else one.actor_repr), one.id) for one in self._shown]
        groups = self._rolled_up_actors(events, columns, shown, most)
        if groups is None:
            # An actor may have events of both sorts.
            groups = _merged(self._groups(events, columns, None if shown else most), shown)
        return [Ranked(key, name, count) for (key, _), name, count in self._named(groups, "actor_repr", most)]

    def objects(self, most: int) -> list[Ranked]:
        """Return the objects that changed most, each by the name in the newest of these events."""
        events, columns = self._events(*MODEL_EVENTS).exclude(object_id="").exclude(model=""), ("model", "object_id")
        shown = [
            ((one.model, one.object_id), one.id)
            for one in self._shown
            if one.object_id and one.model and one.event_type in MODEL_EVENTS
        ]
        groups = self._rolled_up_objects(events, columns, most)
        if groups is None:
            groups = self._groups(events, columns, most)
        named = self._named(_merged(groups, shown), "object_repr", most)
        return [Ranked(key, name, count, label) for (label, key), name, count in named]

    def _rolled_up_actors(
        self, events: AuditEventQuerySet, columns: tuple[str, str], shown: Shown, most: int
    ) -> list[Group] | None:
        if self._rolled_up is None:
            return None
        read = {key: (count, newest) for key, count, newest in _merged([], shown)}
        pieces = [(sign, tally.actors) for sign, tally in self._rolled_up.tallies] + [(1, Ranking({READ: read}))]

        def exactly(keys: Sequence[Key]) -> list[Group]:
            return _merged(groups_of(events, columns, keys), [one for one in shown if one[0] in set(keys)])

        return Largest({*self._certain_models, READ}, spans=True).find(pieces, most, exactly)

    def _rolled_up_objects(self, events: AuditEventQuerySet, columns: tuple[str, str], most: int) -> list[Group] | None:
        if self._rolled_up is None:
            return None
        pieces = [(sign, tally.objects) for sign, tally in self._rolled_up.tallies]
        return Largest(self._certain_models, spans=False).find(
            pieces, most, lambda keys: groups_of(events, columns, keys)
        )

    def _groups(self, events: AuditEventQuerySet, columns: tuple[str, str], most: int | None) -> list[Group]:
        """Return the groups with the most events. Those before today may have been counted already."""
        if most is not None and self._over:
            end = self.period.parts[self._over - 1].end
            before, today = events.filter(recorded_at__lt=end), events.filter(recorded_at__gte=end)
            found = largest_with_kept(before, today, columns, most, self._state)
            if found is not None:
                return found
        return largest(events, columns, most)

    def _named(self, groups: Sequence[Group], column: str, most: int) -> list[tuple[Key, str, int]]:
        """Return key, name and number of events of the largest groups."""
        rows = sorted(groups, key=lambda row: (-row[1], row[0]))[:most]
        newest = AuditEvent.objects.using(self._found.db).filter(pk__in=[row[2] for row in rows]).order_by()
        names = dict(newest.values_list("pk", column))
        return [(key, names.get(pk, ""), count) for key, count, pk in rows]


def _merged(rows: Sequence[Group], shown: Shown) -> list[Group]:
    """Return groups with events that were read one by one."""
    found = {key: (count, newest) for key, count, newest in rows}
    for key, pk in shown:
        count, newest = found.get(key, (0, 0))
        found[key] = count + 1, max(newest, pk)
    return [(key, count, newest) for key, (count, newest) in found.items()]


@dataclass(frozen=True, slots=True)
class Deliveries:
    """How many notifications were written in a period, by channel, and how many of them failed."""

    channels: Counter[str]
    failed: int


def count_deliveries(period: Period) -> Deliveries:
    """Return how many notifications were written in a period."""
    since, until = in_project_time(period.since), in_project_time(period.until)
    rows = Notification.objects.of_current_tenant().filter(created__gte=since, created__lt=until)
    # The index has the end of the claim or the time of the next attempt, and both come after a row is written.
    rows = rows.filter(available_at__gte=period.since - _DAY).order_by()
    counted = list(rows.values_list("channel", "status").annotate(count=Count("id")))
    channels: Counter[str] = Counter()
    for channel, _status, count in counted:
        channels[channel] += count
    return Deliveries(channels, sum(count for _, status, count in counted if status in FAILURES))


# Who did most and what changed most until today is kept in the project's cache: to find it, the database has to read
# every event of the period. What came today is counted with each view. Nothing is written when events are, and nothing
# has to be told of a prune or an import: the numbers of events by signature, which an index has, and the newest event
# say whether what was kept holds.
#
# Below so many events the database is asked each time.
ROLL_UP_FROM = 50_000
# So many groups are kept, and of so many others it is asked whether today has made them as large.
KEPT, MOST_ASKED = 2000, 100
TIMEOUT = 24 * 3600


def largest(events: AuditEventQuerySet, columns: tuple[str, str], most: int | None) -> list[Group]:
    """Return the groups with the most events, which the database counts."""
    groups = events.values_list(*columns).annotate(count=Count("id"), newest=Max("id")).order_by("-count", *columns)
    return [((first, second), count, newest) for first, second, count, newest in groups[:most]]


def largest_with_kept(
    before: AuditEventQuerySet, today: AuditEventQuerySet, columns: tuple[str, str], most: int, state: object
) -> list[Group] | None:
    """Return the groups with the most events, None if too many might be among them.

    Args:
        before: The events of the period before today.
        today: The others.
        columns: What the events are grouped by.
        most: How many groups.
        state: What tells whether the events before today are those that were counted.

    """
    kept = _kept(before, columns, state)
    total = {key: (count, newest) for key, count, newest in kept}
    new = {}
    for key, count, newest in largest(today, columns, None):
        if key in total:
            total[key] = total[key][0] + count, newest
        else:
            new[key] = count, newest
    if len(kept) == KEPT:
        # A group that isn't kept has no more events before today than the smallest that is.
        smallest, ranks = kept[-1][1], sorted((count for count, _ in total.values()), reverse=True)
        least = ranks[most - 1] if most <= len(ranks) else 0
        asked = [key for key, (count, _) in new.items() if count + smallest >= least]
        if not least or len(asked) > MOST_ASKED:
            return None
        for key, count, _newest in groups_of(before, columns, asked):
            new[key] = new[key][0] + count, new[key][1]
    groups = [(key, count, newest) for key, (count, newest) in (total | new).items()]
    return sorted(groups, key=lambda group: (-group[1], group[0]))[:most]


def _kept(before: AuditEventQuerySet, columns: tuple[str, str], state: object) -> list[Group]:
    """Return the largest groups before today, counted anew if other events are there than were counted."""
    sql, parameters = before.query.sql_with_params()
    asked = json.dumps([before.db, columns, sql, parameters], default=str)
    name = f"django_signal_audit.dashboard.{hashlib.sha256(asked.encode()).hexdigest()}"
    found = cache.get(name)
    if found is not None and found[0] == state:
        groups: list[Group] = found[1]
        return groups
    groups = largest(before, columns, KEPT)
    cache.set(name, (state, groups), TIMEOUT)
    return groups


def groups_of(events: AuditEventQuerySet, columns: tuple[str, str], keys: Sequence[Key]) -> list[Group]:
    """Return some groups, which the database counts."""
    seconds: dict[str, list[str]] = {}
    for first, second in keys:
        seconds.setdefault(first, []).append(second)
    condition = Q(pk__in=[])
    for first, found in seconds.items():
        condition |= Q(**{columns[0]: first, f"{columns[1]}__in": found})
    return largest(events.filter(condition), columns, None) if keys else []
