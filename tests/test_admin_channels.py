"""The channels in the admin: which do not send and why, and how they are paused."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from django_signal_audit.delivery.worker import deliver
from django_signal_audit.models import AuditEvent, ChannelState, Notification

from .notices import audit_settings, make_notification, receiving

pytestmark = pytest.mark.django_db

PAGE = reverse("admin:django_signal_audit_notification_channels")
LIST = reverse("admin:django_signal_audit_notification_changelist")
NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def messages(settings: Any) -> Any:
    settings.SIGNAL_AUDIT = audit_settings()
    with receiving() as messages:
        yield messages


def text_of(response: Any) -> str:
    assert response.status_code == 200
    text: str = response.content.decode()
    return text


def press(client: Any, action: str, channel: str = "take") -> Any:
    return client.post(PAGE, {"action": action, "channel": channel}, follow=True)


def test_one_that_fails_is_named_with_its_error(admin_client):
    assert "send at the moment" not in text_of(admin_client.get(LIST))
    until = NOON + dt.timedelta(minutes=2)
    ChannelState.objects.create(
        channel="take", failures=2, openings=1, since=NOON, until=until, last_error="<b>nobody</b> listens"
    )
    assert "doesn&#x27;t send at the moment: take" in text_of(admin_client.get(LIST)) or (
        "doesn't send at the moment: take" in text_of(admin_client.get(LIST))
    )
    text = text_of(admin_client.get(PAGE))
    assert "suspended" in text
    assert "&lt;b&gt;nobody&lt;/b&gt; listens" in text
    assert text.count(">sends<") == len(audit_settings()["CHANNELS"]) - 1


def test_a_paused_one_sends_nothing_until_it_is_resumed(admin_client, messages):
    row = make_notification()
    assert "The channel “take” is paused." in text_of(press(admin_client, "pause"))
    assert "paused" in text_of(admin_client.get(PAGE))
    assert deliver().attempted == 0
    assert deliver(ids=[row.pk]).attempted == 0
    assert Notification.objects.get().attempts == 0
    assert "The channel “take” sends again." in text_of(press(admin_client, "resume"))
    assert deliver().sent == 1
    assert len(messages) == 1


def test_both_are_events_with_their_actor(admin_client, admin_user):
    for action in ("pause", "pause", "resume", "resume"):
        press(admin_client, action)
    events = AuditEvent.objects.filter(event_type__startswith="channel_").order_by("id")
    assert [(event.event_type, event.data, event.actor_id) for event in events] == [
        ("channel_paused", {"channel": "take"}, str(admin_user.pk)),
        ("channel_resumed", {"channel": "take"}, str(admin_user.pk)),
    ]


def test_a_channel_that_there_is_not_cannot_be_paused(admin_client):
    press(admin_client, "pause", "tkae")
    assert not ChannelState.objects.exists()


def test_it_takes_the_permission_to_change_notifications(client):
    user = User.objects.create_user("clerk", is_staff=True)
    client.force_login(user)
    assert client.get(PAGE).status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="view_notification"))
    assert "<button" not in text_of(client.get(PAGE)).split("content-main")[1]
    assert client.post(PAGE, {"action": "pause", "channel": "take"}).status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="change_notification"))
    assert "paused" in text_of(press(client, "pause"))
