from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import override_settings

from django_signal_audit import Rule
from django_signal_audit.models import AuditEvent
from django_signal_audit.rules.registry import get_registry
from django_signal_audit.rules.schema import RULE_KEYS

from .app.models import (
    Category,
    CheapProduct,
    Document,
    Person,
    Pizzeria,
    Place,
    Product,
    Restaurant,
    Tag,
    Team,
    Unaudited,
)
from .conftest import Audit, events, last, trail

pytestmark = pytest.mark.django_db


def watched_labels() -> set[str]:
    return {plan.model._meta.label for plan in get_registry().plans.values()}


class TestForms:
    def test_a_dict_and_a_rule_mean_the_same(self, audit: Audit) -> None:
        keys: dict[str, Any] = {
            "name": "all keys",
            "model": "app.Product",
            "events": ["update"],
            "fields": ["price", "name"],
            "exclude": ["name"],
            "mask": ["price"],
            "when": {"price": "changed"},
            "notify": ["log"],
            "subject": "{{ object }}",
            "message": "{{ new.price }}",
            "level": "warning",
            "retention": "365d",
            "enabled": True,
        }
        channels = {"log": {"BACKEND": "django_signal_audit.channels.log.LogChannel"}}
        compiled = []
        for form in (keys, Rule(**keys), MappingProxyType(keys)):
            audit(form, CHANNELS=channels)
            assert get_registry().problems == []
            compiled.append(get_registry().rules)
        assert compiled[0] == compiled[1] == compiled[2]

    def test_every_key_has_a_default(self) -> None:
        assert {key: getattr(Rule(name="x"), key) for key in RULE_KEYS} == {
            "name": "x",
            "model": "",
            "signal": "",
            "event": "",
            "events": (),
            "fields": (),
            "exclude": (),
            "mask": (),
            "personal": (),
            "include": (),
            "window": "",
            "when": None,
            "notify": (),
            "subject": "",
            "message": "",
            "level": "info",
            "paths": (),
            "methods": (),
            "retention": "",
            "locked": False,
            "enabled": True,
        }

    def test_a_rule_cannot_be_changed(self) -> None:
        with pytest.raises(AttributeError):
            Rule(name="x").level = "critical"  # type: ignore[misc]


class TestModels:
    @pytest.mark.parametrize(
        "pattern", ["app.Product", "app.product", "APP.PRODUCT", ["app.Product"], ("app.pRODUCT",), {"app.Product"}]
    )
    def test_labels_in_any_case(self, audit: Audit, pattern: Any) -> None:
        audit({"name": "one", "model": pattern})
        assert watched_labels() == {"app.Product"}
        Product.objects.create(name="Oil")
        assert last().rules == ["one"]

    def test_a_list_of_models_is_watched(self, audit: Audit) -> None:
        audit({"name": "some", "model": ["app.Tag", "app.Category", "app.Tag"]})
        assert watched_labels() == {"app.Tag", "app.Category"}
        Tag.objects.create(name="a")
        assert last().rules == ["some"]

    @pytest.mark.parametrize("pattern", ["app.*", "App.*", ["app.*", "app.Tag"]])
    def test_an_apps_models_are_watched(self, audit: Audit, pattern: Any) -> None:
        audit({"name": "app", "model": pattern})
        assert {"app.Product", "app.Tag", "app.Unaudited", "app.Seat"} <= watched_labels()
        assert not {"auth.User", "app.CheapProduct", "app.Product_tags", "shop.Product"} & watched_labels()

    def test_everything_leaves_out_what_nobody_wants(self, audit: Audit) -> None:
        audit({"name": "all", "model": "*"})
        assert {"app.Product", "auth.User", "auth.Group"} <= watched_labels()
        unwanted = {"sessions.Session", "contenttypes.ContentType", "admin.LogEntry", "app.CheapProduct"}
        assert not unwanted & watched_labels()
        assert not any(label.startswith("django_signal_audit.") for label in watched_labels())

    def test_excluded_models_are_not_watched(self, audit: Audit) -> None:
        audit({"name": "all", "model": "*"}, EXCLUDE_MODELS=["AUTH.*", "app.tag", "app.CheapProduct"])
        assert {"sessions.Session", "admin.LogEntry", "app.Category"} <= watched_labels()
        assert not {"auth.User", "auth.Group", "app.Tag", "app.Product"} & watched_labels()
        assert not any(label.startswith("django_signal_audit.") for label in watched_labels())

    def test_what_is_excluded_can_be_named(self, audit: Audit) -> None:
        audit({"name": "named", "model": ["*", "sessions.Session"]}, {"name": "app", "model": "sessions.*"})
        assert [rule.name for rule in get_registry().plans[Session].rules] == ["named", "app"]

    def test_a_rule_on_a_proxy_is_a_rule_on_its_rows(self, audit: Audit) -> None:
        audit({"name": "cheap", "model": "app.CheapProduct", "fields": ["price"]})
        Product.objects.create(name="Oil", price=1)
        assert (last().model, last().rules, list(last().changes)) == ("app.product", ["cheap"], ["price"])
        CheapProduct.objects.create(name="Gas", price=1)
        assert (last().model, last().rules) == ("app.product", ["cheap"])

    def test_a_rule_on_a_model_covers_its_proxies(self, audit: Audit) -> None:
        audit({"name": "products", "model": "app.Product"})
        CheapProduct.objects.create(name="Gas")
        assert (last().model, last().rules) == ("app.product", ["products"])

    def test_a_parents_rule_counts_for_the_ruled_child(self, audit: Audit) -> None:
        audit(
            {"name": "places", "model": "app.Place", "fields": ["name"]},
            {"name": "pizza", "model": "app.Pizzeria", "fields": ["oven"]},
        )
        Pizzeria.objects.create(name="Da Gino", stars=2)
        (event,) = events()
        assert event.model == "app.pizzeria"
        assert sorted(event.rules) == ["pizza", "places"]
        assert set(event.changes) == {"name", "oven"}
        Restaurant.objects.create(name="Chez nous")
        assert last().model == "app.place"

    def test_no_rule_no_event(self, audit: Audit) -> None:
        audit({"name": "one", "model": "app.Tag"})
        Unaudited.objects.create(name="x")
        Place.objects.create(name="x")
        assert events() == []


