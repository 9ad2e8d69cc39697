"""Mistakes that a Django developer makes in the settings: ``check`` says what is wrong, where, and the edit to make."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.contrib import admin
from django.template import engines
from django.urls import path

from django_signal_audit import Rule
from django_signal_audit.checks import check_plugins, check_rules
from django_signal_audit.rules.registry import get_registry

from .app.models import Product
from .notices import EMAIL, LOG

MAIL = {"BACKEND": EMAIL, "OPTIONS": {"to": "a@example.com"}}
CHANNELS = {"mail": MAIL, "log": {"BACKEND": LOG}}
PRODUCT = {"name": "prices", "model": "app.Product"}


def function(value: Any) -> Any:
    return value


def found(settings: Any, audit: Any) -> list[tuple[str, str, str]]:
    """Return code, message without the name of the setting, and hint of what ``check`` reports."""
    settings.SIGNAL_AUDIT = audit
    messages = [*check_rules(), *check_plugins()]
    return [(str(item.id)[-4:], item.msg.removeprefix("SIGNAL_AUDIT"), item.hint or "") for item in messages]


def only(settings: Any, audit: Any, code: str, path: str, hint: str) -> None:
    ((found_code, message, found_hint),) = found(settings, audit)
    assert found_code == code
    assert message.startswith(f"{path} ")
    assert hint in found_hint


def rule(**keys: Any) -> dict[str, Any]:
    return {"RULES": [{**PRODUCT, **keys}], "CHANNELS": CHANNELS}


def request_rule(**keys: Any) -> dict[str, Any]:
    return {"RULES": [{"name": "pages", "events": ["request"], **keys}]}


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("^/admin/", "Write '/admin/*'."),
        ("^/admin/$", "Write '/admin/'."),
        ("/admin/.*", "Write '/admin/*'."),
        (r"^/api/v\d+/", "Write '/api/v*/*'."),
        (r"/shop/[^/]+/edit/", "Write '/shop/*/edit/'."),
        (r"^shop/(?P<pk>\d+)/$", "Write '/shop/*/'."),
        ("/(shop|cart)/", "Write '/*/'."),
        ("/shop/<int:pk>/", "Write '/shop/*/'."),
        ("/shop/{id}/", "Write '/shop/*/'."),
        ("/{shop,cart}/*", "Write a list: ['/shop/*', '/cart/*']."),
        ("admin/*", "Write '/admin/*'."),
        (" /admin/*", "Write '/admin/*'."),
        ("https://example.com/shop/*", "Write '/shop/*'."),
        ("//example.com", "Write '/*'."),
        ("/shop/?page=*", "Write '/shop/'."),
        ("POST /shop/*", 'Write \'/shop/*\', and "methods": ["POST"].'),
        ("shop:detail", "Write its path"),
        ("!/static/*", "decide in a function"),
        ("/[ab", "Close it, or write [[]"),
    ],
)
def test_a_pattern_that_matches_no_path(settings: Any, pattern: str, hint: str) -> None:
    only(settings, request_rule(paths=["/ok/*", pattern]), "W009", '["RULES"][0]["paths"][1]', hint)


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "/",
        "/admin/*",
        "*/export/",
        "/a/**",
        "*.css",
        "/v[12]/*",
        "/?/",
        "/static/app.*",
        "/a-b_c/~x/",
        "/.well-known/*",
        "/100%/",
    ],
)
def test_patterns_that_match_paths(settings: Any, pattern: str) -> None:
    assert found(settings, request_rule(paths=[pattern])) == []


@pytest.mark.parametrize(
    ("first", "second", "hint"),
    [
        ("prices", "Prices", "SIGNAL_AUDIT[\"RULES\"][0] is named 'prices'"),
        ("prices", "prices ", "Rename one of them"),
        ("Big  prices", "big prices", "Rename one of them"),
        ("stock", " prices", "Write 'prices'."),
    ],
)
def test_names_of_rules_that_differ_only_in_case_or_spaces(settings: Any, first: str, second: str, hint: str) -> None:
    rules = [{**PRODUCT, "name": first}, {**PRODUCT, "name": second}]
    only(settings, {"RULES": rules}, "W010", '["RULES"][1]["name"]', hint)
    assert len(get_registry().rules) == 2


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("{object} changed", "Write {{ object }}."),
        ("{ object } changed", "Write {{ object }}."),
        ("now {new.price:.2f}", "Write {{ new.price }}."),
        ("now {price}", "Write {{ new.price }}."),
        ("by {user!r}", "Write {{ actor }}."),
        ("{0} changed", "Write {{ object }}."),
        ("%s changed", "Write {{ object }}."),
        ("%(object)s changed", "Write {{ object }}."),
        ("$object changed", "Write {{ object }}."),
        ("${object} changed", "Write {{ object }}."),
        ("{{ object }} changed by {actor}", "Write {{ actor }}."),
        ("mails/price.txt", "Write the text of the template here."),
        ("price.html", "Write the text of the template here."),
    ],
)
def test_a_placeholder_that_is_not_of_djangos_templates(settings: Any, text: str, hint: str) -> None:
    only(settings, rule(notify=["mail"], message=text), "W011", '["RULES"][0]["message"]', hint)


@pytest.mark.parametrize(
    "text",
    [
        '{"text": "{{ object }}"}',
        "{{ object }}",
        "100% of it",
        "50%sure",
        "costs $5",
        "{}",
        "{unknown}",
        "f(x) = {x}",
        "{% if new %}{{ new.price }}{% endif %}",
        "see example.com",
    ],
)
def test_texts_without_placeholders(settings: Any, text: str) -> None:
    assert found(settings, rule(notify=["mail"], message=text)) == []


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("{{ object }}\n{{ new.price|curency }}", "on line 2: Invalid filter: 'curency'", "only Django's own filters"),
        ("{{ object|uper }}", "on line 1: Invalid filter", "Did you mean 'upper'?"),
        ("{{ new.price|intcomma }}", "on line 1", "only Django's own filters"),
        ("\n\n{% load humanize %}", "on line 3: 'humanize' is not a registered", "Remove the {% load %}"),
        ("{% load i18n %}", "on line 1", "Remove {% load i18n %}: its tags are there without it."),
        ("\n{% iff new %}", "on line 2", "Did you mean 'if'?"),
        ("{% static 'x' %}", "on line 1", "only Django's own tags"),
        ("\n{% if new %}x", "on line 2", "Close it with {% endif %}."),
        ("{% for x in events %}", "on line 1", "Close it with {% endfor %}."),
        ("{% endif %}", "on line 1", "Remove {% endif %}, or open its block before it."),
        ("{{ new.get_name() }}", "on line 1", "Write {{ new.get_name }}"),
        ("{{ new['price'] }}", "on line 1", "Write {{ new.price }}."),
        ("{{ new.price:.2f }}", "on line 1", "Write {{ new.price|floatformat:2 }}."),
        ("{{ new.price * 2 }}", "on line 1", "Templates don't calculate."),
    ],
)
def test_a_template_that_does_not_compile(settings: Any, text: str, said: str, hint: str) -> None:
    entry = {"channel": "mail", "subject": text}
    ((code, message, found_hint),) = found(settings, rule(notify=[entry]))
    assert code == "E017"
    assert message.startswith('["RULES"][0]["notify"][0]["subject"] does not compile')
    assert said in message
    assert "\n" not in message
    assert hint in found_hint


def test_a_template_file_that_does_not_compile_is_named_with_its_line(
    settings: Any, tmp_path: Any, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "price.html").write_text("<p>\n{{ object|nothing }}", encoding="utf-8")
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [str(tmp_path)]}]
    request.addfinalizer(lambda: vars(engines).pop("templates", None))
    mail = {"BACKEND": EMAIL, "OPTIONS": {"to": "a@example.com", "html": "price.html"}}
    ((code, message, _),) = found(settings, {"CHANNELS": {"mail": mail}})
    assert code == "E015"
    assert "'price.html', which cannot be loaded: TemplateSyntaxError on line 2: " in message
    assert "Invalid filter: 'nothing'" in message


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("channel", "mail", "Write \"notify\": ['mail']."),
        ("channels", ["mail", "log"], "Write \"notify\": ['mail', 'log']."),
        ("to", "b@example.com", "Write \"notify\": [{'channel': 'mail', 'to': 'b@example.com'}]."),
        ("recipients", ["b@example.com"], "Write \"notify\": [{'channel': 'mail', 'to': ['b@example.com']}]."),
        ("digest", "1h", "Write \"notify\": [{'channel': 'mail', 'digest': '1h'}]."),
        ("throttle", "5/1h", "Write \"notify\": [{'channel': 'mail', 'throttle': '5/1h'}]."),
        ("template", "price.txt", 'Write the text itself as "message"'),
        ("body", "text", 'Write the text itself as "message"'),
        ("action", ["update"], "Did you mean 'events'?"),
        ("condition", {"price": "changed"}, "Did you mean 'when'?"),
        ("if", {"price": "changed"}, "Did you mean 'when'?"),
        ("severity", "warning", "Did you mean 'level'?"),
        ("exclude_fields", ["price"], "Did you mean 'exclude'?"),
        ("mask_fields", ["price"], "Did you mean 'mask'?"),
        ("ttl", "1y", "Did you mean 'retention'?"),
        ("active", False, "Did you mean 'enabled'?"),
        ("disabled", True, 'Write "enabled": False.'),
        ("url", "/x", "Did you mean 'paths'?"),
        ("sender", "app.Product", "Did you mean 'model'?"),
        ("description", "Prices", "write it as a comment"),
        ("Fields", ["price"], "Did you mean 'fields'?"),
    ],
)
def test_a_key_that_rules_do_not_have(settings: Any, key: str, value: Any, hint: str) -> None:
    only(settings, rule(**{key: value}), "E005", f'["RULES"][0]["{key}"]', hint)


@pytest.mark.parametrize(
    ("entry", "key", "hint"),
    [
        ({"channel": "mail", "recipients": ["b@example.com"]}, "recipients", "Did you mean 'to'?"),
        ({"channel": "mail", "template": "x"}, "template", "Did you mean 'message'?"),
        ({"channel": "mail", "rate": "5/1h"}, "rate", "Did you mean 'throttle'?"),
        ({"channel": "mail", "every": "1h"}, "every", "Did you mean 'digest'?"),
        ({"channel": "mail", "level": "info"}, "level", 'write "level" beside "notify".'),
        ({"channel": "mail", "when": {}}, "when", 'write "when" beside "notify".'),
        ({"alias": "mail"}, "alias", "Did you mean 'channel'?"),
        ({"mail": {"to": "b@example.com"}}, "mail", "Write {'channel': 'mail', 'to': 'b@example.com'}."),
    ],
)
def test_a_key_that_notify_entries_do_not_have(settings: Any, entry: Any, key: str, hint: str) -> None:
    only(settings, rule(notify=[entry]), "E005", f'["RULES"][0]["notify"][0]["{key}"]', hint)


@pytest.mark.parametrize(
    ("rules", "code", "path", "hint"),
    [
        ({"prices": {"model": "app.Product"}}, "E003", '["RULES"]', "[{'name': 'prices', 'model': 'app.Product'}]"),
        (PRODUCT, "E003", '["RULES"]', "Put the rule into a list: [{'name': 'prices', 'model': 'app.Product'}]."),
        ([[PRODUCT]], "E004", '["RULES"][0]', "Write its rules directly into RULES."),
        ([("prices", {"model": "app.Product"})], "E004", '["RULES"][0]', "Write {'name': 'prices', 'model': "),
        ([Product], "E004", '["RULES"][0]', 'Write {"name": "product", "model": "app.Product"}.'),
        (["app.Product"], "E004", '["RULES"][0]', 'Write {"name": "product", "model": "app.Product"}.'),
        ("app.Product", "E003", '["RULES"]', "It is 'app.Product'."),
    ],
)
def test_rules_that_are_no_list_of_dicts(settings: Any, rules: Any, code: str, path: str, hint: str) -> None:
    only(settings, {"RULES": rules}, code, path, hint)


def test_a_tuple_of_rules_is_a_list(settings: Any) -> None:
    assert found(settings, {"RULES": (PRODUCT,)}) == []


@pytest.mark.parametrize(
    ("channels", "code", "path", "hint"),
    [
        (MAIL, "E003", '["CHANNELS"]', '"CHANNELS": {"mail": {"BACKEND": "dotted.path", "OPTIONS": {…}}}'),
        ([MAIL], "E003", '["CHANNELS"]', "Write a dict of alias to channel"),
        ({1: MAIL}, "E003", '["CHANNELS"]', "Aliases are strings."),
        ({"mail": EMAIL}, "E015", '["CHANNELS"]["mail"]', f"Write {{'BACKEND': '{EMAIL}', 'OPTIONS': {{}}}}."),
        ({"mail": {"BACKEND": EMAIL, "to": "a@b.example"}}, "E015", '["CHANNELS"]["mail"]["to"]', '{"to": …}'),
        ({"mail": {"to": "a@b.example", "html": ""}}, "E015", '["CHANNELS"]["mail"]["to"]', '{"to": …, "html": …}'),
        ({"mail": {"CLASS": EMAIL}}, "E015", '["CHANNELS"]["mail"]["CLASS"]', "Did you mean 'BACKEND'?"),
        ({"mail": {"backend": EMAIL}}, "E015", '["CHANNELS"]["mail"]["backend"]', "Did you mean 'BACKEND'?"),
        (
            {"mail": {"BACKEND": EMAIL, "KWARGS": {}}},
            "E015",
            '["CHANNELS"]["mail"]["KWARGS"]',
            "Did you mean 'OPTIONS'?",
        ),
        (
            {"mail": {"BACKEND": EMAIL, "OPTIONS": {"recipients": "a@b.example"}}},
            "E015",
            '["CHANNELS"]["mail"]["OPTIONS"]["recipients"]',
            "Did you mean 'to'?",
        ),
        (
            {"mail": {"BACKEND": "django_signal_audit.channels.EmailChannel"}},
            "E015",
            '["CHANNELS"]["mail"]["BACKEND"]',
            f"Did you mean '{EMAIL}'?",
        ),
        (
            {"mail": {"BACKEND": EMAIL, "OPTIONS": {"to": "a@b.example, c@d.example"}}},
            "E015",
            '["CHANNELS"]["mail"]["OPTIONS"]["to"]',
            "Write a list: ['a@b.example', 'c@d.example'].",
        ),
    ],
)
def test_channels_that_are_not_nested(settings: Any, channels: Any, code: str, path: str, hint: str) -> None:
    only(settings, {"RULES": [], "CHANNELS": channels}, code, path, hint)


def test_a_channel_that_is_no_dict_does_not_show_its_secret(settings: Any) -> None:
    ((_, message, hint),) = found(settings, {"CHANNELS": {"hook": "https://example.com/?token=hunter2"}})
    assert "hunter2" not in message + hint


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("password", "Write ['password']."),
        ("password, token", "Write ['password', 'token']."),
        ({"app.Product": ["price"]}, "Write ['price']."),
        ([["password"]], "Write ['password']."),
    ],
)
def test_mask_fields_that_are_no_list(settings: Any, value: Any, hint: str) -> None:
    only(settings, {"MASK_FIELDS": value}, "E003", '["MASK_FIELDS"]', hint)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("app.Product.price", 'Write "price", or "mask": ["price"] in a rule of the model.'),
        ("Product.price", 'Write "price"'),
        ("!app.Product.pin", 'Write "!pin".'),
        ("*cost*", 'Write "cost"'),
        ("^cost", 'Write "cost"'),
        ("-pin", 'Write "!pin" to store the values of pin.'),
    ],
)
def test_a_word_of_mask_fields_that_is_more_than_a_name(settings: Any, word: str, hint: str) -> None:
    only(settings, {"MASK_FIELDS": ["password", word]}, "W012", '["MASK_FIELDS"][1]', hint)


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("RULE", "Did you mean 'RULES'?"),
        ("rules", "Did you mean 'RULES'?"),
        ("TRACKED_MODELS", "Did you mean 'RULES'?"),
        ("BACKENDS", "Did you mean 'CHANNELS'?"),
        ("NOTIFICATIONS", "Did you mean 'CHANNELS'?"),
        ("SENSITIVE_FIELDS", "Did you mean 'MASK_FIELDS'?"),
        ("IGNORE_MODELS", "Did you mean 'EXCLUDE_MODELS'?"),
        ("FAIL_SILENTLY", "Did you mean 'ON_ERROR'?"),
        ("CELERY", "Did you mean 'DISPATCHER'?"),
        ("ASYNC", "Did you mean 'DISPATCHER'?"),
        ("GET_USER", "Did you mean 'ACTOR'?"),
        ("PERMISSION", "Did you mean 'VISIBILITY'?"),
        ("RETENTION", '"RULES": [{"retention": …}]'),
        ("model", '"RULES": [{"model": …}]'),
        ("MASK", 'there is "MASK_FIELDS"'),
        ("OPTIONS", '"CHANNELS": {"mail": {"BACKEND": …, "OPTIONS": …}}'),
    ],
)
def test_a_setting_by_another_name(settings: Any, key: str, hint: str) -> None:
    only(settings, {key: "x"}, "E002", f'["{key}"]', hint)


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("ON_ERROR", "ignore", 'Write "log".'),
        ("ON_ERROR", True, 'Write "raise".'),
        ("ON_ERROR", "RAISE", 'Write "raise".'),
        ("ENGINE", "postgresql", 'Write "auto".'),
        ("ENGINE", "Portable", 'Write "portable".'),
        ("CAPTURE_QUERIES", "False", "Write False."),
        ("CAPTURE_QUERIES", 1, "Write True."),
        ("MAX_VALUE_BYTES", "64k", "Write 65536."),
        ("MAX_VALUE_BYTES", "1 MB", "Write 1048576."),
        ("MAX_VALUE_BYTES", 1000.0, "Write 1000."),
        ("SEND_TIMEOUT", "60", "Write 60."),
        ("SEND_TIMEOUT", "1m", "Write 60."),
        ("SEND_TIMEOUT", dt.timedelta(seconds=1.5), "Write 1.5."),
        ("TRUSTED_PROXIES", "10.0.0.1, 10.0.0.2", "Write ['10.0.0.1', '10.0.0.2']."),
        ("EXCLUDE_MODELS", "app.Product", "Write ['app.Product']."),
        ("EXCLUDE_MODELS", [Product], "Write ['app.Product']."),
        ("DISPATCHER", None, "Remove the key"),
        ("ACTOR", function, f'Write its dotted path, "{__name__}.function".'),
        ("VISIBILITY", lambda user, events: events, "Move it to a module"),
    ],
)
def test_a_setting_of_the_wrong_type(settings: Any, key: str, value: Any, hint: str) -> None:
    only(settings, {key: value}, "E003", f'["{key}"]', hint)


@pytest.mark.parametrize(
    ("event", "hint"),
    [
        *((word, "Did you mean 'create'?") for word in ("insert", "created", "creation", "bulk_create", "+", "added")),
        *((word, "Did you mean 'update'?") for word in ("updated", "changes", "modification", "upsert", "soft_delete")),
        *((word, "Did you mean 'delete'?") for word in ("deletion", "deleted", "removal", "cascade", "-", "DELETE")),
        *((word, "Did you mean 'm2m'?") for word in ("m2m_changed", "m2m_add", "clear")),
        *((word, "Remove the key") for word in ("*", "all", "any")),
        *((word, "Did you mean 'view'?") for word in ("viewed", "read", "accessed")),
    ],
)
def test_an_event_by_another_name(settings: Any, event: str, hint: str) -> None:
    only(settings, rule(events=[event]), "E011", '["RULES"][0]["events"]', hint)


@pytest.mark.parametrize(("event", "meant"), [("created", "create"), ("post_save", "create"), ("deleted", "delete")])
def test_an_event_of_models_in_a_rule_without_one(settings: Any, event: str, meant: str) -> None:
    audit = {"RULES": [{"name": "r", "events": [event]}]}
    only(settings, audit, "W031", '["RULES"][0]["events"]', f"Did you mean '{meant}'? It needs a \"model\".")


@pytest.mark.parametrize("model", ["APP.PRODUCT", "app.product", "App.Product"])
def test_the_case_of_a_label_does_not_matter(settings: Any, model: str) -> None:
    assert found(settings, rule(model=model)) == []


@pytest.mark.parametrize(
    "model", ["tests.app.models.Product", "app.models.Product", "Product", " app.Product", "app:Product"]
)
def test_a_model_by_its_module_or_name(settings: Any, model: str) -> None:
    only(settings, rule(model=model), "E009", '["RULES"][0]["model"]', "Did you mean 'app.Product'?")


@pytest.mark.parametrize(
    ("to", "code", "hint"),
    [
        ("a@example.com,b@example.com", "E027", "Write a list: ['a@example.com', 'b@example.com']."),
        ("a@example.com; b@example.com", "E027", "Write a list: ['a@example.com', 'b@example.com']."),
        ("object.owner.email", "E027", "write 'owner.email'."),
        ("new.owner.email", "E027", "write 'owner.email'."),
        ("{{ object.owner.email }}", "E027", "Write the path alone: 'owner.email'."),
        ("owner__email", "W033", "Did you mean 'owner.email'?"),
        ({"email": "a@example.com"}, "E008", "Write ['a@example.com']."),
        ([("Ann", "a@example.com")], "E008", "Write ['a@example.com']."),
    ],
)
def test_recipients_in_another_form(settings: Any, to: Any, code: str, hint: str) -> None:
    audit = rule(model="app.Person", notify=[{"channel": "mail", "to": to}])
    only(settings, audit, code, '["RULES"][0]["notify"][0]["to"]', hint)


@pytest.mark.parametrize("key", ["events", "fields", "exclude", "mask", "notify"])
def test_a_string_where_a_list_is_expected(settings: Any, key: str) -> None:
    only(settings, rule(**{key: "price, stock"}), "E008", f'["RULES"][0]["{key}"]', "Write ['price', 'stock'].")


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [
        ("digest", 600, "600s"),
        ("digest", "600", "600s"),
        ("digest", "30 days", "30d"),
        ("digest", "1 hour", "1h"),
        ("digest", "an hour", "1h"),
        ("digest", "1h30m", "90m"),
        ("digest", "PT1H", "1h"),
        ("digest", "2 months", "60d"),
        ("digest", dt.timedelta(hours=1), "3600s"),
        ("throttle", 5, "5/1h"),
        ("throttle", "5", "5/1h"),
        ("throttle", "5 per hour", "5/1h"),
        ("throttle", "10/day", "10/1d"),
        ("throttle", "1h/5", "5/1h"),
        ("throttle", (5, "1h"), "5/1h"),
        ("throttle", {"1h": 5}, "5/1h"),
    ],
)
def test_a_duration_in_another_form(settings: Any, key: str, value: Any, meant: str) -> None:
    audit = rule(notify=[{"channel": "mail", key: value}])
    only(settings, audit, "E021", f'["RULES"][0]["notify"][0]["{key}"]', f'Write "{meant}"')


@pytest.mark.parametrize("value", ["2 fortnights", "500d", "0/1h", True, 1.5, "0 8 * * *"])
def test_no_edit_is_proposed_that_is_wrong_itself(settings: Any, value: Any) -> None:
    for key in ("digest", "throttle"):
        for code, _, hint in found(settings, rule(notify=[{"channel": "mail", key: value}])):
            assert (code, "Write" in hint) == ("E021", False), key


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (30, "30d"),
        ("30", "30d"),
        ("30 days", "30d"),
        ({"days": 30}, "30d"),
        ("a year", "1y"),
        ("P6M", "6mo"),
        ("1 month", "1mo"),
    ],
)
def test_a_retention_in_another_form(settings: Any, value: Any, meant: str) -> None:
    only(settings, rule(retention=value), "E021", '["RULES"][0]["retention"]', f'Write "{meant}"')


@pytest.mark.parametrize(
    ("keys", "hint"),
    [
        ({"fields": ["stock"], "when": {"price": "decreased"}}, 'Add "price" to "fields".'),
        ({"exclude": ["price"], "when": {"price": "decreased"}}, 'Remove "price" from "exclude".'),
    ],
)
def test_a_condition_on_a_field_that_the_rule_is_not_about(settings: Any, keys: Any, hint: str) -> None:
    only(settings, rule(**keys), "W013", '["RULES"][0]["when"]', hint)


@pytest.mark.parametrize(
    "keys",
    [
        {"fields": ["stock", "price"], "when": {"price": "decreased"}},
        {"when": {"price": "decreased"}},
        {"fields": ["stock"], "when": {"price": "decreased", "stock": "changed"}},
        {"fields": ["stock"], "when": {"price": {"to": 1}}, "events": ["create"]},
    ],
)
def test_a_condition_that_a_change_of_the_rule_can_meet(settings: Any, keys: Any) -> None:
    assert found(settings, rule(**keys)) == []


@pytest.mark.parametrize(
    ("when", "code", "path", "hint"),
    [
        ({"price": {"decreased_by_percent": "20%"}}, "E012", '["price"]["decreased_by_percent"]', "Write 20."),
        ({"price": {"decreased_by": -5}}, "E012", '["price"]["decreased_by"]', "Write 5."),
        ({"price": {"between": [1, 2]}}, "E012", '["price"]', "Write a function"),
        ({"price": {"not": 1}}, "E012", '["price"]', "Write a function"),
        ("price", "E016", "", 'such as {"price": "changed"}'),
        ("price > 5", "E016", "", 'such as {"price": "changed"}'),
        ("new.price < old.price", "E016", "", 'such as {"price": "changed"}'),
        ({"new.price": "changed"}, "E010", "", "Did you mean 'price'?"),
        ({"price__lt": 5}, "E010", "", "Did you mean 'price'?"),
    ],
)
def test_a_condition_in_another_form(settings: Any, when: Any, code: str, path: str, hint: str) -> None:
    only(settings, rule(when=when), code, f'["RULES"][0]["when"]{path}', hint)


@pytest.mark.parametrize(
    ("key", "name", "hint"),
    [
        ("fields", "*", "Remove it"),
        ("fields", "__all__", "Remove it"),
        ("mask", "*", "Name each field."),
        ("fields", "pk", "the primary key stands on every event"),
        ("fields", "pictures", 'Add a rule with "model": "app.Picture"'),
        ("fields", "app.Product.price", "Did you mean 'price'?"),
        ("exclude", "product.price", "Did you mean 'price'?"),
    ],
)
def test_a_field_in_another_form(settings: Any, key: str, name: str, hint: str) -> None:
    only(settings, rule(**{key: [name]}), "E010", f'["RULES"][0]["{key}"]', hint)


@pytest.mark.parametrize(
    ("methods", "hint"),
    [(["*"], "Remove the key"), (["POST,PUT"], "Write ['POST', 'PUT']."), (["POTS"], "Did you mean 'POST'?")],
)
def test_a_method_that_is_none(settings: Any, methods: list[str], hint: str) -> None:
    only(settings, request_rule(methods=methods), "W001", '["RULES"][0]["methods"]', hint)


def test_all_of_them_come_out_at_once(settings: Any) -> None:
    audit = {
        "BACKENDS": {},
        "MASK_FIELDS": ["app.Product.price"],
        "CHANNELS": {"mail": {"BACKEND": EMAIL, "to": "a@example.com"}, "log": {"BACKEND": LOG}},
        "RULES": [
            {"name": "pages", "events": ["request"], "paths": ["^/admin/", "admin/*"]},
            {"name": "Pages", "model": "app.Product", "events": ["insert"], "channel": "mail", "retention": "30 days"},
            {
                "name": "cheap",
                "model": "Product",
                "notify": ["log"],
                "subject": "{object}",
                "message": "{{ object|x }}",
            },
            "app.Product",
        ],
    }
    codes = sorted(code for code, *_ in found(settings, audit))
    expected = ["E002", "E004", "E005", "E009", "E011", "E015", "E017", "E021", "W009", "W009", "W010", "W011", "W012"]
    assert codes == expected


@pytest.mark.parametrize(
    ("keys", "key", "hint"),
    [
        ({"fields": []}, "fields", 'Remove "fields"'),
        ({"fields": ()}, "fields", "every field"),
        ({"events": []}, "events", "every event"),
        ({"events": ["request"], "paths": [], "model": ""}, "paths", "every path"),
        ({"events": ["request"], "methods": set(), "model": ""}, "methods", "every method"),
    ],
)
def test_an_empty_list_that_leaves_nothing_out(settings: Any, keys: dict[str, Any], key: str, hint: str) -> None:
    settings.SIGNAL_AUDIT = rule(**keys)
    ((code, message, found_hint),) = found(settings, settings.SIGNAL_AUDIT)
    assert code == "W091"
    assert message.startswith(f'["RULES"][0]["{key}"] is empty')
    assert hint in message + found_hint


def test_a_rule_object_has_empty_lists_by_itself(settings: Any) -> None:
    assert found(settings, {"RULES": [Rule(name="a", model="app.Product")]}) == []
    only(settings, {"RULES": [Rule(name="a", model="app.Product", fields=[])]}, "W091", '["RULES"][0]["fields"]', "")


@pytest.mark.parametrize(
    ("model", "when", "hint"),
    [
        ("auth.User", {"is_staff": "increased"}, 'Use {"to": True}.'),
        ("auth.User", {"is_staff": "decreased"}, 'Use {"to": False}.'),
        ("auth.User", {"is_active": {"crosses_below": True}}, 'Use {"to": False}.'),
        ("app.Product", {"category": "increased"}, 'Use "changed"'),
        ("app.Product", {"category": {"increased_by": 1}}, 'Use "changed"'),
        ("app.Product", {"category": {"crosses_above": 3}}, 'Use "changed"'),
        ("columns.Every", {"ref": "increased"}, 'Use "changed"'),
    ],
)
def test_a_flag_or_a_key_that_is_to_rise(settings: Any, model: str, when: dict[str, Any], hint: str) -> None:
    (name,) = when
    only(settings, rule(model=model, when=when), "W092", f'["RULES"][0]["when"]["{name}"]', hint)


@pytest.mark.parametrize("when", [{"is_staff": "changed"}, {"is_staff": {"to": True}}, {"date_joined": "increased"}])
def test_flags_may_be_asked_for_and_times_may_rise(settings: Any, when: dict[str, Any]) -> None:
    assert found(settings, rule(model="auth.User", when=when)) == []


def test_a_locked_rule_that_users_are_to_opt_in_to(settings: Any) -> None:
    entry = {"channel": "mail", "opt_in": True}
    only(settings, rule(locked=True, notify=[entry]), "W090", '["RULES"][0]["notify"][0]["opt_in"]', "Remove it")
    assert found(settings, rule(locked=False, notify=[entry])) == []
    assert found(settings, rule(locked=True, notify=[{**entry, "opt_in": False}])) == []


SITE = {"SITE_URL": "https://shop.example.com"}


@pytest.mark.parametrize("to", ["actor", "superusers", "group:Buyers", "user:ada"])
def test_messages_to_users_that_have_no_page_to_unsubscribe(settings: Any, to: str) -> None:
    entry = {"channel": "mail", "to": [to]}
    settings.ROOT_URLCONF = (path("admin/", admin.site.urls),)
    only(settings, {**rule(notify=[entry]), **SITE}, "W093", '["SITE_URL"]', "include(")
    for keys in ({"locked": True}, {"enabled": False}, {"notify": [{**entry, "to": ["a@example.com"]}]}):
        assert found(settings, {**rule(**{"notify": [entry], **keys}), **SITE}) == []
    assert found(settings, rule(notify=[entry])) == []
    settings.ROOT_URLCONF = "tests.urls"
    assert found(settings, {**rule(notify=[entry]), **SITE}) == []


def test_a_site_that_has_no_page_of_ours(settings: Any) -> None:
    settings.ROOT_URLCONF = ()
    only(settings, {**rule(), **SITE}, "W093", '["SITE_URL"]', "include(")
    settings.ROOT_URLCONF = "tests.no_such_urls"
    assert found(settings, {**rule(), **SITE}) == []
