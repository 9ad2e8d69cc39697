"""What the text of an object loads doesn't stay in the object: its next save would write it over newer values."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import django
import pytest
from django.contrib.auth.models import User
from django.db import models
from django.db.models import Prefetch, Value, prefetch_related_objects
from django.db.models.functions import Upper
from django.utils.functional import SimpleLazyObject, cached_property

from django_signal_audit import audit_context, record
from django_signal_audit.models import AuditEvent

from .app.models import Category, Person, Picture, Product, Tag
from .conftest import Audit, last

pytestmark = pytest.mark.django_db

WRITES: dict[str, Callable[[Product], Any]] = {
    "save": lambda product: product.save(),
    "save of a field": lambda product: product.save(update_fields=["stock"]),
    "bulk_update": lambda product: Product.objects.bulk_update([product], ["stock"]),
    "members": lambda product: product.tags.add(Tag.objects.create(name="t")),
    "record": lambda product: record("seen", product),
    "data": lambda product: record("seen", data={"product": product}),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_deferred_column_stays_deferred(audit: Audit, name: str) -> None:
    audit()
    Product.objects.create(name="old")
    product = Product.objects.only("stock").get()
    deferred = product.get_deferred_fields()
    product.stock = 7
    WRITES[name](product)
    assert product.get_deferred_fields() == deferred
    Product.objects.update(name="newer")
    product.save()
    assert Product.objects.get().name == "newer"
    assert AuditEvent.objects.filter(object_repr="old").exists() or name == "data"


@pytest.mark.skipif(django.VERSION < (6, 0), reason="the object keeps the expression, which has no text")
def test_a_column_that_an_expression_wrote_is_loaded_only_if_django_loads_it(audit: Audit) -> None:
    audit({"name": "tags", "model": "app.Tag"})
    product = Product.objects.create(name="old")
    product.name = Upper(Value("old"))
    product.save()
    expected = product.get_deferred_fields()
    audit()
    product.name = Upper(Value("older"))
    product.save()
    assert product.get_deferred_fields() == expected
    assert last().object_repr == "OLDER"


def test_a_deletion(audit: Audit) -> None:
    audit()
    Product.objects.create(name="old")
    product = Product.objects.only("stock").get()
    deferred = product.get_deferred_fields()
    product.delete()
    assert product.get_deferred_fields() == deferred
    assert last().object_repr == "old"


@pytest.fixture
def follows(monkeypatch: pytest.MonkeyPatch, other_methods: None) -> None:
    """Have the text of a picture follow two foreign keys."""
    monkeypatch.setattr(Picture, "__str__", lambda picture: f"{picture.file} of {picture.product.category}")


@pytest.mark.usefixtures("follows")
def test_related_objects_are_loaded_when_the_project_asks_for_them(audit: Audit) -> None:
    audit()
    product = Product.objects.create(name="oil", category=Category.objects.create(name="food"))
    picture = Picture.objects.create(product_id=product.pk, file="a.png")
    assert last().object_repr == "a.png of food"
    assert "product" not in picture._state.fields_cache
    picture.file = "b.png"
    picture.save()
    Category.objects.update(name="drink")
    assert picture.product.category is not None
    assert picture.product.category.name == "drink"


@pytest.mark.usefixtures("follows")
def test_those_that_were_loaded_stay_as_they_were(audit: Audit) -> None:
    audit()
    made = Product.objects.create(name="oil", category=Category.objects.create(name="food"))
    product = Product.objects.only("stock").get(pk=made.pk)
    pictures = [Picture(product=product, file=f"{number}.png") for number in range(3)]
    Picture.objects.bulk_create(pictures)
    pictures[0].save()
    assert {picture.product for picture in pictures} == {product}
    assert product.get_deferred_fields() >= {"name", "category_id"}
    assert "category" not in product._state.fields_cache


@pytest.mark.usefixtures("follows")
def test_objects_that_go_by_a_cascade(audit: Audit, django_assert_max_num_queries: Any) -> None:
    audit()
    product = Product.objects.create(name="oil", category=Category.objects.create(name="food"))
    for number in range(20):
        Picture.objects.create(product=product, file=f"{number}.png")
    with django_assert_max_num_queries(40):
        product.delete()
    assert "category" in product._state.fields_cache
    assert AuditEvent.objects.filter(object_repr="7.png of food", event_type="delete").count() == 1


@pytest.mark.usefixtures("other_methods")
def test_prefetched_objects_and_remembered_properties(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    def describe(person: Any) -> str:
        prefetch_related_objects([person], "friends")
        person.told = True
        return f"{person.name} with {person.count} and {person.count_again}"

    for name, kind in (("count", cached_property), ("count_again", functools.cached_property)):
        remembered: Any = kind(lambda person: len(person.friends.all()))
        remembered.__set_name__(Person, name)
        monkeypatch.setattr(Person, name, remembered, raising=False)
    monkeypatch.setattr(Person, "__str__", describe)
    audit()
    ann: Any = Person.objects.create(name="ann")
    assert last().object_repr == "ann with 0 and 0"
    ann.friends.add(Person.objects.create(name="bob"))
    assert (len(ann.friends.all()), ann.count, ann.count_again) == (1, 1, 1)
    assert ann.told  # whoever sets an attribute by hand means to


@pytest.mark.usefixtures("other_methods")
@pytest.mark.parametrize("to_attr", [None, "found"])
def test_objects_of_a_prefetch(audit: Audit, monkeypatch: pytest.MonkeyPatch, to_attr: str | None) -> None:
    def pictures(product: Any) -> list[Picture]:
        return list(getattr(product, to_attr) if to_attr else product.pictures.all())

    monkeypatch.setattr(Product, "__str__", lambda product: ",".join(str(one.file) for one in pictures(product)))
    audit({"name": "products", "model": "app.Product"})
    product = Product(name="oil")
    monkeypatch.setattr(Picture, "__str__", lambda picture: "a picture")
    Product.objects.bulk_create([product])
    product = Product.objects.get()
    Picture.objects.create(product=product, file="old.png")
    rows = Picture.objects.only("product")
    product = Product.objects.prefetch_related(Prefetch("pictures", rows, to_attr=to_attr)).get()
    product.stock = 9
    product.save()
    assert last().object_repr == "old.png"
    Picture.objects.update(file="new.png")
    [picture] = pictures(product)
    assert "file" in picture.get_deferred_fields()
    picture.save()
    assert Picture.objects.get().file == "new.png"


def test_objects_that_lead_back_to_the_object(audit: Audit) -> None:
    audit()
    parent = Category.objects.create(name="food")
    Category.objects.bulk_create([Category(name=f"{number}", parent=parent) for number in range(30)])
    rows = Category.objects.prefetch_related(Prefetch("children", to_attr="kids"))
    parent = rows.get(pk=parent.pk)
    parent.name = "drink"
    parent.save()
    parent.kids[0].save()  # type: ignore[attr-defined]
    record("seen", parent, data={"kids": parent.kids})  # type: ignore[attr-defined]
    parent.delete()
    assert AuditEvent.objects.filter(object_repr="drink", event_type="update").count() == 1


@pytest.mark.usefixtures("other_methods")
def test_objects_behind_a_lazy_one(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Person, "__str__", lambda person: f"{person.name} of {person.owner.username}")
    audit({"name": "people", "model": "app.Person"})
    User.objects.create_user("ann")
    user = User.objects.only("email").get()
    lazy = SimpleLazyObject(lambda: user)
    Person.objects.create(name="x", owner=lazy)
    assert last().object_repr == "x of ann"
    assert "username" in user.get_deferred_fields()


@pytest.mark.skipif(django.VERSION < (6, 1), reason="fetch modes came with Django 6.1")
def test_peers_stay_as_they_were(audit: Audit) -> None:
    audit()
    Product.objects.bulk_create([Product(name=f"p{number}") for number in range(3)])
    rows: Any = Product.objects.only("stock").order_by("pk")
    first, *others = rows.fetch_mode(models.FETCH_PEERS)
    first.stock = 9
    first.save()
    assert all("name" in other.get_deferred_fields() for other in (first, *others))
    assert others[0].name == "p1"
    assert "name" not in others[1].get_deferred_fields()


def test_an_actor(audit: Audit) -> None:
    audit()
    User.objects.create_user("ann")
    ann = User.objects.only("id").get()
    with audit_context(actor=ann):
        Tag.objects.create(name="t")
    assert last().actor_repr == "ann"
    assert "username" in ann.get_deferred_fields()
