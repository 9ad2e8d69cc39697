"""Packages that wrap cursors see statements as Django sends them: one INSERT for many events, with a list of values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from .app.models import Tag
from .conftest import Audit, events

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("count", [1, 2, 50])
def test_many_events_are_one_plain_statement(audit: Audit, count: int) -> None:
    audit()
    seen: list[tuple[str, Any, bool]] = []

    def watch(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        seen.append((sql, params, many))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(watch):
        Tag.objects.bulk_create([Tag(name=f"tag {number}") for number in range(count)])
    ours = [
        (params, many)
        for sql, params, many in seen
        if sql.startswith("INSERT") and "django_signal_audit_auditevent" in sql
    ]
    assert len(ours) == 1
    params, many = ours[0]
    assert not many
    if connection.vendor != "postgresql":
        assert not any(isinstance(value, (list, tuple, dict)) for value in params)
    assert [event.object_repr for event in events()] == [f"tag {number}" for number in range(count)]


def test_more_events_than_a_statement_takes_are_written(audit: Audit) -> None:
    audit()
    most = connection.features.max_query_params or 1000
    count = min(most // 16 + 10, 4000)
    Tag.objects.bulk_create([Tag(name=f"tag {number} " + "x" * 30) for number in range(count)])
    assert len(events()) == count
    assert [event.object_repr.split()[1] for event in events()] == [str(number) for number in range(count)]
