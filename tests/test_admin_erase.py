"""The page that erases personal data: for those who may, once it is confirmed, and as an event."""

from __future__ import annotations

import io

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from django_signal_audit.evidence.erasure import Erasure, OnLegalHold
from django_signal_audit.evidence.sealing import seal
from django_signal_audit.evidence.verification import Verifier
from django_signal_audit.models import AuditEvent

from .conftest import Audit
from .samples import make_event

pytestmark = pytest.mark.django_db


@pytest.fixture
def address(audit: Audit) -> str:
    """Record an event about a user, sealed, and return the address of the page."""
    audit(EVIDENCE={"INTERVAL": "60s"})
    user = User.objects.create_user("bob")
    make_event(recorded_at=timezone.now(), object_id=str(user.pk), changes={"email": ["bob@example.com", None]})
    seal("default")
    return reverse("admin:django_signal_audit_auditevent_erase", args=["auth.user", str(user.pk)])


def test_it_asks_first_and_then_erases(admin_client: Client, admin_user: User, address: str) -> None:
    text = admin_client.get(address).content.decode()
    assert "2 personal values in 1 event are erased for good" in text
    assert AuditEvent.objects.filter(object_repr="ada").exists()
    response = admin_client.post(address, {"reason": "request 7"}, follow=True)
    assert "2 values in 1 event were erased." in response.content.decode()
    event = AuditEvent.objects.exclude(event_type="personal_data_erased").get()
    assert event.object_repr == ""
    record = AuditEvent.objects.get(event_type="personal_data_erased")
    assert (record.actor_id, record.context["reason"]) == (str(admin_user.pk), "request 7")
    assert list(Verifier("default").findings()) == []
    assert "hold no personal values" in admin_client.get(address).content.decode()


def test_the_history_links_to_it(admin_client: Client, address: str) -> None:
    history = address.removesuffix("erase/")
    assert address in admin_client.get(history).content.decode()


def test_it_takes_the_permission_to_erase(client: Client, address: str) -> None:
    user = User.objects.create_user("ada", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_auditevent", "view_user"]))
    client.force_login(user)
    assert client.get(address).status_code == client.post(address).status_code == 403
    assert address not in client.get(address.removesuffix("erase/")).content.decode()
    user.user_permissions.add(Permission.objects.get(codename="erase_auditevent"))
    assert client.get(address).status_code == 200
    user.user_permissions.remove(Permission.objects.get(codename="view_user"))
    assert client.post(address).status_code == 403
    assert AuditEvent.objects.filter(object_repr="ada").exists()


def test_what_is_on_legal_hold_is_not_erased(admin_client: Client, address: str) -> None:
    *_, label, key, _page, _end = address.split("/")
    call_command("audit_hold", label, key, "--reason", "lawsuit 12", stdout=io.StringIO())
    assert "legal hold" in admin_client.get(address).content.decode()
    admin_client.post(address)
    assert AuditEvent.objects.filter(object_repr="ada").exists()
    with pytest.raises(OnLegalHold):
        Erasure(User, key, "default").run()
    call_command("audit_hold", label, key, "--release", stdout=io.StringIO())
    admin_client.post(address)
    assert not AuditEvent.objects.filter(object_repr="ada").exists()


def test_too_many_events_are_left_to_the_command(
    admin_client: Client, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_signal_audit.admin.erase.MOST_EVENTS", 0)
    assert "Run audit_erase" in admin_client.get(address).content.decode()
    admin_client.post(address)
    assert AuditEvent.objects.filter(object_repr="ada").exists()
