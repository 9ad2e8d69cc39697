"""Queries, compilers and wrappers of other packages: their statements are recorded, and their hooks run."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from functools import wraps
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import connection, connections, models, transaction
from django.db.models.constants import OnConflict
from django.db.models.deletion import Collector
from django.db.models.sql import DeleteQuery, InsertQuery, UpdateQuery
from django.db.models.sql.compiler import SQLCompiler, SQLDeleteCompiler, SQLInsertCompiler, SQLUpdateCompiler

from django_signal_audit.capture.compilers import DeleteStatement, InsertStatement, UpdateStatement, guard

from .app.models import Category, Person, Place, Restaurant, Tag, Unaudited
from .conftest import Audit, trail
from .fresh_process import OURS, run_project

pytestmark = pytest.mark.django_db


class CommentedUpdate(SQLUpdateCompiler):
    def as_sql(self) -> Any:
        sql, params = super().as_sql()
        return f"{sql} /* ours */", params


class OwnUpdateQuery(UpdateQuery):
    """As a PostgreSQL package has it for all its models: a query that makes a compiler of its own."""

    def get_compiler(self, using: Any = None, connection: Any = None, elide_empty: bool = True) -> Any:
        connection = connections[using] if using else connection
        return CommentedUpdate(self, connection, using, elide_empty)


class OwnQuerySet(models.QuerySet[Any]):
    def update(self, **values: Any) -> int:
        query: Any = self.query.chain(OwnUpdateQuery)
        query.add_update_values(values)
        query.annotations = {}
        return int(query.get_compiler(self.db).execute_sql("row count"))


def test_an_update_query_that_makes_its_own_compiler(audit: Audit) -> None:
    tag = Tag.objects.create(name="a")
    audit()
    assert OwnQuerySet(Tag).filter(pk=tag.pk).update(name="b") == 1
    tag.name = "c"
    assert OwnQuerySet(Tag).bulk_update([tag], ["name"]) == 1
    assert trail(object_id=str(tag.pk), source="bulk") == [
        ("update", {"name": ["a", "b"]}),
        ("update", {"name": ["b", "c"]}),
    ]


@pytest.mark.parametrize("owner", [UpdateQuery, InsertQuery, DeleteQuery])
def test_a_get_compiler_that_another_package_replaces(
    audit: Audit, monkeypatch: pytest.MonkeyPatch, owner: Any
) -> None:
    def get_compiler(self: Any, using: Any = None, connection: Any = None, elide_empty: bool = True) -> Any:
        connection = connections[using] if using else connection
        return connection.ops.compiler(self.compiler)(self, connection, using, elide_empty)

    audit()
    monkeypatch.setattr(owner, "get_compiler", get_compiler, raising=False)
    Tag.objects.bulk_create([Tag(name="a")])
    Tag.objects.update(name="b")
    Tag.objects.all().delete()
    assert [kind for kind, _ in trail()] == ["create", "update", "delete"]


def test_a_compiler_of_a_statement_that_a_package_builds_itself(audit: Audit) -> None:
    audit()
    query = InsertQuery(Tag, on_conflict=OnConflict.IGNORE)
    query.insert_values([Tag._meta.get_field("name")], [Tag(name="a")])
    query.get_compiler(connection=connection).execute_sql(None)  # type: ignore[attr-defined]
    assert trail() == [("create", {"name": [None, "a"]})]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Watch ``execute_sql`` as caching packages do, from outside."""
    found: list[tuple[str, str]] = []

    def watch(original: Any) -> Any:
        @wraps(original)
        def execute_sql(self: Any, *args: Any, **kwargs: Any) -> Any:
            found.append((type(self.query).__name__, self.query.get_meta().db_table))
            return original(self, *args, **kwargs)

        return execute_sql

    for compiler in (SQLInsertCompiler, SQLUpdateCompiler, SQLDeleteCompiler):
        monkeypatch.setattr(compiler, "execute_sql", watch(compiler.execute_sql))
    return found


@pytest.mark.usefixtures("rows")
def test_what_watches_execute_sql_sees_every_write(audit: Audit, seen: list[tuple[str, str]]) -> None:
    audit()
    _write_everything()
    assert set(seen) >= {
        ("InsertQuery", "app_tag"),
        ("UpdateQuery", "app_tag"),
        ("DeleteQuery", "app_tag"),
        ("InsertQuery", "app_place_tags"),
        ("DeleteQuery", "app_place_tags"),
    }


