"""``check --database``: users and groups in the settings of whom nobody would be notified."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.checks import Tags, run_checks
from django.core.management import call_command
from django.db import DatabaseError

from .conftest import Audit
from .notices import EMAIL, INBOX

pytestmark = pytest.mark.django_db(databases=["default", "other"])


def rules(audit: Audit, to: Any, channel: str = "mail", *, model: Any = "app.Person", **options: Any) -> None:
    channels = {"mail": {"BACKEND": EMAIL, "OPTIONS": options}, "inbox": {"BACKEND": INBOX, "OPTIONS": options}}
    about = {"model": model} if model else {"events": ["login_failed"]}
    audit({"name": "people", "notify": [{"channel": channel, "to": to}], **about}, CHANNELS=channels)


def reported(databases: tuple[str, ...] | None = ("default",)) -> list[str]:
    """Return the messages about recipients that nobody is."""
    found = [item for item in run_checks(databases=databases) if item.id == "django_signal_audit.W044"]
    start = 'SIGNAL_AUDIT["RULES"][0]["notify"][0]["to"] names '
    assert all(item.msg.startswith(start) for item in found)
    assert all("audit_rules --explain lists who is skipped." in str(item.hint) for item in found)
    return [item.msg.removeprefix(start) for item in found]


@pytest.fixture
def ann() -> User:
    user = User.objects.create_user("ann", "ann@example.com")
    user.user_permissions.add(Permission.objects.get(codename="view_person"))
    return user


@pytest.mark.parametrize(
    ("to", "message"),
    [
        (
            "group:Buyrs",
            '"group:Buyrs", and nobody would be notified: There is no group "Buyrs". Did you mean \'Buyers\'?',
        ),
        ("group:Buyers", '"group:Buyers", and nobody would be notified: "group:Buyers" matches no active user.'),
        ("user:bob", '"user:bob", and nobody would be notified: There is no user "user:bob".'),
        ("superusers", '"superusers", and nobody would be notified: "superusers" matches no active user.'),
    ],
)
def test_a_recipient_that_nobody_is(audit: Audit, ann: User, to: str, message: str) -> None:
    Group.objects.create(name="Buyers")
    rules(audit, ["a@example.com", to])
    assert reported() == [message]


def test_a_key_that_no_user_has(audit: Audit, ann: User) -> None:
    rules(audit, [str(ann.pk), "999999", "actor"], "inbox")
    assert reported() == ['"999999", and nobody would be notified: There is no user "999999".']


def test_recipients_who_would_be_notified(audit: Audit, ann: User) -> None:
    ann.groups.add(Group.objects.create(name="Buyers"))
    User.objects.create_superuser("root", "root@example.com")
    rules(audit, ["user:ann", "group:Buyers", "superusers", "a@example.com", "actor", "owner", "owner.email"])
    assert reported() == []


def test_without_the_permission_nobody_of_a_group_is_notified(audit: Audit, ann: User) -> None:
    ann.user_permissions.clear()
    ann.groups.add(Group.objects.create(name="Buyers"))
    rules(audit, "group:Buyers")
    assert reported() == ['"group:Buyers", and nobody would be notified: The user ann may not view app.person.']
    bea = User.objects.create_superuser("bea", "bea@example.com")
    bea.groups.add(Group.objects.get())
    assert reported() == []


def test_a_channel_that_asks_for_no_permission(audit: Audit, ann: User) -> None:
    ann.user_permissions.clear()
    rules(audit, "user:ann", check_permission=False)
    assert reported() == []


def test_who_may_view_one_of_several_models_is_notified(audit: Audit, ann: User) -> None:
    rules(audit, "user:ann", model=["app.Tag", "app.Person"])
    assert reported() == []
    rules(audit, "user:ann", model=["app.Tag"])
    assert reported() == ['"user:ann", and nobody would be notified: The user ann may not view app.tag.']


def test_an_account_without_an_address_or_closed(audit: Audit, ann: User) -> None:
    rules(audit, "user:ann")
    User.objects.update(email="")
    assert reported() == [
        '"user:ann", and nobody would be notified: The user ann has no address for the channel "mail".'
    ]
    User.objects.update(is_active=False)
    assert reported() == ['"user:ann", and nobody would be notified: The user ann is not active.']


def test_events_without_a_model_need_no_permission(audit: Audit, ann: User) -> None:
    ann.user_permissions.clear()
    rules(audit, ["user:ann", "user:bob"], model="")
    assert reported() == ['"user:bob", and nobody would be notified: There is no user "user:bob".']


def test_a_login_is_about_a_user_who_may_have_to_be_viewed(audit: Audit, ann: User) -> None:
    mail = {"mail": {"BACKEND": EMAIL}}
    audit({"name": "a", "events": ["login"], "notify": [{"channel": "mail", "to": "user:ann"}]}, CHANNELS=mail)
    assert reported() == ['"user:ann", and nobody would be notified: The user ann may not view auth.user.']


def test_backends_of_the_project_may_permit_single_objects(audit: Audit, ann: User, settings: Any) -> None:
    ann.user_permissions.clear()
    settings.AUTHENTICATION_BACKENDS = ["tests.test_recipients_in_the_database.PerObject"]
    rules(audit, ["user:ann", "user:bob"])
    assert reported() == ['"user:bob", and nobody would be notified: There is no user "user:bob".']


class PerObject:
    def has_perm(self, user: object, permission: str, obj: object = None) -> bool:
        return obj is not None


@pytest.mark.parametrize("databases", [None, ("other",)])
def test_no_database_is_asked_unless_it_is_named(
    audit: Audit, ann: User, databases: tuple[str, ...] | None, django_assert_num_queries: Any
) -> None:
    rules(audit, "user:bob")
    assert reported(databases) == []
    with django_assert_num_queries(0):
        run_checks(tags=[Tags.signals])


def test_nothing_is_said_of_a_database_without_users(audit: Audit) -> None:
    rules(audit, ["user:bob", "group:Buyers", "superusers"])
    assert reported() == []


def test_nothing_is_said_before_there_are_tables(audit: Audit, ann: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise DatabaseError("no such table")

    rules(audit, "user:bob")
    monkeypatch.setattr("django_signal_audit.delivery.recipient_checks.all_users", broken)
    assert reported() == []


def test_the_command_prints_it(audit: Audit, ann: User) -> None:
    rules(audit, "user:bob")
    err = io.StringIO()
    call_command("check", databases=["default"], stderr=err, stdout=io.StringIO())
    assert 'There is no user "user:bob".' in err.getvalue()
