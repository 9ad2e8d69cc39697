"""django-cachalot: it invalidates what it has cached of a table when a statement of the ORM writes to it."""

from __future__ import annotations

import pytest
from django.db.models import F

from django_signal_audit.models import AuditEvent
from tests.conftest import trail

from .shop.models import Label, Product

pytestmark = pytest.mark.django_db(transaction=True)


def names() -> list[str]:
    return list(Product.objects.order_by("id").values_list("name", flat=True))


def prices() -> list[int]:
    return [int(price) for price in Product.objects.order_by("id").values_list("price", flat=True)]


def test_cached_rows_are_read_anew_after_each_kind_of_write() -> None:
    assert names() == []
    tea = Product.objects.create(name="Tea")
    assert names() == ["Tea"]
    coffee, milk = Product.objects.bulk_create([Product(name="Coffee"), Product(name="Milk")])
    assert names() == ["Tea", "Coffee", "Milk"]
    assert prices() == [0, 0, 0]
    Product.objects.update(price=F("price") + 1)
    assert prices() == [1, 1, 1]
    coffee.price = milk.price = 5
    Product.objects.bulk_update([coffee, milk], ["price"])
    assert prices() == [1, 5, 5]
    tea.name = "Green tea"
    tea.save(update_fields=["name"])
    assert names()[0] == "Green tea"
    Product.objects.filter(name="Milk").delete()
    assert len(names()) == 2
    coffee.delete()
    assert names() == ["Green tea"]
    Product.objects.get_or_create(name="Cocoa")
    Product.objects.update_or_create(name="Cocoa", defaults={"price": 7})
    assert prices() == [1, 7]


def test_cached_related_objects_are_read_anew() -> None:
    tea, hot, cold = Product.objects.create(name="Tea"), Label.objects.create(name="a"), Label.objects.create(name="b")
    assert list(tea.labels.all()) == []
    tea.labels.add(hot, cold)
    assert list(tea.labels.order_by("id")) == [hot, cold]
    tea.labels.remove(hot)
    assert list(tea.labels.all()) == [cold]
    tea.labels.set([hot])
    assert list(tea.labels.all()) == [hot]
    tea.labels.clear()
    assert list(tea.labels.all()) == []


def test_events_are_true_and_seen_at_once() -> None:
    tea = Product.objects.create(name="Tea")
    assert AuditEvent.objects.count() == 1
    for price in (1, 2, 3):
        tea.price = price
        tea.save()
        assert AuditEvent.objects.count() == price + 1
    assert [changes["price"] for event_type, changes in trail() if event_type == "update"] == [
        ["0.00", "1.00"],
        ["1.00", "2.00"],
        ["2.00", "3.00"],
    ]
