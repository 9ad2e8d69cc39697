from __future__ import annotations

import datetime as dt
import logging
from decimal import Decimal
from typing import Any

import pytest
from django.core.cache import cache
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_signal_audit import record
from django_signal_audit.events.changes import Change
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.rules.registry import get_registry
from django_signal_audit.testing import fake_notifications

from .app.models import Category, Person, Product, Tag
from .app.signals import viewed
from .conftest import Audit, events, last
from .notices import calling

pytestmark = pytest.mark.django_db

HERE = "tests.test_matching"
CHANNELS = {"take": calling("take")}

seen: list[Change] = []


def is_big(change: Change) -> bool:
    seen.append(change)
    return bool(change.new.get("price", 0) > 100)


def never(change: Change) -> None:
    return None


def boom(change: Change) -> bool:
    raise LookupError("no such thing")


boom_too = boom


def broken_query(change: Change) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM there_is_no_such_table")
    return True


def broken_block(change: Change) -> bool:
    with transaction.atomic(savepoint=False):
        raise LookupError("in a block")
    return bool(change)


def swallowed_query(change: Change) -> bool:
    try:
        broken_query(change)
    except DatabaseError:
        return True
    return False


def is_known(change: Change) -> bool:
    return Tag.objects.filter(name=change.new["name"]).exists()


def writes(change: Change) -> bool:
    Tag.objects.create(name="noted")
    raise LookupError("after writing")


def no_argument() -> bool:
    return True


async def later(change: Change) -> bool:
    return True


class Threshold:
    def __call__(self, change: Change) -> bool:
        return bool(change.new["price"] > 100)


threshold = Threshold()


class TestFunctions:
    def test_a_function_decides_what_is_recorded(self, audit: Audit) -> None:
        audit({"name": "big", "model": "app.Product", "when": f"{HERE}.is_big", "fields": ["price"]})
        Product.objects.create(name="Oil", price=5)
        assert events() == []
        product = Product.objects.create(name="Oil", price=500)
        assert last().rules == ["big"]
        product.price = Decimal("5")
        product.save()
        assert len(events()) == 1

    def test_it_gets_the_change_with_typed_values(self, audit: Audit) -> None:
        audit({"name": "big", "model": "app.Product", "when": f"{HERE}.is_big", "fields": ["price"]})
        seen.clear()
        product = Product.objects.create(name="Oil", price="5.5")
        product.price = 7
        product.save()
        (create, update) = seen
        assert (create.event_type, create.model, create.pk, create.instance) == ("create", Product, product.pk, product)
        assert (update.old, update.new) == ({"price": Decimal("5.50")}, {"price": Decimal("7.00")})

    def test_an_object_that_can_be_called_does_as_well(self, audit: Audit) -> None:
        audit({"name": "big", "model": "app.Product", "when": f"{HERE}.threshold"})
        Product.objects.create(name="Oil", price=101)
        assert last().rules == ["big"]

    def test_what_is_not_true_is_false(self, audit: Audit) -> None:
        audit({"name": "never", "model": "app.Product", "when": f"{HERE}.never"})
        Product.objects.create(name="Oil")
        assert events() == []

    def test_it_decides_on_custom_events_too(self, audit: Audit) -> None:
        audit({"name": "never", "events": ["exported"], "when": f"{HERE}.never", "level": "critical"})
        event = record("exported")
        assert event is not None
        assert (event.rules, event.level) == ([], "info")


class TestFaults:
    @pytest.mark.parametrize("name", ["boom", "broken_query", "broken_block", "writes"])
    def test_the_event_is_recorded_the_rule_is_silent_and_the_log_says_why(
        self, audit: Audit, caplog: Any, name: str
    ) -> None:
        audit(
            {"name": "faulty", "model": "app.Product", "when": f"{HERE}.{name}", "notify": ["take"]},
            {"name": "sound", "model": "app.Product", "fields": ["stock"], "notify": ["take"]},
            {"name": "loud", "model": "app.Product", "when": f"{HERE}.boom_too", "level": "warning"},
            {"name": "tags", "model": "app.Tag"},
            CHANNELS=CHANNELS,
        )
        with caplog.at_level(logging.ERROR, "django_signal_audit"), fake_notifications() as fake:
            product = Product.objects.create(name="Oil", price=5)
            assert fake.assert_sent("sound", times=1)
            assert [message.rule for message in fake.sent] == ["sound"]
        event = last()
        assert (event.rules, event.level, event.changes["price"]) == (
            ["faulty", "sound", "loud"],
            "warning",
            [None, "5.00"],
        )
        problem, _ = caplog.records
        assert problem.getMessage() == (
            f'The condition of rule "faulty" raised for app.Product {product.pk}; the rule does not notify.'
        )
        assert problem.exc_info
        # What it wrote before it raised is gone with it, and the transaction goes on.
        assert Tag.objects.count() == 0
        assert Product.objects.get().price == 5

    def test_a_query_that_fails_unseen_does_no_harm_either(self, audit: Audit) -> None:
        audit({"name": "faulty", "model": "app.Product", "when": f"{HERE}.swallowed_query"})
        Product.objects.create(name="Oil")
        assert last().rules == ["faulty"]

    def test_operators_that_cannot_compare_are_no_exception(self, audit: Audit) -> None:
        audit({"name": "dates", "model": "app.Product", "when": {"released": {"increased_by": dt.timedelta(days=1)}}})
        product = Product.objects.create(name="Oil", released="2026-03-01")
        product.released = None
        product.save()
        assert events() == []

    def test_a_condition_that_asks_the_database_nothing_costs_nothing(self, audit: Audit) -> None:
        def count(when: Any) -> int:
            audit({"name": "one", "model": "app.Category", "when": when})
            Category.objects.create(name="warm up")
            with CaptureQueriesContext(connection) as queries:
                Category.objects.create(name="a")
            return len(queries)

        plain = count({"name": "changed"})
        assert count(f"{HERE}.threshold_of_names") == plain
        # A query of its own, and a savepoint around it.
        assert count(f"{HERE}.is_known") <= plain + 3

    def test_a_condition_may_ask_the_database(self, audit: Audit) -> None:
        audit({"name": "known", "model": "app.Category", "when": f"{HERE}.is_known"})
        Tag.objects.create(name="oil")
        Category.objects.create(name="oil")
        Category.objects.create(name="gas")
        assert [event.object_repr for event in events()] == ["oil"]


