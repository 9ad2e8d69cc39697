"""What the keys in foreign keys and many-to-many fields are called now: one query per model for a whole page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

import django
from django.core.exceptions import ValidationError
from django.db import models

from django_signal_audit.events.object_texts import texts_of
from django_signal_audit.events.values import Digest, Masked
from django_signal_audit.models import AuditEvent

# A bulk change of members may name a hundred thousand; nobody reads that many names.
MAX_KEYS = 500

Target: TypeAlias = "models.Field[Any, Any]"
# By the field that the keys are values of: the names of those looked up, None for a row that is gone.
Names: TypeAlias = "Mapping[Target, Mapping[str, str | None]]"
MayName: TypeAlias = Callable[[type[models.Model]], bool]
# Returns those of some rows of one model that the reader of the page may know by name.
Readable: TypeAlias = Callable[[Sequence[models.Model]], Sequence[models.Model]]


def target_of(field: models.Field[object, object] | None) -> Target | None:
    """Return the field whose values a foreign key or a many-to-many field holds, None for other fields."""
    if not isinstance(field, (models.ForeignKey, models.ManyToManyField)):
        return None
    target: Any = field.target_field
    while isinstance(target, models.ForeignKey):  # the key of a multi-table child is its link to the parent
        target = target.target_field
    return cast("Target", target)


def related_names(
    events: Iterable[AuditEvent], may_name: MayName | None = None, readable: Readable | None = None
) -> Names:
    """Return what the keys that the events name are called.

    Args:
        events: The events of a page.
        may_name: Returns for a model whether the reader of the page may know what its rows are called; None for all.
        readable: Returns those of the rows that they may know by name; None for all.

    """
    found = ((event._state.db, field, key) for event in events for field, key in _keys(event))
    return _names(found, may_name, readable)


def naming_unreadable(events: Sequence[AuditEvent], may_name: MayName, readable: Readable) -> set[int]:
    """Return the ids of those events that have keys of rows which the reader may not know by name.

    Args:
        events: The events.
        may_name: Returns for a model whether the reader may know what its rows are called.
        readable: Returns those of the rows that they may know by name.

    """
    names = related_names(events, may_name, readable)
    return {event for target, key, event in keys_in(events) if key not in names.get(target, ())}


def is_members(field: models.Field[object, object] | None) -> bool:
    """Return whether it is a many-to-many field, whose value is a list of keys."""
    return isinstance(field, models.ManyToManyField)


def _names(
    keys: Iterable[tuple[str | None, models.Field[object, object] | None, object]],
    may_name: MayName | None = None,
    readable: Readable | None = None,
) -> Names:
    wanted: dict[tuple[str, Target], set[str]] = defaultdict(set)
    for using, field, key in keys:
        target = target_of(field)
        if target is not None and (may_name is None or may_name(target.model)):
            found = wanted[using or "default", target]
            if len(found) < MAX_KEYS:
                found.add(str(key))
    return {target: _look_up(using, target, found, readable) for (using, target), found in wanted.items()}


def keys_in(events: Iterable[AuditEvent]) -> Iterator[tuple[Target, str, int]]:
    """Yield the keys of other rows that events name: the field that they are values of, the key, and the event."""
    for event in events:
        for field, key in _keys(event):
            target = target_of(field)
            if target is not None:
                yield target, str(key), event.pk or 0


def _keys(event: AuditEvent) -> Iterator[tuple[models.Field[object, object] | None, object]]:
    # Most events name no other rows. To see that takes less time than to read what they say.
    names = event.changes if isinstance(event.changes, dict) else ()
    if all(target_of(event.field(name)) is None for name in names):
        return
    for name, (old, new) in event.field_changes.items():
        field = event.field(name)
        yield from ((field, key) for key in (old, new) if isinstance(field, models.ForeignKey) and _is_key(key))
    for name, members in event.m2m_changes.items():
        yield from ((event.field(name), key) for key in (*members.added, *members.removed))


def _is_key(value: object) -> bool:
    return value is not None and not isinstance(value, (Digest, Masked))


def _look_up(using: str, target: Target, keys: Iterable[str], readable: Readable | None) -> dict[str, str | None]:
    typed = {}
    for key in keys:
        try:
            typed[key] = target.to_python(key)
        except ValidationError:
            continue  # the field had another type then
    rows: Any = target.model._base_manager.using(using).filter(**{f"{target.attname}__in": list(typed.values())})
    if django.VERSION >= (6, 1):
        # A text that follows a foreign key costs a query for all rows, and not one for each.
        rows = rows.fetch_mode(models.FETCH_PEERS)
    found = list(rows)
    shown = readable(found) if readable else found
    names = {
        getattr(row, target.attname): text for row, text in zip(shown, texts_of(shown) if shown else (), strict=True)
    }
    hidden = {getattr(row, target.attname) for row in found} - names.keys()
    return {key: names.get(value) for key, value in typed.items() if value not in hidden}
