"""Messages and pages agree about who may see an event: by permissions to view or change, and by VISIBILITY."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User

from django_signal_audit.delivery.worker import deliver
from django_signal_audit.models import AuditEvent, Notification
from tests.app.models import Person

from .model_admins import registered
from .notices import INBOX, audit_settings, calling, make_event, make_notification, received, receiving

pytestmark = pytest.mark.django_db


def own_events(user: Any, events: Any) -> Any:
    return events.filter(object_repr=user.get_username())


def broken(user: Any, events: Any) -> Any:
    raise RuntimeError


@pytest.fixture(autouse=True)
def _channels(settings: Any) -> Iterator[None]:
    settings.SIGNAL_AUDIT = audit_settings({"inbox": {"BACKEND": INBOX}})
    with receiving():
        yield


@pytest.fixture
def ann() -> User:
    user = User.objects.create(username="ann")
    user.user_permissions.add(Permission.objects.get(codename="view_person"))
    return user


@contextmanager
def visibility(settings: Any, name: str) -> Iterator[None]:
    before = settings.SIGNAL_AUDIT
    settings.SIGNAL_AUDIT = {**before, "VISIBILITY": f"tests.test_who_may_be_told.{name}"}
    yield
    settings.SIGNAL_AUDIT = before


def about(name: str) -> AuditEvent:
    return make_event(model="app.person", object_id="1", object_repr=name, changes={"name": ["a", "b"]})


def told(event: AuditEvent, user: str = "ann") -> str:
    row = make_notification(event, "inbox", recipient=f"user:{user}")
    deliver()
    row.refresh_from_db()
    return row.status


def test_who_may_change_may_be_told() -> None:
    user = User.objects.create(username="bob")
    assert told(about("x"), "bob") == "skipped"
    user.user_permissions.add(Permission.objects.get(codename="change_person"))
    assert told(about("x"), "bob") == "sent"


def test_visibility_decides_about_models_that_no_page_shows(ann: User, settings: Any) -> None:
    with visibility(settings, "own_events"):
        assert told(about("ann")) == "sent"
        assert told(about("bob")) == "skipped"
        User.objects.create(username="root", is_superuser=True)
        assert told(about("bob"), "root") == "skipped"


def test_visibility_decides_about_the_names_of_related_rows(ann: User, settings: Any) -> None:
    rows = [Person.objects.create(name=f"{name} of a person") for name in ("shown", "HIDDEN")]
    for row, name in zip(rows, ("ann", "bob"), strict=True):
        make_event(model="app.person", object_id=str(row.pk), object_repr=name)
    event = make_event(model="app.person", object_id="999", object_repr="ann", changes={
        "follows": {"added": [row.pk for row in rows], "removed": []},
    })  # fmt: skip
    with visibility(settings, "own_events"):
        row = make_notification(event, "take", recipient="user:ann", user=str(ann.pk))
        settings.SIGNAL_AUDIT["CHANNELS"]["take"] = calling("take")
        settings.SIGNAL_AUDIT = {**settings.SIGNAL_AUDIT}
        deliver()
    row.refresh_from_db()
    [message] = received
    assert "shown of a person" in message.body
    assert "HIDDEN" not in message.subject + message.body


def test_visibility_does_not_replace_the_permission(settings: Any) -> None:
    User.objects.create(username="eve")
    with visibility(settings, "own_events"):
        assert told(about("eve"), "eve") == "skipped"


@pytest.mark.parametrize("name", ["broken", "missing"])
def test_nobody_is_told_by_a_function_that_does_not_work(ann: User, settings: Any, name: str) -> None:
    with visibility(settings, name):
        assert told(about("ann")) == "skipped"


def test_visibility_is_not_asked_about_models_with_a_model_admin(ann: User, settings: Any) -> None:
    with registered(Person, admin.ModelAdmin), visibility(settings, "broken"):
        assert told(about("bob")) == "sent"


def test_events_of_no_object_are_told_whatever_visibility_says(ann: User, settings: Any) -> None:
    with visibility(settings, "broken"):
        assert told(make_event(event_type="login", model="", object_id="", changes={})) == "sent"


def test_of_a_digest_each_is_told_what_visibility_shows(ann: User, settings: Any) -> None:
    rows = [about("ann"), about("bob")]
    row = Notification.objects.create(
        rule="watch", channel="inbox", recipient="user:ann", data={"events": [str(event.uid) for event in rows]}
    )
    with visibility(settings, "own_events"):
        deliver()
    row.refresh_from_db()
    assert row.status == "sent"
    assert "bob" not in f"{row.subject} {row.body}"
