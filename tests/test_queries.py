from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from django.core import serializers
from django.db import connection, models
from django.db.models import Case, F, Value, When
from django.db.models.functions import Concat, Upper
from django.db.models.signals import post_init

from django_signal_audit.models import AuditEvent, Notification

from .app.models import (
    Box,
    Category,
    Document,
    Hidden,
    Line,
    Note,
    Person,
    Picture,
    Pizzeria,
    Place,
    Product,
    Restaurant,
    Tag,
    Unaudited,
)
from .conftest import Audit, events, last, run_async

pytestmark = pytest.mark.django_db

QUIET = {"name": "all", "model": "app.*", "exclude": ["modified"]}


def found(**filters: Any) -> list[tuple[str, str, str, dict]]:
    return [(event.event_type, event.source, event.object_repr, event.changes) for event in events(**filters)]


def products(count: int = 3) -> list[Product]:
    return [Product.objects.create(name=f"p{number}", stock=number) for number in range(count)]


def test_queryset_update_records_each_row_that_changes(audit: Audit) -> None:
    _one, _two, _three = products()
    audit(QUIET)
    assert Product.objects.filter(stock__gte=1).update(stock=F("stock") * 10, price="2.5") == 2
    assert found() == [
        ("update", "bulk", "p1", {"price": ["0.00", "2.50"], "stock": [1, 10]}),
        ("update", "bulk", "p2", {"price": ["0.00", "2.50"], "stock": [2, 20]}),
    ]


def test_objects_of_many_rows_are_made_as_the_project_has_them_made(audit: Audit) -> None:
    def shout(instance: Category, **_: Any) -> None:
        instance.name = instance.name.upper()

    Category.objects.create(name="c")
    audit(QUIET)
    post_init.connect(shout, sender=Category)
    try:
        Category.objects.update(name="d")
    finally:
        post_init.disconnect(shout, sender=Category)
    Category.objects.update(name="e")
    assert found() == [("update", "bulk", "D", {"name": ["c", "d"]}), ("update", "bulk", "e", {"name": ["d", "e"]})]


def test_an_update_that_changes_nothing_writes_nothing(audit: Audit) -> None:
    products()
    audit(QUIET)
    Product.objects.update(price=0)
    Product.objects.none().update(price=3)
    Product.objects.filter(name="nobody").update(price=3)
    Product.objects.update(name=F("name"))
    assert events() == []


def test_unwatched_columns_cost_nothing(audit: Audit, django_assert_num_queries: Any) -> None:
    products()
    Unaudited.objects.create(name="x")
    audit({"name": "prices", "model": "app.Product", "fields": ["price"]})
    Product.objects.create(name="the first one looks whether the tables are there")
    with django_assert_num_queries(1):
        Product.objects.update(stock=3)
    with django_assert_num_queries(1):
        Unaudited.objects.update(name="y")
    with django_assert_num_queries(1):
        Unaudited.objects.bulk_create([Unaudited(name="z")] * 2)
    with django_assert_num_queries(1):
        Unaudited.objects.all().delete()


@pytest.mark.parametrize("kind", ["join", "exclude", "annotation", "distinct", "ordered", "subquery", "reverse"])
def test_updates_of_odd_querysets(audit: Audit, kind: str) -> None:
    category = Category.objects.create(name="c")
    _one, two, _three = products()
    two.category = category
    two.save()
    tag = Tag.objects.create(name="t")
    two.tags.add(tag)
    audit(QUIET)
    rows: Any = {
        "join": Product.objects.filter(category__name="c"),
        "exclude": Product.objects.exclude(category=None),
        "annotation": Product.objects.annotate(n=models.Count("tags")).filter(n=1),
        "distinct": Product.objects.filter(tags=tag).distinct(),
        "ordered": Product.objects.filter(stock=1).order_by("-name"),
        "subquery": Product.objects.filter(pk__in=Product.objects.filter(stock=1).values("pk")),
        "reverse": category.products.all(),
    }[kind]
    assert rows.update(name=Concat(F("name"), Value("!"))) == 1
    assert found() == [("update", "bulk", "p1!", {"name": ["p1", "p1!"]})]


