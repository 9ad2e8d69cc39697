"""The pages say what is sealed, anchored and verified, and give the proof to those who may have it."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from django_signal_audit.evidence import standalone
from django_signal_audit.evidence.anchoring import anchor
from django_signal_audit.evidence.sealing import seal
from django_signal_audit.models import AuditEvent

from .conftest import Audit
from .samples import make_event

pytestmark = pytest.mark.django_db
DASHBOARD = reverse("admin:django_signal_audit_auditevent_dashboard")
ANCHORS = {"syslog": {"BACKEND": "django_signal_audit.evidence.anchors.log.LogAnchor"}}


@pytest.fixture
def event(audit: Audit) -> AuditEvent:
    audit(EVIDENCE={"ANCHORS": ANCHORS})
    return make_event(recorded_at=timezone.now())


def page(client: Client, event: AuditEvent) -> str:
    return client.get(reverse("admin:django_signal_audit_auditevent_change", args=[event.pk])).content.decode()


def proof(client: Client, event: AuditEvent) -> Any:
    return client.get(reverse("admin:django_signal_audit_auditevent_proof", args=[event.uid]))


def test_an_event_says_when_it_was_sealed_anchored_and_verified(admin_client: Client, event: AuditEvent) -> None:
    assert "Sealed" not in page(admin_client, event)
    other = make_event(recorded_at=timezone.now())
    seal("default")
    late = make_event(recorded_at=timezone.now())
    assert "not yet" in page(admin_client, late)
    text = page(admin_client, other)
    assert "leaf 1" in text
    assert "not yet" in text
    assert "the event hasn't changed since it was sealed" in text
    anchor("default")
    text = page(admin_client, other)
    assert "not yet" not in text
    assert "syslog" in text


def test_an_event_that_was_changed_says_so(admin_client: Client, event: AuditEvent) -> None:
    seal("default")
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {AuditEvent._meta.db_table} SET object_repr = 'eve'")
    text = page(admin_client, event)
    assert "has changed since it was sealed" in text
    assert "Download the proof" not in text
    assert proof(admin_client, event).status_code == 404


def test_the_proof_verifies_and_its_download_is_an_event(admin_client: Client, event: AuditEvent) -> None:
    assert proof(admin_client, event).status_code == 404
    seal("default")
    assert reverse("admin:django_signal_audit_auditevent_proof", args=[event.uid]) in page(admin_client, event)
    response = proof(admin_client, event)
    assert response["Content-Disposition"] == f'attachment; filename="audit-proof-{event.uid}.json"'
    assert standalone.verify_event(json.loads(response.content))["uid"] == str(event.uid)
    record = AuditEvent.objects.get(event_type="events_exported")
    assert record.data["filters"] == [["uid", str(event.uid)]]


def test_the_proof_takes_the_permission_to_export(client: Client, event: AuditEvent) -> None:
    seal("default")
    user = User.objects.create_user("ada", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_auditevent", "view_user"]))
    client.force_login(user)
    assert "Download the proof" not in page(client, event)
    assert proof(client, event).status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="export_auditevent"))
    assert proof(client, event).status_code == 200
    user.user_permissions.clear()
    assert proof(client, event).status_code in (403, 404)


def test_the_dashboard_says_how_far_the_sealer_is(admin_client: Client, event: AuditEvent) -> None:
    text = admin_client.get(DASHBOARD).content.decode()
    assert "Nothing is sealed yet." in text
    assert "The seal is late" in text
    seal("default")
    text = admin_client.get(DASHBOARD).content.decode()
    assert "1 event is sealed" in text
    assert "No checkpoint is anchored." in text
    assert "The seal is late" not in text
    anchor("default")
    make_event(recorded_at=timezone.now() - dt.timedelta(hours=1))
    text = admin_client.get(DASHBOARD).content.decode()
    assert "Last anchored" in text
    assert "1 event waits to be sealed." in text


def test_pages_say_nothing_where_nothing_is_sealed(admin_client: Client, audit: Audit) -> None:
    audit()
    event = make_event()
    assert "Sealed" not in page(admin_client, event)
    assert 'id="evidence"' not in admin_client.get(DASHBOARD).content.decode()
