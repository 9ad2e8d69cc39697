"""What the keys in foreign keys and many-to-many fields were called at the time of an event, by their own events."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from django.db import models

from django_signal_audit.events.keys import row_id
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.inheritance import labels_including_children
from django_signal_audit.reports.relations import MayName, Target, keys_in
from django_signal_audit.rules.registry import get_registry

from .keyset import newest_up_to

# So many are looked up for one page; the others go by the names that they have now.
MOST_NAMES = 200
Visible = Callable[[Iterable[AuditEvent]], Sequence[AuditEvent]]


def past_names(
    events: Sequence[AuditEvent], may_name: MayName, visible: Visible
) -> Mapping[tuple[Target, str, int], str]:
    """Return the names by field, key and event, of those keys that have recorded events.

    Args:
        events: The events of a page.
        may_name: Returns for a model whether the reader may know any of its rows by name.
        visible: Returns those of some events that the reader may see.

    """
    audited = {label for plan in get_registry().plans.values() for label in labels_including_children(plan.model)}
    wanted: dict[tuple[Target, str, int], tuple[tuple[str, ...], str]] = {}
    for target, key, event_id in keys_in(events):
        if len(wanted) >= MOST_NAMES:
            break
        model: type[models.Model] = target.model
        labels = tuple(label for label in labels_including_children(model) if label in audited)
        # Events name their objects by the primary key.
        if labels and target.primary_key and event_id and may_name(model):
            wanted[target, key, event_id] = labels, row_id(model, key)
    if not wanted:
        return {}
    found = _names(events[0]._state.db or "default", wanted.keys(), wanted, visible)
    return {place: name for place, name in found.items() if name}


def _names(
    using: str,
    places: Iterable[tuple[Target, str, int]],
    wanted: Mapping[tuple[Target, str, int], tuple[tuple[str, ...], str]],
    visible: Visible,
) -> dict[tuple[Target, str, int], str]:
    log = AuditEvent.objects.using(using)
    asked = {(label, key, place[2]) for place, (labels, key) in wanted.items() for label in labels}
    keys = newest_up_to(log, sorted(asked))
    rows = log.filter(pk__in=keys).only("id", "model", "object_id", "object_repr", "event_type", "recorded_at")
    history: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for event in sorted(visible(rows), key=lambda one: one.pk):
        history[event.model, event.object_id].append((event.pk, event.object_repr))
    return {place: _name(history, *wanted[place], place[2]) for place in places}


def _name(history: Mapping[tuple[str, str], list[tuple[int, str]]], labels: Iterable[str], key: str, at: int) -> str:
    """Return the name in the newest event up to a certain one, of whichever of the labels."""
    found: tuple[int, str] = (0, "")
    for label in labels:
        known = history.get((label, key), [])
        place = bisect_right(known, at, key=lambda one: one[0])
        if place:
            found = max(found, known[place - 1])
    return found[1]
