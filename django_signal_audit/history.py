"""The history of one object in Python: its versions with typed values, and the difference between any two."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from operator import attrgetter
from typing import Any, overload

from asgiref.sync import sync_to_async
from django.db import models

from .enums import ROW_EVENTS
from .events.changes import FieldChange, M2MChange
from .events.keys import row_id
from .events.values import decode
from .models import AuditEvent, AuditEventQuerySet
from .models.events import BEFORE_ALL
from .models.inheritance import labels_including_children, rows_of_children
from .models.state import Recorded, RecordedState, in_order, member_order, own_changes, typed, well_formed

# So many events are in memory at once while a history is read.
_PAGE = 1000


@dataclass(frozen=True)
class Version:
    """An object as one event left it.

    Attributes:
        number: Its place in the history; the oldest version is 1.
        event: The event that made it: ``recorded_at``, ``actor_repr``, ``event_type``, ``field_changes`` and so on.
        model: The model of the history.
        recorded: The values as the events have them, in JSON; None where the object was deleted.

    """

    number: int
    event: AuditEvent
    model: type[models.Model]
    recorded: Recorded | None

    @cached_property
    def values(self) -> dict[str, Any] | None:
        """Return the typed values by field name as ``state_of`` does, None where the object was deleted.

        Fields that no event had named by then are left out.
        """
        return None if self.recorded is None else typed(self.model, self.recorded)

    def __str__(self) -> str:
        return f"{self.number}: {self.event}"


class History:
    """The versions of one object, the oldest first.

    Iterating reads 1,000 events at a time and keeps none of them, so memory stays constant however long the history is.
    ``async for`` does the same. ``len()`` and indexes work as with a list, and read the events again each time.
    """

    def __init__(self, model: type[models.Model], pk: object, using: str) -> None:
        self._model = model._meta.concrete_model or model
        self._pk = pk
        self._using = using
        self._loaded: list[Version] | None = None

    def __iter__(self) -> Iterator[Version]:
        return self._read() if self._loaded is None else iter(self._loaded)

    async def __aiter__(self) -> AsyncIterator[Version]:
        versions = iter(self)
        while page := await sync_to_async(_take)(versions, _PAGE):
            for version in page:
                yield version

    def __len__(self) -> int:
        if self._loaded is not None:
            return len(self._loaded)
        # list() asks for the length too, so nothing but the keys is read here.
        return sum(
            sum(1 for found in self._rows(label, key).values_list("object_id", flat=True).iterator() if found == key)
            for model, key in self._places
            for label in labels_including_children(model)
        )

    @overload
    def __getitem__(self, index: int) -> Version: ...

    @overload
    def __getitem__(self, index: slice) -> list[Version]: ...

    def __getitem__(self, index: int | slice) -> Version | list[Version]:
        if isinstance(index, slice) or self._loaded is not None:
            return list(self)[index]
        place = index if index >= 0 else len(self) + index
        found = next(islice(self, place, None), None) if place >= 0 else None
        if found is None:
            msg = f"There is no version with the index {index}."
            raise IndexError(msg)
        return found

    def diff(self, a: Version | int, b: Version | int) -> dict[str, FieldChange | M2MChange]:
        """Return what changed from one version to another, by field name in the order of the model's fields.

        Args:
            a: The version to start from, or its index.
            b: The version to end with, or its index; it may be the older one.

        Returns:
            A ``FieldChange`` with typed values for each field that differs, an ``M2MChange`` for many-to-many fields.
            Where the object was deleted, all values are None.

        Raises:
            IndexError: There is no version with such an index.
            TypeError: It is neither a version nor an index.
            ValueError: A version is of another object.

        """
        first, second = (self[one] if isinstance(one, int) else one for one in (a, b))
        for version in (first, second):
            self._require_own(version)
        older, newer = sorted((first, second), key=attrgetter("number"))
        before, after = self._known_before(older, newer), newer.recorded or {}
        if first is not older:
            before, after = after, before
        names = in_order(self._model, dict.fromkeys((*before, *after)))
        changes = {name: self._change(name, before.get(name), after.get(name)) for name in names}
        return {name: change for name, change in changes.items() if change is not None}

    def _require_own(self, version: object) -> None:
        if not isinstance(version, Version):
            msg = f"diff() takes versions of this history or their indexes, not {version!r}."
            raise TypeError(msg)
        own = version.model is self._model and version.event._state.db == self._using
        if not own or version.event.object_id not in {key for _, key in self._places}:
            msg = f"The version {version} is of another object, so it can't be compared with this history's versions."
            raise ValueError(msg)

    def _change(self, name: str, old: Any, new: Any) -> FieldChange | M2MChange | None:
        field = _field(self._model, name)
        if isinstance(field, models.ManyToManyField):
            return _members_change(field, old, new)
        if old == new and type(old) is type(new):
            return None
        return FieldChange(old=decode(field, old), new=decode(field, new))

    def _known_before(self, older: Version, newer: Version) -> Recorded:
        """Return the state of the older version, with what later events say of fields that it doesn't know.

        The first event may name only the fields that changed. The others' values are the old ones of the events that
        name them first.
        """
        state, later = older.recorded, newer.recorded
        if state is None or later is None or not later.keys() - state.keys():
            return dict(state or {})
        found: Recorded = {}
        for version in islice(self, older.number, newer.number):
            changes = own_changes(self._model, version.event.model, well_formed(version.event.changes))
            for name in changes.keys() - state.keys():
                _note_old(found, name, changes[name])
        return {**state, **{name: _present(old) if isinstance(old, dict) else old[0] for name, old in found.items()}}

    # Reading

    def _read(self) -> Iterator[Version]:
        state, number = RecordedState(), 0
        for model, key in self._places:
            for event in self._events(model, key):
                state.apply(event.event_type, own_changes(self._model, event.model, event.changes))
                number += 1
                yield Version(number, event, self._model, None if state.values is None else dict(state.values))

    @cached_property
    def _places(self) -> list[tuple[type[models.Model], str]]:
        """Return where the events of the row are: its own, then those of a child that has another primary key."""
        children = ((child, row_id(child, pk)) for child, pk in rows_of_children(self._model, self._pk, self._using))
        return [(self._model, row_id(self._model, self._pk)), *children]

    def _events(self, model: type[models.Model], key: str) -> Iterator[AuditEvent]:
        labels = labels_including_children(model)
        return heapq.merge(*(self._events_of(label, key) for label in labels), key=attrgetter("pk"))

    def _events_of(self, label: str, key: str) -> Iterator[AuditEvent]:
        last: int | None = BEFORE_ALL
        while last is not None:
            page = list(self._rows(label, key).filter(pk__gt=last).order_by("pk")[:_PAGE])
            last = page[-1].pk if len(page) == _PAGE else None
            # Some databases find "a" where "A" was asked for.
            yield from (event for event in page if event.object_id == key)

    def _rows(self, label: str, key: str) -> AuditEventQuerySet:
        return AuditEvent.objects.using(self._using).filter(model=label, object_id=key, event_type__in=ROW_EVENTS)

    def load(self) -> History:
        """Read all versions into memory and return this history: nothing of it asks the database any more."""
        self._loaded = list(self._read())
        return self


def _take(versions: Iterator[Version], count: int) -> list[Version]:
    return list(islice(versions, count))


def _field(model: type[models.Model], name: str) -> models.Field[Any, Any] | None:
    return AuditEvent(model=model._meta.label_lower).field(name)


def _members_change(field: models.ManyToManyField[Any, Any], old: object, new: object) -> M2MChange | None:
    before, after = (set(keys) if isinstance(keys, list) else set() for keys in (old, new))
    added, removed = (
        tuple(sorted((decode(field.target_field, key) for key in keys), key=member_order))
        for keys in (after - before, before - after)
    )
    return M2MChange(added=added, removed=removed) or None


def _present(keys: dict[object, bool]) -> list[object]:
    return [key for key, was_there in keys.items() if was_there]


def _note_old(found: Recorded, name: str, change: Any) -> None:
    """Note what the first event that names a field, or a key of a m2m field, says of it before that event."""
    if isinstance(change, list):
        found.setdefault(name, (change[0],))
        return
    keys = found.setdefault(name, {})
    for key in change["removed"]:
        keys.setdefault(key, True)
    for key in change["added"]:
        keys.setdefault(key, False)
