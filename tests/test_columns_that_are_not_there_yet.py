"""The code is ahead of the migration: writes that work without the package work with it, and say nothing untrue."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.db import connection

from .columns.models import Altered
from .conftest import Audit, events, last

pytestmark = pytest.mark.django_db(transaction=True)

RULES = [{"name": "all", "model": "columns.*"}]


@pytest.fixture
def lacking(audit: Audit):
    """Take a column from a table with three rows, as if its migration had yet to run."""
    Altered.objects.bulk_create([Altered(code=str(number)) for number in range(3)])
    audit(*RULES)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE columns_altered DROP COLUMN price")
    yield
    with connection.schema_editor() as editor:
        editor.delete_model(Altered)
        editor.create_model(Altered)


def pk() -> int:
    return Altered.objects.values_list("pk", flat=True).order_by("pk")[0]


@pytest.mark.usefixtures("lacking")
class TestWritesOfOtherColumns:
    def test_an_update_of_another_column_is_recorded(self) -> None:
        Altered.objects.filter(pk=pk()).update(code="x")
        assert last().changes == {"code": ["0", "x"]}

    def test_update_over_another_query(self) -> None:
        Altered.objects.filter(pk__in=Altered.objects.filter(code="0").values("pk")).update(code="x")
        assert last().changes == {"code": ["0", "x"]}

    def test_save_of_some_fields(self) -> None:
        row = Altered.objects.only("code").get(pk=pk())
        row.code = "x"
        row.save(update_fields=["code"])
        assert last().changes == {"code": ["0", "x"]}

    def test_a_bulk_update_of_another_column_is_recorded(self) -> None:
        row = Altered.objects.only("code").get(pk=pk())
        row.code = "x"
        Altered.objects.bulk_update([row], ["code"])
        assert last().changes == {"code": ["0", "x"]}

    def test_delete_of_a_queryset(self) -> None:
        Altered.objects.only("code").filter(code="0").delete()
        assert last().changes == {"code": ["0", None], "seen": [None, None]}
        assert len(events()) == 1

    def test_delete_of_an_object(self) -> None:
        Altered.objects.only("code").get(pk=pk()).delete()
        assert last().changes == {"code": ["0", None], "seen": [None, None]}

    def test_a_raw_delete_is_recorded(self) -> None:
        rows = Altered.objects.filter(code="0")
        rows._raw_delete(rows.db)
        assert last().changes == {"code": ["0", None], "seen": [None, None]}

    def test_once_the_migration_has_run_it_is_recorded(self) -> None:
        Altered.objects.filter(pk=pk()).update(code="x")
        with connection.schema_editor() as editor:
            editor.add_field(Altered, Altered._meta.get_field("price"))
        Altered.objects.filter(pk=pk()).update(price="1.5")
        assert last().changes == {"price": [None, "1.5000"]}


def test_of_sqlite_before_anything_is_asked(audit: Audit, lacking: None) -> None:
    """The name of the column must not pass for its value."""
    Altered.objects.only("id").delete()
    assert all("price" not in event.changes for event in events(event_type="delete"))
    audit({"name": "all", "model": "columns.Altered"})
    call_command("audit_replay", verbosity=0)
