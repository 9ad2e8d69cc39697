"""Values that no column takes: the transaction is marked for rollback exactly where Django marks it without us."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, models, transaction
from django.db.models.signals import pre_save

from .app.models import Document, Person, Place, Product, Restaurant, Tag, Unaudited
from .conftest import Audit
from .test_what_receivers_do_to_instances import receiving

pytestmark = pytest.mark.django_db


class Unsuitable(Exception):
    pass


class NoValue:
    """Raises wherever a field looks at it."""

    def __str__(self) -> str:
        raise Unsuitable

    __int__ = __str__  # type: ignore[assignment]


def _child_with_a_broken_key() -> None:
    Restaurant(pk="three", name="a").save()


WRITES: dict[str, Callable[[], Any]] = {
    "save with a broken key": lambda: Tag(pk="three", name="a").save(),
    "save of a child with a broken key": _child_with_a_broken_key,
    "save with a broken key that is to be updated": lambda: Tag(pk="three", name="a").save(force_update=True),
    "save of some fields with a broken key": lambda: Tag(pk="three", name="a").save(update_fields=["name"]),
    "save with a broken UUID": lambda: Document(pk="three", title="a").save(force_update=True),
    "save with a broken value": lambda: Product(name="a", slug="a", price="much").save(),
    "save of a row that is there with a broken value": lambda: _changed(price="much").save(),
    "save of a row that is there with a value that raises": lambda: _changed(price=NoValue()).save(),
    "save with no such field": lambda: _changed().save(update_fields=["colour"]),
    "save that is forced in two ways": lambda: _changed().save(force_insert=True, force_update=True),
    "save_base with a broken key": lambda: Tag(pk="three", name="a").save_base(),
    "raw save with a broken key": lambda: Tag(pk="three", name="a").save_base(raw=True),
    "save of nothing": lambda: Tag(pk=10**6, name="a").save(force_update=True),
    "create": lambda: Product.objects.create(name="a", slug="a", price="much"),
    "get_or_create": lambda: Product.objects.get_or_create(slug="a", defaults={"price": "much"}),
    "get_or_create with a broken key": lambda: Tag.objects.get_or_create(pk="three"),
    "update_or_create": lambda: Product.objects.update_or_create(slug="there", defaults={"price": "much"}),
    "update": lambda: Product.objects.update(price="much"),
    "update of a key": lambda: Tag.objects.update(pk="three"),
    "update of a child": lambda: Restaurant.objects.update(name="b", stars="many"),
    "update of what is not found": lambda: Product.objects.filter(pk=-1).update(price="much"),
    "update with a condition that is none": lambda: Product.objects.filter(pk="three").update(name="a"),
    "update of no such field": lambda: Product.objects.update(colour="red"),
    "bulk_create": lambda: Product.objects.bulk_create([Product(name="a", slug="a", price="much")]),
    "bulk_create of broken keys": lambda: Tag.objects.bulk_create([Tag(pk="three")]),
    "bulk_create that ignores conflicts": lambda: Product.objects.bulk_create(
        [Product(name="a", slug="a", price="much")], ignore_conflicts=True
    ),
    "bulk_create in batches of none": lambda: Tag.objects.bulk_create([Tag()], batch_size=-1),
    "bulk_update": lambda: Product.objects.bulk_update([_changed(price="much")], ["price"]),
    "bulk_update of no fields": lambda: Product.objects.bulk_update([_changed()], []),
    "delete of what has no key": lambda: Tag(name="a").delete(),
    "delete with a broken key": lambda: Tag(pk="three").delete(),
    "delete of a child with a broken key": lambda: Restaurant(pk="three").delete(),
    "delete with a condition that is none": lambda: Tag.objects.filter(pk="three").delete(),
    "add": lambda: Place.objects.get().tags.add("three"),
    "add of what is none": lambda: Place.objects.get().tags.add(Person()),
    "remove": lambda: Place.objects.get().tags.remove("three"),
    "set": lambda: Place.objects.get().tags.set(["three"]),
    "set of what cannot be gone through": lambda: Place.objects.get().tags.set(7),  # type: ignore[arg-type]
    "members of what is not saved": lambda: Place().tags.add(1),
}


def _changed(**values: Any) -> Product:
    product = Product.objects.get(slug="there")
    for name, value in values.items():
        setattr(product, name, value)
    return product


def outcome(write: Callable[[], Any]) -> tuple[str, bool]:
    """Return what a write raises inside a transaction, and whether the transaction may go on."""
    with transaction.atomic():
        try:
            write()
            raised = ""
        except Exception as error:  # noqa: BLE001
            raised = type(error).__name__
        marked = connection.needs_rollback
        transaction.set_rollback(True)
    return raised, marked


@pytest.fixture(autouse=True)
def rows(db: None) -> None:
    Product.objects.create(name="a", slug="there")
    Place.objects.create(name="a")
    Restaurant.objects.create(name="r").delete(keep_parents=False)
    Tag.objects.create(name="a")


@pytest.mark.parametrize("on_error", ["raise", "log"])
@pytest.mark.parametrize("capture_queries", [True, False])
@pytest.mark.parametrize("name", WRITES)
def test_broken_values_mark_the_transaction_as_plain_django_does(
    audit: Audit, settings: Any, name: str, capture_queries: bool, on_error: str
) -> None:
    settings.SIGNAL_AUDIT = {}
    plain = outcome(WRITES[name])
    audit(CAPTURE_QUERIES=capture_queries, ON_ERROR=on_error)
    assert outcome(WRITES[name]) == plain
    audit({"name": "deletes", "model": "app.*", "events": ["delete"]}, CAPTURE_QUERIES=capture_queries)
    assert outcome(WRITES[name]) == plain


@pytest.mark.parametrize("raises", [Unsuitable, ValidationError("no"), ValueError])
def test_receivers_and_fields_that_raise(
    audit: Audit, settings: Any, monkeypatch: pytest.MonkeyPatch, raises: Any
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise raises

    def by_receiver() -> None:
        with receiving(pre_save, refuse, Tag):
            Tag.objects.get().save()

    def by_field(method: str) -> Callable[[], None]:
        def write() -> None:
            with monkeypatch.context() as patch:
                patch.setattr(models.CharField, method, refuse)
                Tag.objects.get().save()

        return write

    writes = [by_receiver, *map(by_field, ("pre_save", "get_prep_value", "get_db_prep_save"))]
    settings.SIGNAL_AUDIT = {}
    plain = [outcome(write) for write in writes]
    audit()
    assert [outcome(write) for write in writes] == plain
    assert [marked for _, marked in plain] == [False, True, True, True]
    assert Unaudited.objects.count() == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", WRITES)
def test_broken_values_outside_a_transaction(audit: Audit, settings: Any, name: str) -> None:
    def run() -> str:
        try:
            WRITES[name]()
        except Exception as error:  # noqa: BLE001
            return type(error).__name__
        finally:
            assert not connection.in_atomic_block
            assert not connection.needs_rollback
        return ""

    settings.SIGNAL_AUDIT = {}
    plain = run()
    audit()
    assert run() == plain
