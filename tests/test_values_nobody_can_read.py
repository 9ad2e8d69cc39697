"""Rows whose values the driver or Django can't read: others wrote them, and Django can update and delete them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from django_signal_audit import record
from django_signal_audit.models import AuditEvent

from .columns.models import Hostile
from .conftest import Audit, events, last

pytestmark = pytest.mark.django_db

# What SQL can put into a column, by the text that the database makes of it.
VALUES = {
    "postgresql": [
        ("day", "infinity", "infinity"),
        ("day", "12000-01-01", "12000-01-01"),
        ("day", "0044-03-15 BC", "0044-03-15 BC"),
        ("seen", "-infinity", "-infinity"),
        ("seen", "12000-01-01 00:00:00+00", "12000-01-01 00:00:00+00"),
        ("hour", "24:00:00", "24:00:00"),
    ],
    "mysql": [("hour", "99:00:00", "99:00:00.000000"), ("hour", "-01:00:00", "-01:00:00.000000")],
    "sqlite": [
        ("day", "0000-00-00", "0000-00-00"),
        ("seen", "2020-13-45 00:00:00", "2020-13-45 00:00:00"),
        ("hour", "25:99", "25:99"),
        ("price", "dear", "dear"),
        ("ref", "none", "none"),
    ],
}
PARAMETERS = [
    pytest.param(
        value, id=f"{value[0]}={value[1]}", marks=pytest.mark.skipif(connection.vendor != vendor, reason=vendor)
    )
    for vendor, values in VALUES.items()
    for value in values
]
RULES = [{"name": "all", "model": "columns.Hostile"}]


@pytest.fixture(params=PARAMETERS)
def hostile(request: Any, audit: Audit, settings: Any) -> tuple[int, str, str]:
    """Return the primary key of a row between two others, the column that nobody can read, and its text."""
    column, value, text = request.param
    settings.SIGNAL_AUDIT = {}
    Hostile.objects.create(name="before", code="1")
    pk = Hostile.objects.create(name="it", code="2").pk
    Hostile.objects.create(name="after", code="3")
    audit(*RULES)
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA ignore_check_constraints = 1")
        cursor.execute(f"UPDATE columns_hostile SET {column} = %s WHERE id = %s", [value, pk])
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA ignore_check_constraints = 0")
    try:
        Hostile.objects.only(column).get(pk=pk)
    except Exception:  # noqa: BLE001  # each driver has its own
        return pk, column, text
    assert connection.Database.__name__ == "psycopg2"
    return pytest.skip("psycopg 2 reads it")


def update(pk: int) -> None:
    Hostile.objects.filter(pk=pk).update(name="new")


def update_all(pk: int) -> None:
    Hostile.objects.update(name="new")


def save_some(pk: int) -> None:
    Hostile(pk=pk, name="new").save(update_fields=["name"])


def bulk_update(pk: int) -> None:
    Hostile.objects.bulk_update([Hostile(pk=pk, name="new")], ["name"])


def save_deferred(pk: int) -> None:
    row = Hostile.objects.only("name").get(pk=pk)
    row.name = "new"
    row.save()


@pytest.mark.parametrize("write", [update, update_all, save_some, bulk_update, save_deferred])
def test_other_columns_of_the_row_are_updated(hostile: tuple[int, str, str], write: Callable[[int], None]) -> None:
    pk, _column, _text = hostile
    write(pk)
    assert Hostile.objects.only("name").get(pk=pk).name == "new"
    [event] = AuditEvent.objects.for_model(Hostile).filter(object_id=str(pk), event_type="update")
    assert event.changes == {"name": ["it", "new"]}


def overwrite(pk: int, column: str) -> None:
    Hostile.objects.filter(pk=pk).update(**{column: None})


def overwrite_by_save(pk: int, column: str) -> None:
    Hostile(pk=pk, name="it", code="2").save()


def overwrite_by_upsert(pk: int, column: str) -> None:
    rows = [Hostile(pk=pk, name="it", code="2")]
    names = {"update_fields": [column], "unique_fields": ["code"]}
    if connection.vendor == "mysql":
        del names["unique_fields"]
    Hostile.objects.bulk_create(rows, update_conflicts=True, **names)


@pytest.mark.parametrize("write", [overwrite, overwrite_by_save, overwrite_by_upsert])
def test_the_column_itself_is_overwritten(hostile: tuple[int, str, str], write: Callable[[int, str], None]) -> None:
    pk, column, text = hostile
    write(pk, column)
    assert last().changes == {column: [text, None]}


def upsert_another(pk: int) -> None:
    names = {"update_fields": ["name"], "unique_fields": ["code"]}
    if connection.vendor == "mysql":
        del names["unique_fields"]
    Hostile.objects.bulk_create([Hostile(name="new", code="2")], update_conflicts=True, **names)


def test_an_upsert_updates_another_column(hostile: tuple[int, str, str]) -> None:
    pk, _column, _text = hostile
    upsert_another(pk)
    assert last().changes == {"name": ["it", "new"]}


@pytest.mark.parametrize(
    "delete", [lambda pk: Hostile(pk=pk).delete(), lambda _pk: Hostile.objects.all().delete()], ids=["one", "all"]
)
def test_the_row_is_deleted(hostile: tuple[int, str, str], delete: Callable[[int], object]) -> None:
    pk, column, text = hostile
    delete(pk)
    assert not Hostile.objects.filter(pk=pk).exists()
    [event] = AuditEvent.objects.for_model(Hostile).filter(object_id=str(pk), event_type="delete")
    assert event.changes[column] == [text, None]
    assert event.changes["name"] == ["it", None]


def test_baseline_and_replay_tell_the_text(hostile: tuple[int, str, str], capsys: pytest.CaptureFixture[str]) -> None:
    pk, column, text = hostile
    call_command("audit_baseline", "columns.Hostile")
    [event] = AuditEvent.objects.for_model(Hostile).filter(object_id=str(pk), event_type="baseline")
    assert event.changes[column] == [None, text]
    assert len(events()) >= 3
    call_command("audit_replay", "columns.Hostile", "--check")
    assert "0 differences" in capsys.readouterr().out


@pytest.mark.skipif(connection.vendor == "mysql", reason="MariaDB has only TIME that can't be read")
def test_a_condition_on_the_column_does_not_stop_the_write(hostile: tuple[int, str, str], audit: Audit) -> None:
    pk, column, _text = hostile
    audit({"name": "c", "model": "columns.Hostile", "events": ["update"], "when": {column: {"to": None}}})
    update(pk)
    Hostile.objects.filter(pk=pk).update(**{column: None})
    assert last().event_type == "update"


EDGES = [
    dt.datetime(9999, 12, 31, 23, 30, tzinfo=dt.timezone(-dt.timedelta(hours=1))),
    dt.datetime(1, 1, 1, 0, 30, tzinfo=dt.timezone(dt.timedelta(hours=1))),
]


@pytest.mark.parametrize("moment", EDGES)
def test_a_time_that_utc_has_not_is_written_as_it_is(moment: dt.datetime) -> None:
    record("saw", data={"until": moment})
    assert last().data == {"until": moment.isoformat()}


@pytest.mark.skipif(connection.vendor != "postgresql", reason="others keep no time zone")
@pytest.mark.parametrize("moment", EDGES)
def test_a_save_of_a_time_that_utc_has_not_ends_as_without_an_audit(audit: Audit, moment: dt.datetime) -> None:
    outcomes = []
    for rule in ({"name": "none", "events": ["login"]}, *RULES):
        audit(rule)
        try:
            with transaction.atomic():
                Hostile.objects.create(name="it", seen=moment)
            outcomes.append("saved")
        except Exception as error:  # noqa: BLE001  # whichever it is
            outcomes.append(type(error).__name__)
    assert outcomes[0] == outcomes[1]
