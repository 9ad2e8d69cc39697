"""Which kinds of events there are, asked of an index alone."""

from __future__ import annotations

from typing import Any

from django.db import connections

from django_signal_audit.models import AuditEvent
from django_signal_audit.models.events import Kind

# From one number to the next greater one: as many looks into the index as there are kinds. DISTINCT reads all of it.
_SQL = """
WITH RECURSIVE known (kind) AS (
    SELECT MIN(kind) FROM {table}
    UNION ALL
    SELECT (SELECT MIN(event.kind) FROM {table} event WHERE event.kind > known.kind)
    FROM known WHERE known.kind IS NOT NULL
)
SELECT (
    SELECT event.id FROM {table} event WHERE event.kind >= known.kind
    ORDER BY event.kind, event.recorded_at, event.id LIMIT 1
)
FROM known WHERE known.kind IS NOT NULL
"""


def known_kinds(using: str) -> dict[int, Kind]:
    """Return the kinds of the events there are, by number."""
    connection = connections[using]
    table = connection.ops.quote_name(AuditEvent._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(_SQL.format(table=table))
        samples = [row[0] for row in cursor.fetchall()]
    rows = AuditEvent.objects.using(using).filter(pk__in=samples).order_by()
    return {
        number: Kind(event_type, level, model, _names(rules))
        for number, event_type, level, model, rules in rows.values_list("kind", *Kind._fields)
    }


def _names(rules: Any) -> tuple[str, ...]:
    """Return the names of rules: whoever has the database can store any JSON."""
    return tuple(name for name in rules if isinstance(name, str)) if isinstance(rules, list) else ()
