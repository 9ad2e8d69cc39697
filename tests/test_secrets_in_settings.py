"""A secret in SIGNAL_AUDIT is printed neither by ``check`` nor by ``audit_rules``, whatever is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest
from django.core import checks
from django.core.management import call_command

from .conftest import Audit
from .notices import CALLABLE, EMAIL

pytestmark = pytest.mark.django_db(databases="__all__")

SECRET = "hunter2-hunter2"
WEBHOOK = "django_signal_audit.channels.webhook.WebhookChannel"


def said() -> str:
    return "\n".join(f"{message.id} {message.msg} {message.hint}" for message in checks.run_checks(tags=["signals"]))


WRONG_OPTIONS: dict[str, Any] = {
    "an object in a place of a text": {"url": {"password": SECRET}},
    "a pair in place of a text": {"url": ["password", SECRET]},
    "headers as pairs": {"headers": [("Authorization", f"Bearer {SECRET}")]},
    "a list of lines": {"to": {"lines": [f"X-Api-Key: {SECRET}"]}},
    "a login in an address": {"url": [f"https://ann:{SECRET}@example.com/"]},
    "named by another value": {"to": [{"name": "token", "value": SECRET}]},
}


@pytest.mark.parametrize("backend", [WEBHOOK, EMAIL, CALLABLE])
@pytest.mark.parametrize("options", WRONG_OPTIONS.values(), ids=WRONG_OPTIONS)
def test_check_prints_no_secret_of_a_wrong_option(audit: Audit, backend: str, options: Any) -> None:
    audit({"name": "products", "model": "app.Product"}, CHANNELS={"wrong": {"BACKEND": backend, "OPTIONS": options}})
    text = said()
    assert "E015" in text
    assert SECRET not in text


def test_check_still_prints_what_is_no_secret(audit: Audit) -> None:
    options = {"to": {"users": ["ann"]}}
    audit({"name": "products", "model": "app.Product"}, CHANNELS={"wrong": {"BACKEND": EMAIL, "OPTIONS": options}})
    assert "It is {'users': ['ann']}." in said()


@pytest.mark.parametrize(
    "shape",
    [
        {"CHANNELS": [{"BACKEND": WEBHOOK, "OPTIONS": {"secret": SECRET}}]},
        {"CHANNELS": {"hook": [{"BACKEND": WEBHOOK, "OPTIONS": {"secret": SECRET}}]}},
        {"CHANNELS": {"hook": {"BACKEND": WEBHOOK, "OPTIONS": [("secret", SECRET)]}}},
        {"CHANNELS": {"hook": {"BACKEND": WEBHOOK, "secret": SECRET}}},
        {"CHANNELS": {"hook": {"BACKEND": {"secret": SECRET}}}},
        {"DISPATCHER": {"BACKEND": "x", "password": SECRET}},
        {"RULES": {"products": {"model": "app.Product", "token": SECRET}}},
    ],
)
def test_check_prints_no_secret_of_settings_of_a_wrong_shape(settings: Any, shape: Any) -> None:
    settings.SIGNAL_AUDIT = shape
    text = said()
    assert "django_signal_audit.E" in text
    assert SECRET not in text


CONDITIONS: list[Any] = [
    {"api_token": SECRET},
    {"api_token": {"to": SECRET}},
    {"api_token": {"from": [SECRET, "x"], "to": None}},
    {"api_token": {"increased_by": SECRET}},
    {"api_token": [SECRET]},
    {"name": {"increased_by": SECRET}},
    {"attributes": {"to": {"password": SECRET}}},
    {"attributes": {"to": {"deep": [["password", SECRET]]}}},
]


@pytest.mark.parametrize("when", CONDITIONS, ids=str)
def test_a_condition_on_a_masked_field_is_printed_without_its_values(
    audit: Audit, capsys: pytest.CaptureFixture[str], when: Any
) -> None:
    audit({"name": "watch", "model": "app.Product", "mask": ["name"], "when": when})
    call_command("audit_rules")
    call_command("audit_rules", "--format", "json")
    call_command("audit_rules", "--explain", "app.Product", "update")
    assert SECRET not in capsys.readouterr().out
    assert SECRET not in said()


def test_a_condition_on_a_field_that_another_rule_masks(audit: Audit, capsys: pytest.CaptureFixture[str]) -> None:
    audit(
        {"name": "watch", "model": "app.Product", "when": {"name": {"to": SECRET}, "stock": {"to": 77}}},
        {"name": "masks", "model": "app.*", "mask": ["name"]},
    )
    call_command("audit_rules")
    output = capsys.readouterr().out
    assert SECRET not in output
    assert "name to ********" in output
    assert "77" in output
