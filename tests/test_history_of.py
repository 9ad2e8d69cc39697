"""``history_of``: the versions of an object in Python, and the difference between any two."""

from __future__ import annotations

import datetime as dt
import tracemalloc
from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils.functional import SimpleLazyObject

from django_signal_audit import (
    FieldChange,
    M2MChange,
    ahistory_of,
    arecord,
    audit_context,
    history_of,
)
from django_signal_audit import history as history_module
from django_signal_audit.models import AuditEvent

from .app.models import CheapProduct, Country, Document, Kiosk, Line, Place, Product, Restaurant, Tag
from .conftest import Audit, last, run_async
from .samples import make_event

pytestmark = pytest.mark.django_db


@pytest.fixture
def product(audit: Audit) -> Product:
    audit({"name": "products", "model": "app.Product", "fields": ["name", "price", "released", "category", "tags"]})
    product = Product.objects.create(name="Tea", price=Decimal("10.00"), released=dt.date(2026, 1, 2))
    product.price = Decimal("9.50")
    product.save()
    product.tags.add(Tag.objects.create(name="green"))
    product.name = "Green tea"
    product.save()
    return product


def test_versions_come_oldest_first_with_typed_values(product: Product) -> None:
    created, cheaper, tagged, renamed = history_of(product)
    assert [version.number for version in (created, cheaper, tagged, renamed)] == [1, 2, 3, 4]
    assert created.values == {
        "name": "Tea", "price": Decimal("10.00"), "released": dt.date(2026, 1, 2), "category": None
    }  # fmt: skip
    assert cheaper.values is not None
    assert cheaper.values["price"] == Decimal("9.50")
    assert tagged.event.event_type == "m2m"
    assert renamed.values == AuditEvent.objects.state_of(Product, product.pk)


def test_a_version_says_who_made_it_and_why(product: Product) -> None:
    with audit_context(actor="ada", reason="Sale"):
        product.price = Decimal("5.00")
        product.save()
    event = history_of(product)[-1].event
    assert (event.actor_repr, event.context["reason"]) == ("ada", "Sale")


def test_diff_of_any_two_versions_names_what_differs_in_the_order_of_the_model(product: Product) -> None:
    history = history_of(product)
    green = Tag.objects.get().pk
    assert history.diff(0, -1) == {
        "name": FieldChange("Tea", "Green tea"),
        "price": FieldChange(Decimal("10.00"), Decimal("9.50")),
        "tags": M2MChange(added=(green,)),
    }
    assert list(history.diff(0, -1)) == ["name", "price", "tags"]
    first, second, *_ = history
    assert history.diff(first, second) == {"price": FieldChange(Decimal("10.00"), Decimal("9.50"))}
    assert history.diff(first, first) == {}


def test_diff_goes_from_the_first_argument_to_the_second_also_backwards(product: Product) -> None:
    assert history_of(product).diff(-1, 0) == {
        "name": FieldChange("Green tea", "Tea"),
        "price": FieldChange(Decimal("9.50"), Decimal("10.00")),
        "tags": M2MChange(removed=(Tag.objects.get().pk,)),
    }


def test_diff_knows_what_a_field_was_before_the_first_event_that_names_it(audit: Audit) -> None:
    product = Product.objects.create(name="Tea", price=10)
    old, kept, new = (Tag.objects.create(name=name) for name in ("old", "kept", "new"))
    product.tags.set([old, kept])
    audit()
    product.price = Decimal("9.00")
    product.save()
    product.name = "Green tea"
    product.save()
    product.tags.set([kept, new])
    product.name = "Black tea"
    product.save()
    assert history_of(product).diff(0, -1) | {"modified": None} == {
        "name": FieldChange("Tea", "Black tea"),
        "tags": M2MChange(added=(new.pk,), removed=(old.pk,)),
        "modified": None,
    }


