"""Recipients that would be mailed to nobody, or to somebody else: what ``check`` says of them."""

from __future__ import annotations

from typing import Any

import pytest

from django_signal_audit.checks import check_permissions, check_plugins

from .app.models import Person
from .notices import EMAIL, INBOX, calling

CHANNELS = {
    "mail": {"BACKEND": EMAIL},
    "inbox": {"BACKEND": INBOX},
    "take": calling("take"),
}


def found(settings: Any, *rules: dict[str, Any], **channels: Any) -> list[tuple[str, str, str]]:
    settings.SIGNAL_AUDIT = {
        "RULES": [{"name": f"r{number}", **rule} for number, rule in enumerate(rules)],
        "CHANNELS": {**CHANNELS, **channels},
    }
    return [(str(item.id)[-4:], item.msg, item.hint or "") for item in check_plugins()]


def told(settings: Any, to: Any, channel: str = "mail", **rule: Any) -> list[tuple[str, str, str]]:
    return found(settings, {"model": "app.Person", "notify": [{"channel": channel, "to": to}], **rule})


@pytest.mark.parametrize(
    ("to", "hint"),
    [
        ("superuser", "Did you mean 'superusers'?"),
        ("Superusers", "Did you mean 'superusers'?"),
        ("admins", "Did you mean 'superusers'?"),
        ("staff", "Did you mean 'superusers'?"),
        ("managers", "Did you mean 'superusers'?"),
        ("actr", "Did you mean 'actor'?"),
        ("Actor", "Did you mean 'actor'?"),
        ("actor ", "Did you mean 'actor'?"),
        (" superusers", "Did you mean 'superusers'?"),
        ("user", "Did you mean 'actor'?"),
        ("ownr", "Did you mean 'owner'?"),
        ("Group:Buyers", 'Write "group:Buyers".'),
        ("groups:Buyers", 'Write "group:Buyers".'),
        ("group: Buyers", 'Write "group:Buyers".'),
        ("group=Buyers", 'Write "group:Buyers".'),
        ("group:", "Add the group's name."),
        ("USER:ann", 'Write "user:ann".'),
        ("user:ann ", 'Write "user:ann".'),
        ("user:", "Add the username."),
        ("warehouse", 'Write "warehouse@localhost" for a mailbox on the mail server, "user:warehouse" for that user.'),
    ],
)
@pytest.mark.parametrize("where", ["rule", "channel", "list"])
def test_a_mail_to_a_word_that_is_none(settings: Any, to: str, hint: str, where: str) -> None:
    if where == "channel":
        channel = {"BACKEND": EMAIL, "OPTIONS": {"to": to}}
        messages = found(settings, {"model": "app.Person", "notify": ["mail"]}, mail=channel)
        path = 'SIGNAL_AUDIT["CHANNELS"]["mail"]["OPTIONS"]["to"]'
    else:
        messages = told(settings, [to, "a@example.com"] if where == "list" else to)
        path = 'SIGNAL_AUDIT["RULES"][0]["notify"][0]["to"]'
    ((code, message, found_hint),) = messages
    assert (code, found_hint) == ("W033", hint)
    assert message == f"{path} names {to!r}, which isn't an address, user, group, keyword or field."


@pytest.mark.parametrize(
    "to",
    ["a@example.com", "Ann <ann@example.com>", "actor", "superusers", "owner", "owner.email", "root", "postmaster"],
)
def test_recipients_that_are_right(settings: Any, to: str) -> None:
    assert told(settings, to) == []


@pytest.mark.parametrize(("to", "hint"), [("superuser", "'superusers'"), ("actr", "'actor'"), ("Group:x", '"group:x"')])
def test_an_inbox_of_a_word_that_is_none(settings: Any, to: str, hint: str) -> None:
    ((code, _, found_hint),) = told(settings, to, "inbox")
    assert code in ("E027", "W033")
    assert hint in found_hint


@pytest.mark.parametrize(
    ("to", "hint"), [("superuser", "'superusers'"), ("Actor", "'actor'"), ("user: ann", '"user:ann"'), ("staff", "")]
)
def test_a_channel_that_takes_any_text_is_asked_about_keywords_only(settings: Any, to: str, hint: str) -> None:
    messages = told(settings, to, "take")
    assert [code for code, *_ in messages] == ["W033"] * bool(hint)
    assert all(hint in said for *_, said in messages)


