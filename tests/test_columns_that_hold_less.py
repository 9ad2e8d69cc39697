"""What is recorded is what the column holds, whatever made the table and whatever stands on the class."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from django_signal_audit.models import AuditEvent

from .app.models import Product
from .columns.models import Altered, Custom, Described, Every, Formatted, LoudPlain, Narrow, QuietDescribed
from .conftest import HAS_ENGINE_FOR_SAVES, Audit, events, last

pytestmark = pytest.mark.django_db

RULES = [{"name": "all", "model": "columns.*"}]

NARROW = {
    "postgresql": """CREATE TABLE columns_narrow (
        id bigserial PRIMARY KEY, code varchar(20), padded char(8), seen timestamptz(0), ratio real,
        price numeric(10,1),
        stamp varchar(20))""",
    "mysql": """CREATE TABLE columns_narrow (
        id bigint AUTO_INCREMENT PRIMARY KEY, code varchar(20), padded char(8), seen datetime, ratio float,
        price decimal(10,1), stamp varchar(20))""",
    "sqlite": """CREATE TABLE columns_narrow (
        id integer PRIMARY KEY AUTOINCREMENT, code integer, padded text, seen datetime, ratio integer, price decimal,
        stamp varchar(20))""",
}
TRIGGERS = {
    "postgresql": [
        """CREATE FUNCTION columns_stamp() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN NEW.code := upper(NEW.code); RETURN NEW; END $$""",
        "CREATE TRIGGER columns_stamp BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION columns_stamp()",
    ],
    "mysql": [
        "CREATE TRIGGER columns_stamp_i BEFORE INSERT ON {table} FOR EACH ROW SET NEW.code = upper(NEW.code)",
        "CREATE TRIGGER columns_stamp_u BEFORE UPDATE ON {table} FOR EACH ROW SET NEW.code = upper(NEW.code)",
    ],
    "sqlite": [
        (
            "CREATE TRIGGER columns_stamp_i AFTER INSERT ON {table} BEGIN "
            "UPDATE {table} SET code = upper(code) WHERE id = NEW.id; END"
        ),
        (
            "CREATE TRIGGER columns_stamp_u AFTER UPDATE ON {table} BEGIN "
            "UPDATE {table} SET code = upper(code) WHERE id = NEW.id AND code <> upper(code); END"
        ),
    ],
}


def run_sql(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@pytest.fixture
def narrow(transactional_db):
    run_sql(NARROW[connection.vendor])
    yield
    run_sql("DROP TABLE columns_narrow")


@pytest.fixture
def altered(transactional_db):
    """Alter a table of Django's by hand."""
    yield lambda *statements: run_sql(*(one.format(table="columns_altered") for one in statements))
    with connection.schema_editor() as editor:
        editor.delete_model(Altered)
        editor.create_model(Altered)
    if connection.vendor == "postgresql":
        run_sql("DROP FUNCTION IF EXISTS columns_stamp()")


def assert_true(model, *pks) -> None:
    """Assert that the audit log says of the rows what the table does."""
    assert pks
    for pk in pks:
        stored = model.objects.filter(pk=pk).values(*(f.attname for f in model._meta.concrete_fields)).get()
        stored.pop("id")
        assert AuditEvent.objects.state_of(model, pk) == stored
    call_command("audit_replay", "--check", verbosity=0)


def a_narrow_row(**values):
    return Narrow(
        **{
            "code": "007",
            "padded": "ab  ",
            "seen": dt.datetime(2026, 5, 1, 12, 0, 0, 900_000, tzinfo=dt.UTC),
            "ratio": 0.1,
            "price": Decimal("1.2345"),
            **values,
        }
    )


class TestATableThatDjangoDidNotMake:
    def test_a_saved_row(self, audit: Audit, narrow: None) -> None:
        audit(*RULES)
        row = a_narrow_row()
        row.save()
        assert_true(Narrow, row.pk)

    def test_the_next_save_changes_nothing_else(self, audit: Audit, narrow: None) -> None:
        audit(*RULES)
        row = a_narrow_row()
        row.save()
        row = Narrow.objects.get()
        row.stamp = "other"
        row.save()
        assert last().changes == {"stamp": ["given", "other"]}
        assert_true(Narrow, row.pk)

    def test_rows_of_bulk_create(self, audit: Audit, narrow: None) -> None:
        audit(*RULES)
        Narrow.objects.bulk_create([a_narrow_row(), a_narrow_row(code="8")])
        assert_true(Narrow, *Narrow.objects.values_list("pk", flat=True))

    def test_rows_of_update_and_bulk_update(self, audit: Audit, narrow: None) -> None:
        audit(*RULES)
        row = a_narrow_row()
        row.save()
        Narrow.objects.update(price=Decimal("9.8765"), ratio=0.3)
        assert_true(Narrow, row.pk)
        row.price, row.padded = Decimal("7.7777"), "x "
        Narrow.objects.bulk_update([row], ["price", "padded"])
        assert_true(Narrow, row.pk)

    def test_update_or_create(self, audit: Audit, narrow: None) -> None:
        audit(*RULES)
        row, _ = Narrow.objects.update_or_create(
            stamp="one", defaults={"code": "1", "padded": "a", "price": Decimal("1.2345")}
        )
        assert_true(Narrow, row.pk)
        Narrow.objects.update_or_create(stamp="one", defaults={"price": Decimal("5.4321")})
        assert_true(Narrow, row.pk)

    def test_what_a_trigger_changes_in_an_unmanaged_table_is_recorded(self, audit: Audit, narrow: None) -> None:
        run_sql(*(one.format(table="columns_narrow") for one in TRIGGERS[connection.vendor]))
        try:
            audit(*RULES)
            row = a_narrow_row(code="abc")
            row.save()
            assert last().changes["code"] == [None, "ABC"]
            row.code = "def"
            row.save(update_fields=["code"])
            assert last().changes == {"code": ["ABC", "DEF"]}
        finally:
            run_sql("DROP TABLE columns_narrow", NARROW[connection.vendor])
            if connection.vendor == "postgresql":
                run_sql("DROP FUNCTION columns_stamp()")