class TestEvents:
    def life(self) -> None:
        product = Product.objects.create(name="Oil")
        product.name = "Gas"
        product.save()
        product.tags.add(Tag.objects.create(name="t"))
        product.delete()

    @pytest.mark.parametrize(
        "wanted", [["create"], ["update"], ["delete"], ["m2m"], ["create", "delete"], ["m2m", "update"], []]
    )
    def test_only_the_events_asked_for(self, audit: Audit, wanted: list[str]) -> None:
        audit({"name": "some", "model": "app.Product", "events": wanted, "exclude": ["modified"]})
        self.life()
        # Members that go with their owner are an event of their own where no delete event holds them.
        types = list(dict.fromkeys(event.event_type for event in events(model="app.product")))
        order = ["create", "update", "m2m", "delete"]
        assert types == [name for name in order if name in (wanted or order)]


class TestFields:
    def test_only_these_trigger_and_are_recorded(self, audit: Audit) -> None:
        audit({"name": "prices", "model": "app.Product", "fields": ["price", "tags"]})
        product = Product.objects.create(name="Oil", price=3)
        product.name = "Gas"
        product.save()
        product.price = 4
        product.stock = 9
        product.save()
        tag = Tag.objects.create(name="t")
        product.tags.add(tag)
        product.delete()
        assert trail() == [
            ("create", {"price": [None, "3.00"]}),
            ("update", {"price": ["3.00", "4.00"]}),
            ("m2m", {"tags": {"added": [tag.pk], "removed": []}}),
            ("delete", {"price": ["4.00", None], "tags": {"added": [], "removed": [tag.pk]}}),
        ]

    def test_excluded_fields_are_not_recorded(self, audit: Audit) -> None:
        audit({"name": "rest", "model": "app.Category", "exclude": ["name"]})
        category = Category.objects.create(name="a")
        category.name = "b"
        category.save()
        assert trail() == [("create", {"parent": [None, None]})]

    def test_a_wildcard_rule_is_no_rule_of_models_without_its_fields(self, audit: Audit) -> None:
        audit({"name": "prices", "model": "app.*", "fields": ["price"]})
        assert watched_labels() == {"app.Product"}
        Tag.objects.create(name="a")
        assert events() == []

    def test_nor_of_models_without_the_fields_of_its_condition(self, audit: Audit) -> None:
        audit({"name": "named", "model": "app.*", "when": {"price": {"to": 5}}})
        assert watched_labels() == {"app.Product"}


