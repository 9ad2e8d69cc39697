"""What several packages' records have in common."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .base import Recorded

if TYPE_CHECKING:
    from django.test import Client


def as_text(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the values by field as text."""
    return {name: json.dumps(value) if isinstance(value, dict) else str(value) for name, value in values.items()}


def tag_names(keys: Iterable[object]) -> frozenset[str]:
    """Return the names of the tags with these primary keys."""
    from .models import Tag

    return frozenset(Tag.objects.filter(pk__in=list(keys)).values_list("name", flat=True))


def of_members(names: frozenset[str], is_added: bool) -> Recorded:
    """Return the record of tags that were all added, or all removed."""
    return Recorded("m2m", added=names) if is_added else Recorded("m2m", removed=names)


class Snapshots:
    """Turns a series of full rows into records with old and new values."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._tags: frozenset[str] = frozenset()

    def record(self, kind: str, values: Mapping[str, Any], tags: frozenset[str] | None = None) -> Recorded:
        """Return the record that this row makes after the rows before it."""
        new, tags = as_text(values), self._tags if tags is None else tags
        made = Recorded(kind, new, self._values, added=tags - self._tags, removed=self._tags - tags)
        self._values, self._tags = new, tags
        return made


def submit(client: Client, url: str) -> object:
    """Submit the form of an admin page as it is filled in."""
    form = client.get(url).context["adminform"].form
    filled = {name: form[name].value() for name in form.fields}
    return client.post(url, {name: "" if value is None else value for name, value in filled.items()})
