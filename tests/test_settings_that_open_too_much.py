"""Webhooks that lead nowhere or can be forged, proxies that anybody is, exclusions of everything, absent actors."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from django_signal_audit.checks import check_plugins, check_rules

from .notices import EMAIL

WEBHOOK = "django_signal_audit.channels.webhook.WebhookChannel"
SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two characters").decode()


def reported(settings: Any, **audit: Any) -> list[tuple[str, str, str]]:
    settings.SIGNAL_AUDIT = audit
    messages = [*check_rules(), *check_plugins()]
    return [(str(item.id)[-4:], item.msg, item.hint or "") for item in messages]


def webhook(settings: Any, **options: Any) -> list[tuple[str, str, str]]:
    options = {"url": "https://example.com/hook", "secret": SECRET, **options}
    return reported(settings, CHANNELS={"hook": {"BACKEND": WEBHOOK, "OPTIONS": options}})


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("192.168.1.1:8443", "192.168.1.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0.0.0.0", "0.0.0.0"),
        ("169.254.169.254", "169.254.169.254"),
        ("[::1]", "::1"),
        ("[fd00::7]", "fd00::7"),
        ("localhost", "127.0.0.1"),
        ("LOCALHOST:8000", "127.0.0.1"),
        ("hooks.localhost", "127.0.0.1"),
    ],
)
def test_a_webhook_to_an_address_that_is_not_on_the_internet(settings: Any, host: str, address: str) -> None:
    ((code, message, hint),) = webhook(settings, url=f"https://{host}/hook/t0ken")
    assert code == "E015"
    assert message.startswith('SIGNAL_AUDIT["CHANNELS"]["hook"]["OPTIONS"]["url"] leads to ')
    assert message.endswith(", which is not on the Internet: no message is sent.")
    assert "t0ken" not in message + hint
    assert hint == f'Add "allow_private": ["{address}"] if it is meant to be reached.'
    assert webhook(settings, url=f"https://{host}/hook/t0ken", allow_private=[address]) == []


@pytest.mark.parametrize("host", ["erp", "erp:8443", "erp.local", "erp.internal", "erp.default.svc.cluster.local"])
def test_a_webhook_to_a_name_that_is_not_on_the_internet(settings: Any, host: str) -> None:
    ((code, message, hint),) = webhook(settings, url=f"https://{host}/hook")
    assert code == "W039"
    assert message.startswith('SIGNAL_AUDIT["CHANNELS"]["hook"]["OPTIONS"]["url"] leads to erp')
    assert hint.startswith('Add "allow_private"')


@pytest.mark.parametrize(
    "options",
    [
        {"url": "https://hooks.example.com/shop"},
        {"url": "https://8.8.8.8/shop"},
        {"url": "https://[2606:4700::1111]/shop"},
        {"url": "https://10.0.0.7/", "allow_private": True},
        {"url": "https://10.0.0.7/", "allow_private": "10.0.0.0/8"},
        {"url": "https://erp/", "allow_private": ["10.0.0.0/8"]},
        {"url": "http://localhost:8000/", "allow_private": True, "allow_http": True},
        {"url": "https://local.example.com/"},
        {"url": "https://internal.example.org/"},
    ],
)
def test_a_webhook_that_may_be_reached(settings: Any, options: dict[str, Any]) -> None:
    assert webhook(settings, **options) == []


def test_a_webhook_to_an_address_beside_the_allowed_networks(settings: Any) -> None:
    found = webhook(settings, url="https://10.0.0.7/", allow_private=["192.168.0.0/16"])
    assert [code for code, _, _ in found] == ["E015"]


@pytest.mark.parametrize(
    ("secret", "length"),
    [("changeme", 6), ("whsec_abc", 2), (base64.b64encode(b"x" * 23).decode(), 23), ([SECRET, "hunter2x"], 6)],
)
def test_a_secret_that_can_be_guessed(settings: Any, secret: Any, length: int) -> None:
    ((code, message, hint),) = webhook(settings, secret=secret)
    assert code == "W040"
    assert message.startswith('SIGNAL_AUDIT["CHANNELS"]["hook"]["OPTIONS"]["secret"] has a secret of ')
    assert f"{length} bytes" in message
    assert hint == 'Write "whsec_" and the base64 of 24 to 64 random bytes.'
    assert not any(text in message + hint for text in ("changeme", "abc", "hunter2x"))


@pytest.mark.parametrize("length", [24, 32, 64])
def test_a_secret_that_is_long_enough(settings: Any, length: int) -> None:
    assert webhook(settings, secret="whsec_" + base64.b64encode(b"\x07" * length).decode()) == []


def notifying(settings: Any, to: Any, *events: str, **rule: Any) -> list[tuple[str, str, str]]:
    rules = [{"name": "a", "events": list(events), "notify": [{"channel": "mail", "to": to}], **rule}]
    return reported(settings, RULES=rules, CHANNELS={"mail": {"BACKEND": EMAIL}})


@pytest.mark.parametrize(
    ("to", "events", "message"),
    [
        ("actor", ["login_failed"], 'names "actor" for login_failed events, which have no actor: nobody is notified'),
        ("actor", ["login", "login_failed"], 'names "actor" for login_failed events, which have no actor'),
        (["a@example.com", "actor"], ["login_failed"], 'names "actor" for login_failed events'),
        ("email", ["login_failed"], 'names "email" for login_failed events, which have no object'),
        ("email", ["request"], 'names "email" for request events, which have no object'),
    ],
)
def test_a_recipient_that_the_event_does_not_have(settings: Any, to: Any, events: list[str], message: str) -> None:
    ((code, found, hint),) = notifying(settings, to, *events)
    assert code == "W041"
    assert found.startswith(f'SIGNAL_AUDIT["RULES"][0]["notify"][0]["to"] {message}')
    assert "in a rule of its own" in hint


def test_a_recipient_of_the_channel_that_the_event_does_not_have(settings: Any) -> None:
    rules = [{"name": "a", "events": ["login_failed"], "notify": ["mail"]}]
    channels = {"mail": {"BACKEND": EMAIL, "OPTIONS": {"to": "actor"}}}
    ((code, message, _),) = reported(settings, RULES=rules, CHANNELS=channels)
    assert code == "W041"
    assert message.startswith('SIGNAL_AUDIT["CHANNELS"]["mail"]["OPTIONS"]["to"] names "actor"')


@pytest.mark.parametrize(
    ("to", "events"),
    [
        ("actor", ["login"]),
        ("actor", ["logout", "request"]),
        ("email", ["login", "logout"]),
        ("superusers", ["login_failed"]),
        ("a@example.com", ["login_failed", "request"]),
        ("actor", ["price_imported"]),
    ],
)
def test_a_recipient_that_the_event_may_have(settings: Any, to: str, events: list[str]) -> None:
    assert notifying(settings, to, *events) == []


def excluding(settings: Any, models: list[str], *labels: str) -> list[tuple[str, str, str]]:
    rules = [{"name": f"r{number}", "model": label} for number, label in enumerate(labels)]
    return reported(settings, RULES=rules, EXCLUDE_MODELS=models)


def test_excluding_everything(settings: Any) -> None:
    ((code, message, hint),) = excluding(settings, ["app.Tag", "*"], "*")
    assert code == "W042"
    assert message == 'SIGNAL_AUDIT["EXCLUDE_MODELS"][1] is "*": rules with "model": "*" audit nothing.'
    assert hint == 'Name models or apps, such as "sessions.*".'


def test_excluding_every_app(settings: Any) -> None:
    from django.apps import apps

    models = sorted({f"{model._meta.app_label}.*" for model in apps.get_models()} - {"django_signal_audit.*"})
    ((code, message, _),) = excluding(settings, models, "*")
    assert code == "W001"
    assert message == 'SIGNAL_AUDIT["RULES"][0] audits nothing: EXCLUDE_MODELS leaves out every model.'


@pytest.mark.parametrize(
    ("excluded", "label"),
    [("app.Product", "app.*"), ("APP.Product", "app.*"), ("app.Product", "app.Product"), ("app.*", "app.*")],
)
def test_excluding_a_model_that_a_rule_names(settings: Any, excluded: str, label: str) -> None:
    ((code, message, hint),) = excluding(settings, [excluded], label)
    assert code == "W042"
    assert message == (
        f'SIGNAL_AUDIT["EXCLUDE_MODELS"][0] is {excluded!r}, which has no effect: the rule "r0" names '
        f'"{label.lower()}".'
    )
    assert hint.startswith('Only "*" leaves out EXCLUDE_MODELS.')


@pytest.mark.parametrize(
    ("excluded", "labels"),
    [
        ("app.Product", ["*"]),
        ("app.Product", ["*", "app.Product"]),
        ("app.Product", ["*", "app.*"]),
        ("app.Product", ["app.Tag"]),
        ("app.*", ["app.Tag", "*"]),
        ("app.*", ["app.Tag"]),
        ("auth.permission", ["auth.*"]),
    ],
)
def test_excluding_models_that_makes_sense(settings: Any, excluded: str, labels: list[str]) -> None:
    assert excluding(settings, [excluded], *labels) == []


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0", "0.0.0.0/1", "128.0.0.0/1", "64.0.0.0/2", "2000::/3"])
def test_a_network_of_proxies_that_anybody_is_in(settings: Any, network: str) -> None:
    ((code, message, hint),) = reported(settings, TRUSTED_PROXIES=["10.0.0.7", network])
    assert code == "W043"
    assert message == (
        f'SIGNAL_AUDIT["TRUSTED_PROXIES"][1] is {network!r}, from which anybody may come: clients could forge their '
        "address."
    )
    assert hint == "Name the addresses or networks of your own proxies."


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_an_address_that_no_proxy_has(settings: Any, address: str) -> None:
    ((code, message, _),) = reported(settings, TRUSTED_PROXIES=[address])
    assert (code, message) == ("W043", f'SIGNAL_AUDIT["TRUSTED_PROXIES"][0] is {address!r}, which no proxy has.')


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("*", "Name the addresses or networks of your own proxies"),
        ("localhost", 'Write "127.0.0.1" and "::1".'),
        ("10.0.0.1:8080", 'Remove the port: "10.0.0.1".'),
        ("[::1]:8080", 'Remove the port: "::1".'),
        ("unix:/run/app.sock", 'Write "unix"'),
        ("UNIX", 'Write "unix"'),
        (" 10.0.0.1", 'Remove the spaces around it: "10.0.0.1".'),
        ("nginx", "Write an address such as"),
        ("10.0.*.*", "or a network such as"),
    ],
)
def test_a_proxy_that_is_no_address(settings: Any, text: str, hint: str) -> None:
    ((code, message, found),) = reported(settings, TRUSTED_PROXIES=[text])
    assert code == "E003"
    assert message == f'SIGNAL_AUDIT["TRUSTED_PROXIES"][0] is {text!r}, which isn\'t an IP address or network.'
    assert hint in found


@pytest.mark.parametrize(
    "text", ["10.0.0.7", "10.0.0.0/8", "172.16.0.0/12", "104.16.0.0/13", "fc00::/7", "::1", "unix", "::ffff:10.0.0.1"]
)
def test_a_proxy_that_is_right(settings: Any, text: str) -> None:
    assert reported(settings, TRUSTED_PROXIES=[text]) == []
