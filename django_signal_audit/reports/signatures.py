"""Which signatures of events there are, asked of an index alone."""

from __future__ import annotations

from django.db import connections

from django_signal_audit.models import AuditEvent
from django_signal_audit.models.events import Signature

# From one number to the next greater one: one look into the index for each signature. DISTINCT reads all of it.
_RECURSIVE = """
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
# MariaDB does so by itself for a GROUP BY, and looks a number up in the index only where the number is told.
_MARIADB = """
SELECT (
    SELECT event.id FROM {table} event WHERE event.signature = known.signature
    ORDER BY event.recorded_at, event.id LIMIT 1
)
FROM (SELECT signature FROM {table} GROUP BY signature) known
"""


def known_signatures(using: str) -> dict[int, Signature]:
    """Return the signatures of the events there are, by number."""
    connection = connections[using]
    table = connection.ops.quote_name(AuditEvent._meta.db_table)
    sql = _MARIADB if connection.vendor == "mysql" else _RECURSIVE
    with connection.cursor() as cursor:
        cursor.execute(sql.format(table=table))
        samples = [row[0] for row in cursor.fetchall()]
    rows = AuditEvent.of_all_tenants.using(using).filter(pk__in=samples).order_by()
    return {
        number: Signature(event_type, level, model, _names(rules))
        for number, event_type, level, model, rules in rows.values_list("signature", *Signature._fields)
    }


def _names(rules: object) -> tuple[str, ...]:
    """Return the names of rules: SQL can store any JSON."""
    return tuple(name for name in rules if isinstance(name, str)) if isinstance(rules, list) else ()
