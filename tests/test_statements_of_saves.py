"""Saves reuse the text of their statements, and write what Django would write without it."""

from __future__ import annotations

from functools import wraps
from typing import Any

import pytest
from django.db import DatabaseError, connection, connections, models, transaction
from django.db.models import F
from django.db.models.functions import Upper
from django.db.models.sql.compiler import SQLInsertCompiler, SQLUpdateCompiler
from django.test.utils import CaptureQueriesContext

from django_signal_audit.capture import row_statements
from django_signal_audit.capture.rows import compiled_for

from .app.models import Product, Tag
from .columns.models import Every
from .conftest import Audit, events, last

pytestmark = pytest.mark.django_db


def test_the_same_fields_are_compiled_once(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    audit({"name": "tags", "model": "app.Tag"})
    compiled = []
    original = SQLUpdateCompiler.pre_sql_setup
    monkeypatch.setattr(
        SQLUpdateCompiler, "pre_sql_setup", lambda self: compiled.append(self.query.model) or original(self)
    )
    tag = Tag.objects.create(name="a")
    tag.save()
    compiled.clear()
    tag.name = "b"
    tag.save()
    assert compiled == []
    Tag.objects.update(name="c")
    assert Tag in compiled


def test_null_and_values_in_turn(audit: Audit) -> None:
    audit({"name": "every", "model": "columns.Every"})
    row = Every.objects.create(name="a", big=1, slug=None)
    for big, slug in ((None, "s"), (2, None), (None, None), (3, "t")):
        row.big, row.slug = big, slug
        row.save()
        row.save(update_fields=["big"])
        assert Every.objects.values_list("big", "slug").get() == (big, slug)
    assert [event.changes["big"] for event in events() if "big" in event.changes] == [
        [None, 1], [1, None], [None, 2], [2, None], [None, 3],
    ]  # fmt: skip


def test_each_choice_of_fields_has_a_statement_of_its_own(audit: Audit) -> None:
    audit({"name": "products", "model": "app.Product"})
    row = Product.objects.create(name="a", stock=1)
    for fields in (["name"], ["stock"], ["stock", "name"], None, ["name"]):
        row.name, row.stock = row.name + "x", row.stock + 1
        row.save(update_fields=fields)
        stored = Product.objects.get()
        assert stored.name == (row.name if fields is None or "name" in fields else stored.name)
        assert stored.stock == (row.stock if fields is None or "stock" in fields else stored.stock)
        assert {*last().changes} - {"modified"} == set(fields or ["name", "stock"])


def test_a_connection_keeps_few_texts(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    audit({"name": "products", "model": "app.Product"})
    monkeypatch.setattr(row_statements, "_MOST_KEPT", 4)
    compiled_for(connections["default"]).clear()
    row = Product.objects.create(name="a", stock=1)
    for fields in (["name"], ["stock"], ["price"], ["weight"], ["name", "stock"], ["name", "price"], ["name"]):
        row.name, row.stock = row.name + "x", row.stock + 1
        row.save(update_fields=fields)
        # What reads the row is kept beside it.
        assert len(compiled_for(connections["default"])) <= 6
    assert Product.objects.get().name == row.name


def test_expressions_are_compiled_anew(audit: Audit) -> None:
    audit({"name": "products", "model": "app.Product"})
    row = Product.objects.create(name="a", stock=1)
    for _ in range(2):
        row.stock = F("stock") + 1
        row.save(update_fields=["stock"])
        row.refresh_from_db()
    row.name = Upper("name")
    row.save(update_fields=["name"])
    assert Product.objects.values_list("name", "stock").get() == ("A", 3)
    assert [event.changes for event in events()[1:]] == [{"stock": [1, 2]}, {"stock": [2, 3]}, {"name": ["a", "A"]}]


def test_a_row_that_is_gone_is_told_of_as_without_an_audit(audit: Audit) -> None:
    audit({"name": "tags", "model": "app.Tag"})
    tag = Tag.objects.create(name="a")
    tag.save()
    Tag.objects.all().delete()
    with pytest.raises(DatabaseError, match="did not affect any rows"), transaction.atomic():
        tag.save(force_update=True)
    tag.save()
    assert [event.event_type for event in events()] == ["create", "delete", "create"]


@pytest.mark.parametrize("compiler", [SQLUpdateCompiler, SQLInsertCompiler])
def test_a_package_that_wraps_a_compiler_sees_each_statement(
    audit: Audit, monkeypatch: pytest.MonkeyPatch, compiler: Any
) -> None:
    audit({"name": "tags", "model": "app.Tag"}, ENGINE="portable")
    tag = Tag.objects.create(name="a")
    tag.save()
    seen = []
    original = compiler.execute_sql

    @wraps(original)
    def execute_sql(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(self.query.model)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(compiler, "execute_sql", execute_sql)
    tag.name = "b"
    tag.save()
    Tag.objects.create(name="c")
    assert seen == [Tag]
    assert [event.object_repr for event in events()] == ["a", "b", "c"]


def test_a_package_that_writes_another_statement_is_heard(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    audit({"name": "tags", "model": "app.Tag"})
    tag = Tag.objects.create(name="a")
    tag.save()
    original = SQLUpdateCompiler.as_sql

    def as_sql(self: Any) -> Any:
        sql, params = original(self)
        return f"{sql} /* mine */", params

    monkeypatch.setattr(SQLUpdateCompiler, "as_sql", as_sql)
    tag.name = "b"
    with CaptureQueriesContext(connection) as queries:
        tag.save()
    assert any("/* mine */" in query["sql"] for query in queries)
    assert last().changes == {"name": ["a", "b"]}


def test_select_on_save_asks_first(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    audit({"name": "tags", "model": "app.Tag"})
    tag = Tag.objects.create(name="a")
    tag.save()
    monkeypatch.setattr(Tag._meta, "select_on_save", True)
    tag.name = "b"
    with CaptureQueriesContext(connection) as queries:
        tag.save()
    assert any(query["sql"].startswith("SELECT 1 AS") for query in queries)
    assert last().changes == {"name": ["a", "b"]}


class Hiding(models.Manager[Any]):
    """A base manager that sees some of the rows."""

    def get_queryset(self) -> Any:
        return super().get_queryset().filter(stock__gt=0)


def test_a_base_manager_that_hides_rows_is_asked(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    audit({"name": "products", "model": "app.Product"})
    row = Product.objects.create(name="a", stock=1)
    row.save()
    manager = Hiding()
    manager.model = Product
    monkeypatch.setitem(vars(Product._meta), "base_manager", manager)
    Product.objects.update(stock=0)
    row.name = "b"
    with pytest.raises(DatabaseError, match="did not affect any rows"), transaction.atomic():
        row.save(update_fields=["name"])
    assert Product.objects.get().name == "a"