def test_a_deleted_object_keeps_its_history(product: Product) -> None:
    pk = product.pk
    product.delete()
    history = history_of(Product, pk)
    assert history[-1].values is None
    change = history.diff(-2, -1)
    assert change["name"] == FieldChange("Green tea", None)
    assert change["tags"] == M2MChange(removed=(Tag.objects.get().pk,))


def test_an_instance_without_a_key_is_refused_with_what_to_write_instead(product: Product) -> None:
    product.delete()
    with pytest.raises(ValueError, match=r"Use history_of\(Product, pk\)"):
        history_of(product)


def test_a_lazy_object_has_the_history_of_what_it_stands_for(product: Product) -> None:
    lazy = SimpleLazyObject(lambda: Product.objects.get(pk=product.pk))
    assert [one.event for one in history_of(lazy)] == [one.event for one in history_of(product)] != []
    assert list(AuditEvent.objects.for_object(lazy)) == list(AuditEvent.objects.for_object(product))


@pytest.mark.parametrize("what", [None, "app.Product", 1, object, User.objects])
def test_what_is_no_object_is_refused_with_what_to_write_instead(what: Any) -> None:
    with pytest.raises(TypeError, match=r"history_of\(\) takes an object, or its model and primary key, not "):
        history_of(what, 1)


@pytest.mark.parametrize("key", ["tea", "", (1, 2), [], object(), User()])
def test_a_key_that_no_row_can_have_is_refused(key: Any) -> None:
    with pytest.raises(ValueError, match=r"No app.Product can have the primary key .*id \(BigAutoField\)"):
        history_of(Product, key)
    with pytest.raises(ValueError, match=r"order \(IntegerField\), number \(IntegerField\)"):
        history_of(Line, 3)
    with pytest.raises(ValueError, match=r"No app.Document can have"):
        history_of(Document, "first")


def test_a_key_beside_an_object_is_refused(product: Product) -> None:
    untyped: Any = history_of
    with pytest.raises(TypeError, match="takes the primary key from the object"):
        untyped(product, 3)
    with pytest.raises(TypeError, match="takes the primary key from the object"):
        async_to_sync(ahistory_of)(product, 3)


def test_a_misspelled_database_is_refused(product: Product) -> None:
    with pytest.raises(ValueError, match=r"There is no database .defualt.\. Did you mean .default"):
        history_of(product, using="defualt")


def test_keys_may_be_spelled_as_events_have_them(audit: Audit) -> None:
    audit()
    Line.objects.create(order=1, number=2, text="a")
    assert len(history_of(Line, last().object_id)) == 1


@pytest.mark.parametrize("what", [None, "first", 1.0])
def test_what_is_no_version_is_not_compared(product: Product, what: Any) -> None:
    history = history_of(product)
    for pair in ((what, 0), (0, what)):
        with pytest.raises(TypeError, match=r"diff\(\) takes versions of this history or their indexes, not "):
            history.diff(*pair)


def test_an_object_that_was_never_recorded_has_no_versions(product: Product) -> None:
    history = history_of(Product, 0)
    assert list(history) == []
    assert len(history) == 0
    with pytest.raises(IndexError):
        history[0]
    with pytest.raises(IndexError):
        history[-1]


def test_indexes_and_slices_are_those_of_a_list(product: Product) -> None:
    history = history_of(product)
    versions = list(history)
    assert len(history) == 4
    assert [history[index] for index in range(-4, 4)] == [versions[index] for index in range(-4, 4)]
    assert history[1:3] == versions[1:3]


def test_versions_of_another_object_are_not_compared(product: Product) -> None:
    other = Product.objects.create(name="Coffee")
    with pytest.raises(ValueError, match="of another object"):
        history_of(product).diff(history_of(product)[0], history_of(other)[0])


def test_events_that_change_nothing_are_no_versions(product: Product) -> None:
    make_event(event_type="viewed", model="app.product", object_id=str(product.pk), changes={})
    assert len(history_of(product)) == 4


