"""Models on partitioned tables and on views: what works without the package works with it, and is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import OperationalError, connection, models
from django.db.models import F

from django_signal_audit.capture.connection import reconnect
from django_signal_audit.rules.registry import get_registry

from .columns.models import Unmanaged
from .conftest import Audit, last, trail

pytestmark = pytest.mark.django_db(transaction=True)

RULES = [{"name": "all", "model": "columns.Unmanaged"}]
KEY = {"postgresql": "bigserial", "mysql": "bigint AUTO_INCREMENT", "sqlite": "integer"}[connection.vendor]
COLUMNS = "number integer, name varchar(20), total integer"
is_postgresql = connection.vendor == "postgresql"

PARTITIONED = [
    f"CREATE TABLE columns_unmanaged (id bigserial, {COLUMNS}, PRIMARY KEY (id), UNIQUE (id)) PARTITION BY RANGE (id)",
    "CREATE TABLE columns_low PARTITION OF columns_unmanaged FOR VALUES FROM (MINVALUE) TO (100)",
    "CREATE TABLE columns_high PARTITION OF columns_unmanaged FOR VALUES FROM (100) TO (MAXVALUE)",
]
SIMPLE_VIEW = [
    f"CREATE TABLE columns_base (id {KEY} PRIMARY KEY, {COLUMNS}, UNIQUE (number))",
    "CREATE VIEW columns_unmanaged AS SELECT id, number, name, total FROM columns_base",
]
GROUPED_VIEW = [
    f"CREATE TABLE columns_base (id {KEY} PRIMARY KEY, {COLUMNS}, UNIQUE (number))",
    """CREATE VIEW columns_unmanaged AS
       SELECT id, number, name, sum(total) AS total FROM columns_base GROUP BY id, number, name""",
]
TRIGGERS = {
    "postgresql": [
        """CREATE FUNCTION columns_write() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF TG_OP = 'DELETE' THEN DELETE FROM columns_base WHERE id = OLD.id; RETURN OLD; END IF;
           IF TG_OP = 'UPDATE' THEN
               UPDATE columns_base SET number = NEW.number, name = NEW.name, total = NEW.total WHERE id = OLD.id;
               RETURN NEW;
           END IF;
           NEW.id := coalesce(NEW.id, nextval('columns_base_id_seq'));
           INSERT INTO columns_base VALUES (NEW.id, NEW.number, NEW.name, NEW.total); RETURN NEW; END $$""",
        """CREATE TRIGGER columns_write INSTEAD OF INSERT OR UPDATE OR DELETE ON columns_unmanaged
           FOR EACH ROW EXECUTE FUNCTION columns_write()""",
    ],
    "sqlite": [
        """CREATE TRIGGER columns_i INSTEAD OF INSERT ON columns_unmanaged BEGIN
           INSERT INTO columns_base VALUES (NEW.id, NEW.number, NEW.name, NEW.total); END""",
        """CREATE TRIGGER columns_u INSTEAD OF UPDATE ON columns_unmanaged BEGIN
           UPDATE columns_base SET number = NEW.number, name = NEW.name, total = NEW.total WHERE id = OLD.id; END""",
        """CREATE TRIGGER columns_d INSTEAD OF DELETE ON columns_unmanaged BEGIN
           DELETE FROM columns_base WHERE id = OLD.id; END""",
    ],
}
DROP = {
    "partitioned": ["DROP TABLE columns_unmanaged"],
    "view": ["DROP VIEW columns_unmanaged", "DROP TABLE columns_base"],
    "grouped": ["DROP VIEW columns_unmanaged", "DROP TABLE columns_base"],
}


def run_sql(statements) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


KINDS = [
    pytest.param("partitioned", marks=pytest.mark.skipif(not is_postgresql, reason="only PostgreSQL has these")),
    "view",
    pytest.param("grouped", marks=pytest.mark.skipif(connection.vendor == "mysql", reason="MariaDB has no INSTEAD OF")),
]


@pytest.fixture
def table(request, audit: Audit):
    kind = request.param
    made = {"partitioned": PARTITIONED, "view": SIMPLE_VIEW, "grouped": [*GROUPED_VIEW]}[kind]
    if kind == "grouped" or (kind == "view" and connection.vendor == "sqlite"):
        made = [*made, *TRIGGERS[connection.vendor]]
    run_sql(made)
    audit(*RULES)
    yield kind
    run_sql(DROP[kind])
    if is_postgresql:
        run_sql(["DROP FUNCTION IF EXISTS columns_write()"])


def rows(*numbers: int) -> list[Unmanaged]:
    return [Unmanaged(pk=number, number=number, name=f"row {number}", total=1) for number in numbers]


@pytest.mark.parametrize("table", KINDS, indirect=True)
class TestEveryKind:
    def test_save_update_and_delete(self, table: str) -> None:
        (row,) = rows(1)
        row.save(force_insert=True)
        if connection.vendor == "sqlite":
            # Django itself cannot save a row of a view there again: the database counts no row as updated.
            return
        assert last().changes == {"number": [None, 1], "name": [None, "row 1"], "total": [None, 1]}
        row.name = "other"
        row.save()
        assert last().changes == {"name": ["row 1", "other"]}
        Unmanaged.objects.update(total=F("total") + 4)
        assert last().changes == {"total": [1, 5]}
        Unmanaged.objects.filter(pk__in=Unmanaged.objects.values("pk")).update(name="third")
        assert last().changes == {"name": ["other", "third"]}
        row.refresh_from_db()
        row.total = 7
        Unmanaged.objects.bulk_update([row], ["total"])
        assert last().changes == {"total": [5, 7]}
        row.delete()
        assert last().changes == {"number": [1, None], "name": ["third", None], "total": [7, None]}
        Unmanaged.objects.create(pk=2, number=2, name="b")
        Unmanaged.objects.all().delete()
        assert last().event_type == "delete"
        call_command("audit_replay", "--check", verbosity=0)

    def test_queryset_methods_are_recorded(self, table: str) -> None:
        Unmanaged.objects.bulk_create(rows(1, 2))
        Unmanaged.objects.filter(number=1).update(name="x", total=F("total") + 4)
        assert last().changes == {"name": ["row 1", "x"], "total": [1, 5]}
        Unmanaged.objects.filter(number=1).delete()
        assert last().changes == {"number": [1, None], "name": ["x", None], "total": [5, None]}
        call_command("audit_replay", "--check", verbosity=0)

    def test_bulk_create_is_recorded(self, table: str) -> None:
        Unmanaged.objects.bulk_create(rows(1, 2))
        assert [event_type for event_type, _ in trail()] == ["create", "create"]
        call_command("audit_replay", "--check", verbosity=0)

    def test_get_or_create_and_update_or_create(self, table: str) -> None:
        Unmanaged.objects.get_or_create(number=3, defaults={"pk": 3, "name": "c"})
        if table == "grouped":
            return  # Django itself locks the row here
        Unmanaged.objects.filter(number=3).update(name="c")
        if connection.vendor == "sqlite":
            return
        Unmanaged.objects.update_or_create(number=3, defaults={"name": "d"})
        assert last().changes == {"name": ["c", "d"]}
        call_command("audit_replay", "--check", verbosity=0)


@pytest.fixture
def searched(audit: Audit) -> Iterator[Any]:
    """Add a model to the project whose table is a full-text index, known by its number of the row."""

    class Searched(models.Model):
        number = models.BigAutoField(primary_key=True, db_column="rowid")
        text = models.CharField(max_length=20)

        class Meta:
            app_label = "app"
            managed = False
            db_table = "app_searched"

    try:
        run_sql(["CREATE VIRTUAL TABLE app_searched USING fts5(text)"])
    except OperationalError:  # pragma: no cover
        pytest.skip("this SQLite has no full-text index")
    audit({"name": "all", "model": "app.Searched"})
    yield Searched
    run_sql(["DROP TABLE app_searched"])
    del apps.all_models["app"]["searched"]
    apps.clear_cache()
    get_registry.cache_clear()
    reconnect()


@pytest.mark.skipif(connection.vendor != "sqlite", reason="only SQLite has virtual tables")
@pytest.mark.parametrize("engine", ["auto", "portable"])
def test_a_virtual_table_has_no_returning(audit: Audit, searched: Any, engine: str) -> None:
    audit({"name": "all", "model": "app.Searched"}, ENGINE=engine)
    row = searched.objects.create(number=1, text="a")  # Django itself does not get the number of a new row
    row.text = "b"
    row.save()
    searched.objects.filter(text="b").update(text="c")
    row.text = "d"
    searched.objects.bulk_update([row], ["text"])
    searched.objects.bulk_create([searched(number=2, text="x"), searched(number=3, text="y")])
    row.delete()
    searched.objects.filter(text="x").delete()
    searched.objects.all()._raw_delete("default")
    assert [change["text"] for _, change in trail()] == [
        *([None, "a"], ["a", "b"], ["b", "c"], ["c", "d"], [None, "x"], [None, "y"]),
        *(["d", None], ["x", None], ["y", None]),
    ]
    call_command("audit_replay", "--check", verbosity=0)


@pytest.mark.parametrize("table", KINDS[:2] if is_postgresql else [], indirect=True)
class TestUpserts:
    def test_inserts_are_told_from_updates(self, table: str) -> None:
        Unmanaged.objects.bulk_create(rows(1, 150))
        changed = rows(1, 150, 2, 151)
        for row in changed:
            row.total = 9
        Unmanaged.objects.bulk_create(
            changed, update_conflicts=True, unique_fields=["id"], update_fields=["total", "name"]
        )
        assert [event_type for event_type, _ in trail()] == ["create"] * 2 + ["update"] * 2 + ["create"] * 2
        assert trail()[2][1] == {"total": [1, 9]}
        call_command("audit_replay", "--check", verbosity=0)

    def test_what_exists_is_left_alone(self, table: str) -> None:
        Unmanaged.objects.bulk_create(rows(1))
        Unmanaged.objects.bulk_create(rows(1, 2), ignore_conflicts=True)
        assert [event_type for event_type, _ in trail()] == ["create"] * 2

    def test_a_row_that_somebody_inserts_meanwhile(self, table: str, monkeypatch) -> None:
        """The look finds nothing, and the statement an existing row."""
        from django_signal_audit.capture import bulk_inserts

        Unmanaged.objects.bulk_create(rows(1))
        monkeypatch.setattr(bulk_inserts._Upsert, "_existing", lambda self: {})
        (row,) = rows(1)
        row.total = 9
        Unmanaged.objects.bulk_create([row], update_conflicts=True, unique_fields=["id"], update_fields=["total"])
        assert trail()[-1] == ("update", {"total": [1, 9]})
