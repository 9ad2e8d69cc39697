from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import F, Value
from django.db.models.functions import Concat
from django.db.models.signals import post_save, pre_save

from django_signal_audit.exceptions import EventNotWritten
from django_signal_audit.models import AuditEvent

from .app.models import (
    Box,
    Broken,
    Category,
    CheapProduct,
    Country,
    Document,
    Hidden,
    Line,
    Pizzeria,
    Place,
    Product,
    Restaurant,
    Shouting,
    SoftDeleted,
    Tracked,
    Unaudited,
)
from .conftest import Audit, events, last, trail

pytestmark = pytest.mark.django_db


def test_create_names_every_field_with_null_first(audit: Audit) -> None:
    audit()
    product = Product.objects.create(name="Oil", price=Decimal("10.5"), weight=0.25, attributes={"a": [1, None]})
    event = last()
    assert (event.event_type, event.source, event.model, event.object_id) == (
        "create",
        "orm",
        "app.product",
        str(product.pk),
    )
    assert event.object_repr == "Oil"
    assert event.rules == ["all"]
    changes = dict(event.changes)
    modified = changes.pop("modified")
    assert modified[0] is None
    assert modified[1].endswith("+00:00")
    assert dt.datetime.fromisoformat(modified[1]) == product.modified
    assert changes == {
        "name": [None, "Oil"],
        "slug": [None, None],
        "price": [None, "10.50"],
        "weight": [None, "0.25"],
        "stock": [None, 0],
        "is_active": [None, True],
        "attributes": [None, {"a": [1, None]}],
        "released": [None, None],
        "photo": [None, ""],
        "blob": [None, None],
        "api_token": [None, changes["api_token"][1]],
        "category": [None, None],
    }
    assert changes["api_token"][1]["$masked"].startswith("hmac-sha256:")


def test_update_records_what_changed_and_nothing_else(audit: Audit) -> None:
    audit({"name": "all", "model": "app.Product", "exclude": ["modified"]})
    category = Category.objects.create(name="Fuels")
    product = Product.objects.create(name="Oil", price=10)
    product = Product.objects.get(pk=product.pk)
    product.price = Decimal("9.00")
    product.category = category
    product.save()
    assert last().changes == {"price": ["10.00", "9.00"], "category": [None, category.pk]}


def test_a_save_that_changes_nothing_writes_nothing(audit: Audit) -> None:
    audit({"name": "all", "model": "app.Product", "exclude": ["modified"]})
    product = Product.objects.create(name="Oil", price="10", attributes={"b": 1})
    product.save()
    product.price = "10.00"
    product.save()
    Product.objects.get().save()
    assert [event.event_type for event in events()] == ["create"]


def test_update_fields_and_deferred_fields_are_respected(audit: Audit, django_assert_num_queries: object) -> None:
    audit({"name": "all", "model": "app.Product", "exclude": ["modified"]})
    Product.objects.create(name="Oil", price=10, stock=1)
    product = Product.objects.get()
    product.name, product.stock = "Tar", 5
    product.save(update_fields=["stock"])
    assert last().changes == {"stock": [1, 5]}
    lazy = Product.objects.only("name").get()
    lazy.name = "Gas"
    lazy.save()
    assert last().changes == {"name": ["Oil", "Gas"]}
    assert lazy.get_deferred_fields()


def test_an_unwatched_update_reads_nothing(audit: Audit, django_assert_num_queries: object) -> None:
    audit({"name": "prices", "model": "app.Product", "fields": ["price"]})
    product = Product.objects.create(name="Oil")
    with django_assert_num_queries(1):
        product.save(update_fields=["name"])
    assert len(events()) == 1


def test_expressions_are_recorded_as_values(audit: Audit) -> None:
    audit({"name": "all", "model": "app.Product", "exclude": ["modified"]})
    product = Product.objects.create(name="Oil", stock=3)
    product.stock = F("stock") + 2
    product.name = Concat(F("name"), Value("!"))
    product.save()
    assert last().changes == {"name": ["Oil", "Oil!"], "stock": [3, 5]}


def test_values_are_what_the_database_holds(audit: Audit) -> None:
    audit({"name": "all", "model": "app.Product", "exclude": ["modified"]}, {"name": "s", "model": "app.Shouting"})
    product = Product.objects.create(name="Oil", price="10")
    product.price = Decimal("8.996")
    product.stock = "7"
    product.is_active = 0
    product.save()
    product.refresh_from_db()
    assert last().changes == {
        "price": ["10.00", "9.00"],
        "stock": [0, 7],
        "is_active": [True, False],
    }
    Shouting.objects.create(text="hey")
    assert last().changes == {"text": [None, "HEY"]}


