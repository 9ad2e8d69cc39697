"""Change: what happened to one object, as capture hands it to the recorder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from django.db.models import Model

from django_signal_audit.enums import MODEL_EVENTS, Level, Source


class FieldChange(NamedTuple):
    """The value of one field before and after, as Python values of the field's type; None stands for "no row"."""

    old: Any
    new: Any


# The class without the Python frame of its constructor, from a tuple: where there is one for every field of a row.
field_change: Callable[[tuple[Any, Any]], FieldChange] = partial(tuple.__new__, FieldChange)


@dataclass(frozen=True, slots=True, kw_only=True)
class M2MChange:
    """The keys a many-to-many field gained and lost, each list sorted."""

    added: tuple[Any, ...] = ()
    removed: tuple[Any, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)


class RowChange(NamedTuple):
    """What happened to one row of a model, where that is all there is to say."""

    pk: Any
    # The text of the object, with stars for the secrets that the object knows of.
    text: str
    source: Source
    fields: Mapping[str, FieldChange]


_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Change(NamedTuple):
    """One thing that happened, before any rule was asked about it; made with keyword arguments.

    ``fields`` holds, by field name, what the database held before and holds now; ``members`` the same for m2m
    fields. ``instance`` is the object in memory where there is one: it names the object and feeds callable
    conditions, never the values. ``object_repr`` is its text where that was asked for already. ``row`` is what else is
    known of the row as it is now, by field name.
    """

    event_type: str
    source: Source
    using: str
    model: type[Model] | None = None
    pk: Any = None
    instance: Model | None = None
    object_repr: str | None = None
    fields: Mapping[str, FieldChange] = _NOTHING
    members: Mapping[str, M2MChange] = _NOTHING
    data: Mapping[str, Any] = _NOTHING
    row: Mapping[str, Any] = _NOTHING
    actor: Any = None
    level: str = Level.INFO.value

    @property
    def old(self) -> dict[str, Any]:
        """Return the values before the change, by field name."""
        return {name: change.old for name, change in self.fields.items()}

    @property
    def new(self) -> dict[str, Any]:
        """Return the values after the change, by field name."""
        return {name: change.new for name, change in self.fields.items()}

    @property
    def touched(self) -> frozenset[str]:
        """Return the names of all fields the change carries, m2m fields among them."""
        return frozenset(self.fields).union(self.members) if self.members else frozenset(self.fields)

    @property
    def is_model_event(self) -> bool:
        """Return whether this is a change of a row rather than a custom, auth or request event."""
        return self.model is not None and self.event_type in MODEL_EVENTS