class TestManyRules:
    def test_one_event_with_all_names_the_union_of_fields_and_the_highest_level(self, audit: Audit) -> None:
        audit(
            {"name": "a", "model": "app.Product", "fields": ["name", "stock"]},
            {"name": "b", "model": "app.Product", "fields": ["price"], "level": "critical"},
            {"name": "c", "model": "app.*", "fields": ["name", "price"], "level": "warning"},
            {"name": "d", "model": "app.Product", "fields": ["weight"]},
            {"name": "e", "model": "app.Product", "events": ["delete"]},
        )
        product = Product.objects.create(name="Oil")
        assert (last().rules, last().level) == (["a", "b", "c", "d"], "critical")
        assert set(last().changes) == {"name", "stock", "price", "weight"}
        product.name, product.is_active = "Gas", False
        product.save()
        assert (last().rules, last().level) == (["a", "c"], "warning")
        assert last().changes == {"name": ["Oil", "Gas"]}
        product.name, product.price = "Tar", 3
        product.save()
        assert (last().rules, last().level) == (["a", "b", "c"], "critical")
        assert len(events()) == 3

    def test_rules_whose_condition_does_not_hold_add_nothing(self, audit: Audit) -> None:
        audit(
            {"name": "names", "model": "app.Product", "fields": ["name"]},
            {"name": "cheap", "model": "app.Product", "when": {"price": {"to": 1}}, "level": "critical"},
        )
        Product.objects.create(name="Oil", price=2)
        assert (last().rules, last().level, set(last().changes)) == (["names"], "info", {"name"})

    def test_two_rules_of_one_name_are_both_in_force(self, audit: Audit) -> None:
        audit(
            {"name": "same", "model": "app.Product", "fields": ["name"]},
            {"name": "same", "model": "app.Product", "fields": ["price"]},
        )
        Product.objects.create(name="Oil", price=2)
        assert set(last().changes) == {"name", "price"}
        assert [problem.code for problem in get_registry().problems] == ["E007"]

    def test_the_silent_default_is_info(self, audit: Audit) -> None:
        audit()
        Tag.objects.create(name="a")
        assert last().level == "info"


class TestEnabled:
    def test_a_rule_that_is_off_does_nothing(self, audit: Audit) -> None:
        audit({"name": "off", "model": "app.Tag", "enabled": False}, {"name": "on", "model": "app.Category"})
        Tag.objects.create(name="a")
        Category.objects.create(name="a")
        assert [event.rules for event in events()] == [["on"]]
        assert get_registry().rule("off") is None

    def test_a_rule_with_a_mistake_does_nothing_and_the_others_go_on(self, audit: Audit) -> None:
        audit(
            {"name": "wrong", "model": "app.Tag", "fields": ["nmae"]},
            {"name": "worse", "model": "app.Tag", "felds": ["name"]},
            {"name": "right", "model": "app.Tag"},
        )
        Tag.objects.create(name="a")
        assert last().rules == ["right"]

    def test_a_server_that_never_checks_says_so_in_its_log(self, audit: Audit, caplog: Any) -> None:
        audit({"name": "wrong", "model": "app.Tag", "fields": ["nmae"]}, {"name": "worse"})
        (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
        assert record.getMessage().startswith("SIGNAL_AUDIT has 2 errors (run manage.py check). The first: ")
        assert "nmae" in record.getMessage()


class TestSettingsInForce:
    def test_they_take_effect_at_once_and_are_undone(self) -> None:
        def create() -> list[Mapping[str, Any]]:
            before = AuditEvent.objects.count()
            Tag.objects.create(name="a")
            return [event.rules for event in AuditEvent.objects.order_by("id")[before:]]

        outer = {"RULES": [{"name": "outer", "model": "app.Tag"}]}
        inner = {"RULES": [Rule(name="inner", model="app.*")]}
        assert create() == []
        with override_settings(SIGNAL_AUDIT=outer):
            assert create() == [["outer"]]
            with override_settings(SIGNAL_AUDIT=inner):
                assert create() == [["inner"]]
            assert create() == [["outer"]]
            with override_settings(SIGNAL_AUDIT={}):
                assert create() == []
            assert create() == [["outer"]]
        assert create() == []

    def test_nothing_stays_connected(self) -> None:
        from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save

        signals = (pre_save, post_save, pre_delete, post_delete, m2m_changed)
        before = [len(signal.receivers) for signal in signals]
        with override_settings(SIGNAL_AUDIT={"RULES": [{"name": "all", "model": "*"}]}):
            assert [len(signal.receivers) for signal in signals] > before
            assert User in get_registry().plans
        assert [len(signal.receivers) for signal in signals] == before

    def test_exclude_models_take_effect_at_once(self) -> None:
        rules = [{"name": "all", "model": "*"}]
        with override_settings(SIGNAL_AUDIT={"RULES": rules}):
            assert Person in get_registry().plans
            with override_settings(SIGNAL_AUDIT={"RULES": rules, "EXCLUDE_MODELS": ["app.*"]}):
                assert not {Person, Document, Team} & set(get_registry().plans)
