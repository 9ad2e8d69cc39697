"""Audit tables of a MariaDB database whose character set lacks characters that a project's tables have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from django_signal_audit import audit_context
from django_signal_audit.events import insert as rows
from django_signal_audit.models import AuditEvent

from .app.models import Tag
from .conftest import Audit, last

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "mysql", reason="the others have every character"),
]

TABLE = "django_signal_audit_auditevent"


@pytest.fixture(params=["utf8mb3", "latin1"])
def charset(request: Any, audit: Audit) -> Iterator[str]:
    audit()
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {TABLE} CONVERT TO CHARACTER SET {request.param}")
        rows._codec.cache_clear()
        yield request.param
    finally:
        AuditEvent.objects.all().prune()
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {TABLE} CONVERT TO CHARACTER SET utf8mb4")
        rows._codec.cache_clear()


def test_a_text_with_an_emoji_is_written(charset: str) -> None:
    with audit_context(actor="\U0001f600 anna", reason="\U0001f600"):
        tag = Tag.objects.create(name="tea \U0001f375 \u00e4")
        Tag.objects.bulk_create([Tag(name="\U0001f375"), Tag(name="plain")])
    first = AuditEvent.objects.order_by("id")[0]
    assert first.object_repr == r"tea \U0001f375 " + "\u00e4"
    assert first.actor_repr == r"\U0001f600 anna"
    assert first.changes == {"name": [None, "tea \U0001f375 \u00e4"]}
    assert first.context["reason"] == "\U0001f600"
    assert AuditEvent.objects.state_of(Tag, tag.pk) == {"name": "tea \U0001f375 \u00e4"}
    assert last().object_repr == "plain"
