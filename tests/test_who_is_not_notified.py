"""Recipients who are skipped: what ``audit_rules --explain`` and the log say of them."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command

from django_signal_audit.delivery.worker import deliver
from django_signal_audit.models import Notification, Preference

from .app.models import Person
from .conftest import Audit
from .notices import EMAIL, INBOX

pytestmark = pytest.mark.django_db

WORKER = "django_signal_audit.dispatchers.WorkerDispatcher"


def explained(model: str = "app.Person", event: str = "update") -> list[tuple[str, str]]:
    """Return the recipients who would not be notified, and why."""
    out = io.StringIO()
    call_command("audit_rules", "--explain", model, event, "--format", "json", stdout=out)
    return [(row["recipient"], row["why"]) for row in json.loads(out.getvalue())["not_notified"]]


def rules(audit: Audit, to: Any, channel: str = "mail", **options: Any) -> None:
    channels = {"mail": {"BACKEND": EMAIL, "OPTIONS": options}, "inbox": {"BACKEND": INBOX, "OPTIONS": options}}
    rule = {"name": "people", "model": "app.Person", "notify": [{"channel": channel, "to": to}]}
    audit(rule, CHANNELS=channels, DISPATCHER=WORKER)


@pytest.fixture
def ann() -> User:
    user = User.objects.create_user("ann", "ann@example.com")
    Person.objects.create(name="a", owner=user)
    return user


def permit(user: User) -> None:
    user.user_permissions.add(Permission.objects.get(codename="view_person"))


class TestExplain:
    def test_an_owner_without_the_permission(self, audit: Audit, ann: User) -> None:
        rules(audit, "owner")
        assert explained() == [("owner", "The user ann may not view app.person.")]
        permit(ann)
        assert explained() == []
        out = io.StringIO()
        call_command("audit_rules", "--explain", "app.Person", "update", stdout=out)
        assert "No recipient would be skipped." in out.getvalue()

    def test_who_has_not_opted_in_or_has_switched_off(self, audit: Audit) -> None:
        root = User.objects.create_superuser("root")
        entry: dict[str, Any] = {"channel": "inbox", "to": ["superusers", "actor"], "opt_in": True}
        channels = {"inbox": {"BACKEND": INBOX, "OPTIONS": {"check_permission": False}}}
        audit({"name": "people", "model": "app.Person", "notify": [entry]}, CHANNELS=channels, DISPATCHER=WORKER)
        refusal = 'the user root has not opted in to rule "people" by channel "inbox".'
        assert explained() == [("superusers", refusal), ("actor", "An actor who has not opted in is skipped.")]
        Preference.objects.choose(root, rule="people", channel="inbox", choice="on")
        assert [one for one in explained() if one[0] == "superusers"] == []
        entry["opt_in"] = False
        audit({"name": "people", "model": "app.Person", "notify": [entry]}, CHANNELS=channels, DISPATCHER=WORKER)
        assert explained() == []
        Preference.objects.choose(root, rule="people", channel="inbox", choice="off")
        [(_who, why)] = explained()
        assert "has switched off" in why

    def test_nobody_while_auditing_is_switched_off(self, audit: Audit, ann: User) -> None:
        rules(audit, "superusers")
        channels = {"mail": {"BACKEND": EMAIL}}
        rule = {"name": "people", "model": "app.Person", "notify": [{"channel": "mail", "to": "superusers"}]}
        audit(rule, CHANNELS=channels, ENABLED=False)
        [(_who, why)] = explained()
        assert "ENABLED" in why

    def test_a_channel_that_asks_for_no_permission(self, audit: Audit, ann: User) -> None:
        rules(audit, ["owner", "actor"], check_permission=False)
        assert explained() == []

    def test_an_owner_without_an_address_or_an_account(self, audit: Audit, ann: User) -> None:
        rules(audit, "owner")
        permit(ann)
        User.objects.update(email="")
        assert explained() == [("owner", 'The user ann has no address for the channel "mail".')]
        User.objects.update(is_active=False)
        assert explained() == [("owner", "The user ann is not active.")]

    def test_an_actor_without_permission_is_named_as_skipped(self, audit: Audit) -> None:
        rules(audit, "actor")
        assert explained() == [("actor", "An actor without the permission app.view_person is skipped.")]

    def test_groups_and_users_that_are_not_there(self, audit: Audit, ann: User) -> None:
        Group.objects.create(name="Buyers")
        rules(audit, ["group:Buyrs", "group:Buyers", "user:bob", "user:ann", "superusers"])
        assert explained() == [
            ("group:Buyrs", "There is no group \"Buyrs\". Did you mean 'Buyers'?"),
            ("group:Buyers", '"group:Buyers" matches no active user.'),
            ("user:bob", 'There is no user "user:bob".'),
            ("user:ann", "The user ann may not view app.person."),
            ("superusers", '"superusers" matches no active user.'),
        ]

    def test_an_inbox_of_a_key_that_nobody_has(self, audit: Audit, ann: User) -> None:
        rules(audit, [str(ann.pk), "999999"], channel="inbox")
        assert [why for _, why in explained()] == [
            "The user ann may not view app.person.",
            'There is no user "999999".',
        ]

    def test_recipients_that_lead_nowhere(self, audit: Audit, ann: User) -> None:
        rules(audit, ["ownr.email", "tests.test_functions_in_settings.two"])
        assert explained() == [
            (
                "ownr.email",
                "It is neither a path from app.Person nor a function. Did you mean 'owner'?",
            ),
            (
                "tests.test_functions_in_settings.two",
                "It can't be called with (event). Name a function that takes the event and returns users or addresses.",
            ),
        ]

    def test_many_are_counted(self, audit: Audit) -> None:
        for number in range(13):
            Person.objects.create(name="a", owner=User.objects.create_user(f"u{number:02}", "u@example.com"))
        rules(audit, "owner")
        found = explained()
        assert found[0] == ("owner", "The user u00 may not view app.person.")
        assert found[10:] == [("owner", "… and 3 more")]

    def test_a_channel_that_cannot_be_made(self, audit: Audit) -> None:
        audit({"name": "r", "model": "app.Tag", "notify": ["broken"]}, CHANNELS={"broken": {"BACKEND": "no.such"}})
        ((recipient, why),) = explained("app.Tag")
        assert (recipient, "cannot import" in why) == ("", True)

    def test_addresses_and_functions_are_taken_as_they_are(self, audit: Audit) -> None:
        rules(audit, ["a@example.com", "tests.test_functions_in_settings.one", "name"])
        assert explained() == []


def test_without_tables_the_rules_are_explained_all_the_same(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no such table")

    rules(audit, "owner")
    monkeypatch.setattr("django_signal_audit.delivery.recipient_checks.all_users", broken)
    assert explained() == [("owner", "The database cannot be queried: no such table")]


class TestLog:
    def skipped(self, caplog: pytest.LogCaptureFixture) -> list[int]:
        return [record.levelno for record in caplog.records if "was skipped" in record.getMessage()]

    def test_the_first_skip_of_a_rule_and_channel_is_a_warning(
        self, audit: Audit, ann: User, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "django_signal_audit")
        rules(audit, "owner")
        for name in ("b", "c"):
            Person.objects.update(name=name)
        assert deliver().skipped == 2
        assert self.skipped(caplog) == [logging.WARNING, logging.INFO]
        (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert "The user ann may not view app.person." in warning
        assert 'rule "people"' in warning

    def test_one_of_several_recipients(self, audit: Audit, ann: User, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "django_signal_audit")
        group = Group.objects.create(name="Buyers")
        bob = User.objects.create_user("bob", "bob@example.com")
        group.user_set.add(ann, bob)
        permit(bob)
        rules(audit, "group:Buyers", channel="inbox")
        Person.objects.update(name="b")
        assert deliver().sent == 1
        assert Notification.objects.filter(status="skipped").count() == 1
        assert self.skipped(caplog) == [logging.WARNING]

    def test_what_a_throttle_suppresses_was_asked_for(
        self, audit: Audit, ann: User, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "django_signal_audit")
        permit(ann)
        notify = [{"channel": "inbox", "to": "owner", "throttle": "1h"}]
        rule = {"name": "people", "model": "app.Person", "notify": notify}
        audit(rule, CHANNELS={"inbox": {"BACKEND": INBOX}}, DISPATCHER=WORKER)
        for name in ("b", "c"):
            Person.objects.update(name=name)
        report = deliver()
        assert (report.sent, report.skipped) == (1, 1)
        assert self.skipped(caplog) == [logging.INFO]
