"""Subjects and messages that show what no event of their rule has, or a URL that doesn't exist."""

from __future__ import annotations

from typing import Any

import pytest

from django_signal_audit.checks import check_plugins, check_rules

from .notices import LOG

PRODUCTS = {"name": "prices", "model": "app.Product"}
CHANNELS = {"log": {"BACKEND": LOG}}


def reported(settings: Any, *rules: dict[str, Any]) -> list[tuple[str, str, str]]:
    settings.SIGNAL_AUDIT = {"RULES": list(rules), "CHANNELS": CHANNELS}
    messages = [*check_rules(), *check_plugins()]
    return [(str(item.id)[-4:], item.msg, item.hint or "") for item in messages]


def notifying(message: str, **keys: Any) -> dict[str, Any]:
    return {**PRODUCTS, "notify": ["log"], "message": message, **keys}


def about_events(message: str, *events: str) -> dict[str, Any]:
    return {"name": "events", "events": list(events), "notify": ["log"], "message": message}


@pytest.mark.parametrize(
    ("text", "keys", "message", "hint"),
    [
        (
            "{{ new.stock }}",
            {"fields": ["price"]},
            "no rule for these events records stock",
            'Add "stock" to "fields".',
        ),
        ("{{ old.stock }}", {"exclude": ["stock"]}, "records stock", 'Remove "stock" from "exclude".'),
        ("{% if new.stock %}low{% endif %}", {"fields": ["price"]}, "records stock", 'Add "stock" to "fields".'),
        ("{{ old.price }}", {"events": ["create"]}, "a created object has no old values", "Write new.price."),
        ("{{ new.price }}", {"events": ["delete"]}, "a deleted object has no new values", "Write old.price."),
        ("{{ new.tags }}", {}, "new has no many-to-many fields", "Write event.changes.tags.added"),
        ("{{ old.id }}", {}, "the primary key isn't in old", "Write event.object_id."),
    ],
)
@pytest.mark.parametrize("key", ["subject", "message"])
def test_a_value_that_no_event_of_the_rule_has(
    settings: Any, text: str, keys: dict[str, Any], message: str, hint: str, key: str
) -> None:
    rule = {**PRODUCTS, "notify": ["log"], key: text, **keys}
    ((code, found, found_hint),) = reported(settings, rule)
    assert code == "W037"
    assert found.startswith(f'SIGNAL_AUDIT["RULES"][0]["{key}"] shows {{{{ ')
    assert message in found
    assert found_hint.startswith(hint)


def test_a_template_of_a_notify_entry_is_looked_at_too(settings: Any) -> None:
    rule = {**PRODUCTS, "fields": ["price"], "notify": [{"channel": "log", "subject": "{{ new.stock }}"}]}
    ((code, message, _),) = reported(settings, rule)
    assert code == "W037"
    assert message.startswith('SIGNAL_AUDIT["RULES"][0]["notify"][0]["subject"] ')


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("{{ new.stock }}", {}),
        ("{{ new.stock }}", {"fields": ["stock"]}),
        ("{{ new.stock }}", {"fields": ["price", "stock"]}),
        ("{{ old.price }}", {"events": ["create", "update"]}),
        ("{{ new.price }}", {"events": ["delete", "update"]}),
        ("{% for name, value in new.items %}{{ name }}{% endfor %}", {"fields": ["price"]}),
        ("{{ event.changes.tags.added }}", {}),
        ("{{ new.category }}", {"fields": ["category"]}),
        ("{% with new=event.data %}{{ new.stock }}{% endwith %}", {"fields": ["price"]}),
        ("{{ object }} {{ actor }}", {"fields": ["price"]}),
    ],
)
def test_a_value_that_some_event_of_the_rule_has(settings: Any, text: str, keys: dict[str, Any]) -> None:
    assert reported(settings, notifying(text, **keys)) == []


def test_a_field_that_another_rule_records_may_be_shown(settings: Any) -> None:
    everything = {"name": "everything", "model": "app.*"}
    assert reported(settings, everything, notifying("{{ new.stock }}", fields=["price"])) == []


def test_a_field_that_another_rule_records_for_other_events_may_not_be_shown(settings: Any) -> None:
    creations = {"name": "creations", "model": "app.Product", "events": ["create"]}
    rule = notifying("{{ new.stock }}", fields=["price"], events=["update"])
    assert [code for code, _, _ in reported(settings, creations, rule)] == ["W037"]


