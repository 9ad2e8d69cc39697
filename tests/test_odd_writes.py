"""Odd input to bulk writes: the right events, or an error before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.exceptions import FieldDoesNotExist, FieldError
from django.db import NotSupportedError, models
from django.db.models import Count, Exists, F, OuterRef, Q

from .app.models import Box, Category, Hidden, Picture, Product, Tag
from .conftest import Audit, events
from .processes.proof import prove

pytestmark = pytest.mark.django_db


@pytest.fixture
def stock(audit: Audit) -> None:
    """Have three products of a name and a stock, the second with a category, a tag and a picture."""
    audit()
    for number in range(3):
        Product.objects.create(name=f"p{number}", stock=number)
    two = Product.objects.get(stock=1)
    two.category = Category.objects.create(name="c")
    two.save()
    two.tags.add(*(Tag.objects.create(name=name) for name in "ab"))
    Picture.objects.create(product=two, file="x.png")


@pytest.fixture(autouse=True)
def agree(audit: Audit, db: None) -> Iterator[None]:
    """Compare tables and trail at the end, while the rules are in force."""
    yield
    assert prove(notified=False).problems == []


SETTING_NOTHING: dict[str, Callable[[Box], Any]] = {
    "update of no field": lambda box: Box.objects.update(),
    "update of a generated field": lambda box: Box.objects.filter(pk=box.pk).update(area=5),
    "bulk_update of a generated field": lambda box: Box.objects.bulk_update([box], ["area"]),
    "save of a generated field": lambda box: box.save(update_fields=["area"]),
    "save of no field": lambda box: box.save(update_fields=[]),
}


@pytest.mark.parametrize("name", SETTING_NOTHING)
@pytest.mark.parametrize("is_audited", [True, False])
def test_a_write_that_sets_nothing_of_a_row_with_generated_columns(audit: Audit, name: str, is_audited: bool) -> None:
    audit(*([] if is_audited else [{"name": "tags", "model": "app.Tag"}]))
    box = Box.objects.create(width=2, height=3)
    before = len(events())
    SETTING_NOTHING[name](box)
    box.refresh_from_db()
    assert (box.area, len(events())) == (6, before)


NOTHING: dict[str, Callable[[], Any]] = {
    "bulk_create": lambda: Product.objects.bulk_create([]),
    "bulk_create of none new": lambda: Product.objects.bulk_create([], ignore_conflicts=True),
    "bulk_update": lambda: Product.objects.bulk_update([], ["stock"]),
    "bulk_update of none there": lambda: Product.objects.bulk_update([Product(pk=987654, stock=9)], ["stock"]),
    "update of no rows": lambda: Product.objects.none().update(stock=9),
    "update of no match": lambda: Product.objects.filter(stock=77).update(stock=9),
    "update of no key": lambda: Product.objects.filter(pk__in=[]).update(stock=9),
    "update of no field": lambda: Product.objects.update(),
    "update to the same": lambda: Product.objects.update(stock=F("stock"), name=F("name")),
    "delete": lambda: Product.objects.none().delete(),
    "delete of no match": lambda: Product.objects.filter(stock=77).delete(),
    "add": lambda: Product.objects.get(stock=0).tags.add(),
    "remove": lambda: Product.objects.get(stock=0).tags.remove(987654),
    "set": lambda: Product.objects.get(stock=0).tags.set([]),
    "clear": lambda: Product.objects.get(stock=0).tags.clear(),
    "raw delete": lambda: Picture.objects.filter(pk=987654)._raw_delete("default"),
}


@pytest.mark.usefixtures("stock")
@pytest.mark.parametrize("write", NOTHING)
def test_writes_of_nothing(write: str) -> None:
    before = len(events())
    NOTHING[write]()
    assert len(events()) == before


REFUSED: dict[str, Callable[[], Any]] = {
    "update of a slice": lambda: Product.objects.all()[:1].update(stock=9),
    "delete of a slice": lambda: Product.objects.all()[:1].delete(),
    "delete of distinct fields": lambda: Product.objects.distinct("name").delete(),
    "delete of values": lambda: Product.objects.values("name").delete(),
    "update of a union": lambda: Product.objects.union(Product.objects.all()).update(stock=9),
    "delete of a union": lambda: Product.objects.union(Product.objects.all()).delete(),
    "update of an unknown field": lambda: Product.objects.update(nothing=9),
    "update of members": lambda: Product.objects.update(tags=9),
    "bulk_update of a key": lambda: Product.objects.bulk_update(list(Product.objects.all()), ["id"]),
    "bulk_update without a key": lambda: Product.objects.bulk_update([Product(stock=9)], ["stock"]),
    "a batch of nothing": lambda: Product.objects.bulk_create([Product(name="x")], batch_size=-1),
}


@pytest.mark.usefixtures("stock")
@pytest.mark.parametrize("write", REFUSED)
def test_what_django_refuses_is_refused_before_anything_is_written(write: str) -> None:
    before = len(events())
    with pytest.raises((TypeError, ValueError, FieldError, FieldDoesNotExist, NotSupportedError)):
        REFUSED[write]()
    # The transaction goes on.
    assert len(events()) == before


# Querysets of the second product alone.
ODD: dict[str, Callable[[], models.QuerySet[Any]]] = {
    "join": lambda: Product.objects.filter(category__name="c"),
    "join to many": lambda: Product.objects.filter(tags__name__in=["a", "b"]),
    "distinct": lambda: Product.objects.filter(tags__name__in=["a", "b"]).distinct(),
    "annotation": lambda: Product.objects.annotate(count=Count("tags")).filter(count=2),
    "exists": lambda: Product.objects.filter(Exists(Picture.objects.filter(product=OuterRef("pk")))),
    "excluded": lambda: Product.objects.exclude(~Q(pictures__file="x.png")),
    "ordered": lambda: Product.objects.filter(stock=1).order_by("-category__name"),
    "related": lambda: Product.objects.select_related("category").defer("name").filter(stock=1),
    "extra columns": lambda: Product.objects.annotate(text=F("category__name")).filter(text="c"),
    "either of two": lambda: Product.objects.filter(stock=1) | Product.objects.filter(tags__name="a"),
    "keys of a slice": lambda: Product.objects.filter(
        pk__in=list(Product.objects.order_by("pk").values_list("pk", flat=True)[1:2])
    ),
}


@pytest.mark.usefixtures("stock")
@pytest.mark.parametrize("rows", ODD)
class TestOddQuerysets:
    def test_an_update_of_an_odd_queryset_is_recorded(self, rows: str) -> None:
        before = len(events())
        ODD[rows]().update(stock=50, name=F("name"))
        assert [(event.object_repr, event.changes) for event in events()[before:]] == [("p1", {"stock": [1, 50]})]

    def test_a_delete_of_an_odd_queryset_is_recorded(self, rows: str) -> None:
        ODD[rows]().delete()
        assert [event.object_repr for event in events(event_type="delete", model="app.product")] == ["p1"]
        assert [event.source for event in events(event_type="delete", model="app.picture")] == ["cascade"]


def test_rows_that_the_default_manager_hides(audit: Audit) -> None:
    audit()
    everything = models.QuerySet(Hidden)
    Hidden.objects.bulk_create([Hidden(name="a"), Hidden(name="b", is_hidden=False)])
    everything.update(name="c")
    rows = list(everything)
    for row in rows:
        row.name = "d"
    everything.bulk_update(rows, ["name"])
    everything.all().delete()
    found = sorted((event.object_id, event.id, event.event_type) for event in events())
    assert [event_type for *_, event_type in found] == ["create", "update", "update", "delete"] * 2


def test_values_that_are_too_long_to_keep(audit: Audit) -> None:
    audit(MAX_VALUE_BYTES=30)
    long, longer = {"a": "x" * 50}, {"a": "y" * 60}
    Product.objects.bulk_create([Product(name="p", attributes=long), Product(name="q", attributes={})])
    Product.objects.update(attributes=longer)
    Product.objects.update(attributes=longer)
    products = list(Product.objects.order_by("pk"))
    for product in products:
        product.attributes = {}
    Product.objects.bulk_update(products, ["attributes"])
    updates = [event.changes["attributes"] for event in events(event_type="update")]
    assert len(updates) == 4
    assert "yyy" not in str(updates)
    # Equal values have equal digests.
    assert updates[0][1] == updates[1][1] == updates[2][0] == updates[3][0]
    Product.objects.all().delete()


def test_the_same_row_twice_in_one_call(audit: Audit) -> None:
    audit()
    product = Product.objects.create(name="p")
    copy = Product.objects.get()
    product.stock, copy.stock = 5, 7
    Product.objects.bulk_update([product, copy], ["stock"])
    tag = Tag.objects.create(name="t")
    product.tags.add(tag, tag, tag.pk)
    assert [event.changes["tags"] for event in events(event_type="m2m")] == [{"added": [tag.pk], "removed": []}]
    Product.objects.bulk_update([product, copy], ["stock"], batch_size=1)