def test_slices_and_combinations_are_refused_as_ever(audit: Audit) -> None:
    audit(QUIET)
    with pytest.raises(TypeError):
        Product.objects.all()[:1].update(stock=1)
    with pytest.raises(Exception, match="union"):
        Product.objects.union(Product.objects.all()).update(stock=1)


def test_bulk_create_records_each_row(audit: Audit) -> None:
    audit(QUIET)
    objs = Product.objects.bulk_create([Product(name=f"p{number}", price="1.5") for number in range(3)], batch_size=2)
    assert [(event.event_type, event.source, event.object_repr) for event in events()] == [
        ("create", "bulk", "p0"),
        ("create", "bulk", "p1"),
        ("create", "bulk", "p2"),
    ]
    assert last().changes["price"] == [None, "1.50"]
    if connection.features.can_return_rows_from_bulk_insert:
        assert [event.object_id for event in events()] == [str(obj.pk) for obj in objs]


def test_bulk_create_of_objects_of_which_only_the_first_tells_what_the_row_holds(audit: Audit) -> None:
    audit({**QUIET, "model": "app.Product"})
    prices = [Decimal("1.50"), "2.5", Decimal("3.456"), Value(Decimal(4))]
    objs = Product.objects.bulk_create([Product(name=f"p{index}", price=price) for index, price in enumerate(prices)])
    stored = {str(product.pk): str(product.price) for product in Product.objects.all()}
    assert {event.object_id: event.changes["price"] for event in events()} == {
        key: [None, price] for key, price in stored.items()
    }
    assert [event.object_id for event in events()] == [str(obj.pk) for obj in objs]


def test_bulk_create_of_nothing(audit: Audit) -> None:
    audit(QUIET)
    assert Product.objects.bulk_create([]) == []
    assert events() == []


@pytest.mark.parametrize("count", [1, 3])
def test_ignored_conflicts_are_no_events(audit: Audit, count: int) -> None:
    Product.objects.create(name="old", slug="s0")
    audit(QUIET)
    Product.objects.bulk_create(
        [Product(name=f"new{number}", slug=f"s{number}") for number in range(count)], ignore_conflicts=True
    )
    assert [event.object_repr for event in events()] == [f"new{number}" for number in range(1, count)]


@pytest.mark.parametrize("count", [1, 3])
def test_upserts_tell_inserts_from_updates(audit: Audit, count: int) -> None:
    Product.objects.create(name="old", slug="s0", stock=1)
    audit({"name": "all", "model": "app.Product", "fields": ["name", "stock"]})
    target = {"unique_fields": ["slug"]} if connection.features.supports_update_conflicts_with_target else {}
    Product.objects.bulk_create(
        [Product(name=f"new{number}", slug=f"s{number}", stock=1) for number in range(count)],
        update_conflicts=True,
        update_fields=["name", "stock"],
        **target,
    )
    assert found() == [
        ("update", "bulk", "new0", {"name": ["old", "new0"]}),
        *[
            ("create", "bulk", f"new{number}", {"name": [None, f"new{number}"], "stock": [None, 1]})
            for number in range(1, count)
        ],
    ]


def test_bulk_update_records_each_row_that_changes(audit: Audit) -> None:
    objs = products()
    audit(QUIET)
    for obj in objs:
        obj.stock += 5
        obj.price = Decimal("1.25")
    objs[1].stock = 1
    Product.objects.bulk_update(objs, ["stock", "price"], batch_size=2)
    assert found() == [
        ("update", "bulk", "p0", {"price": ["0.00", "1.25"], "stock": [0, 5]}),
        ("update", "bulk", "p1", {"price": ["0.00", "1.25"]}),
        ("update", "bulk", "p2", {"price": ["0.00", "1.25"], "stock": [2, 7]}),
    ]


