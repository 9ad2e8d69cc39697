"""Who did most and what changed most until today, kept in the project's cache.

To find that, the database has to read every event of the period. What lies before today is counted once and kept, and
what came today is counted with each view. Nothing is written when events are, and nothing has to be told of a prune or
an import: the numbers of events by signature, which an index has, and the newest event say whether what was kept holds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from django.core.cache import cache
from django.db.models import Count, Max, Q

from django_signal_audit.models import AuditEventQuerySet
from django_signal_audit.reports.tallies import Group, Key

# Below so many events the database is asked each time.
ROLL_UP_FROM = 50_000
# So many groups are kept, and of so many others it is asked whether today has made them as large.
KEPT, MOST_ASKED = 2000, 100
TIMEOUT = 24 * 3600


def largest(events: AuditEventQuerySet, columns: tuple[str, str], most: int | None) -> list[Group]:
    """Return the groups with the most events, which the database counts."""
    groups = events.values_list(*columns).annotate(count=Count("id"), newest=Max("id")).order_by("-count", *columns)
    return [((first, second), count, newest) for first, second, count, newest in groups[:most]]


def largest_with_kept(
    before: AuditEventQuerySet, today: AuditEventQuerySet, columns: tuple[str, str], most: int, state: object
) -> list[Group] | None:
    """Return the groups with the most events, None if too many might be among them.

    Args:
        before: The events of the period before today.
        today: The others.
        columns: What the events are grouped by.
        most: How many groups.
        state: What tells whether the events before today are those that were counted.

    """
    kept = _kept(before, columns, state)
    total = {key: (count, newest) for key, count, newest in kept}
    new = {}
    for key, count, newest in largest(today, columns, None):
        if key in total:
            total[key] = total[key][0] + count, newest
        else:
            new[key] = count, newest
    if len(kept) == KEPT:
        # A group that isn't kept has no more events before today than the smallest that is.
        smallest, ranks = kept[-1][1], sorted((count for count, _ in total.values()), reverse=True)
        least = ranks[most - 1] if most <= len(ranks) else 0
        asked = [key for key, (count, _) in new.items() if count + smallest >= least]
        if not least or len(asked) > MOST_ASKED:
            return None
        for key, count, _newest in groups_of(before, columns, asked):
            new[key] = new[key][0] + count, new[key][1]
    groups = [(key, count, newest) for key, (count, newest) in (total | new).items()]
    return sorted(groups, key=lambda group: (-group[1], group[0]))[:most]


def _kept(before: AuditEventQuerySet, columns: tuple[str, str], state: object) -> list[Group]:
    """Return the largest groups before today, counted anew if other events are there than were counted."""
    sql, parameters = before.query.sql_with_params()
    asked = json.dumps([before.db, columns, sql, parameters], default=str)
    name = f"django_signal_audit.dashboard.{hashlib.sha256(asked.encode()).hexdigest()}"
    found = cache.get(name)
    if found is not None and found[0] == state:
        groups: list[Group] = found[1]
        return groups
    groups = largest(before, columns, KEPT)
    cache.set(name, (state, groups), TIMEOUT)
    return groups


def groups_of(events: AuditEventQuerySet, columns: tuple[str, str], keys: Sequence[Key]) -> list[Group]:
    """Return some groups, which the database counts."""
    seconds: dict[str, list[str]] = {}
    for first, second in keys:
        seconds.setdefault(first, []).append(second)
    condition = Q(pk__in=[])
    for first, found in seconds.items():
        condition |= Q(**{columns[0]: first, f"{columns[1]}__in": found})
    return largest(events.filter(condition), columns, None) if keys else []