@pytest.fixture
def rows() -> None:
    Place.objects.create(name="here")


def _write_everything() -> None:
    place = Place.objects.get()
    Tag.objects.bulk_create([Tag(name="a"), Tag(name="b")])
    Tag.objects.update(name="c")
    place.tags.set(Tag.objects.all())
    place.tags.clear()
    Tag.objects.all().delete()


FIRST = """
from functools import wraps
from django.db.models.sql import compiler

seen = []

def watch(original):
    def execute_sql(self, *args, **kwargs):  # without functools.wraps, as some do
        seen.append(self.query.get_meta().db_table)
        return original(self, *args, **kwargs)
    return execute_sql

for owner in (compiler.SQLInsertCompiler, compiler.SQLUpdateCompiler, compiler.SQLDeleteCompiler):
    owner.execute_sql = watch(owner.execute_sql)
"""
SHOP = """
from django.db import models

class Item(models.Model):
    name = models.CharField(max_length=20, unique=True)
    parts = models.ManyToManyField("self", symmetrical=False)
"""


@pytest.mark.slow
def test_what_wrapped_execute_sql_before_us_sees_every_write(tmp_path: Path) -> None:
    script = """
    from django.db import models
    from caching import seen
    from shop.models import Item

    def writes(work):
        seen.clear()
        result = work()
        assert seen and {name for name in seen if name.startswith("shop_")} == set(seen), seen
        return result

    one, two = writes(lambda: Item.objects.bulk_create([Item(name="a"), Item(name="b")]))
    writes(lambda: Item.objects.bulk_create([Item(name="a"), Item(name="c")], ignore_conflicts=True))
    writes(lambda: Item.objects.bulk_create([Item(name="a")], ignore_conflicts=True))
    writes(lambda: Item.objects.bulk_create([Item(name="d")], ignore_conflicts=True))
    upsert = dict(update_conflicts=True, unique_fields=["name"], update_fields=["name"])
    writes(lambda: Item.objects.bulk_create([Item(name="d"), Item(name="e")], **upsert))
    writes(lambda: Item.objects.update(name=models.functions.Upper("name")))
    writes(lambda: one.parts.add(two))
    writes(lambda: one.parts.clear())
    writes(lambda: two.save())
    writes(lambda: Item.objects.filter(name="E").delete())
    writes(lambda: two.delete())
    from django.core.checks import run_checks
    assert not [problem for problem in run_checks(tags=["signals"]) if problem.id == "django_signal_audit.E024"]
    for event in trail(model="shop.item"):
        print(*event)
    """
    apps = ("caching", *OURS, "shop")
    files = {"caching/__init__.py": FIRST, "shop/models.py": SHOP}
    printed = run_project(tmp_path, files, script, apps=apps)
    lines = printed.splitlines()
    assert [line.split()[0] for line in lines] == [
        *["create"] * 5,
        *["update"] * 5,
        *["m2m"] * 2,
        "update",
        *["delete"] * 2,
    ]


WRAPPED: list[tuple[type, str]] = [
    (models.QuerySet, "bulk_create"),
    (models.QuerySet, "bulk_update"),
    (models.Model, "save_base"),
    (Place, "save_base"),
    (models.Model, "_save_table"),
    (Place, "_save_parents"),
    (Collector, "delete"),
    (SQLUpdateCompiler, "execute_sql"),
    (BaseCommand, "execute"),
]


def _write_in_every_way() -> None:
    place = Place.objects.create(name="a")
    (tag,) = Tag.objects.bulk_create([Tag(name="a")])
    tag.name = "b"
    Tag.objects.bulk_update([tag], ["name"])
    place.tags.set([tag])
    place.delete()
    call_command("check", tags=["signals"], stdout=StringIO(), stderr=StringIO())