def test_generated_and_default_columns(audit: Audit) -> None:
    audit()
    box = Box.objects.create(width=2)
    assert last().changes == {
        "width": [None, 2],
        "height": [None, 1],
        "area": [None, 2],
        "label": [None, "box"],
        "code": [None, "BOX"],
    }
    box = Box.objects.get()
    box.height = 4
    box.save(update_fields=["height"])
    assert last().changes == {"height": [1, 4], "area": [2, 8]}


def test_an_instance_built_by_hand_with_an_existing_key_is_an_update(audit: Audit) -> None:
    audit({"name": "all", "model": "app.Category"})
    category = Category.objects.create(name="Fuels")
    Category(pk=category.pk, name="Oils").save()
    assert trail() == [
        ("create", {"name": [None, "Fuels"], "parent": [None, None]}),
        ("update", {"name": ["Fuels", "Oils"]}),
    ]
    category.pk = None
    category._state.adding = True
    category.save()
    assert last().event_type == "create"
    assert last().object_id == str(category.pk)


@pytest.mark.parametrize(
    ("model", "values", "object_id"),
    [
        (Document, {"id": uuid.UUID(int=7), "title": "a"}, str(uuid.UUID(int=7))),
        (Country, {"code": "a/b 'c'", "name": "x"}, "a/b 'c'"),
        (Line, {"order": 3, "number": 4, "text": "t"}, "[3, 4]"),
    ],
)
def test_keys_of_every_kind(audit: Audit, model: type, values: dict, object_id: str) -> None:
    audit()
    obj = model.objects.create(**values)
    assert last().object_id == object_id
    field = "text" if model is Line else "title" if model is Document else "name"
    setattr(obj, field, "new")
    obj.save()
    assert last().changes == {field: [values[field], "new"]}
    assert AuditEvent.objects.for_object(obj).count() == 2
    assert AuditEvent.objects.state_of(model, obj.pk)[field] == "new"
    obj.delete()
    assert last().event_type == "delete"
    assert last().object_id == object_id


def test_a_composite_keys_parts_are_recorded(audit: Audit) -> None:
    audit()
    Line.objects.create(order=3, number=4, text="t")
    assert last().changes == {"order": [None, 3], "number": [None, 4], "text": [None, "t"]}


def test_a_very_long_key_stays_unique(audit: Audit) -> None:
    audit()
    one = Country.objects.create(code="x" * 299 + "1", name="one")
    Country.objects.create(code="x" * 299 + "2", name="two")
    assert AuditEvent.objects.for_object(one).get().object_repr == "one"


def test_proxies_are_recorded_under_the_concrete_model(audit: Audit) -> None:
    audit({"name": "cheap", "model": "app.CheapProduct", "fields": ["name"]})
    CheapProduct.objects.create(name="a")
    Product.objects.create(name="b")
    assert [(event.model, event.object_repr) for event in events()] == [("app.product", "a"), ("app.product", "b")]


def test_multi_table_children_make_one_event_for_the_most_derived_ruled_model(audit: Audit) -> None:
    audit()
    pizzeria = Pizzeria.objects.create(name="Luigi", stars=2)
    assert trail() == [("create", {"name": [None, "Luigi"], "stars": [None, 2], "oven": [None, "wood"]})]
    assert last().model == "app.pizzeria"
    pizzeria.name = "Mario"
    pizzeria.save()
    assert trail()[1:] == [("update", {"name": ["Luigi", "Mario"]})]
    assert last().model == "app.pizzeria"


def test_a_rule_on_the_parent_covers_children_without_one(audit: Audit) -> None:
    audit({"name": "places", "model": "app.Place"})
    restaurant = Restaurant.objects.create(name="Luigi", stars=2)
    restaurant.stars = 3
    restaurant.save()
    restaurant.name = "Mario"
    restaurant.save()
    assert [(event.model, event.event_type, event.changes) for event in events()] == [
        ("app.place", "create", {"name": [None, "Luigi"]}),
        ("app.place", "update", {"name": ["Luigi", "Mario"]}),
    ]


def test_a_rule_on_the_parent_counts_for_ruled_children_too(audit: Audit) -> None:
    audit(
        {"name": "places", "model": "app.Place"},
        {"name": "stars", "model": "app.Restaurant", "fields": ["stars"]},
    )
    restaurant = Restaurant.objects.create(name="Luigi", stars=2)
    restaurant.name = "Mario"
    restaurant.save()
    assert [(event.model, event.rules) for event in events()] == [
        ("app.restaurant", ["places", "stars"]),
        ("app.restaurant", ["places"]),
    ]
    Place.objects.create(name="Park")
    assert last().model == "app.place"


