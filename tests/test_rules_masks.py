from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core import serializers

from django_signal_audit.events.masking import is_secret
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.rules.registry import get_registry
from django_signal_audit.testing import fake_notifications

from .app.models import Category, CheapProduct, Pizzeria, Place, Product
from .conftest import Audit, events, last
from .notices import calling

pytestmark = pytest.mark.django_db

SECRET = "hunter2-and-a-bit"


def tags(name: str, **filters: Any) -> list[Any]:
    """Return what the trail keeps of a field, newest value of each event."""
    return [event.changes[name][1] for event in events(**filters) if name in event.changes]


def everything_written() -> str:
    """Return every column of every row of the trail as one text."""
    rows = [*AuditEvent.objects.all(), *Notification.objects.all()]
    return serializers.serialize("json", rows)


class TestWords:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("token", True),
            ("api_token", True),
            ("tokenAtEnd", True),
            ("TOKEN_2", True),
            ("tokenizer", False),
            ("tokens", True),
            ("user_api_key", True),
            ("apikey", True),
            ("api_keys", True),
            ("key_api", False),
            ("api_secret_key", True),
            ("card_number", True),
            ("card_holder_number", False),
            ("session", True),
            ("obsession", False),
            ("password", True),
            ("price", False),
            ("", False),
        ],
    )
    def test_whole_words_of_the_default_list(self, name: str, expected: bool) -> None:
        assert is_secret(name) is expected

    def test_the_projects_own_list_takes_the_place_of_the_default(self, settings: Any) -> None:
        settings.SIGNAL_AUDIT = {"MASK_FIELDS": ["phone", "tax_no", "geheim", "größe", "密码"]}
        for name in ("phone", "phones", "home_phone", "tax_no", "TaxNo", "größe", "meine_größe", "密码"):
            assert is_secret(name), name
        for name in ("password", "tax", "no_tax", "phoned", "密", "gr"):
            assert not is_secret(name), name

    def test_it_counts_for_models_at_once(self, audit: Audit) -> None:
        audit(MASK_FIELDS=["name"])
        Category.objects.create(name=SECRET)
        assert "$masked" in last().changes["name"][1]
        audit(MASK_FIELDS=[])
        Product.objects.create(name="Oil", api_token="x")
        assert last().changes["api_token"] == [None, "x"]


class TestMaskOfRules:
    def test_it_adds_to_mask_fields(self, audit: Audit) -> None:
        audit({"name": "all", "model": "app.Product", "mask": ["name"]})
        Product.objects.create(name=SECRET, api_token="t")
        changes = last().changes
        assert set(changes["name"][1]) == set(changes["api_token"][1]) == {"$masked"}
        assert changes["price"] == [None, "0.00"]

    @pytest.mark.parametrize("order", [1, -1])
    def test_no_rule_lowers_anothers(self, audit: Audit, order: int) -> None:
        rules = [
            {"name": "masks", "model": "app.*", "fields": ["stock"], "mask": ["name"]},
            {"name": "does not", "model": "app.Product", "mask": []},
        ]
        audit(*rules[::order])
        Product.objects.create(name=SECRET)
        assert "$masked" in last().changes["name"][1]

    def test_exact_names_only(self, audit: Audit) -> None:
        audit({"name": "all", "model": "app.*", "mask": ["name", "stock"]})
        Product.objects.create(name="x", stock=3)
        assert set(last().changes["stock"][1]) == {"$masked"}
        Pizzeria.objects.create(name="x", stars=3)
        assert last().changes["stars"] == [None, 3]

    @pytest.mark.parametrize(
        "mistake", [{"fields": ["nmae"]}, {"notify": ["nobody"]}, {"odd": 1}, {"when": 3}, {"mask": "name"}]
    )
    def test_a_mistake_in_the_rule_brings_no_secret_to_light(self, audit: Audit, mistake: dict[str, Any]) -> None:
        audit({"name": "masks", "model": "app.product", "mask": ["name"], **mistake}, {"name": "all", "model": "app.*"})
        assert [rule.name for rule in get_registry().rules] == ["all"]
        Product.objects.create(name=SECRET)
        assert "$masked" in last().changes["name"][1]

    def test_a_rule_that_is_off_masks_nothing(self, audit: Audit) -> None:
        off = {"name": "off", "model": "app.Product", "mask": ["name"], "enabled": False}
        audit(off, {"name": "all", "model": "app.*"})
        Product.objects.create(name="Oil")
        assert last().changes["name"] == [None, "Oil"]

    def test_proxies_and_children_inherit_it(self, audit: Audit) -> None:
        audit(
            {"name": "cheap", "model": "app.CheapProduct", "mask": ["name"]},
            {"name": "places", "model": "app.Place", "mask": ["name"]},
            {"name": "all", "model": "app.*"},
        )
        for make in (Product, CheapProduct, Place, Pizzeria):
            make.objects.create(name=SECRET)
            assert "$masked" in last().changes["name"][1], make


