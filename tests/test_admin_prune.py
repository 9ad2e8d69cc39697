"""The page that prunes: what the rules let go, for those who may, and as an event."""

from __future__ import annotations

import datetime as dt

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from django_signal_audit.admin import prune
from django_signal_audit.models import AuditEvent

from .conftest import Audit
from .samples import make_event

pytestmark = pytest.mark.django_db

PRUNE = reverse("admin:django_signal_audit_auditevent_prune")
LIST = reverse("admin:django_signal_audit_auditevent_changelist")


@pytest.fixture
def events(audit: Audit) -> list[AuditEvent]:
    """Record an event that is past its retention, one that isn't, and one that is kept forever."""
    audit({"name": "views", "model": "app.Product", "retention": "30d"})
    now = timezone.now()
    return [
        make_event(rules=["views"], recorded_at=now - dt.timedelta(days=40)),
        make_event(rules=["views"], recorded_at=now - dt.timedelta(days=20)),
        make_event(rules=["other"], recorded_at=now - dt.timedelta(days=400)),
    ]


def test_it_says_what_is_kept_and_prunes_once_that_is_confirmed(
    admin_client: Client, admin_user: User, events: list[AuditEvent]
) -> None:
    text = admin_client.get(PRUNE).content.decode()
    assert "<dt>views</dt> <dd><code>30d</code></dd>" in text
    assert AuditEvent.objects.filter(pk=events[0].pk).exists()
    response = admin_client.post(PRUNE, {"reason": "monthly"}, follow=True)
    assert "1 event was pruned." in response.content.decode()
    assert set(AuditEvent.objects.filter(event_type="update")) == set(events[1:])
    record = AuditEvent.objects.get(event_type="events_pruned")
    assert (record.actor_id, record.context["reason"]) == (str(admin_user.pk), "monthly")


def test_without_a_retention_nothing_can_be_pruned(admin_client: Client, audit: Audit) -> None:
    audit()
    make_event(recorded_at=timezone.now() - dt.timedelta(days=4000))
    assert "all events are kept" in admin_client.get(PRUNE).content.decode()
    admin_client.post(PRUNE)
    assert AuditEvent.objects.count() == 1


def test_a_rule_with_a_mistake_keeps_everything(admin_client: Client, audit: Audit) -> None:
    audit({"name": "views", "model": "app.Product", "retention": "30d"}, {"name": "x", "model": "app.Nothing"})
    make_event(rules=["views"], recorded_at=timezone.now() - dt.timedelta(days=40))
    admin_client.post(PRUNE)
    assert AuditEvent.objects.count() == 1


def test_it_takes_the_permission_to_prune(client: Client, events: list[AuditEvent]) -> None:
    user = User.objects.create_user("ada", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_auditevent"))
    client.force_login(user)
    assert client.get(PRUNE).status_code == client.post(PRUNE).status_code == 403
    assert PRUNE not in client.get(LIST).content.decode()
    assert AuditEvent.objects.count() == 3
    user.user_permissions.add(Permission.objects.get(codename="prune_auditevent"))
    assert PRUNE in client.get(LIST).content.decode()
    client.post(PRUNE)
    assert not AuditEvent.objects.filter(pk=events[0].pk).exists()


def test_more_than_a_request_has_time_for_is_left_for_the_next(
    admin_client: Client, events: list[AuditEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune, "MOST_EVENTS", 1)
    monkeypatch.setattr(prune, "BATCH_SIZE", 1)
    old = timezone.now() - dt.timedelta(days=50)
    make_event(rules=["views"], recorded_at=old)
    text = admin_client.post(PRUNE, follow=True).content.decode()
    assert "1 event was pruned." in text
    assert "There may be more." in text
    assert AuditEvent.objects.filter(pk=events[0].pk).exists()
    admin_client.post(PRUNE)
    assert not AuditEvent.objects.filter(pk=events[0].pk).exists()