def test_hidden_rows_are_read(audit: Audit) -> None:
    audit()
    hidden = Hidden(name="a")
    hidden.save()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE app_hidden SET is_hidden = %s", [False])
    hidden = Hidden.objects.get()
    hidden.is_hidden, hidden.name = True, "c"
    hidden.save()
    assert last().changes == {"is_hidden": [False, True], "name": ["a", "c"]}


def test_models_with_a_field_tracker_or_soft_deletion_are_audited_like_any_other(audit: Audit) -> None:
    audit()
    tracked = Tracked.objects.create(name="a")
    tracked.count = 2
    assert tracked.tracker.changed() == {"count": 0}
    tracked.save()
    assert tracked.tracker.changed() == {}
    assert last().changes == {"count": [0, 2]}
    soft = SoftDeleted.available_objects.create(name="s")
    soft.delete()
    assert last().event_type == "update"
    assert last().changes == {"is_removed": [False, True]}


def test_unaudited_models_have_no_receiver_and_no_wrapper(audit: Audit) -> None:
    audit({"name": "products", "model": "app.Product"})
    assert not pre_save.has_listeners(Unaudited)
    assert not post_save.has_listeners(Unaudited)
    assert "save_base" not in Unaudited.__dict__
    Unaudited.objects.create(name="x")
    assert events() == []
    Product.objects.create(name="x", slug="x")
    assert [event.event_type for event in events()] == ["create"]


def test_override_takes_effect_at_once_and_is_undone(audit: Audit, settings: object) -> None:
    Unaudited.objects.create(name="x")
    audit({"name": "u", "model": "app.Unaudited"})
    Unaudited.objects.create(name="y")
    audit({"name": "p", "model": "app.Product"})
    Unaudited.objects.create(name="z")
    assert [event.object_repr for event in events()] == ["y"]
    assert "save_base" not in Unaudited.__dict__


def test_a_failing_save_leaves_no_event(audit: Audit) -> None:
    audit()
    Product.objects.create(name="a", slug="a")
    before = len(events())
    with pytest.raises(IntegrityError), transaction.atomic():
        Product.objects.create(name="b", slug="a")
    assert len(events()) == before


def test_a_post_save_sent_by_hand_is_no_save(audit: Audit) -> None:
    audit()
    product = Product.objects.create(name="a")
    post_save.send(sender=Product, instance=product, created=True, raw=False, using="default", update_fields=None)
    assert len(events()) == 1


def test_a_save_inside_a_receiver_keeps_the_order(audit: Audit) -> None:
    audit({"name": "all", "model": "app.Category"})

    def rename(sender: type, instance: Category, created: bool, **_: object) -> None:
        if created:
            instance.name = "second"
            instance.save()

    post_save.connect(rename, sender=Category)
    try:
        Category.objects.create(name="first")
    finally:
        post_save.disconnect(rename, sender=Category)
    assert trail() == [
        ("create", {"name": [None, "first"], "parent": [None, None]}),
        ("update", {"name": ["first", "second"]}),
    ]


def test_an_object_whose_text_raises_is_recorded(audit: Audit) -> None:
    audit()
    Broken.objects.create(name="x")
    assert "RuntimeError" in last().object_repr


def test_an_event_that_cannot_be_written_stops_the_save(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    audit()

    def fail(*args: object, **kwargs: object) -> None:
        raise ValueError("disk full")

    monkeypatch.setattr("django_signal_audit.recorder.insert_row", fail)
    with pytest.raises(EventNotWritten, match=r"app\.Product .* ValueError: disk full.*ON_ERROR"), transaction.atomic():
        Product.objects.create(name="a")
    assert not Product.objects.exists()


def test_with_on_error_log_the_save_goes_through(
    audit: Audit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    audit(ON_ERROR="log")

    def fail(*args: object, **kwargs: object) -> None:
        AuditEvent.objects.create(event_type="half", source="orm")
        raise ValueError("disk full")

    monkeypatch.setattr("django_signal_audit.delivery.outbox.enqueue", fail)
    Product.objects.create(name="a")
    assert Product.objects.exists()
    assert events() == []
    assert "disk full" in caplog.text


def test_a_pre_save_receiver_that_writes_the_row_does_not_break_the_chain(audit: Audit) -> None:
    audit({"name": "all", "model": "app.Category", "fields": ["name"]})
    category = Category.objects.create(name="a")

    def meddle(sender: type, instance: Category, **_: object) -> None:
        Category.objects.filter(pk=instance.pk).update(name="meddled")

    pre_save.connect(meddle, sender=Category)
    try:
        category.name = "b"
        category.save()
    finally:
        pre_save.disconnect(meddle, sender=Category)
    assert trail() == [
        ("create", {"name": [None, "a"]}),
        ("update", {"name": ["a", "meddled"]}),
        ("update", {"name": ["meddled", "b"]}),
    ]