class TestTags:
    def test_equal_secrets_have_equal_tags_within_a_field_of_a_row(self, audit: Audit) -> None:
        audit({"name": "all", "model": "app.*", "mask": ["name"]})
        product = Product.objects.create(name="same", api_token="same")
        for name in ("other", "same"):
            product.name = name
            product.save()
        Product.objects.create(name="same")
        Category.objects.create(pk=product.pk, name="same")
        first, second, third, elsewhere = tags("name", model="app.product")
        assert first == third != second
        # No other row, field or model tells that it holds the same secret.
        assert first != elsewhere
        assert first not in tags("api_token")
        assert first not in tags("name", model="app.category")

    def test_no_secret_is_no_secret(self, audit: Audit) -> None:
        audit({"name": "all", "model": "app.Product", "mask": ["slug"]})
        product = Product.objects.create(name="x")
        assert last().changes["slug"] == [None, None]
        product.slug = "secret"
        product.save()
        old, new = last().changes["slug"]
        assert old is None
        assert set(new) == {"$masked"}

    def test_a_save_of_the_same_secret_changes_nothing(self, audit: Audit) -> None:
        audit({"name": "all", "model": "app.Product", "mask": ["name"], "fields": ["name"]})
        product = Product.objects.create(name=SECRET)
        product.save()
        assert len(events()) == 1

    @pytest.mark.parametrize("key", ["one", b"two"])
    def test_the_key_is_the_projects(self, audit: Audit, settings: Any, key: Any) -> None:
        def tag() -> Any:
            Product.objects.filter(pk=product.pk).update(api_token="")
            Product.objects.filter(pk=product.pk).update(api_token=SECRET)
            return tags("api_token")[-1]

        audit()
        product = Product.objects.create(name="x")
        by_secret_key = tag()
        audit(MASK_KEY=key)
        by_mask_key = tag()
        settings.SECRET_KEY = "another"
        assert tag() == by_mask_key
        audit()
        assert len({json.dumps(item) for item in (by_secret_key, by_mask_key, tag())}) == 3


class TestNothingGivesTheSecret:
    def test_no_column_has_it(self, audit: Audit) -> None:
        audit()
        product = Product.objects.create(name="x", api_token=SECRET)
        product.api_token = f"{SECRET}!"
        product.save()
        product.delete()
        assert len(events()) == 3
        assert SECRET not in everything_written()

    def test_no_message_has_it(self, audit: Audit) -> None:
        audit(
            {
                "name": "tell",
                "model": "app.Product",
                "notify": [
                    {"channel": "take", "subject": "{{ old.api_token }}{{ new.api_token }}"},
                    {"channel": "take", "to": "x", "message": "{{ event.changes }} {{ new }}"},
                ],
            },
            CHANNELS={"take": calling("take")},
        )
        with fake_notifications() as fake:
            product = Product.objects.create(name="x", api_token=SECRET)
            product.api_token = f"{SECRET}!"
            product.save()
        texts = [message.subject + message.body for message in fake.sent]
        assert len(texts) == 4
        assert not any(SECRET in text for text in texts)
        assert any("****" in text for text in texts)

    def test_a_condition_may_look_at_it(self, audit: Audit) -> None:
        audit({"name": "leaked", "model": "app.Product", "when": {"api_token": {"to": SECRET}}})
        Product.objects.create(name="x", api_token="other")
        Product.objects.create(name="x", api_token=SECRET)
        assert len(events()) == 1
        assert SECRET not in everything_written()

    def test_a_long_secret_is_a_tag_and_no_digest(self, audit: Audit) -> None:
        audit({"name": "all", "model": "auth.User", "mask": ["first_name"]}, MAX_VALUE_BYTES=10)
        User.objects.create(username="a", first_name="x" * 100)
        assert set(last().changes["first_name"][1]) == {"$masked"}
