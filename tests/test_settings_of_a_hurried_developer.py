"""Settings written in a hurry: missing commas, lazy strings, paths, classes, units, other programs' ways to write."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.db.models import Q
from django.utils.translation import gettext_lazy

from django_signal_audit.channels.log import LogChannel
from django_signal_audit.checks import check_installation, check_plugins, check_rules
from django_signal_audit.conf import DEFAULT_MASK_FIELDS
from django_signal_audit.rules.registry import get_registry

from .app.models import Category
from .notices import CALLABLE, EMAIL, LOG, take

WEBHOOK = "django_signal_audit.channels.webhook.WebhookChannel"
SECRET = "whsec_YSBzZWNyZXQgb2YgdGhpcnR5LXR3byBjaGFyYWN0ZXJz"
CHANNELS = {"mail": {"BACKEND": EMAIL, "OPTIONS": {"to": "a@example.com"}}, "log": {"BACKEND": LOG}}


def reported(settings: Any, audit: Any) -> list[tuple[str, str, str]]:
    settings.SIGNAL_AUDIT = audit
    messages = [*check_rules(), *check_plugins()]
    return [(str(item.id)[-4:], item.msg, item.hint or "") for item in messages]


def about_products(settings: Any, **keys: Any) -> list[tuple[str, str, str]]:
    return reported(settings, {"RULES": [{"name": "a", "model": "app.Product", **keys}], "CHANNELS": CHANNELS})


def options(settings: Any, backend: str, **values: Any) -> list[tuple[str, str, str]]:
    return reported(settings, {"CHANNELS": {"x": {"BACKEND": backend, "OPTIONS": values}}})


@pytest.mark.parametrize(
    ("keys", "code", "hint"),
    [
        ({"events": ["createupdate"]}, "E011", "Write 'create', 'update': the comma between them is missing."),
        ({"fields": ["name", "pricestock"]}, "E010", "Write 'price', 'stock': the comma between them is missing."),
        ({"exclude": ["modifiedslug"]}, "E010", "Write 'modified', 'slug'"),
        ({"notify": ["maillog"]}, "E014", "Write 'mail', 'log'"),
        ({"model": "app.**"}, "E009", "Write 'app.*' for all models of the app."),
        ({"model": "app.Pi*"}, "E009", "Write ['app.Picture', 'app.Pizzeria']."),
        ({"model": "nowhere.P*"}, "E009", 'Patterns are "*" and "app_label.*".'),
        ({"model": [["app.Product"]]}, "E008", "Write ['app.Product']."),
        ({"model": gettext_lazy("app.Product")}, "E008", "a lazy string, as of gettext_lazy. Write the string itself"),
        (
            {"subject": gettext_lazy("{{ object }}"), "notify": ["log"]},
            "E008",
            "Write the string itself: '{{ object }}'.",
        ),
        ({"fields": [gettext_lazy("price")]}, "E008", "Write the string itself: 'price'."),
        ({"fields": ["notes"]}, "E010", 'Add a rule with "model": "app.Note", whose rows hold that relation.'),
        ({"when": "decreased"}, "E016", 'Write a dict of field to operator, such as {"price": "decreased"}.'),
        ({"when": "drops"}, "E016", 'such as {"price": "decreased"}.'),
        ({"when": Q(price=1)}, "E008", 'Write a dict such as {"price": "changed"}.'),
        (
            {"when": [{"price": "changed"}, {"stock": "changed"}]},
            "E008",
            "All have to hold then; if one is enough, make two rules of it.",
        ),
        ({"when": {"category": {"to": "Tea"}}}, "E012", "Write the primary key of the app.Category."),
        ({"when": {"category": {"to": Category(pk=3, name="Tea")}}}, "E012", "Write its primary key, 3."),
    ],
)
def test_a_rule_written_in_a_hurry(settings: Any, keys: dict[str, Any], code: str, hint: str) -> None:
    ((found_code, message, found_hint),) = about_products(settings, **keys)
    assert found_code == code
    assert message.startswith('SIGNAL_AUDIT["RULES"][0]["')
    assert hint in found_hint


def test_a_path_in_place_of_a_string(settings: Any) -> None:
    rule = {"name": "pages", "events": ["request"], "paths": [Path("/admin")]}
    ((code, _, hint),) = reported(settings, {"RULES": [rule]})
    assert (code, hint) == ("E008", "It is a Path. Write the string itself: '/admin'.")


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"crosses_above": 10, "to": 5}, "stock"),
        ({"crosses_above": 10, "to": 10}, "stock"),
        ({"crosses_below": 10, "to": [10, 20]}, "stock"),
        ({"crosses_above": 10, "from": 20, "to": 30}, "stock"),
        ({"increased_by": 10, "from": 1, "to": 5}, "stock"),
        ({"decreased_by_percent": 50, "from": "10.00", "to": "9.00"}, "price"),
        ({"from": ["a"], "to": ["a"]}, "name"),
        ({"crosses_above": dt.date(2026, 1, 1), "to": "2025-12-31"}, "released"),
        ({"crosses_above": 1, "to": None}, "weight"),
    ],
)
def test_a_condition_that_contradicts_itself(settings: Any, spec: dict[str, Any], field: str) -> None:
    ((code, message, _),) = about_products(settings, when={field: spec})
    assert code == "W001"
    assert message == f'SIGNAL_AUDIT["RULES"][0] can never match: its condition on "{field}" cannot hold.'


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"crosses_above": 10, "to": [5, 15]}, "stock"),
        ({"crosses_below": 10, "to": 9}, "stock"),
        ({"crosses_above": 10, "from": [20, 5], "to": 30}, "stock"),
        ({"increased_by": 4, "from": 1, "to": 5}, "stock"),
        ({"increased_by": 4, "to": 5}, "stock"),
        ({"decreased_by_percent": 10, "from": "10.00", "to": "9.00"}, "price"),
        ({"from": ["a", "b"], "to": ["a", "b"]}, "name"),
        ({"from": None, "to": "a"}, "slug"),
        ({"from": {"a": 1}, "to": {"a": 2}}, "attributes"),
    ],
)
def test_a_condition_of_several_operators_that_may_hold(settings: Any, spec: dict[str, Any], field: str) -> None:
    assert about_products(settings, when={field: spec}) == []
    assert len(get_registry().rules) == 1


@pytest.mark.parametrize("field", ["price", "stock", "weight", "photo", "blob", "attributes", "released", "category"])
@pytest.mark.parametrize("value", [Decimal("sNaN"), Decimal("NaN"), float("nan"), float("inf"), 10**40, "\x00", [[]]])
def test_values_that_cannot_be_compared_raise_nothing(settings: Any, field: str, value: object) -> None:
    for spec in ({"to": value}, {"from": 1, "to": value}, {"crosses_above": value, "to": 5}, [value]):
        assert {code for code, _, _ in about_products(settings, when={field: spec})} <= {"E012", "W001", "W036"}


def test_a_list_that_contains_itself_is_no_condition(settings: Any) -> None:
    endless: list[Any] = []
    endless.append(endless)
    ((code, _, _),) = about_products(settings, when={"price": endless})
    assert code == "E012"


@pytest.mark.parametrize(
    ("audit", "code", "hint"),
    [
        ({"RULES": "app.Product"}, "E003", 'Write {"name": "product", "model": "app.Product"}, in a list.'),
        ({"RULES": (rule for rule in ())}, "E003", "Write a list."),
        ({"RULES": None}, "E003", "Remove the key to have its default."),
        ({"MASK_KEY": None}, "E003", "Remove the key to have its default."),
        ({"CHANNELS": None}, "E003", "Remove the key to have its default."),
        ({"MASK_FIELDS": [gettext_lazy("iban")]}, "E003", "Write the string itself: 'iban'."),
        ({"DISPATCHER": Path("x.y")}, "E003", "It is a Path. Write the string itself: 'x.y'."),
        (
            {"REPORT_FORMATS": {"log": LogChannel}},
            "E003",
            'Write its dotted path, "django_signal_audit.channels.log.LogChannel".',
        ),
        ({"ACTOR": "request.user"}, "E065", "Correct the dotted path."),
        ({"ACTOR": "tests.notices:take"}, "E065", "Did you mean 'tests.notices.take'?"),
        (
            {"DISPATCHER": "django_signal_audit.dispatchers"},
            "E022",
            "Did you mean 'django_signal_audit.dispatchers.",
        ),
        (
            {"CHANNELS": {"mail": {"BACKEND": "django_signal_audit.channels.email"}}},
            "E015",
            "Did you mean 'django_signal_audit.channels.email.EmailChannel'?",
        ),
    ],
)
def test_a_setting_written_in_a_hurry(settings: Any, audit: dict[str, Any], code: str, hint: str) -> None:
    ((found_code, _, found_hint),) = reported(settings, audit)
    assert found_code == code
    assert hint in found_hint


@pytest.mark.parametrize(
    ("backend", "values", "hint"),
    [
        (EMAIL, {"to": "mailto:a@example.com"}, "Write 'a@example.com'."),
        (EMAIL, {"to": ["a@example.comb@example.com"]}, "the comma between two addresses is missing."),
        (EMAIL, {"to": [("Ann", "a@example.com")]}, "Write ['a@example.com']."),
        (EMAIL, {"to": gettext_lazy("a@example.com")}, "Write the string itself: 'a@example.com'."),
        (EMAIL, {"to": "a@example.com", "language": "German"}, "Did you mean 'de'?"),
        (EMAIL, {"to": "a@example.com", "time_zone": "CEST"}, 'Write a name such as "Europe/Vienna".'),
        (EMAIL, {"to": "a@example.com", "time_zone": "+02:00"}, 'Write a name such as "Europe/Vienna".'),
        (EMAIL, {"to": "a@example.com", "time_zone": "Europe/Viena"}, "Did you mean 'Europe/Vienna'?"),
        (EMAIL, {"to": "a@example.com", "check_permission": "no"}, "Write False."),
        (EMAIL, {"to": "a@example.com", "check_permission": 1}, "Write True."),
        (EMAIL, {"to": "a@example.com", "html": "False"}, "Write True or False without quotes."),
        (EMAIL, {"to": "a@example.com", "html": Path("mail.html")}, "Write the string itself: 'mail.html'."),
        (CALLABLE, {"target": take}, 'Write its dotted path, "tests.notices.take".'),
        (WEBHOOK, {"url": "example.com/hook", "secret": SECRET}, 'It has no scheme. Write "https://" before it.'),
        (WEBHOOK, {"url": "https://ann:t0ken@example.com/", "secret": SECRET}, "It has a user."),
        (WEBHOOK, {"url": "", "secret": SECRET}, "If an environment variable holds it, that isn't set."),
        (
            WEBHOOK,
            {"url": "https://example.com/", "secret": ""},
            "If an environment variable holds it, that isn't set.",
        ),
        (WEBHOOK, {"url": "https://example.com/", "secret": b"t0ken"}, "It is bytes. Write a string: .decode()."),
        (WEBHOOK, {"url": "https://example.com/", "secret": SECRET, "timeout": 5000}, "in seconds, not milliseconds."),
    ],
)
def test_options_written_in_a_hurry(settings: Any, backend: str, values: dict[str, Any], hint: str) -> None:
    ((code, message, found_hint),) = options(settings, backend, **values)
    assert code == "E015"
    assert message.startswith('SIGNAL_AUDIT["CHANNELS"]["x"]["OPTIONS"]["')
    assert hint in found_hint
    assert "t0ken" not in message + found_hint


def masked_too_little(settings: Any, words: Any, **rule: Any) -> list[tuple[str, str]]:
    settings.SIGNAL_AUDIT = {"RULES": [{"name": "users", "model": "auth.User", **rule}], "MASK_FIELDS": words}
    return [(item.msg, item.hint or "") for item in check_installation() if str(item.id).endswith("W046")]


def test_a_list_of_words_that_leaves_out_the_default_ones(settings: Any) -> None:
    ((message, hint),) = masked_too_little(settings, ["iban"])
    assert message == (
        'SIGNAL_AUDIT["MASK_FIELDS"] replaces the default list, so secrets are stored in clear: auth.User.password.'
    )
    assert "*DEFAULT_MASK_FIELDS" in hint
    assert '"!password"' in hint


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ([*DEFAULT_MASK_FIELDS, "iban"], {}),
        (["iban", "password"], {}),
        (["iban", "!password"], {}),
        (["!password"], {}),
        (["iban"], {"mask": ["password"]}),
        (["iban"], {"exclude": ["password"]}),
        (["iban"], {"fields": ["email"]}),
    ],
)
def test_a_list_of_words_that_leaves_nothing_in_clear(settings: Any, words: list[str], rule: dict[str, Any]) -> None:
    assert masked_too_little(settings, words, **rule) == []


@pytest.mark.parametrize(
    ("entry", "hint"),
    [
        ({"mail": "b@example.com"}, "Write {'channel': 'mail', 'to': 'b@example.com'}."),
        ({"mail": ["b@example.com", "actor"]}, "Write {'channel': 'mail', 'to': ['b@example.com', 'actor']}."),
        ({"mail": {"to": "actor"}}, "Write {'channel': 'mail', 'to': 'actor'}."),
        ({"channel": ["mail", "log"]}, "Write an entry for each of them."),
    ],
)
def test_an_entry_of_notify_written_in_a_hurry(settings: Any, entry: dict[str, Any], hint: str) -> None:
    ((_, message, found_hint),) = about_products(settings, notify=[entry])
    assert message.startswith('SIGNAL_AUDIT["RULES"][0]["notify"][0]["')
    assert hint in found_hint


@pytest.mark.parametrize(("level", "meant"), [(20, "info"), (30, "warning"), (40, "critical"), (50, "critical")])
def test_a_level_of_the_module_logging(settings: Any, level: int, meant: str) -> None:
    ((code, _, hint),) = about_products(settings, level=level)
    assert (code, hint) == ("E013", f"Did you mean {meant!r}?")


@pytest.mark.parametrize(
    ("name", "meant"), [("loged_out", "logout"), ("user_loged_in", "login"), ("sign_inn", "login")]
)
def test_an_event_that_is_nearly_another_name_of_a_built_in_one(settings: Any, name: str, meant: str) -> None:
    ((code, _, hint),) = reported(settings, {"RULES": [{"name": "a", "events": ["login", name]}]})
    assert (code, hint) == ("W031", f"Did you mean {meant!r}?")


@pytest.mark.parametrize(
    ("text", "keys", "code", "hint"),
    [
        ("{{ event.changes.prise }}", {}, "W008", "Did you mean 'price'?"),
        ("{{ event.changes.stock.1 }}", {"fields": ["price"]}, "W037", 'Add "stock" to "fields".'),
        ("{{ event.changes.tags.added }}", {"fields": ["price"]}, "W037", 'Add "tags" to "fields".'),
        ("{{ request.path }}", {}, "W035", "Write event.context.request.path."),
        ("{{ request.user }}", {}, "W035", "Did you mean 'actor'?"),
        ("  \n", {}, "W001", "Write a text, or remove the key."),
    ],
)
def test_a_message_written_in_a_hurry(settings: Any, text: str, keys: dict[str, Any], code: str, hint: str) -> None:
    ((found_code, message, found_hint),) = about_products(settings, notify=["mail"], message=text, **keys)
    assert (found_code, found_hint) == (code, hint)
    assert message.startswith('SIGNAL_AUDIT["RULES"][0]["message"] ')


@pytest.mark.parametrize(
    "text",
    [
        "{{ event.changes.price.0 }}",
        "{{ event.changes.tags.added }}",
        "{% for name, change in event.changes.items %}{{ name }}{% endfor %}",
        "{{ event.context.request.path }}",
    ],
)
def test_a_message_about_the_changes_themselves(settings: Any, text: str) -> None:
    assert about_products(settings, notify=["mail"], message=text) == []


@pytest.mark.parametrize(
    ("audit", "hint"),
    [
        (({"RULES": []},), "Remove the comma behind the dict, which makes it a tuple."),
        ({"ON_ERROR": ("log",)}, "It is a tuple of one. Remove the comma behind 'log'."),
        ({"CAPTURE_QUERIES": (False,)}, "It is a tuple of one. Remove the comma behind False."),
        ({"RULES": [{"name": "a", "model": "app.Tag", "level": ("info",)}]}, "Remove the comma behind 'info'."),
        ({"RULES": [{"name": "a", "model": "app.Tag", "retention": ("1y",)}]}, "Remove the comma behind '1y'."),
    ],
)
def test_a_comma_at_the_end_of_a_line(settings: Any, audit: Any, hint: str) -> None:
    ((_, _, found_hint),) = reported(settings, audit)
    assert hint in found_hint


def unread_settings(settings: Any, **values: Any) -> list[tuple[str, str]]:
    for name, value in values.items():
        setattr(settings, name, value)
    return [(item.msg, item.hint or "") for item in check_installation() if str(item.id).endswith("W047")]


@pytest.mark.parametrize(
    "name", ["SIGNAL_AUDITS", "SIGNALS_AUDIT", "SIGNALAUDIT", "DJANGO_SIGNAL_AUDIT", "SIGNAL_ADUIT"]
)
def test_a_setting_of_nearly_our_name(settings: Any, name: str) -> None:
    del settings.SIGNAL_AUDIT
    ((message, hint),) = unread_settings(settings, **{name: {"RULES": []}})
    assert message == f"{name} is a setting that nothing reads, and there is no SIGNAL_AUDIT."
    assert hint == "Write SIGNAL_AUDIT."


def test_a_key_that_stands_outside(settings: Any) -> None:
    ((message, hint),) = unread_settings(settings, SIGNAL_AUDIT_RULES=[])
    assert message == "SIGNAL_AUDIT_RULES is a setting that nothing reads."
    assert hint == 'Write SIGNAL_AUDIT = {"RULES": …}.'


@pytest.mark.parametrize("name", ["AUDIT", "AUDITLOG", "SIGNAL", "SIGNAL_AUDIT_FOR_STAFF", "LOGIN_AUDIT", "SIGNALS"])
def test_a_setting_of_another_package(settings: Any, name: str) -> None:
    del settings.SIGNAL_AUDIT
    assert unread_settings(settings, **{name: {}}) == []
