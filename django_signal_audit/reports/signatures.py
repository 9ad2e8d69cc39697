"""Which signatures of events there are, asked of an index alone."""

from __future__ import annotations

from typing import Any

from django.db import connections

from django_signal_audit.models import AuditEvent
from django_signal_audit.models.events import Signature

# From one number to the next greater one: one look into the index for each signature. DISTINCT reads all of it.
_SQL = """
WITH RECURSIVE known (signature) AS (
    SELECT MIN(signature) FROM {table}
    UNION ALL
    SELECT (SELECT MIN(event.signature) FROM {table} event WHERE event.signature > known.signature)
    FROM known WHERE known.signature IS NOT NULL
)
SELECT (
    SELECT event.id FROM {table} event WHERE event.signature >= known.signature
    ORDER BY event.signature, event.recorded_at, event.id LIMIT 1
)
FROM known WHERE known.signature IS NOT NULL
"""


def known_signatures(using: str) -> dict[int, Signature]:
    """Return the signatures of the events there are, by number."""
    connection = connections[using]
    table = connection.ops.quote_name(AuditEvent._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(_SQL.format(table=table))
        samples = [row[0] for row in cursor.fetchall()]
    rows = AuditEvent.objects.using(using).filter(pk__in=samples).order_by()
    return {
        number: Signature(event_type, level, model, _names(rules))
        for number, event_type, level, model, rules in rows.values_list("signature", *Signature._fields)
    }


def _names(rules: Any) -> tuple[str, ...]:
    """Return the names of rules: SQL can store any JSON."""
    return tuple(name for name in rules if isinstance(name, str)) if isinstance(rules, list) else ()
