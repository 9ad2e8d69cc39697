"""All mistakes of the settings are reported at once, each once, and none that only follows from another."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import override_settings
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from django_signal_audit import Rule
from django_signal_audit.checks import check_plugins, check_rules
from django_signal_audit.rules.registry import get_registry

from .notices import EMAIL, calling
from .processes.stage import choose

pytestmark = pytest.mark.django_db(databases=["default", "other"])

MAIL = {"BACKEND": EMAIL, "OPTIONS": {}}
CHANNELS = {"it": calling("take"), "mail": MAIL}

# The settings, and every mistake in them. Several stand in one rule.
EVERYTHING: dict[str, Any] = {
    "RULE": [],
    "ON_ERROR": "ignore",
    "TRUSTED_PROXIES": ["10.0.0"],
    "EXCLUDE_MODELS": ["app.Prodct"],
    "DISPATCHER": "django_signal_audit.dispatchers.OnCommitDispacher",
    "REPORT_FORMATS": {"x": "nowhere.Format"},
    "EXPORT_FORMATS": {"x": "nowhere.Format"},
    "CHANNELS": {
        "it": calling("take"),
        "mail": MAIL,
        "odd": {"BACKEND": EMAIL, "OPTIONS": {"too": 1, "to": "no address"}},
        "nowhere": {"BACKEND": "nowhere.Channel"},
    },
    "RULES": [
        "app.Product",
        {
            "model": "app.Person",
            "odd": 1,
            "enabled": "yes",
            "level": "loud",
            "retention": "1 year",
            "fields": ["nmae"],
            "exclude": "name",
            "mask": ["id"],
            "events": ["creat"],
            "when": {"age": "sank"},
            "subject": "{{ object",
            "message": 3,
            "notify": [
                "it",
                "nobody",
                {"channel": "mail", "too": "a@example.com"},
                {"channel": 3, "message": "{% if %}"},
                {"subject": "{{ object"},
                {"channel": "it", "to": [], "digest": "soon", "throttle": "0/1h"},
                {"channel": "mail", "subject": 3},
                {"channel": "mail", "to": "ownr.email", "odd": 1},
            ],
        },
        {
            "name": 3,
            "model": "app.Team",
            "fields": ["members"],
            "when": "nowhere.condition",
            "signal": "nowhere.signal",
            "event": "update",
            "subject": "{{ new.nmae }}",
            "notify": [3, "it", "nobody"],
        },
        {"name": "twice", "model": "app.Prodct", "paths": ["/"], "level": "loud"},
        {"name": "twice", "events": ["create"], "retention": 3, "subject": "Hello"},
        {"name": "last", "model": "app.Product", "when": {"price": "sank"}, "methods": "GET"},
    ],
}
FOUND = {
    '["RULE"]': ["E002"],
    '["ON_ERROR"]': ["E003"],
    '["TRUSTED_PROXIES"][0]': ["E003"],
    '["EXCLUDE_MODELS"][0]': ["E009"],
    '["DISPATCHER"]': ["E022"],
    '["REPORT_FORMATS"]["x"]': ["E023"],
    '["EXPORT_FORMATS"]["x"]': ["E028"],
    '["CHANNELS"]["odd"]["OPTIONS"]["too"]': ["E015"],
    '["CHANNELS"]["odd"]["OPTIONS"]["to"]': ["E015"],
    '["CHANNELS"]["nowhere"]["BACKEND"]': ["E015"],
    '["RULES"][0]': ["E004"],
    '["RULES"][1]': ["E006"],
    '["RULES"][1]["odd"]': ["E005"],
    '["RULES"][1]["enabled"]': ["E008"],
    '["RULES"][1]["level"]': ["E013"],
    '["RULES"][1]["retention"]': ["E021"],
    '["RULES"][1]["fields"]': ["E010"],
    '["RULES"][1]["exclude"]': ["E008"],
    '["RULES"][1]["mask"]': ["E025"],
    '["RULES"][1]["events"]': ["E011"],
    '["RULES"][1]["when"]': ["E010"],
    '["RULES"][1]["subject"]': ["E017"],
    '["RULES"][1]["message"]': ["E008"],
    '["RULES"][1]["notify"][1]': ["E014"],
    # Nobody is named to send the mail to: what was meant is most likely in the key that there is not.
    '["RULES"][1]["notify"][2]["too"]': ["E005"],
    '["RULES"][1]["notify"][3]["channel"]': ["E014"],
    '["RULES"][1]["notify"][3]["message"]': ["E017"],
    '["RULES"][1]["notify"][4]': ["E014"],
    '["RULES"][1]["notify"][4]["subject"]': ["E017"],
    '["RULES"][1]["notify"][5]["to"]': ["E008"],
    '["RULES"][1]["notify"][5]["digest"]': ["E021"],
    '["RULES"][1]["notify"][5]["throttle"]': ["E021"],
    '["RULES"][1]["notify"][6]["subject"]': ["E008"],
    '["RULES"][1]["notify"][6]': ["E026"],
    '["RULES"][1]["notify"][7]["odd"]': ["E005"],
    '["RULES"][1]["notify"][7]["to"]': ["E027"],
    '["RULES"][2]': ["E020"],
    '["RULES"][2]["name"]': ["E008"],
    '["RULES"][2]["fields"]': ["E018"],
    '["RULES"][2]["when"]': ["E016"],
    '["RULES"][2]["signal"]': ["E016"],
    '["RULES"][2]["event"]': ["E011"],
    '["RULES"][2]["subject"]': ["W008"],
    '["RULES"][2]["notify"]': ["E008"],
    '["RULES"][2]["notify"][2]': ["E014"],
    '["RULES"][3]["model"]': ["E009"],
    '["RULES"][3]["paths"]': ["W001"],
    '["RULES"][3]["level"]': ["E013"],
    '["RULES"][4]["name"]': ["E007"],
    '["RULES"][4]["events"]': ["E011"],
    '["RULES"][4]["retention"]': ["E021"],
    '["RULES"][4]["subject"]': ["W001"],
    '["RULES"][5]["when"]["price"]': ["E012"],
    '["RULES"][5]["methods"]': ["E008"],
}


def found() -> list[tuple[str, str]]:
    """Return where a mistake is, and the id of what is said of it."""
    messages = [*check_rules(), *check_plugins()]
    return [(message.msg.split(" ")[0], str(message.id).rpartition(".")[2]) for message in messages]


def test_a_mistake_of_every_kind(settings: Any) -> None:
    settings.SIGNAL_AUDIT = EVERYTHING
    expected = [(f"SIGNAL_AUDIT{path}", code) for path, codes in FOUND.items() for code in codes]
    assert sorted(found()) == sorted(expected)
    assert {"E001", "E019", "E024"} | {code for _, code in expected} >= {f"E{n:03}" for n in range(1, 29)}


def test_mending_one_brings_no_other_to_light(settings: Any) -> None:
    """Mend one after the other, in the order of the report, until there is none."""
    value = json.loads(json.dumps(EVERYTHING))
    value["RULES"] = value["RULES"][1:2]
    rule = value["RULES"][0]
    settings.SIGNAL_AUDIT = value
    before = set(found())
    for key, right in (
        ("odd", None),
        ("enabled", True),
        ("level", "info"),
        ("retention", "1d"),
        ("message", "Hello"),
        ("exclude", []),
        ("name", "r"),
    ):
        rule[key] = right
        if right is None:
            del rule[key]
        settings.SIGNAL_AUDIT = json.loads(json.dumps(value))
        after = set(found())
        assert after < before
        before = after


def test_a_rule_with_a_mistake_is_not_in_force(settings: Any) -> None:
    wrong = [
        {"name": "a", "model": "app.Product", "odd": 1},
        {"model": "app.Product"},
        {"name": "b", "model": "app.Product", "notify": [3]},
        {"name": "c", "model": "app.Product", "notify": [{"channel": "it", "odd": 3}]},
        Rule(name="d", model="app.Product", level="loud"),
    ]
    settings.SIGNAL_AUDIT = {"RULES": wrong, "CHANNELS": CHANNELS}
    assert len(found()) == len(wrong)
    assert get_registry().rules == ()
    assert get_registry().plans == {}


@pytest.mark.parametrize(
    "rule",
    [
        {"modle": "app.Product"},
        {"model": 3, "events": ["create"], "fields": ["name"]},
        {"model": "app.Product", "evnts": ["request"], "events": ["create"]},
        {"model": "app.Product", "feilds": ["name"], "exclude": ["price"], "events": ["m2m"]},
        {"model": "app.Product", "when": {"price": "decreased"}, "events": "update"},
        {"model": "app.Product", "subject": "Hello", "notfy": ["it"]},
        {"model": "app.Product", "subject": "Hello", "notify": "it"},
        {"signal": 3, "event": "seen"},
        {"signal": "tests.app.signals.viewed", "evnt": "seen"},
        {"events": "request", "paths": ["/a"]},
        {"events": ["seen"], "notify": [{"chanel": "it"}]},
        {"events": ["seen"], "notify": [{"channel": "mail", "to": [3]}]},
    ],
    ids=str,
)
def test_what_cannot_be_read_has_no_consequences(settings: Any, rule: dict[str, Any]) -> None:
    settings.SIGNAL_AUDIT = {"RULES": [{"name": "r", **rule}], "CHANNELS": CHANNELS}
    assert [code for _, code in found()] in (["E005"], ["E008"])


def test_channels_that_cannot_be_read_are_not_missed_in_rules(settings: Any) -> None:
    rule = {"name": "r", "events": ["seen"], "notify": ["it"]}
    settings.SIGNAL_AUDIT = {"RULES": [rule], "CHANNELS": {3: {}, "it": calling("take")}}
    assert found() == [('SIGNAL_AUDIT["CHANNELS"]', "E003")]


# Mistakes in the keys of one rule that is otherwise sound, each of which can be told without the others.
MISTAKES: dict[str, list[Any]] = {
    "name": [3, "", "x" * 101],
    "odd": [1],
    "feilds": [["name"]],
    "level": ["loud"],
    "retention": ["1 year", 3],
    "enabled": ["yes"],
    "fields": ["price", ["prce"], [3]],
    "exclude": [["nowhere"], {}],
    "mask": [["tags"], ["id"], [None], ["nowhere"]],
    "when": [{"price": "sank"}, {"prce": "changed"}, "nowhere.condition", 3],
    "events": [["creat"], ["login", "creat"], "create", 3],
    "signal": ["nowhere.signal", 3],
    "subject": ["{{ object", 3],
    "message": ["{% if %}", 3],
    "notify": [
        "it",
        ["nobody"],
        [3, "nobody"],
        ["nobody", {"channel": "it", "odd": 3, "to": []}],
        ["mail", {"to": "a"}, {"channel": "mail", "to": "bob@"}, {"channel": 3, "message": "{% if %}"}],
    ],
}


def errors_of(rule: dict[str, Any]) -> list[tuple[str, str]]:
    base = {"name": "r", "model": "app.Product", "notify": ["it"]}
    with override_settings(SIGNAL_AUDIT={"RULES": [{**base, **rule}], "CHANNELS": CHANNELS}):
        return [item for item in found() if item[1].startswith("E")]


@example_settings(max_examples=choose(30, 200), deadline=None)
@given(st.fixed_dictionaries({}, optional={key: st.sampled_from(values) for key, values in MISTAKES.items()}))
def test_mistakes_do_not_hide_each_other(mistakes: dict[str, Any]) -> None:
    alone = [item for key, value in mistakes.items() for item in errors_of({key: value})]
    assert len(alone) >= len(mistakes)
    assert sorted(errors_of(mistakes)) == sorted(alone)


def test_the_whole_check_says_the_same(settings: Any) -> None:
    settings.SIGNAL_AUDIT = EVERYTHING
    ours = [item for item in run_checks(tags=["signals"]) if str(item.id).startswith("django_signal_audit.")]
    assert len(ours) == len(found())