def test_an_update_by_an_expression_records_its_result(audit: Audit) -> None:
    products()
    audit(QUIET)
    Product.objects.update(name=Case(When(stock=1, then=Upper("name")), default=F("name")))
    assert found() == [("update", "bulk", "P1", {"name": ["p1", "P1"]})]


def test_get_or_create_and_update_or_create(audit: Audit) -> None:
    audit({"name": "c", "model": "app.Category", "fields": ["name"]})
    Category.objects.get_or_create(name="a")
    Category.objects.get_or_create(name="a")
    Category.objects.update_or_create(name="a", defaults={"name": "b"})
    Category.objects.update_or_create(name="c", defaults={"name": "c"})
    assert [(event.event_type, event.changes) for event in events()] == [
        ("create", {"name": [None, "a"]}),
        ("update", {"name": ["a", "b"]}),
        ("create", {"name": [None, "c"]}),
    ]


def test_set_null_cascades(audit: Audit) -> None:
    category = Category.objects.create(name="c")
    key = category.pk
    Product.objects.create(name="p", category=category)
    Category.objects.create(name="child", parent=category)
    audit(QUIET)
    category.delete()
    assert sorted(found()) == [
        ("delete", "orm", "c", {"name": ["c", None], "parent": [None, None]}),
        ("update", "cascade", "child", {"parent": [key, None]}),
        ("update", "cascade", "p", {"category": [key, None]}),
    ]


def test_reverse_managers_record_the_rows_they_change(audit: Audit) -> None:
    category = Category.objects.create(name="c")
    one, two, _ = products()
    audit(QUIET)
    category.products.add(one, two)
    category.products.remove(one)
    category.products.clear()
    category.products.set([two])
    assert [(event.object_repr, event.changes["category"]) for event in events()] == [
        ("p0", [None, category.pk]),
        ("p1", [None, category.pk]),
        ("p0", [category.pk, None]),
        ("p1", [category.pk, None]),
        ("p1", [None, category.pk]),
    ]


def test_generic_relations_record_the_rows_they_change(audit: Audit) -> None:
    product, other, _ = products()
    note = Note.objects.create(about=product, text="n")
    audit({"name": "n", "model": "app.Note", "fields": ["object_id"]})
    other.notes.add(note)
    assert found() == [("update", "bulk", "n", {"object_id": [product.pk, other.pk]})]
    other.delete()
    assert (last().event_type, last().source) == ("delete", "cascade")


def test_queryset_delete_records_rows_and_cascades(audit: Audit) -> None:
    one, two, _three = products()
    tags = [Tag.objects.create(name=name) for name in "ab"]
    one.tags.set(tags)
    Picture.objects.create(product=two, file="x.png")
    audit({"name": "all", "model": ["app.Product", "app.Picture"], "fields": ["name", "tags", "file"]})
    Product.objects.filter(stock__lt=2).delete()
    assert sorted(found(), key=str) == sorted(
        [
            (
                "delete",
                "bulk",
                "p0",
                {"name": ["p0", None], "tags": {"added": [], "removed": sorted(tag.pk for tag in tags)}},
            ),
            ("delete", "bulk", "p1", {"name": ["p1", None]}),
            ("delete", "cascade", "x.png", {"file": ["x.png", None]}),
        ],
        key=str,
    )


def test_a_raw_delete_is_recorded(audit: Audit) -> None:
    Category.objects.create(name="c")
    audit(QUIET)
    Category.objects.all()._raw_delete("default")
    assert found() == [("delete", "bulk", "c", {"name": ["c", None], "parent": [None, None]})]


