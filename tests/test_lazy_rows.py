"""What is read for a bulk write and converted only where somebody asks, and what is kept of a connection."""

from __future__ import annotations

import gc
import threading
import weakref
from decimal import Decimal
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F

from django_signal_audit.events.keys import new_uid, new_uids
from django_signal_audit.models import AuditEvent

from .app.models import Category, Document, Product
from .conftest import Audit, events


@pytest.fixture
def text_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replace what an object's text is made of."""
    return lambda model, make: monkeypatch.setattr(model, "__str__", make)


@pytest.mark.django_db
@pytest.mark.parametrize("verb", ["update", "delete"])
def test_the_text_may_be_made_of_any_column(audit: Audit, text_of: Any, verb: str) -> None:
    audit()
    Product.objects.create(name="Lamp", price=Decimal("3.50"))
    text_of(Product, lambda self: f"{self.name} for {self.price} since {self.pk is not None}")
    price = Product.objects.values_list("price", flat=True).get() + (1 if verb == "update" else 0)
    Product.objects.update(price=F("price") + 1) if verb == "update" else Product.objects.all().delete()
    assert events()[-1].object_repr == f"Lamp for {price} since True"


@pytest.mark.django_db
@pytest.mark.parametrize("verb", ["update", "delete"])
def test_the_text_may_be_made_of_a_converted_key(audit: Audit, text_of: Any, verb: str) -> None:
    audit()
    document = Document.objects.create(title="Deed")
    text_of(Document, lambda self: f"{self.title} {self.pk}")
    Document.objects.update(title="Will") if verb == "update" else Document.objects.all().delete()
    assert events()[-1].object_repr == f"{'Will' if verb == 'update' else 'Deed'} {document.pk}"


@pytest.mark.django_db
def test_a_text_that_asks_the_database_again_gets_what_is_there(audit: Audit, text_of: Any) -> None:
    audit()
    Category.objects.create(name="old")

    def text(self: Any) -> str:
        return str(type(self).objects.get(pk=self.pk).name)

    text_of(Category, text)
    Category.objects.update(name="new")
    assert events()[-1].object_repr == "new"


@pytest.mark.django_db(transaction=True)
def test_a_thread_leaves_no_connection_behind(audit: Audit) -> None:
    audit()
    Product.objects.create(name="Lamp", price=Decimal("3.50"))
    left: list[Any] = []

    def work() -> None:
        product = Product.objects.get()
        product.name = "Torch"
        product.save()
        Product.objects.update(price=F("price") + 1)
        left.append(weakref.ref(connections["default"]))
        BaseDatabaseWrapper.close(connections["default"])  # SQLite keeps one in memory open

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    del thread
    gc.collect()
    assert AuditEvent.objects.count() == 3
    assert left[0]() is None


def test_names_ascend_and_tell_the_time_of_the_clock() -> None:
    singles = [new_uid() for _ in range(5_000)]
    series = new_uids()
    assert len({*singles, *(next(series) for _ in range(100))}) == 5_100
    assert {(uid.version, uid.variant) for uid in singles} == {(7, "specified in RFC 4122")}
    # Not one millisecond ahead for each of them.
    assert (singles[-1].int >> 80) - (singles[0].int >> 80) < 2_000
    assert [uid.int >> 64 for uid in singles] == sorted(uid.int >> 64 for uid in singles)


@pytest.mark.django_db
@pytest.mark.parametrize("write", ["save", "bulk_create"])
def test_a_document_within_itself_is_refused_as_without_us(audit: Audit, write: str) -> None:
    audit()
    document: dict[str, Any] = {"name": "snake"}
    document["tail"] = [document]
    product = Product(name="Lamp", attributes=document)
    with pytest.raises(ValueError, match="Circular reference"), transaction.atomic():
        product.save() if write == "save" else Product.objects.bulk_create([product])
    assert not Product.objects.exists()
    assert events() == []
