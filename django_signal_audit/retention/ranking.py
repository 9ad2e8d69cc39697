"""The objects with more events than are kept, and the place of each event among those of its object."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from typing import Any, TypeAlias

from django.db.models import Count, Q

from django_signal_audit.models import AuditEvent, AuditEventQuerySet
from django_signal_audit.models.renames import former_labels, get_renames
from django_signal_audit.models.tenants import tenant_function
from django_signal_audit.retention.starting_points import (
    KnownEvent,
    is_starting_point,
    known,
    known_columns,
    rule_names,
)

# How many of the object's events are as new as this one or newer: of each rule by its name, and of all by ``""``.
Ranks: TypeAlias = Mapping[str, int]


# So many objects are looked for at once, so many of their events are read at once, and so many of one with more.
_OBJECTS = 500
_EVENTS = 5000
_PAGE = 1000


class _Ranks:
    """The ranks of events that are passed one by one, those of each object oldest first.

    Args:
        rows: Object, tenant, source and rules of the events, and how many there are of the same.

    """

    def __init__(self, rows: Iterable[tuple[str, str, str, tuple[str, ...], int]]) -> None:
        # Some databases take "a" and "A" for the same, and where a function names the tenant their keys may meet.
        self._keys_meet = bool(tenant_function())
        self._counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for object_id, tenant, source, rules, count in rows:
            for name in _counted(source, rules):
                self._counts[object_id, tenant if self._keys_meet else ""][name] += count

    def of(self, event: KnownEvent) -> Ranks:
        """Return the ranks of the next event."""
        counts = self._counts[event.object_id, event.tenant if self._keys_meet else ""]
        ranks = dict(counts)
        for name in _counted(event.source, event.rules):
            counts[name] -= 1
        return ranks


@lru_cache(1000)
def _counted(source: str, rules: tuple[str, ...]) -> frozenset[str]:
    return frozenset() if is_starting_point(source, rules) else frozenset({"", *rules})


def histories_with_more(
    number: int, labels: set[str] | None, using: str
) -> Iterator[tuple[Sequence[KnownEvent], _Ranks]]:
    """Yield the events of each object that has more than this, oldest first, some at a time."""
    for family, names, total in _objects_together(_objects_with_more(number, labels, using)):
        events: Any = AuditEvent.objects.using(using).filter(model__in=family, object_id__in=names).order_by()
        if total > _EVENTS:
            yield from _long_history(events)
            continue
        found = sorted(known(known_columns(events)), key=attrgetter("object_id", "pk"))
        ranks = _Ranks((event.object_id, event.tenant, event.source, event.rules, 1) for event in found)
        for _, one in groupby(found, key=attrgetter("object_id")):
            yield list(one), ranks


def _long_history(events: Any) -> Iterator[tuple[Sequence[KnownEvent], _Ranks]]:
    """Yield the events of one object page by page."""
    rows = known_columns(events)
    groups = rows.values_list("object_id", "tenant", "source", "rules_text").annotate(count=Count("pk"))
    ranks = _Ranks((*group, rule_names(text), count) for *group, text, count in groups)
    rows = rows.order_by("id")
    page = known(rows[:_PAGE])
    while page:
        yield page, ranks
        page = known(rows.filter(id__gt=page[-1].pk)[:_PAGE]) if len(page) == _PAGE else []


# An object by the labels that its model has and had, by its name, and how many events it has.
Object: TypeAlias = tuple[tuple[str, ...], str, int]


def _objects_together(objects: Iterable[Object]) -> Iterator[tuple[tuple[str, ...], list[str], int]]:
    """Put objects of a model together whose events are few enough to be read at once."""
    labels: tuple[str, ...] = ()
    names: list[str] = []
    total = 0
    for following, name, count in objects:
        if names and (following != labels or total + count > _EVENTS or len(names) == _OBJECTS):
            yield labels, names, total
            names, total = [], 0
        labels = following
        names.append(name)
        total += count
    if names:
        yield labels, names, total


def _objects_with_more(number: int, labels: set[str] | None, using: str) -> Iterator[Object]:
    """Yield the objects that more events than this are about, some at a time."""
    events = AuditEvent.objects.using(using).exclude(object_id="")
    families = [(now, *former_labels(now)) for now in sorted({*get_renames().labels.values()})]
    others = events.exclude(model__in=[label for family in families for label in family]) if families else events
    if labels is not None:
        others = others.filter(model__in=labels)
    for label, name, count in _groups_with_more(number, others, "model", "object_id"):
        yield (label,), name, count
    for family in families:
        if labels is None or not labels.isdisjoint(family):
            for name, count in _groups_with_more(number, events.filter(model__in=family), "object_id"):
                yield family, name, count


def _groups_with_more(number: int, events: AuditEventQuerySet, *columns: str) -> Iterator[tuple[Any, ...]]:
    groups: Any = events.values(*columns).annotate(count=Count("pk")).filter(count__gt=number)
    groups = groups.order_by(*columns).values_list(*columns, "count")
    page = list(groups[:_OBJECTS])
    while page:
        yield from page
        first, last = columns[0], page[-1]
        rest = groups.filter(**{f"{first}__gt": last[0]})
        if len(columns) > 1:
            # The first condition is implied by the second; the database finds its place in the index by it.
            following = Q(**{f"{first}__gt": last[0]}) | Q(**{f"{columns[1]}__gt": last[1]})
            rest = groups.filter(**{f"{first}__gte": last[0]}).filter(following)
        page = list(rest[:_OBJECTS]) if len(page) == _OBJECTS else []