def test_writes_to_the_automatic_through_model(audit: Audit) -> None:
    product, other, _ = products()
    a, b = Tag.objects.create(name="a"), Tag.objects.create(name="b")
    audit({"name": "m", "model": "app.Product", "events": ["m2m"]})
    through = Product.tags.through
    pair = through.objects.create(product=product, tag=a)
    through.objects.bulk_create([through(product=product, tag=b)])
    through.objects.filter(tag=b).update(product=other)
    pair.delete()
    through.objects.all().delete()
    gained, lost = (
        lambda key: {"tags": {"added": [key], "removed": []}},
        lambda key: {"tags": {"added": [], "removed": [key]}},
    )
    assert [(event.object_repr, event.changes) for event in events()] == [
        ("p0", gained(a.pk)),
        ("p0", gained(b.pk)),
        ("p0", lost(b.pk)),
        ("p1", gained(b.pk)),
        ("p0", lost(a.pk)),
        ("p1", lost(b.pk)),
    ]


def test_the_parents_queryset_writes_the_childs_rows(audit: Audit) -> None:
    Place.objects.create(name="park")
    Restaurant.objects.create(name="resto")
    Pizzeria.objects.create(name="pizza")
    audit()
    Place.objects.update(name=Upper("name"))
    assert sorted((event.model, event.changes["name"]) for event in events()) == [
        ("app.pizzeria", ["pizza", "PIZZA"]),
        ("app.place", ["park", "PARK"]),
        ("app.restaurant", ["resto", "RESTO"]),
    ]


def test_the_childs_queryset_writes_the_parents_columns(audit: Audit) -> None:
    Pizzeria.objects.create(name="pizza")
    Restaurant.objects.create(name="resto")
    audit()
    Pizzeria.objects.update(name="x", stars=3, oven="gas")
    assert [(event.model, event.changes) for event in events()] == [
        ("app.pizzeria", {"name": ["pizza", "x"], "stars": [0, 3], "oven": ["wood", "gas"]})
    ]


@pytest.mark.parametrize(
    ("ruled", "expected"),
    [
        (["app.Place"], [("app.place", "pizza"), ("app.place", "resto")]),
        (["app.Place", "app.Pizzeria"], [("app.pizzeria", "pizza"), ("app.place", "resto")]),
        (["app.Pizzeria"], [("app.pizzeria", "pizza")]),
    ],
)
def test_an_unruled_model_in_between(audit: Audit, ruled: list[str], expected: list) -> None:
    Pizzeria.objects.create(name="pizza")
    Restaurant.objects.create(name="resto")
    audit({"name": "r", "model": ruled})
    Restaurant.objects.update(name=Concat(F("name"), Value("!")))
    assert sorted((event.model, event.changes["name"][0]) for event in events()) == expected


def test_rows_that_a_manager_hides_are_recorded(audit: Audit) -> None:
    Hidden.objects.create(name="a", is_hidden=False)
    audit()
    Hidden.objects.update(is_hidden=True)
    assert found() == [("update", "bulk", "a", {"is_hidden": [False, True]})]


def test_generated_columns_are_recorded(audit: Audit) -> None:
    Box.objects.create(width=2, height=3)
    audit()
    Box.objects.update(width=F("width") + 1)
    assert last().changes == {"width": [2, 3], "area": [6, 9]}
    Box.objects.bulk_create([Box(width=5)])
    assert last().changes == {
        "width": [None, 5],
        "height": [None, 1],
        "area": [None, 5],
        "label": [None, "box"],
        "code": [None, "BOX"],
    }


def test_keys_of_every_kind(audit: Audit) -> None:
    audit()
    Document.objects.bulk_create([Document(title="d")])
    Document.objects.update(title="e")
    assert last().changes == {"title": ["d", "e"]}
    Line.objects.bulk_create([Line(order=1, number=2, text="t")])
    Line.objects.update(text="u")
    assert (last().object_id, last().changes) == ("[1, 2]", {"text": ["t", "u"]})
    Line.objects.all().delete()
    assert last().event_type == "delete"