@pytest.mark.usefixtures("other_methods")
@pytest.mark.parametrize(("owner", "name"), WRAPPED)
def test_wrappers_of_others_outlive_every_change_of_the_settings(
    audit: Audit, settings: Any, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    calls: list[str] = []
    audit()
    original = getattr(owner, name)

    def theirs(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, theirs)
    everything = [{"name": "all", "model": "app.*"}]
    for rules, count in (([], 0), (everything, 5), ([{"name": "one", "model": "app.Tag"}], 2), (everything, 5)):
        calls.clear()
        before = len(trail())
        settings.SIGNAL_AUDIT = {"RULES": rules}
        _write_in_every_way()
        assert calls
        assert getattr(owner, name) is theirs
        assert len(trail()) - before == count


@pytest.mark.slow
def test_wrappers_of_others_outlive_a_model_that_is_defined_late(tmp_path: Path) -> None:
    script = """
    from django.db import models
    from shop.models import Item
    calls = []

    def wrap(owner, name):
        original = getattr(owner, name)
        def theirs(*args, **kwargs):
            calls.append(name)
            return original(*args, **kwargs)
        setattr(owner, name, theirs)

    for owner, name in ((models.Model, "save_base"), (Item, "save_base"), (models.QuerySet, "bulk_create")):
        wrap(owner, name)

    class Late(models.Model):
        class Meta:
            app_label = "shop"

    Item(name="a").save()
    Item.objects.bulk_create([Item(name="b")])
    print(calls, len(trail(model="shop.item")))
    """
    printed = run_project(tmp_path, {"shop/models.py": SHOP}, script, apps=(*OURS, "shop"))
    assert printed.strip() == "['save_base', 'save_base', 'bulk_create'] 2"


@pytest.fixture
def deaf() -> Iterator[None]:
    """Add a compiler that does all by itself."""

    class DeafCompiler(SQLUpdateCompiler):
        def execute_sql(self, result_type: Any = None) -> Any:
            return SQLCompiler.as_sql(self)  # type: ignore[arg-type]

    yield
    # A class refers to itself: checks in later tests would find it until the next collection.
    del DeafCompiler
    gc.collect()
    assert "DeafCompiler" not in [found.__name__ for found in SQLUpdateCompiler.__subclasses__()]


@pytest.mark.usefixtures("deaf")
def test_check_names_a_compiler_whose_statements_nobody_sees(audit: Audit) -> None:
    audit()
    found = [problem for problem in run_checks(tags=["signals"]) if problem.id == "django_signal_audit.W045"]
    assert any("DeafCompiler" in problem.msg for problem in found)
    assert not any("CommentedUpdate" in problem.msg for problem in found)
    audit(CAPTURE_QUERIES=False)
    assert not [problem for problem in run_checks(tags=["signals"]) if problem.id == "django_signal_audit.W045"]


class Refused(Exception):
    pass


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Guard a table against what overwrites or deletes its rows."""
    from django_signal_audit.capture import compilers

    asked: list[Any] = []

    def refuse(statement: Any) -> None:
        asked.append(type(statement))
        if not isinstance(statement, InsertStatement) or statement.updates_conflicts:
            raise Refused

    monkeypatch.setattr(compilers, "_guards", dict(compilers._guards))
    guard(Unaudited, refuse)
    return asked


@pytest.mark.parametrize("rules", [[], [{"name": "all", "model": "*"}]])
def test_a_guarded_table(settings: Any, guarded: list[Any], rules: list[Any]) -> None:
    settings.SIGNAL_AUDIT = {"RULES": rules}
    row = Unaudited.objects.create(name="a")
    Unaudited.objects.bulk_create([Unaudited(name="b")])
    assert guarded == [InsertStatement, InsertStatement]
    row.name = "c"
    refused: list[Any] = [
        lambda: row.save(),
        lambda: models.Model.save_base(row, raw=True),
        lambda: Unaudited.objects.update(name="c"),
        lambda: Unaudited.objects.bulk_update([row], ["name"]),
        lambda: models.QuerySet(Unaudited).update(name="c"),
        lambda: row.delete(),
        lambda: Unaudited.objects.all().delete(),
        lambda: Unaudited.objects.all()._raw_delete("default"),  # type: ignore[attr-defined]
        lambda: OwnQuerySet(Unaudited).update(name="c"),
    ]
    for write in refused:
        guarded.clear()
        with pytest.raises(Refused), transaction.atomic():
            write()
        assert guarded in ([UpdateStatement], [DeleteStatement])
    assert sorted(Unaudited.objects.values_list("name", flat=True)) == ["a", "b"]
    # Other tables are not concerned.
    guarded.clear()
    Category.objects.create(name="x").delete()
    assert guarded == []


def test_statements_on_parents_tables_are_one_with_the_childs(audit: Audit) -> None:
    Restaurant.objects.create(name="a", stars=1)
    audit()
    assert Restaurant.objects.update(name="b", stars=2) == 1
    assert trail() == [("update", {"name": ["a", "b"], "stars": [1, 2]})]
    person = Person.objects.create(name="x")
    assert person.pk