def threshold_of_names(change: Change) -> bool:
    return bool(change.new["name"] > "A")


class TestLevels:
    @pytest.mark.parametrize(
        ("levels", "highest"),
        [
            (["info"], "info"),
            (["info", "warning"], "warning"),
            (["critical", "warning"], "critical"),
            (["warning", "info"], "warning"),
        ],
    )
    def test_the_highest_counts(self, audit: Audit, levels: list[str], highest: str) -> None:
        audit(*({"name": f"r{at}", "model": "app.Tag", "level": level} for at, level in enumerate(levels)))
        Tag.objects.create(name="a")
        assert last().level == highest

    def test_a_custom_event_brings_its_own(self, audit: Audit) -> None:
        audit({"name": "r", "events": ["exported"], "level": "warning"})
        assert [record("exported", level=level).level for level in ("info", "critical")] == ["warning", "critical"]  # type: ignore[union-attr]


class TestNotify:
    def test_every_matching_rule_notifies(self, audit: Audit) -> None:
        audit(
            {"name": "a", "model": "app.Tag", "notify": ["take"]},
            {"name": "b", "model": "app.*", "notify": ["take", {"channel": "take", "to": ["x", "y"]}]},
            {"name": "c", "model": "app.Category", "notify": ["take"]},
            {"name": "d", "model": "app.Tag", "when": {"name": {"to": "other"}}, "notify": ["take"]},
            CHANNELS=CHANNELS,
        )
        with fake_notifications() as fake:
            Tag.objects.create(name="a")
        assert sorted((message.rule, message.recipient) for message in fake.sent) == [
            ("a", ""),
            ("b", ""),
            ("b", "x"),
            ("b", "y"),
        ]
        assert len(events()) == 1

    def test_a_silent_rule_notifies_nobody(self, audit: Audit) -> None:
        audit()
        Tag.objects.create(name="a")
        assert Notification.objects.count() == 0


class TestSignals:
    def test_a_custom_signal_is_an_event(self, audit: Audit) -> None:
        audit({"name": "viewed", "signal": "tests.app.signals.viewed", "event": "product_viewed", "level": "warning"})
        product = Product.objects.create(name="Oil")
        viewed.send(sender=Product, instance=product, page=3, token="t")
        event = last()
        assert (event.event_type, event.source, event.rules, event.level) == (
            "product_viewed",
            "signal",
            ["viewed"],
            "warning",
        )
        assert (event.model, event.object_id, event.data["page"]) == ("app.product", str(product.pk), 3)
        assert set(event.data["token"]) == {"$masked"}

    def test_two_rules_of_one_signal_are_one_event(self, audit: Audit) -> None:
        audit(
            {"name": "a", "signal": "tests.app.signals.viewed", "event": "product_viewed"},
            {"name": "b", "events": ["product_viewed"], "level": "critical"},
        )
        viewed.send(sender=None)
        assert [(event.rules, event.level) for event in events()] == [(["a", "b"], "critical")]


class TestRequests:
    @pytest.fixture
    def recorded(self, audit: Audit, client: Client, db: None) -> Any:
        def visit(path: str = "/admin/login/", method: str = "get", **keys: Any) -> int:
            audit({"name": "requests", "events": ["request"], **keys})
            cache.clear()
            getattr(client, method)(path)
            return AuditEvent.objects.filter(event_type="request").count()

        return visit

    def test_all_by_default(self, recorded: Any) -> None:
        assert recorded() == 1
        assert last().data["path"] == "/admin/login/"

    @pytest.mark.parametrize(
        ("patterns", "expected"),
        [
            (["/admin/*"], 1),
            (["/admin/login/"], 1),
            (["/shop/*", "*/login/"], 1),
            (["/shop/*"], 0),
            (["/admin"], 0),
            (["/ADMIN/*"], 0),
            (["/admin/[kl]ogin?"], 1),
        ],
    )
    def test_paths_select_requests(self, recorded: Any, patterns: list[str], expected: int) -> None:
        assert recorded(paths=patterns) == expected

    @pytest.mark.parametrize(
        ("methods", "method", "expected"),
        [(["GET"], "get", 1), (["get"], "get", 1), (["POST", "PUT"], "get", 0), (["POST", "PUT"], "post", 1)],
    )
    def test_methods_select_requests(self, recorded: Any, methods: list[str], method: str, expected: int) -> None:
        assert recorded(method=method, methods=methods) == expected

    def test_both_must_fit(self, recorded: Any) -> None:
        assert recorded(paths=["/admin/*"], methods=["POST"]) == 0
        assert recorded(paths=["/admin/*"], methods=["GET"]) == 1

    def test_without_such_a_rule_there_is_no_such_event(self, audit: Audit, client: Client) -> None:
        audit({"name": "all", "model": "*"})
        client.get("/admin/login/")
        assert not AuditEvent.objects.filter(event_type="request").exists()


def test_unknown_models_are_nobodys_business(audit: Audit) -> None:
    audit({"name": "tags", "model": "app.Tag"})
    assert get_registry().plan_for(Person) is None
