"""Audit tables of a MariaDB database whose character set lacks characters that a project's tables have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from django_signal_audit import audit_context
from django_signal_audit.delivery.worker import deliver
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.models.fields import codec_of
from django_signal_audit.replay import Replay
from django_signal_audit.rules.registry import get_registry

from .app.models import Country, Tag
from .conftest import Audit, last
from .notices import calling, make_event, make_notification

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "mysql", reason="the others have every character"),
]

TABLES = [AuditEvent._meta.db_table, Notification._meta.db_table]


def convert(charset: str) -> None:
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"ALTER TABLE {table} CONVERT TO CHARACTER SET {charset}")
    codec_of.cache_clear()


@pytest.fixture(params=["utf8mb3", "latin1"])
def charset(request: Any, audit: Audit) -> Iterator[str]:
    audit()
    try:
        convert(request.param)
        yield request.param
    finally:
        AuditEvent.objects.all().prune()
        Notification.objects.all().delete()
        convert("utf8mb4")


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


def test_a_text_that_escapes_make_too_long_is_cut(charset: str) -> None:
    with audit_context(actor="\U0001f600" * 150):
        Tag.objects.create(name="\U0001f375" * 45)
    assert len(last().object_repr) <= 255
    assert len(last().actor_repr) <= 255
    assert last().changes == {"name": [None, "\U0001f375" * 45]}


def test_an_object_is_found_by_a_key_with_an_emoji(charset: str) -> None:
    country = Country.objects.create(code="\U0001f375", name="tea")
    Country.objects.filter(pk=country.pk).update(name="more tea")
    assert [event.event_type for event in AuditEvent.objects.for_object(country)] == ["update", "create"]
    assert AuditEvent.objects.state_of(Country, country.pk) == {"name": "more tea"}
    assert list(Replay(get_registry().plans.values(), "default").differences()) == []


def complain(message: object) -> None:
    raise ValueError("no \U0001f375 today")


def test_a_notification_and_its_error_are_written(charset: str, audit: Audit) -> None:
    bad = {**calling("take"), "OPTIONS": {"target": f"{__name__}.complain"}}
    audit({"name": "r", "model": "app.Tag", "notify": [{"channel": "bad", "to": "\U0001f600"}]}, CHANNELS={"bad": bad})
    Tag.objects.create(name="\U0001f375")
    deliver("default")
    row = Notification.objects.get()
    assert (row.status, row.recipient) == ("failed", "\U0001f600")
    assert r"no \U0001f375 today" in row.last_error
    assert Notification.objects.filter(recipient="\U0001f600").exists()


def test_a_message_with_an_emoji_is_sent(charset: str, audit: Audit) -> None:
    take = {"take": calling("take", check_permission=False)}
    audit({"name": "watch", "model": "app.Product", "notify": ["take"]}, CHANNELS=take)
    row = make_notification(make_event(object_repr="tea \U0001f375"))
    deliver("default")
    row.refresh_from_db()
    assert row.status == "sent"
