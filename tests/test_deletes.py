from __future__ import annotations

from decimal import Decimal

import pytest
from django.db import connection
from django.db.models.signals import post_delete, pre_delete

from django_signal_audit.models import AuditEvent

from .app.models import (
    Category,
    CheapProduct,
    Note,
    Picture,
    Pizzeria,
    Place,
    Product,
    Restaurant,
    Tag,
    Unaudited,
)
from .conftest import Audit, events, last, trail

pytestmark = pytest.mark.django_db

QUIET = {"name": "all", "model": "app.*", "exclude": ["modified"]}


def test_delete_has_null_second_and_the_stored_values(audit: Audit) -> None:
    audit({"name": "p", "model": "app.Product", "fields": ["name", "price"]})
    product = Product.objects.create(name="Oil", price=Decimal(3))
    key = product.pk
    product.name = "never saved"
    product.delete()
    event = last()
    assert (event.event_type, event.source, event.object_id) == ("delete", "orm", str(key))
    assert event.changes == {"name": ["Oil", None], "price": ["3.00", None]}
    assert AuditEvent.objects.state_of(Product, key) is None


def test_deferred_fields_are_in_the_delete_event(audit: Audit) -> None:
    audit({"name": "p", "model": "app.Product", "fields": ["name", "price"]})
    Product.objects.create(name="Oil", price=Decimal(3))
    Product.objects.only("pk").get().delete()
    assert last().changes == {"name": ["Oil", None], "price": ["3.00", None]}


@pytest.mark.skipif(connection.vendor == "postgresql", reason="PostgreSQL keeps the keys of JSON by their length")
@pytest.mark.parametrize("engine", ["auto", "portable"])
@pytest.mark.parametrize("is_one", [True, False])
def test_fields_are_in_the_order_of_the_model(audit: Audit, engine: str, is_one: bool) -> None:
    audit(ENGINE=engine)
    product = Product.objects.create(name="Oil")
    product.tags.add(Tag.objects.create(name="t"))
    Picture.objects.create(product=product, file="a")
    (product if is_one else Product.objects.all()).delete()
    fields = [field.name for field in Product._meta.concrete_fields if not field.primary_key]
    assert list(events(model="app.product", event_type="delete")[0].changes) == [*fields, "tags"]
    assert list(events(model="app.picture", event_type="delete")[0].changes) == ["product", "file"]


def test_querysets_and_cascades_say_so(audit: Audit) -> None:
    audit({"name": "deletes", "model": ["app.Product", "app.Picture", "app.Note"], "events": ["delete"]})
    product = Product.objects.create(name="Oil")
    Picture.objects.create(product=product, file="a.png")
    Note.objects.create(about=product, text="n")
    Product.objects.all().delete()
    assert sorted((event.model, event.source) for event in events()) == [
        ("app.note", "cascade"),
        ("app.picture", "cascade"),
        ("app.product", "bulk"),
    ]


def test_an_objects_cascade_is_a_cascade(audit: Audit) -> None:
    audit({"name": "pictures", "model": "app.Picture", "events": ["delete"]})
    product = Product.objects.create(name="Oil")
    Picture.objects.create(product=product, file="a.png")
    product.delete()
    assert [(event.source, event.changes["file"]) for event in events()] == [("cascade", ["a.png", None])]


def test_members_lost_by_deletion_are_in_the_delete_event(audit: Audit) -> None:
    audit({"name": "p", "model": "app.Product", "fields": ["name", "tags"]})
    product = Product.objects.create(name="Oil")
    tags = [Tag.objects.create(name=name) for name in "ab"]
    product.tags.set(tags)
    product.delete()
    assert last().changes == {
        "name": ["Oil", None],
        "tags": {"added": [], "removed": sorted(tag.pk for tag in tags)},
    }


def test_a_deleted_member_is_an_m2m_event_of_its_owners(audit: Audit) -> None:
    audit({"name": "p", "model": "app.Product", "events": ["m2m"]})
    one, two = Product.objects.create(name="one"), Product.objects.create(name="two")
    tag = Tag.objects.create(name="a")
    key = tag.pk
    one.tags.add(tag)
    two.tags.add(tag)
    tag.delete()
    lost = events(source="cascade")
    assert [event.object_repr for event in lost] == ["one", "two"]
    assert all(event.changes == {"tags": {"added": [], "removed": [key]}} for event in lost)


def test_multi_table_children_make_one_delete_event(audit: Audit) -> None:
    audit()
    Pizzeria.objects.create(name="Luigi").delete()
    assert [(event.event_type, event.model, event.source) for event in events()] == [
        ("create", "app.pizzeria", "orm"),
        ("delete", "app.pizzeria", "orm"),
    ]
    assert last().changes == {"name": ["Luigi", None], "stars": [0, None], "oven": ["wood", None]}


def test_deleting_through_the_parent_is_the_childs_event(audit: Audit) -> None:
    audit({"name": "r", "model": ["app.Place", "app.Restaurant"], "events": ["delete"]})
    restaurant = Restaurant.objects.create(name="Luigi")
    Place.objects.get(pk=restaurant.pk).delete()
    Place.objects.create(name="Park").delete()
    assert [(event.model, event.object_repr, event.source) for event in events()] == [
        ("app.restaurant", "Luigi", "orm"),
        ("app.place", "Park", "orm"),
    ]


def test_a_parents_rule_sees_an_unruled_child_go(audit: Audit) -> None:
    audit({"name": "r", "model": "app.Place", "events": ["delete"]})
    Restaurant.objects.create(name="Luigi").delete()
    assert trail() == [("delete", {"name": ["Luigi", None]})]


def test_the_deletion_of_a_proxy_is_recorded_under_its_model(audit: Audit) -> None:
    audit({"name": "p", "model": "app.Product", "events": ["delete"], "fields": ["name"]})
    CheapProduct.objects.create(name="a").delete()
    assert (last().model, last().changes) == ("app.product", {"name": ["a", None]})


def test_no_fast_delete_is_lost(audit: Audit, django_assert_num_queries: object) -> None:
    audit(QUIET | {"model": "app.Product"})
    for _ in range(3):
        Unaudited.objects.create(name="x")
    assert not pre_delete.has_listeners(Unaudited)
    assert not post_delete.has_listeners(Unaudited)
    with django_assert_num_queries(1):
        Unaudited.objects.all().delete()


def test_children_without_a_rule_keep_their_receivers_off(audit: Audit) -> None:
    audit({"name": "r", "model": "app.Place", "events": ["delete"]})
    assert not pre_delete.has_listeners(Restaurant)


def test_a_row_that_is_gone_already_makes_no_event(audit: Audit) -> None:
    audit({"name": "c", "model": "app.Category", "events": ["delete"]})
    category = Category.objects.create(name="a")
    twin = Category.objects.get()
    category.delete()
    twin.delete()
    assert len(events()) == 1
