"""What the trail tells of many rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.db import models
from django.db.models import Q

from django_signal_audit.capture.images import chunks
from django_signal_audit.enums import ROW_EVENTS, EventType
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.inheritance import labels_including_children
from django_signal_audit.models.state import RecordedState, fold

from .rows import rows_named

PAGE = 2000
_COLUMNS = ("object_id", "model", "event_type", "changes")


class Trail:
    """The events that tell of the rows of one model.

    Args:
        model: The concrete model.
        using: The database.

    """

    def __init__(self, model: type[models.Model], using: str) -> None:
        self.model = model
        self.using = using
        labels = labels_including_children(model)
        self._events = AuditEvent.objects.using(using).filter(model__in=labels, event_type__in=ROW_EVENTS)
        self._own = self._events.filter(model=model._meta.label_lower)

    def states(self, names: Sequence[str]) -> dict[str, RecordedState]:
        """Return the recorded states of the rows with these names."""
        states = {name: RecordedState() for name in names}
        rows = (row[1:] for row in self._rows(names))
        # Some databases find "a" where "A" was asked for.
        fold(self.model, (row for row in rows if row[0] in states), states)
        return states

    def newest(self, name: str, *, own: bool = False) -> int:
        """Return the id of the newest event of a row, 0 if there is none; ``own``: children's events do not count."""
        events = self._own if own else self._events
        found = events.filter(object_id=name).order_by("-id").values_list("id", "object_id")
        return next((pk for pk, object_id in found.iterator(chunk_size=100) if object_id == name), 0)

    def states_since(self, name: str, event_id: int) -> list[RecordedState]:
        """Return the state of a row as an event left it, and as each later one did."""
        state, states = RecordedState(), []
        for pk, *row in self._rows([name]):
            if row[0] != name:
                continue
            if pk > event_id:
                states.append(state.copy())
            fold(self.model, [tuple(row)], {name: state})
        return [*states, state]

    def _rows(self, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """Return id, name, label, type and changes of the events of these rows, oldest first, a page at a time."""
        events = self._events.filter(object_id__in=names).order_by("id").values_list("id", *_COLUMNS)
        page = list(events[:PAGE])
        while page:
            yield from page
            page = list(events.filter(id__gt=page[-1][0])[:PAGE]) if len(page) == PAGE else []

    def alive(self) -> Iterator[tuple[str, int]]:
        """Return the names of the rows whose last recorded event is no deletion, with that event's id.

        Events of multi-table children are not asked. Where the database takes different names for equal, a name may
        come several times; only the last is its newest event.
        """
        for name, run in groupby(self._last_words(), key=itemgetter(0)):
            *_, (_, event_id, event_type) = run
            if event_type != EventType.DELETE:
                yield name, event_id

    def vanished(self) -> Iterator[list[str]]:
        """Return the names of the rows that should be there by the model's own events and aren't, some at a time."""
        for chunk in chunks(self.alive()):
            there = rows_named(self.model, [name for name, _event_id in chunk], self.using)
            gone = [name for name, event_id in chunk if name not in there and self.newest(name, own=True) == event_id]
            if gone:
                yield gone

    def last_text(self, name: str) -> str:
        """Return what the newest event of a row calls the object, ``""`` if there is none."""
        events = self._events.filter(pk=self.newest(name)).order_by()
        return next(iter(events.values_list("object_repr", flat=True)), "")

    def _last_words(self) -> Iterator[tuple[str, int, str]]:
        """Return name, id and type of all events, those of one row in a run, a page at a time."""
        columns = self._own.order_by("object_id", "id").values_list("object_id", "id", "event_type")
        page = list(columns[:PAGE])
        while page:
            yield from page
            name, event_id, _ = page[-1]
            # The first condition is implied by the second; the database finds its place in the index by it.
            rest = columns.filter(object_id__gte=name).filter(Q(object_id__gt=name) | Q(id__gt=event_id))
            page = list(rest[:PAGE]) if len(page) == PAGE else []
