"""What the keys in foreign keys and many-to-many fields are called now: one query per model for a whole page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias, cast

from django.core.exceptions import ValidationError
from django.db import models

from django_signal_audit.models import AuditEvent
from django_signal_audit.values import Digest, Masked, clean_text, safe_str

# A bulk change of members may name a hundred thousand; nobody reads that many names.
MAX_KEYS = 500

Target: TypeAlias = "models.Field[Any, Any]"
# By the field that the keys are values of: the names of those looked up, None for a row that is gone.
Names: TypeAlias = "Mapping[Target, Mapping[str, str | None]]"


def target_of(field: models.Field[Any, Any] | None) -> Target | None:
    """Return the field whose values a foreign key or a many-to-many field holds, None for other fields."""
    if not isinstance(field, (models.ForeignKey, models.ManyToManyField)):
        return None
    target: Any = field.target_field
    while isinstance(target, models.ForeignKey):  # the key of a multi-table child is its link to the parent
        target = target.target_field
    return cast("Target", target)


def related_names(events: Iterable[AuditEvent]) -> Names:
    """Return what the keys that the events name are called."""
    wanted: dict[tuple[str, Target, type[models.Model]], set[str]] = defaultdict(set)
    for event in events:
        for field, key in _keys(event):
            target = target_of(field)
            if target is not None:
                keys = wanted[event._state.db or "default", target, target.model]
                if len(keys) < MAX_KEYS:
                    keys.add(str(key))
    return {target: _look_up(using, target, keys) for (using, target, _), keys in wanted.items()}


def _keys(event: AuditEvent) -> Iterator[tuple[models.Field[Any, Any] | None, Any]]:
    for name, (old, new) in event.field_changes.items():
        field = event.field(name)
        yield from ((field, key) for key in (old, new) if isinstance(field, models.ForeignKey) and _is_key(key))
    for name, members in event.member_changes.items():
        yield from ((event.field(name), key) for key in (*members.added, *members.removed))


def _is_key(value: Any) -> bool:
    return value is not None and not isinstance(value, (Digest, Masked))


def _look_up(using: str, target: Target, keys: Iterable[str]) -> dict[str, str | None]:
    typed = {}
    for key in keys:
        try:
            typed[key] = target.to_python(key)
        except ValidationError:
            continue  # the field had another type then
    rows = target.model._base_manager.using(using).filter(**{f"{target.attname}__in": list(typed.values())})
    names = {getattr(row, target.attname): clean_text(safe_str(row)) for row in rows}
    return {key: names.get(value) for key, value in typed.items()}
