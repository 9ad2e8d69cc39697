"""What a search means: its filters as conditions, and its free text by the first reading that finds something.

The narrowest index of the conditions is read to the end of a page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from uuid import UUID

from django.db.models import Q

from django_signal_audit.admin.access import Access, readable
from django_signal_audit.admin.keyset import (
    ALL_TIME,
    Cursor,
    Found,
    IndexScan,
    Page,
    Scan,
    TimeRange,
    find_keys,
    find_visible,
)
from django_signal_audit.models import AuditEvent, AuditEventQuerySet
from django_signal_audit.models.events import Signature
from django_signal_audit.models.renames import current_label, former_names
from django_signal_audit.reports.functions import known_signatures

from . import conditions
from .choices import SYNONYMS, events_of, field_label, levels, models_of
from .conditions import Condition
from .query import Query

# More signatures than this are no longer looked up one by one.
MAX_SIGNATURES = 200
# Of so many models the events of an object are looked up one by one.
MAX_LABELS = 200
# Who nobody is, as a value of the filter for actors.
NOBODY = "none"
# How free text may be read, in the order in which that is tried.
READINGS = ("uid", "request", "object-key", "actor-key", "actor", "object")
# What every actor and object may be called.
NAMED = {"actor": "actor_repr", "object": "object_repr"}


@dataclass(frozen=True, slots=True)
class Result:
    """What a search found, and how its free text was read."""

    found: Found
    read_as: str = ""


class Interpretation:
    """What a search means to one user.

    Args:
        access: What the user may see.
        events: All events.
        query: What is asked for.
        extra: Conditions besides.

    """

    def __init__(
        self, access: Access, events: AuditEventQuerySet, query: Query, extra: Sequence[Condition] = ()
    ) -> None:
        self.access = access
        self.events = events
        self.extra = extra
        self.query = self._canonical(query)

    def find(self, cursor: Cursor, size: int) -> Result:
        """Return the page at the cursor."""
        if self.query.error:
            return Result(Found(Page([])))
        asked = [*self._conditions(), *self.extra]
        if not self.query.text:
            return Result(self._search(asked).find(cursor, size))
        first: Result | None = None
        for name in self._readings():
            search = self._search([*asked, self._reading(name)])
            result = Result(search.find(Cursor(), size), name)
            if result.found.events or self.query.read_as:
                return result if cursor == Cursor() else Result(search.find(cursor, size), name)
            first = first or (result if result.found.further is not None else None)
        return first or Result(Found(Page([])))

    def _search(self, asked: Sequence[Condition]) -> Search:
        return Search(self.access, self.events, asked, self.query.time_range(), self.labels)

    # Free text

    def _readings(self) -> Sequence[str]:
        if self.query.read_as in READINGS:
            return (self.query.read_as,)
        return READINGS if _is_uuid(self.query.text) else READINGS[1:]

    def _reading(self, name: str) -> Condition:
        text, events = self.query.text, self.events
        readings: dict[str, Callable[[], Condition]] = {
            "uid": lambda: conditions.by_uid(events, text),
            "request": lambda: conditions.by_column(events, "correlation_id", text),
            "object-key": lambda: self._by_key(text),
            "actor-key": lambda: conditions.by_column(events, "actor_id", text),
        }
        return readings[name]() if name in readings else conditions.by_beginning(events, NAMED[name], text)

    # Filters

    def _conditions(self) -> Iterator[Condition]:
        signatures = self._signatures
        if signatures is not None:
            scans = [IndexScan(self.events, "signature", number) for number in signatures]
            is_many = len(signatures) > MAX_SIGNATURES
            yield Condition(Q(signature__in=signatures), None if is_many else scans)
        for name, value in self.query.pairs:
            if name == "actor" and value.lower() == NOBODY:
                yield from conditions.nobody(self.events)
            elif name == "actor_name":
                yield from conditions.by_name(self.events, "actor_repr", value)
            elif name in self._filters:
                yield self._filters[name](value)

    @cached_property
    def _filters(self) -> Mapping[str, Callable[[str], Condition]]:
        return {
            "actor": self._by_actor,
            "object": self._by_object,
            "request": lambda value: conditions.by_column(self.events, "correlation_id", value),
            "tenant": self._by_tenant,
            "reason": conditions.by_reason,
            "field": lambda value: conditions.by_fields(self._field_names(value), self.access.shows),
        }

    def _by_actor(self, value: str) -> Condition:
        by_key = conditions.by_column(self.events, "actor_id", value)
        return by_key if self._finds(by_key) else conditions.by_beginning(self.events, "actor_repr", value)

    def _by_tenant(self, value: str) -> Condition:
        if value.lower() == NOBODY:
            return Condition(Q(tenant=""))
        # The index of events that have a tenant; see TenantIndex.
        of_tenants = self.events.for_tenant(value)
        return Condition(Q(tenant=value), [IndexScan(of_tenants, "tenant", value)])

    def _by_object(self, value: str) -> Condition:
        by_key = self._by_key(value)
        return by_key if self._finds(by_key) else conditions.by_beginning(self.events, "object_repr", value)

    def _finds(self, condition: Condition) -> bool:
        """Return whether the user may see an event of those. How a value is read must not reveal any others."""
        return bool(self._search([condition]).find(Cursor(), 1).events)

    def _by_key(self, value: str) -> Condition:
        found = conditions.by_key(self.events, value, sorted(self._known_labels - {""}))
        return found if len(found.scans or ()) <= MAX_LABELS else replace(found, scans=None)

    def _field_names(self, value: str) -> list[str]:
        """Return the names of the fields that a text names, by name or by label."""
        labels = models_of(self.access)
        named = {
            name
            for label in self.query.values("model") or labels
            for name in _field_names(label)
            if value.casefold() in (name.casefold(), field_label(label, name).casefold())
            for name in (name, *former_names(label, name))
        }
        return sorted({value, *named})

    # What the events there are have in common

    @cached_property
    def _known(self) -> Mapping[int, Signature]:
        return known_signatures(self.events.db)

    @cached_property
    def _known_labels(self) -> set[str]:
        return {signature.model for signature in self._known.values()}

    @cached_property
    def labels(self) -> set[str]:
        """Return the models that the page may have events of; none where the user sees everything anyway."""
        if self.access.sees_everything:
            return set()
        signatures = self._signatures
        return {one.model for number, one in self._known.items() if signatures is None or number in signatures}

    @cached_property
    def _signatures(self) -> list[int] | None:
        """Return the signatures of events that are asked for and may be seen; None if these are all."""
        asked = [(name, value) for name, value in self.query.pairs if name in _ADMITS]
        if self.access.sees_everything and not asked:
            return None
        labels = {label for label in self._known_labels if self.access.may_view(label)}
        found = [
            number
            for number, signature in self._known.items()
            if signature.model in labels and all(_ADMITS[name](signature, value) for name, value in asked)
        ]
        return None if len(found) == len(self._known) else found

    def _canonical(self, query: Query) -> Query:
        """Return the query with the values that events have, for what people call them."""
        if query.error:
            return query
        names: dict[str, Callable[[], Mapping[str, str]]] = {
            "model": self._model_names,
            "event": lambda: {**_by_label(events_of(self.access)), **SYNONYMS},
            "level": lambda: _by_label(levels()),
        }
        pairs = [
            (name, names[name]().get(value.casefold(), value) if name in names else value)
            for name, value in query.pairs
        ]
        return replace(query, pairs=tuple(dict.fromkeys(pairs)))

    def _model_names(self) -> dict[str, str]:
        """Return the labels of models by what else they may be called; a name of two models is none."""
        labels = {**{label: label for label in sorted(self._known_labels - {""})}, **models_of(self.access)}
        found: dict[str, list[str]] = {}
        for label, name in labels.items():
            for alias in {label.rpartition(".")[2], name.casefold()}:
                found.setdefault(alias, []).append(label)
        single = {alias: one[0] for alias, one in found.items() if len(one) == 1}
        return single | {label: label for label in labels}


_ADMITS: Mapping[str, Callable[[Signature, str], bool]] = {
    "event": lambda signature, value: signature.event_type == value,
    "model": lambda signature, value: current_label(signature.model) == current_label(value),
    "rule": lambda signature, value: value in signature.rules,
    "level": lambda signature, value: signature.level == value,
}


def _by_label(labels: Mapping[str, str]) -> dict[str, str]:
    return {label.casefold(): name for name, label in labels.items()} | {name.casefold(): name for name in labels}


def _field_names(label: str) -> Iterable[str]:
    model = AuditEvent(model=label).model_class
    return [field.name for field in (*model._meta.fields, *model._meta.many_to_many)] if model else []


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


# Of several indexes the one is read in which less is found. Beyond so many events, none is narrow.
NARROW = 500
# So many parts of an index are not tried out.
MAX_TRIED = 20


@dataclass(frozen=True, slots=True)
class Search:
    """Conditions, and a period: events have to fulfil all of them. The narrowest index is read.

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
