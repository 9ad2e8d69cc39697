"""Ranges of PostgreSQL: recorded as text, read as ranges, and reverted."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client

from django_signal_audit.models import AuditEvent

from .conftest import Audit, last
from .model_admins import registered
from .revert_pages import address

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor != "postgresql", reason="ranges are PostgreSQL's"),
]

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
RANGES: dict[str, tuple[str, Any, Any]] = {
    "numbers": ("numbers", 1, 6),
    "numbers without an end": ("numbers", 1, None),
    "no numbers": ("numbers", 3, 3),
    "prices": ("prices", Decimal("1.50"), Decimal("2.75")),
    "days": ("days", dt.date(2026, 1, 1), dt.date(2026, 2, 1)),
    "moments": ("moments", NOON, NOON + dt.timedelta(hours=1)),
    "moments without a beginning": ("moments", None, NOON),
}


@pytest.mark.parametrize("name", RANGES)
def test_they_are_read_as_ranges_and_reverted(audit: Audit, admin_client: Client, name: str) -> None:
    from .columns.models import Spans

    audit({"name": "spans", "model": "columns.Spans"})
    field, lower, upper = RANGES[name]
    row = Spans.objects.create(**{field: Spans._meta.get_field(field).range_type(lower, upper)})  # type: ignore[union-attr]
    row.refresh_from_db()
    old = getattr(row, field)
    setattr(row, field, None)
    row.save()
    event = last()
    assert event.old[field] == old
    assert AuditEvent.objects.state_of(Spans, row.pk, at=event.recorded_at - dt.timedelta(microseconds=1))[field] == old
    with registered(Spans):
        assert admin_client.post(address(event)).status_code == 302
    row.refresh_from_db()
    assert getattr(row, field) == old
    call_command("audit_replay", "--check", verbosity=0)
