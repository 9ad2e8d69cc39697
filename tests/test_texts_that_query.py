"""Queries in ``__str__`` and in conditions that the database refuses: the write and its event are there nonetheless."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, models, transaction
from django.test.utils import CaptureQueriesContext

from django_signal_audit import audit_context

from .app.models import Category, Person, Product, Tag, Unaudited
from .conftest import Audit, events, last

pytestmark = pytest.mark.django_db


def _refused(_: object) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT no_such_column FROM app_tag")
    return "never"


def _passed_over(tag: Any) -> str:
    with suppress(DatabaseError):
        _refused(tag)
    return f"passed over {tag.name}"


def _broken_block(tag: Any) -> str:
    with suppress(IntegrityError), transaction.atomic(savepoint=False):
        raise IntegrityError
    return f"broken {tag.name}"


def _writes_and_raises(_: object) -> str:
    Unaudited.objects.create(name="from a text")
    raise ValueError


REFUSED = "<Tag: __str__ raised "
TEXTS: list[tuple[Callable[[Any], str], str]] = [
    (_refused, REFUSED),
    (lambda _: str(models.QuerySet(Tag).filter(pk__gt=models.F("no")).count()), REFUSED),
    (_passed_over, "passed over "),
    (_broken_block, "broken "),
    (_writes_and_raises, f"{REFUSED}ValueError>"),
]
SAVED = {"tag": 0}


def _there() -> Tag:
    return Tag.objects.get(pk=SAVED["tag"])


def _renamed() -> None:
    tag = _there()
    tag.name = "b"
    tag.save()


WRITES: dict[str, tuple[Callable[[], Any], int]] = {
    "create": (lambda: Tag.objects.create(name="a"), 1),
    "save": (_renamed, 1),
    "update": (lambda: Tag.objects.update(name="b"), 1),
    "bulk_create": (lambda: Tag.objects.bulk_create([Tag(name="a"), Tag(name="c")]), 2),
    "bulk_update": (lambda: Tag.objects.bulk_update([Tag(pk=SAVED["tag"], name="b")], ["name"]), 1),
    "update_or_create": (lambda: Tag.objects.update_or_create(pk=SAVED["tag"], defaults={"name": "b"}), 1),
    "delete": (lambda: _there().delete(), 1),
    "delete of a queryset": (lambda: Tag.objects.all().delete(), 1),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(("text", "told"), TEXTS)
@pytest.mark.parametrize("engine", ["auto", "portable"])
def test_a_query_that_is_refused_in_a_text_leaves_the_transaction_usable(
    audit: Audit, monkeypatch: Any, write: str, text: Any, told: str, engine: str
) -> None:
    SAVED["tag"] = Tag.objects.create(name="old").pk
    monkeypatch.setattr(Tag, "__str__", text)
    audit({"name": "t", "model": "app.Tag"}, ENGINE=engine)
    run, count = WRITES[write]
    with transaction.atomic():
        run()
        Unaudited.objects.create(name="afterwards")
    assert [event.object_repr.startswith(told) for event in events()] == [True] * count
    assert [row.name for row in Unaudited.objects.all()] == ["afterwards"]


def test_a_text_of_the_actor_that_is_refused(audit: Audit, monkeypatch: Any, admin_user: Any) -> None:
    monkeypatch.setattr(type(admin_user), "__str__", _refused)
    audit({"name": "t", "model": "app.Tag"})
    with transaction.atomic(), audit_context(actor=admin_user):
        Tag.objects.create(name="a")
    assert last().actor_id == str(admin_user.pk)
    assert Tag.objects.count() == 1


def test_a_relation_that_is_refused_for_all_texts_together(audit: Audit, monkeypatch: Any) -> None:
    audit({"name": "p", "model": "app.Product"})
    category = Category.objects.create(name="c")
    monkeypatch.setattr(Product, "__str__", lambda self: f"{self.name} in {self.category.name}")
    Product.objects.bulk_create([Product(name=f"p{at}", category_id=category.pk) for at in range(3)])
    rows = list(Product.objects.all())
    with transaction.atomic(), connection.execute_wrapper(_refuse_categories):
        Product.objects.bulk_update([Product(pk=row.pk, price=3) for row in rows], ["price"])
    assert [event.object_repr.startswith("<Product: __str__ raised ") for event in events()[-3:]] == [True] * 3
    assert Product.objects.filter(price=3).count() == 3


def _refuse_categories(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    if 'FROM "app_category"' in sql or "FROM `app_category`" in sql:
        sql, params = "SELECT no_such_column FROM app_category", None
    return execute(sql, params, many, context)


def test_a_text_of_loaded_values_sets_no_savepoint_and_one_that_queries_sets_one(
    audit: Audit, monkeypatch: Any
) -> None:
    audit({"name": "t", "model": "app.Tag"}, ENGINE="portable")
    counts = []
    for text in (lambda self: f"{self.name} {self.id}", lambda self: f"{self.name} {self.products.count()}"):
        monkeypatch.setattr(Tag, "__str__", text)
        with CaptureQueriesContext(connection) as queries:
            Tag.objects.create(name="a")
        counts.append(sum("SAVEPOINT" in one["sql"] for one in queries))
    assert counts == [0, 2]


def test_a_transaction_that_was_lost_before_stays_lost(audit: Audit, monkeypatch: Any) -> None:
    audit({"name": "t", "model": "app.Tag"})
    tag = Tag.objects.create(name="a")
    monkeypatch.setattr(Tag, "__str__", lambda self: f"{self.products.count()}")
    with suppress(RuntimeError), transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(transaction.TransactionManagementError):
            tag.delete()
        assert transaction.get_rollback()
        raise RuntimeError
    assert Tag.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_text_that_is_refused_with_autocommit_off(audit: Audit, monkeypatch: Any) -> None:
    audit({"name": "t", "model": "app.Tag"})
    monkeypatch.setattr(Tag, "__str__", _refused)
    transaction.set_autocommit(False)
    try:
        Tag.objects.create(name="a")
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    assert last().object_repr.startswith(REFUSED)
    assert Tag.objects.count() == 1


def test_a_condition_that_passes_over_a_refused_query(audit: Audit) -> None:
    audit({"name": "t", "model": "app.Person", "when": f"{__name__}.passing_over"})
    with transaction.atomic():
        Person.objects.create(name="a")
    assert last().model == "app.person"


def passing_over(change: Any) -> bool:
    return _passed_over(change.instance) != ""
