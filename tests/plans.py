"""How a database reads the log for a statement: by which indexes, and how much of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from django.db import connection

from django_signal_audit.models import AuditEvent

TABLE = AuditEvent._meta.db_table


def explain(sql: str, how: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(f"{how} {sql}")
        return list(cursor.fetchall())


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def of_postgresql(sql: str) -> tuple[set[str], int]:
    """Return the indexes a statement reads, and how many rows of the log it really touched."""
    [(found,)] = explain(sql, "EXPLAIN (ANALYZE, FORMAT JSON)")
    plan = json.loads(found) if isinstance(found, str) else found
    indexes, rows = set(), 0
    for node in nodes(plan[0]["Plan"]):
        assert node["Node Type"] != "Seq Scan" or node["Relation Name"] != TABLE, sql
        indexes |= {node["Index Name"]} if "Index Name" in node else set()
        if node.get("Relation Name") == TABLE:
            rows += (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    return indexes, rows


def of_sqlite(sql: str) -> tuple[set[str], int]:
    """Return the indexes a statement reads, and how many steps of SQLite's machine it took."""
    indexes = set()
    for *_, detail in explain(sql, "EXPLAIN QUERY PLAN"):
        if re.search(rf"\b(SCAN|SEARCH) (event|{TABLE})\b", detail):
            assert "USING" in detail, detail
            indexes |= set(re.findall(r"INDEX (\w+)", detail))
    steps = []
    connection.connection.set_progress_handler(lambda: steps.append(1), 1)
    try:
        explain(sql, "")
    finally:
        connection.connection.set_progress_handler(None, 1)
    return indexes, len(steps)