def test_a_channel_that_no_rule_uses(settings: Any) -> None:
    ((code, message, _),) = found(settings, mail={"BACKEND": EMAIL, "OPTIONS": {"to": "superuser"}})
    assert (code, "superuser" in message) == ("W033", True)


def test_a_field_of_one_of_the_models_is_right(settings: Any) -> None:
    rule = {"model": ["app.Tag", "app.Person"], "notify": [{"channel": "mail", "to": "owner"}]}
    assert found(settings, rule) == []
    assert told(settings, "owner", model="", events=["exported"]) == []
    assert told(settings, "security", model="", events=["exported"]) == []
    assert [code for code, *_ in told(settings, "security", model="", events=["login_failed"])] == ["W033"]


@pytest.mark.parametrize("option", ["reply_to", "from_email"])
def test_a_sender_that_is_a_word(settings: Any, option: str) -> None:
    channel = {"BACKEND": EMAIL, "OPTIONS": {"to": "a@example.com", option: "actor"}}
    ((code, message, _),) = found(settings, mail=channel)
    assert (code, f'["{option}"]' in message) == ("W033", True)


def test_a_hint_names_fields_and_properties_each_once(settings: Any) -> None:
    ((_, _, hint),) = told(settings, "zzzzzz.email")
    names = hint.removeprefix("Known are: ").rstrip(".").split(", ")
    assert "owner" in names
    assert len(names) == len(set(names))
    assert not {"DoesNotExist", "MultipleObjectsReturned", "NotUpdated", "objects", "pk"} & set(names)
    channel = {"BACKEND": EMAIL, "OPTIONS": {"to": "a@example.com", "language": "user.zzzzzz"}}
    ((_, _, hint),) = found(settings, mail=channel)
    assert "DoesNotExist" not in hint


class TestPermissions:
    def warned(self, settings: Any, to: str, model: str = "app.Person", **options: Any) -> list[str]:
        channel = {"BACKEND": EMAIL, "OPTIONS": options}
        found(settings, {"model": model, "notify": [{"channel": "mail", "to": to}]}, mail=channel)
        assert {str(item.id)[-4:] for item in check_permissions()} <= {"W034"}
        return [item.msg for item in check_permissions()]

    @pytest.mark.parametrize("to", ["owner", "owner.email", "follows.owner"])
    def test_users_who_may_lack_the_permission_are_named(self, settings: Any, to: str) -> None:
        (message,) = self.warned(settings, to)
        assert message == (
            f'SIGNAL_AUDIT["RULES"][0]["notify"][0]["to"] names "{to}": '
            "users without the permission app.view_person are skipped."
        )

    def test_all_who_stand_in_one_place_are_named_in_one_warning(self, settings: Any) -> None:
        (message,) = self.warned(settings, ["owner", "a@example.com", "follows.owner"])  # type: ignore[arg-type]
        assert '["to"] names "owner" and "follows.owner": users without' in message

    @pytest.mark.parametrize("to", ["a@example.com", "superusers", "name", "group:x"])
    def test_others_are_not(self, settings: Any, to: str) -> None:
        assert self.warned(settings, to) == []

    @pytest.mark.parametrize("decision", [True, False])
    def test_whoever_has_decided_is_not_asked_again(self, settings: Any, decision: bool) -> None:
        assert self.warned(settings, "owner", check_permission=decision) == []


@pytest.mark.parametrize(("to", "field"), [("group:Buyers", "groups"), ("superusers", "is_superuser")])
def test_users_without_groups_or_superusers(
    settings: Any, monkeypatch: pytest.MonkeyPatch, to: str, field: str
) -> None:
    monkeypatch.setattr("django_signal_audit.delivery.recipient_checks.get_user_model", lambda: Person)
    ((code, message, hint),) = told(settings, to)
    assert code == "E027"
    assert message.endswith(f'which needs users with the field "{field}", and app.Person has none.')
    assert hint == "Add PermissionsMixin to the user model, or name a function that finds the users."


@pytest.mark.parametrize("to", ["stock", "is_active", "price"])
def test_a_mail_to_a_column_that_has_no_address(settings: Any, to: str) -> None:
    ((code, message, hint),) = told(settings, to, model="app.Product")
    assert (code, hint) == ("E027", "Name a user or an address.")
    assert f"names {to!r}, which leads to a " in message
    assert not told(settings, "stock", channel="inbox", model="app.Product")
    assert not told(settings, "name", model="app.Product")