def test_a_field_of_one_of_several_models_may_be_shown(settings: Any) -> None:
    rule = notifying("{{ new.stock }}", model=["app.Product", "app.Tag"])
    assert reported(settings, rule) == []


def test_a_rule_that_is_switched_off_or_wrong_has_no_such_warning(settings: Any) -> None:
    assert reported(settings, notifying("{{ new.stock }}", fields=["price"], enabled=False)) == []
    found = reported(settings, notifying("{{ new.stock }}", fields=["price"], level="loud"))
    assert [code for code, _, _ in found] == ["E013"]


@pytest.mark.parametrize(
    ("text", "events", "message", "hint"),
    [
        ("{{ actor }}", ["login_failed"], "login_failed events have none", "event.data.credentials.username"),
        ("{{ object }}", ["login_failed"], "login_failed events have none", "event.data.credentials.username"),
        ("{{ object }}", ["request"], "request events have none", "event.data.path"),
        ("{{ new.username }}", ["login", "logout"], "its events have no fields", "event.data"),
    ],
)
def test_an_event_without_a_model_has_no_such_value(
    settings: Any, text: str, events: list[str], message: str, hint: str
) -> None:
    ((code, found, found_hint),) = reported(settings, about_events(text, *events))
    assert code == "W037"
    assert message in found
    assert hint in found_hint


@pytest.mark.parametrize("text", ["{{ old.price }}", "{% if new.price %}low{% endif %}"])
def test_a_signal_has_no_old_and_no_new_values(settings: Any, text: str) -> None:
    rule = {"name": "viewed", "signal": "testproject.shop.signals.product_viewed", "event": "viewed", "notify": ["log"]}
    ((code, found, hint),) = reported(settings, {**rule, "message": text})
    assert (code, hint) == ("W037", "Write event.data or event.context.")
    assert "its events have no fields" in found
    assert reported(settings, {**rule, "message": "{{ object }} {{ actor }} {{ event.data.price }}"}) == []


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ("{{ actor }}", ["login", "login_failed"]),
        ("{{ actor }} {{ object }}", ["login"]),
        ("{{ actor }}", ["request"]),
        ("{{ event.data.credentials.username }}", ["login_failed"]),
        ("{{ new.price }} {{ object }}", ["price_imported"]),
        ("{% with actor=event.data.credentials.username %}{{ actor }}{% endwith %}", ["login_failed"]),
    ],
)
def test_what_an_event_without_a_model_may_have(settings: Any, text: str, events: list[str]) -> None:
    assert reported(settings, about_events(text, *events)) == []


@pytest.mark.parametrize(
    ("tag", "mistake"),
    [
        ("{% url 'nope' %}", "no URL has that name"),
        ("{% url 'nope' 7 %}", "no URL has that name"),
        ("{% url 'nope:index' %}", "'nope' is not a registered namespace"),
        ("{% url 'admin:nope' pk=event.object_id %}", "no URL has that name"),
        ("{% url 'admin:app_list' %}", "it needs arguments"),
        ("{% if actor %}{% url 'nope' %}{% endif %}", "no URL has that name"),
    ],
)
def test_a_url_that_leads_nowhere(settings: Any, tag: str, mistake: str) -> None:
    ((code, message, hint),) = reported(settings, notifying(tag))
    assert code == "W038"
    assert message.startswith('SIGNAL_AUDIT["RULES"][0]["message"] has {% url ')
    assert message.endswith(f", which can't be rendered: {mistake}.")
    assert hint == "Correct the tag, or no message of the rule is sent."


@pytest.mark.parametrize(
    "tag",
    [
        "{% url 'admin:index' %}",
        "{% url 'admin:app_list' 'app' %}",
        "{% url 'admin:app_list' app_label='app' %}",
        "{% url 'nope' as found %}{{ found }}",
        "{% url event.data.view %}",
    ],
)
def test_a_url_that_may_lead_somewhere(settings: Any, tag: str) -> None:
    assert reported(settings, notifying(tag)) == []


@pytest.mark.parametrize("urls", ["no.such.urls", ""])
def test_a_project_whose_urls_cannot_be_imported_is_left_to_djangos_checks(settings: Any, urls: str) -> None:
    settings.ROOT_URLCONF = urls
    assert reported(settings, notifying("{% url 'nope' %}")) == []
