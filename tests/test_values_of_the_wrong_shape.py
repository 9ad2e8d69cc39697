"""Values of rules that have the wrong shape: ``check`` writes the edit to make, and never raises."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from django_signal_audit import Rule
from django_signal_audit.checks import check_plugins, check_rules

from .app.models import Product
from .notices import EMAIL


def condition(change: Any) -> bool:
    return bool(change)


def hints(settings: Any, *rules: Any) -> list[str]:
    mail = {"BACKEND": EMAIL, "OPTIONS": {"to": "a@example.com"}}
    settings.SIGNAL_AUDIT = {"RULES": list(rules), "CHANNELS": {"mail": mail}}
    return [item.hint or "" for item in [*check_rules(), *check_plugins()]]


NESTED: list[Any] = []
NESTED.append(NESTED)


@pytest.mark.parametrize(
    ("key", "value", "edit"),
    [
        ("notify", "mail", "Write ['mail']."),
        ("notify", {"channel": "mail"}, "Write [{'channel': 'mail'}]."),
        ("notify", {"mail": {"to": "b@example.com"}}, "Write [{'channel': 'mail', 'to': 'b@example.com'}]."),
        ("notify", {"mail": None}, "Write [{'channel': 'mail'}]."),
        ("notify", [["mail"]], "Write ['mail']."),
        ("notify", None, "Remove the key"),
        ("events", "update", "Write ['update']."),
        ("events", "create, update", "Write ['create', 'update']."),
        ("events", {"update": True}, "Write ['update']."),
        ("fields", "price,stock", "Write ['price', 'stock']."),
        ("fields", "price; stock", "Write ['price', 'stock']."),
        ("fields", [Product._meta.get_field("price")], "Write ['price']."),
        ("fields", {"price": "decreased"}, "Write ['price']."),
        ("fields", NESTED, "It is"),
        ("exclude", None, "Remove the key"),
        ("mask", {"price": "***"}, "Write ['price']."),
        ("when", ["price", "decreased"], "Write {'price': 'decreased'}."),
        ("when", ("price", "decreased_by", 5), "Write {'price': {'decreased_by': 5}}."),
        ("when", [{"price": "decreased"}, {"stock": "changed"}], "Write {'price': 'decreased', 'stock': 'changed'}."),
        ("when", [["price"], ["decreased"]], "It is"),
        ("when", lambda change: bool(change), "Move it to a module, and write its dotted path."),
        ("when", condition, f'Write its dotted path, "{__name__}.condition".'),
        ("model", Product, 'Write "app.Product".'),
        ("model", Product(), 'Write "app.Product".'),
        ("model", "app.Product, app.Tag", "Write ['app.Product', 'app.Tag']."),
        ("enabled", "False", "Write False."),
        ("enabled", 0, "Write False."),
        ("enabled", "yes", "Write True."),
        ("retention", "forever", "Remove the key: events are kept forever then."),
        ("retention", None, "Remove the key: events are kept forever then."),
    ],
)
def test_a_key_of_a_rule(settings: Any, key: str, value: Any, edit: str) -> None:
    (hint,) = hints(settings, {"name": "r", "model": "app.Product", key: value})
    assert edit in hint


@pytest.mark.parametrize(
    ("key", "value", "edit"),
    [
        ("to", [["a@example.com"], "b@example.com"], "Write ['a@example.com', 'b@example.com']."),
        ("to", None, "Remove the key"),
        ("to", [], "Remove the key"),
        ("to", condition, f'Write its dotted path, "{__name__}.condition".'),
        ("to", 7, "It is 7."),
        ("digest", 600, 'Write "600s" for seconds.'),
        ("digest", dt.timedelta(minutes=10), 'Write "600s".'),
        ("digest", "daily", 'Write "1d".'),
        ("digest", "10min", 'Write "10m".'),
        ("digest", "2 hours", 'Write "2h".'),
        ("throttle", "5/hour", 'Write "5/1h".'),
        ("throttle", "5/h", 'Write "5/1h".'),
        ("throttle", (5, "1h"), "It is"),
    ],
)
def test_a_key_of_a_notify_entry(settings: Any, key: str, value: Any, edit: str) -> None:
    rule = {"name": "r", "model": "app.Product", "notify": [{"channel": "mail", key: value}]}
    (hint,) = hints(settings, rule)
    assert edit in hint


def test_a_subclass_of_rule_is_a_rule(settings: Any) -> None:
    class Prices(Rule):
        pass

    assert hints(settings, Prices(name="prices", model="app.Product")) == []
    assert hints(settings, Prices) == ['Write {"name": …, "model": …}.']