class TestATableThatWasAltered:
    def save(self, audit: Audit) -> Altered:
        audit(*RULES)
        row = Altered(
            code="ab  ", seen=dt.datetime(2026, 5, 1, 12, 0, 0, 900_000, tzinfo=dt.UTC), price=Decimal("1.2345")
        )
        row.save()
        return row

    @pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite keeps anything in any column")
    def test_columns_that_are_narrower(self, audit: Audit, altered) -> None:
        kinds = {
            "postgresql": [
                (
                    "ALTER TABLE {table} ALTER code TYPE char(9), ALTER seen TYPE timestamptz(0),"
                    " ALTER price TYPE numeric(10,1)"
                )
            ],
            "mysql": ["ALTER TABLE {table} MODIFY code char(9), MODIFY seen datetime, MODIFY price decimal(10,1)"],
        }
        altered(*kinds[connection.vendor])
        row = self.save(audit)
        assert_true(Altered, row.pk)
        Altered.objects.bulk_create([Altered(code="x ", price=Decimal("2.3456"))])
        assert_true(Altered, *Altered.objects.values_list("pk", flat=True))

    def test_what_a_new_trigger_changes_is_recorded(self, audit: Audit, altered) -> None:
        altered(*TRIGGERS[connection.vendor])
        row = self.save(audit)
        assert last().changes["code"] == [None, "AB  "]
        row.code = "cd"
        row.save()
        assert last().changes["code"] == ["AB  ", "CD"]
        assert_true(Altered, row.pk)

    def test_as_django_made_it_nothing_is_read_back(self, audit: Audit, altered, django_assert_num_queries) -> None:
        self.save(audit)
        # The row and its event, and on SQLite the lock; others write both at once.
        with django_assert_num_queries(1 if HAS_ENGINE_FOR_SAVES else 4):
            Altered(code="ab", price=Decimal("1.5000")).save()


@pytest.mark.parametrize("kind", [Described, QuietDescribed, LoudPlain])
class TestADescriptorOnTheClass:
    def test_create_and_save(self, audit: Audit, kind) -> None:
        audit(*RULES)
        row = kind.objects.create(name="tea", plain="x", other="cup")
        assert_true(Described, row.pk)
        assert last().changes["name"] == [None, "TEA"]
        assert last().changes["other"] == [None, "cup"]
        row.name, row.plain, row.other = "coffee", "y", "mug"
        row.save()
        assert last().changes["name"] == ["TEA", "COFFEE"]
        assert_true(Described, row.pk)
        # Django takes what is not in the object for deferred.
        row.save(update_fields=["other"])
        assert last().changes == {"other": ["cup", "mug"]}
        assert_true(Described, row.pk)

    def test_a_row_that_is_built_by_hand(self, audit: Audit, kind) -> None:
        audit(*RULES)
        pk = kind.objects.create(name="tea", plain="x", other="cup").pk
        kind(pk=pk, name="coffee", plain="y", other="mug").save()
        assert set(last().changes) == {"name", "plain", "other"}
        assert_true(Described, pk)

    def test_bulk_writes_record_what_the_descriptor_gave(self, audit: Audit, kind) -> None:
        audit(*RULES)
        kind.objects.bulk_create([kind(name="tea", plain="x"), kind(name="milk", other="jug")])
        rows = list(kind.objects.all())
        assert_true(Described, *(row.pk for row in rows))
        for row in rows:
            row.name, row.other = "coffee", "mug"
        kind.objects.bulk_update(rows, ["name", "other"])
        assert_true(Described, *(row.pk for row in rows))
        assert events(event_type="update")[0].changes["name"] == ["TEA", "COFFEE"]

    def test_several_classes_at_once(self, audit: Audit, kind) -> None:
        audit(*RULES)
        Described.objects.bulk_create([Described(name="tea", plain="x"), kind(name="milk", plain="y")])
        assert_true(Described, *Described.objects.values_list("pk", flat=True))


