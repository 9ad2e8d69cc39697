"""The rule key ``include``: fields whose values every event keeps beside its changes."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import F
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext

from django_signal_audit import Rule
from django_signal_audit.admin.access import access_of
from django_signal_audit.checks import check_plugins, check_rules
from django_signal_audit.models import AuditEvent

from .app.models import Category, Product, Restaurant, Tag
from .conftest import Audit, events, last
from .model_admins import registered

pytestmark = pytest.mark.django_db

RULE = {"name": "products", "model": "app.Product", "include": ["category", "stock"]}


@pytest.fixture
def category() -> Category:
    return Category.objects.create(name="Hot")


def kept(event: AuditEvent) -> Any:
    return event.context.get("include")


def codes(*rules: Any, **keys: Any) -> dict[str, str]:
    found = [*check_rules(), *check_plugins()]
    return {str(one.id).rpartition(".")[2]: f"{one.msg} {one.hint}" for one in found if '["include"]' in one.msg}


def test_every_event_of_a_row_keeps_them(audit: Audit, category: Category) -> None:
    audit(RULE)
    tag = Tag.objects.create(name="t")
    product = Product.objects.create(name="Tea", stock=3, category=category)
    product.name = "Green tea"
    product.save()
    product.price = 5
    product.save(update_fields=["price"])
    product.tags.add(tag)
    product.stock = 4
    product.save()
    key = product.pk
    product.delete()
    assert [(event.event_type, kept(event)) for event in events(object_id=str(key))] == [
        ("create", {"category": category.pk, "stock": 3}),
        ("update", {"category": category.pk, "stock": 3}),
        ("update", {"category": category.pk, "stock": 3}),
        ("m2m", {"category": category.pk, "stock": 3}),
        ("update", {"category": category.pk, "stock": 4}),
        ("delete", {"category": category.pk, "stock": 4}),
    ]
    assert "stock" not in events(event_type="update")[0].changes


def test_bulk_writes_and_cascades_keep_them(audit: Audit, category: Category) -> None:
    audit(RULE)
    Product.objects.bulk_create([Product(name=f"p{n}", stock=n, category=category) for n in range(3)])
    assert [kept(event)["stock"] for event in events()] == [0, 1, 2]
    Product.objects.update(price=F("price") + 1)
    assert [kept(event) for event in events(event_type="update")] == [
        {"category": category.pk, "stock": n} for n in range(3)
    ]
    rows = list(Product.objects.order_by("stock"))
    for row in rows:
        row.weight = 1.5
    Product.objects.bulk_update(rows, ["weight"])
    assert kept(last()) == {"category": category.pk, "stock": 2}
    category.delete()
    assert kept(last()) == {"category": None, "stock": 2}
    Product.objects.all().delete()
    assert {event.event_type for event in events(source="bulk")} >= {"delete"}
    assert [kept(event)["stock"] for event in events(event_type="delete")] == [0, 1, 2]


def test_an_expression_is_kept_as_the_value_it_gave(audit: Audit) -> None:
    audit(RULE)
    product = Product.objects.create(name="Tea", stock=3)
    product.stock = F("stock") + 1
    product.save()
    assert kept(last()) == {"category": None, "stock": 4}


def test_rows_that_the_instance_knows_nothing_of_are_read(audit: Audit) -> None:
    audit(RULE)
    product = Product.objects.create(name="Tea", stock=3)
    Product.objects.filter(pk=product.pk).update(stock=8)
    stale = Product.objects.only("name").get(pk=product.pk)
    stale.name = "Green tea"
    stale.save()
    assert kept(last())["stock"] == 8
    product.price = 2
    product.save(update_fields=["price"])
    assert kept(last())["stock"] == 8


def test_a_field_that_is_only_included_triggers_nothing(audit: Audit) -> None:
    audit({**RULE, "fields": ["price"]})
    product = Product.objects.create(name="Tea", stock=3)
    product.stock = 4
    product.save()
    assert [event.event_type for event in events()] == ["create"]
    assert set(events()[0].changes) == {"price"}
    assert kept(last()) == {"category": None, "stock": 3}


def test_only_rules_that_match_add_theirs(audit: Audit) -> None:
    audit(
        Rule(name="all", model="app.Product"),
        Rule(name="prices", model="app.Product", events=["update"], fields=["price"], include=["name"]),
        Rule(name="names", model="app.Product", events=["update"], fields=["name"], include=["stock"]),
    )
    product = Product.objects.create(name="Tea", stock=3)
    product.price = 2
    product.save()
    assert kept(last()) == {"name": "Tea"}
    product.price, product.name = 3, "Green tea"
    product.save()
    assert kept(last()) == {"name": "Green tea", "stock": 3}
    assert kept(events()[0]) is None


def test_inherited_fields_of_children_are_kept_too(audit: Audit) -> None:
    audit({"name": "places", "model": "app.Place", "include": ["name"]})
    restaurant = Restaurant.objects.create(name="Inn", stars=1)
    restaurant.name = "Old inn"
    restaurant.save()
    assert kept(last()) == {"name": "Old inn"}


def test_a_masked_field_is_kept_as_its_tag(audit: Audit) -> None:
    audit({"name": "products", "model": "app.Product", "include": ["api_token"]})
    product = Product.objects.create(name="Tea", api_token="hunter2")
    product.price = 2
    product.save()
    assert "hunter2" not in str([event.context for event in events()])
    assert kept(last())["api_token"] == events()[0].changes["api_token"][1]
    assert "W080" in codes()


def test_pages_hide_what_the_user_may_not_see(audit: Audit, rf: RequestFactory) -> None:
    audit(RULE)
    Product.objects.create(name="Tea", stock=3)

    class WithoutStock(admin.ModelAdmin[Product]):
        exclude = ("stock",)

    request = rf.get("/")
    request.user = User.objects.create_superuser("root")
    with registered(Product, WithoutStock):
        [shown] = access_of(request, admin.site).redact(events())
        page = Client()
        page.force_login(request.user)
        html = page.get(f"/admin/django_signal_audit/auditevent/{last().pk}/change/").content.decode()
    assert kept(shown) == {"category": None}
    assert kept(last()) == {"category": None, "stock": 3}
    assert "stock" not in html


def test_nothing_is_read_for_rules_without_it(audit: Audit) -> None:
    audit({"name": "products", "model": "app.Product"})
    product = Product.objects.create(name="Tea")
    tag = Tag.objects.create(name="t")
    with CaptureQueriesContext(connection) as captured:
        product.tags.add(tag)
    assert not any("stock" in query["sql"] for query in captured.captured_queries)


@pytest.mark.parametrize(
    ("include", "code", "said"),
    [
        (["stok"], "E010", "stock"),
        (["tags"], "E081", "many-to-many"),
        (["id"], "E081", "as its object"),
        (["api_token"], "W080", "tag"),
        ("stock", "E008", "list of field names"),
        ([3], "E008", "list of field names"),
    ],
)
def test_check_names_what_cannot_be_included(audit: Audit, include: Any, code: str, said: str) -> None:
    audit({"name": "products", "model": "app.Product", "include": include})
    assert said in codes()[code]


def test_check_refuses_a_personal_field(audit: Audit) -> None:
    audit({"name": "products", "model": "app.Product", "include": ["name"], "personal": ["name"]})
    assert "E082" in codes()
    Product.objects.create(name="Tea")
    assert events() == []


def test_check_warns_of_fields_that_sound_personal(audit: Audit) -> None:
    audit({"name": "users", "model": "auth.User", "include": ["email"]})
    assert "email" in codes()["W081"]


def test_a_rule_without_a_model_includes_nothing(audit: Audit) -> None:
    audit({"name": "logins", "events": ["login"], "include": ["name"]})
    assert "W001" in codes()
