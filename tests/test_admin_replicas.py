"""Projects whose router has rows read from a replica: what the pages write goes to where rows are written."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from django_signal_audit.models import AuditEvent, ChannelState, Notification

from .app.models import Tag
from .conftest import Audit
from .samples import make_event

pytestmark = pytest.mark.django_db(databases=["default", "other"])

LOG = "/admin/django_signal_audit/auditevent/"
OUTBOX = "/admin/django_signal_audit/notification/"


class Router:
    """Reads our tables from the database "other"."""

    def db_for_read(self, model: Any, **_hints: Any) -> str | None:
        return "other" if model._meta.app_label == "django_signal_audit" else None

    def db_for_write(self, _model: Any, **_hints: Any) -> str:
        return "default"


@pytest.fixture
def replica(audit: Audit, settings: Any) -> None:
    audit({"name": "tags", "model": "app.Tag", "retention": "30d", "personal": ["name"], "notify": ["log"]},
          CHANNELS={"log": {"BACKEND": "django_signal_audit.channels.log.LogChannel"}})  # fmt: skip
    settings.DATABASE_ROUTERS = [Router()]


def copied(row: Any) -> Any:
    """Copy a row to the replica, as the database itself would."""
    columns = {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}
    type(row)._base_manager.using("other").bulk_create([type(row)(**columns)])
    return row


def on(alias: str, model: Any) -> Any:
    return model._base_manager.using(alias)


@pytest.mark.parametrize("address", ["1/retry/", "retry/?status=dead"])
def test_messages_are_retried_where_they_are_written(admin_client: Client, replica: None, address: str) -> None:
    values = {"pk": 1, "rule": "tags", "channel": "log", "recipient": "", "status": "dead"}
    copied(on("default", Notification).create(**values))
    assert admin_client.post(f"{OUTBOX}{address}").status_code == 302
    assert [on(alias, Notification).get().status for alias in ("default", "other")] == ["pending", "dead"]


def test_channels_are_paused_where_they_are_written(admin_client: Client, replica: None) -> None:
    assert admin_client.post(f"{OUTBOX}channels/", {"channel": "log", "action": "pause"}).status_code == 302
    assert on("default", ChannelState).get().paused_at
    assert not on("other", ChannelState).exists()


def test_events_are_pruned_where_they_are_written(admin_client: Client, replica: None) -> None:
    copied(make_event(rules=["tags"], recorded_at=timezone.now() - dt.timedelta(days=99)))
    assert admin_client.post(f"{LOG}prune/").status_code == 302
    assert [event.event_type for event in on("default", AuditEvent)] == ["events_pruned"]
    assert [event.event_type for event in on("other", AuditEvent)] == ["update"]


def test_personal_data_is_erased_where_it_is_written(admin_client: Client, replica: None) -> None:
    tag = Tag.objects.create(name="Bob")
    event = copied(on("default", AuditEvent).get())
    assert admin_client.post(f"{LOG}history/app.tag/{tag.pk}/erase/").status_code == 302
    assert on("default", AuditEvent).get(pk=event.pk).object_repr == ""
    assert on("other", AuditEvent).get().object_repr == "Bob"


def test_changes_are_reverted_where_rows_are_written(admin_client: Client, replica: None) -> None:
    tag = Tag.objects.create(name="a")
    copied(on("default", AuditEvent).get())
    tag.name = "b"
    tag.save()
    event = copied(on("default", AuditEvent).latest("id"))
    assert admin_client.post(f"{LOG}{event.pk}/revert/").status_code == 302
    tag.refresh_from_db()
    assert tag.name == "a"
    assert not on("other", Tag).exists()