def test_fixtures_make_one_event_per_table_row(audit: Audit) -> None:
    tag = Tag.objects.create(name="t")
    Pizzeria.objects.create(name="pizza").tags.add(tag)
    product = Product.objects.create(name="p", price=3)
    data = serializers.serialize("json", [*Place.objects.all(), *Restaurant.objects.all(), *Pizzeria.objects.all()])
    data = json.dumps(json.loads(data) + json.loads(serializers.serialize("json", [product])))
    Place.objects.all().delete()
    Product.objects.all().delete()
    audit(QUIET)
    for obj in serializers.deserialize("json", data):
        obj.save()
    assert [(event.event_type, event.model) for event in events()] == [
        ("create", "app.place"),
        ("m2m", "app.place"),
        ("create", "app.restaurant"),
        ("create", "app.pizzeria"),
        ("create", "app.product"),
    ]
    for obj in serializers.deserialize("json", data.replace('"pizza"', '"pasta"')):
        obj.save()
    assert [(event.event_type, event.model, event.changes) for event in events()][5:] == [
        ("update", "app.pizzeria", {"name": ["pizza", "pasta"]})
    ]


def test_async_methods_are_recorded(audit: Audit, transactional_db: None) -> None:
    audit(QUIET)

    async def work() -> None:
        category = await Category.objects.acreate(name="a")
        await Category.objects.aupdate(name="b")
        await Category.objects.abulk_create([Category(name="c")])
        category.name = "d"
        await category.asave()
        await category.adelete()

    run_async(work())
    assert [(event.event_type, event.source) for event in events()] == [
        ("create", "orm"),
        ("update", "bulk"),
        ("create", "bulk"),
        ("update", "orm"),
        ("delete", "orm"),
    ]


def test_a_deleted_friend_is_lost_on_both_sides(audit: Audit) -> None:
    one, two = Person.objects.create(name="one"), Person.objects.create(name="two")
    one.friends.add(two)
    audit({"name": "m", "model": "app.Person", "events": ["m2m"]})
    two.delete()
    assert [(event.object_repr, event.source) for event in events()] == [("one", "cascade"), ("two", "cascade")]


def test_one_bulk_call_is_one_message_to_a_recipient(audit: Audit) -> None:
    audit(
        {"name": "all", "model": "app.Category", "notify": ["mail"]},
        CHANNELS={
            "mail": {
                "BACKEND": "django_signal_audit.channels.email.EmailChannel",
                "OPTIONS": {"to": ["a@example.com", "b@example.com"]},
            }
        },
        DISPATCHER="django_signal_audit.dispatchers.WorkerDispatcher",
    )
    Category.objects.bulk_create([Category(name=str(number)) for number in range(5)], batch_size=2)
    rows = Notification.objects.order_by("recipient")
    assert [row.recipient for row in rows] == ["a@example.com", "b@example.com"]
    assert all(row.event is None for row in rows)
    assert rows[0].data["events"] == [str(event.uid) for event in events()]
    Category.objects.update(name="x")
    assert Notification.objects.count() == 4
    Category.objects.all().delete()
    assert Notification.objects.count() == 6


def test_the_hook_can_be_switched_off(audit: Audit) -> None:
    audit(QUIET, CAPTURE_QUERIES=False)
    category = Category.objects.create(name="a")
    Category.objects.update(name="b")
    Category.objects.bulk_create([Category(name="c")])
    category.delete()
    assert [event.event_type for event in events()] == ["create", "delete"]


def test_replays_after_a_mix(audit: Audit) -> None:
    audit(QUIET)
    category = Category.objects.create(name="c")
    product = Product.objects.create(name="a", category=category)
    Product.objects.update(stock=F("stock") + 3)
    product.refresh_from_db()
    product.price = 7
    product.save()
    category.delete()
    state = AuditEvent.objects.state_of(Product, product.pk)
    row = Product.objects.values().get()
    assert state is not None
    assert state["stock"] == row["stock"] == 3
    assert state["price"] == row["price"]
    assert state["category"] is row["category_id"] is None