def test_keys_of_every_kind_find_their_history(audit: Audit) -> None:
    audit()
    line = Line.objects.create(order=1, number=2, text="a")
    document = Document.objects.create(title="a")
    Country.objects.create(code="a", name="b")
    assert len(history_of(Line, (1, 2))) == len(history_of(line)) == 1
    assert len(history_of(Document, str(document.pk))) == len(history_of(document)) == 1
    assert len(history_of(Country, "a")) == 1
    assert len(history_of(Country, "A")) == 0


def test_a_proxys_history_is_that_of_its_concrete_model(product: Product) -> None:
    assert len(history_of(CheapProduct.objects.get())) == 4


def test_a_parents_history_has_what_its_child_changed(audit: Audit) -> None:
    audit()
    restaurant = Restaurant.objects.create(name="a", stars=1)
    restaurant.name, restaurant.stars = "b", 2
    restaurant.save()
    history = history_of(Place, restaurant.pk)
    assert history.diff(0, 1) == {"name": FieldChange("a", "b")}
    assert history_of(restaurant).diff(0, 1) == {"name": FieldChange("a", "b"), "stars": FieldChange(1, 2)}


def test_a_parents_history_goes_on_in_a_child_with_a_key_of_its_own(audit: Audit) -> None:
    audit()
    place = Place.objects.create(name="a")
    kiosk = Kiosk(number=77, place=place, name="a", goods="papers")
    kiosk.save()
    kiosk.name = "b"
    kiosk.save()
    newest = history_of(place)[-1]
    assert newest.values == AuditEvent.objects.state_of(Place, place.pk)
    assert newest.values is not None
    assert newest.values["name"] == "b"


def test_a_database_can_be_named(product: Product) -> None:
    assert len(history_of(Product, product.pk, using="default")) == 4


def test_what_is_none_in_stored_json_is_left_out(product: Product) -> None:
    make_event(event_type="update", model="app.product", object_id=str(product.pk), changes=["x"])
    make_event(event_type="update", model="app.product", object_id=str(product.pk), changes={"name": 3, "tags": {}})
    history = history_of(product)
    assert len(history) == 6
    assert history.diff(3, 5) == {}


def test_a_long_history_is_read_in_pages_and_not_kept(product: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "_PAGE", 50)
    key = str(product.pk)
    AuditEvent.objects.bulk_create(
        AuditEvent(
            event_type="update", source="orm", model="app.product", object_id=key,
            changes={"name": [f"{number} {'x' * 2000}", f"{number + 1} {'x' * 2000}"]},
        )
        for number in range(1000)
    )  # fmt: skip
    tracemalloc.start()
    with CaptureQueriesContext(connection) as queries:
        count = sum(1 for _ in history_of(product))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 1004
    # 50 events of 4 kB at a time, and not 1,000 of them.
    assert peak < 2_500_000
    assert len(queries) <= 23


@pytest.mark.django_db(transaction=True)
def test_async_twins_do_the_same(audit: Audit) -> None:
    audit({"name": "products", "model": "app.Product", "fields": ["name"]}, {"name": "asked", "events": ["asked"]})

    async def work() -> None:
        product = await Product.objects.acreate(name="Tea")
        product.name = "Green tea"
        await product.asave()
        event = await arecord("asked", product, data={"rows": 3}, level="warning")
        assert event is not None
        assert (event.event_type, event.data, event.level) == ("asked", {"rows": 3}, "warning")
        state = await AuditEvent.objects.astate_of(Product, product.pk)
        assert state == {"name": "Green tea"}
        # All of it is in memory, so nothing here asks the database.
        history = await ahistory_of(product)
        assert history.diff(0, -1) == {"name": FieldChange("Tea", "Green tea")}
        assert len(await ahistory_of(Product, product.pk)) == 2
        assert [version.values async for version in history_of(product)] == [{"name": "Tea"}, {"name": "Green tea"}]
        with pytest.raises(ValueError, match="no primary key"):
            await ahistory_of(Product())

    run_async(work())