class TestFieldsWithAWillOfTheirOwn:
    def test_every_way_of_writing(self, audit: Audit) -> None:
        audit(*RULES)
        row = Custom.objects.create(title="One Two", rounded=1.23456, real=0.1)
        assert last().changes["slug"] == [None, "one-two"]
        assert last().changes["rounded"] == [None, "1.2"]
        assert last().changes["given"] == [None, "from the database"]
        assert_true(Custom, row.pk)
        row.title, row.rounded = "Three", 9.8765
        row.save()
        assert last().changes["slug"] == ["one-two", "three"]
        assert_true(Custom, row.pk)
        Custom.objects.bulk_create([Custom(title="Four", rounded=0.26, real=0.7)])
        Custom.objects.update(rounded=0.7777, real=0.3)
        assert_true(Custom, *Custom.objects.values_list("pk", flat=True))

    def test_a_field_that_was_given_a_method_of_its_own(self, audit: Audit, monkeypatch) -> None:
        field = Custom._meta.get_field("title")
        monkeypatch.setattr(field, "get_prep_value", lambda value: value.title(), raising=False)
        audit(*RULES)
        row = Custom.objects.create(title="one two")
        assert last().changes["title"] == [None, "One Two"]
        assert_true(Custom, row.pk)


UPSERT = {"update_conflicts": True, "update_fields": ["shape"]}
if connection.vendor != "mysql":
    UPSERT["unique_fields"] = ["name"]


@pytest.mark.parametrize(
    "create",
    [
        lambda row: row.save(),
        lambda row: Formatted.objects.bulk_create([row]),
        lambda row: Formatted.objects.bulk_create([row], ignore_conflicts=True),
        lambda row: Formatted.objects.bulk_create([row], **UPSERT),
    ],
    ids=["save", "bulk_create", "ignore_conflicts", "update_conflicts"],
)
def test_columns_that_a_select_formats(audit: Audit, create: Any) -> None:
    audit(*RULES)
    create(Formatted(name="a", shape="dot"))
    assert last().changes == {"name": [None, "a"], "shape": [None, "<dot>"]}
    row = Formatted.objects.get()
    row.shape = "line"
    row.save()
    assert last().changes == {"shape": ["<dot>", "<line>"]}
    Formatted.objects.update(shape="area")
    assert last().changes == {"shape": ["<line>", "<area>"]}
    Formatted.objects.bulk_create([Formatted(name="a", shape="cube")], **UPSERT)
    assert last().changes == {"shape": ["<area>", "<cube>"]}
    call_command("audit_replay", "--check", "columns.Formatted", verbosity=0)
    Formatted.objects.all().delete()
    assert last().changes == {"name": ["a", None], "shape": ["<cube>", None]}


@pytest.mark.skipif(connection.vendor != "mysql", reason="only MariaDB can be lax")
@pytest.mark.parametrize(("given", "held"), [(2**40, 2147483647), (-(2**40), -2147483648), (7, 7)])
def test_numbers_that_a_lax_database_clips(audit: Audit, given: int, held: int) -> None:
    audit({"name": "all", "model": "app.Product", "fields": ["stock"]})
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@SESSION.sql_mode")
        [mode] = cursor.fetchone()
        cursor.execute("SET SESSION sql_mode = ''")
        try:
            product = Product(name="Oil", price=1, stock=given)
            product.save()
            assert last().changes == {"stock": [None, held]}
            product.stock = 1
            product.save()
            assert last().changes == {"stock": [held, 1]}
            product.stock = given
            product.save()
            assert last().changes == {"stock": [1, held]}
            Product.objects.bulk_create([Product(name="Salt", price=1, stock=given)])
            assert last().changes == {"stock": [None, held]}
        finally:
            cursor.execute("SET SESSION sql_mode = %s", [mode])


@pytest.mark.skipif(connection.vendor != "mysql", reason="only MariaDB can be lax")
def test_decimals_and_durations_that_a_lax_database_clips(audit: Audit) -> None:
    audit({"name": "all", "model": "columns.every", "fields": ["price", "span"]})
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@SESSION.sql_mode")
        [mode] = cursor.fetchone()
        cursor.execute("SET SESSION sql_mode = ''")
        try:
            row = Every.objects.create(price=Decimal(10) ** 18, span=dt.timedelta.max)
            row.price = -(Decimal(10) ** 18)
            row.save()
            Every.objects.bulk_create([Every(price=Decimal(10) ** 18, span=dt.timedelta.min)])
            call_command("audit_replay", "--check", verbosity=0)
            assert last().field_changes["price"].new == Decimal("9999999999999999.9999")
        finally:
            cursor.execute("SET SESSION sql_mode = %s", [mode])
