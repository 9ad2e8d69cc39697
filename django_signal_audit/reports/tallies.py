"""How many events there are by day, actor and object: of several sets of events together, and which have the most."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from django.db import connections
from django.db.models import Case, Count, F, Max, Value, When

from django_signal_audit.enums import MODEL_EVENTS
from django_signal_audit.models import AuditEventQuerySet
from django_signal_audit.models.events import second_of

# What names an object or an actor: model and key, or key and, of who has no key, name.
Key: TypeAlias = tuple[str, str]
# The key, the number of events, and the newest of them.
Group: TypeAlias = tuple[Key, int, int]
# So many groups may be counted one by one.
MOST_ASKED = 300


def part_number(starts: Sequence[dt.datetime], first: int = 0) -> Case | Value:
    """Return which part of a period an event is in: of many parts, a few comparisons find it."""
    if len(starts) == 1:
        return Value(first)
    middle = len(starts) // 2
    earlier, later = part_number(starts[:middle], first), part_number(starts[middle:], first + middle)
    return Case(When(recorded_at__lt=starts[middle], then=earlier), default=later)


def objects_of(events: AuditEventQuerySet) -> AuditEventQuerySet:
    """Return the events that are about the rows of models."""
    return events.filter(event_type__in=MODEL_EVENTS).exclude(object_id="").exclude(model="")


def with_actors(events: Any) -> Any:
    """Annotate the events with what tells actors without a key apart: their names."""
    return events.annotate(unkeyed=Case(When(actor_id="", then=F("actor_repr")), default=Value("")))


@dataclass(slots=True)
class Ranking:
    """The groups of each model with the most events, and how many of each of the others there are at most."""

    groups: dict[str, dict[Key, tuple[int, int]]] = field(default_factory=dict)
    rest: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[Sequence[Any]], kept: int | None = None) -> Ranking:
        """Return the ranking of rows of model, key, number of events and newest event, the largest first."""
        found = cls()
        for model, first, second, count, newest in rows:
            groups = found.groups.setdefault(model, {})
            groups[first, second] = count, newest
            if len(groups) == kept:
                found.rest[model] = count
        return found

    def rows(self) -> list[list[Any]]:
        """Return rows that make the same ranking."""
        return [[model, *key, *found] for model, groups in self.groups.items() for key, found in groups.items()]


@dataclass(slots=True)
class Tally:
    """What was counted of some events: by signature and part of the period, by actor and by object."""

    signed: dict[tuple[int, int], int] = field(default_factory=dict)
    newest: list[int] = field(default_factory=list)
    actors: Ranking = field(default_factory=Ranking)
    objects: Ranking = field(default_factory=Ranking)

    @classmethod
    def of(cls, events: AuditEventQuerySet, kept: int | None = None) -> Tally:
        """Count actors and objects; at most ``kept`` of each model with how many events the others have at most."""
        actors = with_actors(events).values_list("model", "actor_id", "unkeyed")
        objects = objects_of(events).annotate(key=F("model")).values_list("model", "key", "object_id")
        return cls(actors=Ranking.of(_ranked(actors, kept), kept), objects=Ranking.of(_ranked(objects, kept), kept))

    def count_signed(self, events: AuditEventQuerySet, starts: Sequence[dt.datetime]) -> None:
        """Count by signature and part; the parts are known by the seconds at which they begin."""
        seconds = [second_of(start) for start in starts]
        rows = events.annotate(part=part_number(starts)).values_list("signature", "part")
        newest: dict[int, int] = {}
        for number, part, count, last in rows.annotate(count=Count("id"), newest=Max("id")):
            self.signed[number, seconds[part]] = count
            newest[part] = max(last, newest.get(part, last))
        self.newest = list(newest.values())

    def to_json(self) -> dict[str, object]:
        """Return what ``from_json`` takes."""
        return {
            "signed": [[*key, count] for key, count in self.signed.items()],
            "newest": self.newest,
            "actors": [self.actors.rows(), self.actors.rest],
            "objects": [self.objects.rows(), self.objects.rest],
        }

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Tally:
        """Return the tally that was stored."""
        actors, objects = (Ranking.of(found[name][0]) for name in ("actors", "objects"))
        actors.rest, objects.rest = found["actors"][1], found["objects"][1]
        return cls({(number, part): n for number, part, n in found["signed"]}, found["newest"], actors, objects)


def _ranked(groups: Any, kept: int | None) -> list[Any]:
    """Return the groups of a query by model, key and key, with their numbers; of each model those with the most."""
    groups = groups.annotate(count=Count("id"), newest=Max("id")).order_by()
    if kept is None:
        return list(groups)
    sql, parameters = groups.query.get_compiler(groups.db).as_sql()
    place = "row_number() OVER (PARTITION BY model ORDER BY count DESC)"
    numbered = f"SELECT counted.*, {place} AS place FROM ({sql}) AS counted"  # noqa: S608  # the statement of Django
    with connections[groups.db].cursor() as cursor:
        cursor.execute(f"SELECT * FROM ({numbered}) AS numbered WHERE place <= %s ORDER BY place", [*parameters, kept])  # noqa: S608
        return [row[:-1] for row in cursor.fetchall()]


# Sets of events that are added, or taken away where the sign is -1.
Pieces: TypeAlias = Sequence[tuple[int, Ranking]]


class _Bounds(NamedTuple):
    """How many events a group has at least and at most, and the newest that is known."""

    least: int
    most: int
    newest: int


@dataclass(frozen=True, slots=True)
class Largest:
    """Finds the groups with the most events.

    Attributes:
        models: The models whose events count.
        spans: Whether a group has events of several models, as an actor has; otherwise its key begins with its model.

    """

    models: Collection[str]
    spans: bool

    def find(
        self, pieces: Pieces, most: int, exactly: Callable[[Sequence[Key]], Iterable[Group]]
    ) -> list[Group] | None:
        """Return the groups with the most events, None if nothing less than counting all of them can tell.

        Args:
            pieces: What was counted.
            most: How many groups.
            exactly: Counts the events of a few groups.

        """
        bounds = self._bounds(pieces)
        ranks = sorted((found.least for found in bounds.values()), reverse=True)
        limit = max(ranks[most - 1], 1) if most <= len(ranks) else 1
        if self._most_of_others(pieces) >= limit:
            return None
        near = {key: found for key, found in bounds.items() if found.most >= limit}
        asked = [key for key, found in near.items() if found.least < found.most]
        if len(asked) > MOST_ASKED:
            return None
        groups = [(key, found.least, found.newest) for key, found in near.items() if found.least == found.most]
        groups += exactly(asked) if asked else []
        return sorted(groups, key=lambda group: (-group[1], group[0]))[:most]

    def _bounds(self, pieces: Pieces) -> dict[Key, _Bounds]:
        """Return what is known of each group that some piece has a number of."""
        listed = [(sign, ranking, self._of_models(ranking)) for sign, ranking in pieces]
        least = dict.fromkeys((key for *_, groups in listed for _, found in groups for key in found), 0)
        most, newest = dict(least), dict(least)
        for sign, ranking, groups in listed:
            low, high = (least, most) if sign > 0 else (most, least)
            if ranking.rest:
                total = self._rest(ranking)
                for key in high:
                    high[key] += sign * (total if self.spans else ranking.rest.get(key[0], 0))
            for model, found in groups:
                rest = ranking.rest.get(model, 0)
                for key, (count, last) in found.items():
                    low[key] += sign * count
                    high[key] += sign * (count - rest)
                    newest[key] = max(newest[key] or last, last)
        return {key: _Bounds(least[key], most[key], newest[key]) for key in least}

    def _of_models(self, ranking: Ranking) -> list[tuple[str, dict[Key, tuple[int, int]]]]:
        return [(model, groups) for model, groups in ranking.groups.items() if model in self.models]

    def _rest(self, ranking: Ranking) -> int:
        return sum(ranking.rest.get(model, 0) for model in self.models)

    def _most_of_others(self, pieces: Pieces) -> int:
        """Return how many events a group may have that no piece has a number of."""
        added = [ranking for sign, ranking in pieces if sign > 0]
        if self.spans:
            return sum(map(self._rest, added))
        return max((sum(ranking.rest.get(model, 0) for ranking in added) for model in self.models), default=0)
