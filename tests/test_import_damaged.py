"""``audit_import`` from tables with rows that can't be read: each is named, and the others are taken."""

from __future__ import annotations

import datetime as dt
import io
import re
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import DataError, OperationalError, connection

from django_signal_audit.importing import tables
from django_signal_audit.importing.base import CannotImport, Entry, Unusable, is_of_one_row
from django_signal_audit.importing.tables import TableHistory, moment
from django_signal_audit.importing.writing import Writer
from django_signal_audit.models import AuditEvent
from django_signal_audit.replay import Replay
from django_signal_audit.rules.registry import get_registry

from .app.models import Product, Room, Tag
from .conftest import Audit
from .recorded.models import AuditlogEntry
from .test_import import ACCESS, CREATE, UPDATE, Ledger, differences, events, kept, log, run

pytestmark = pytest.mark.django_db

# What columns of times can hold that Python has no time for.
TIMES = {"sqlite": ["2024-13-45 00:00:00", "yesterday"], "postgresql": ["infinity", "0044-03-15 00:00:00+00 BC"]}


def damage(row: Any, column: str, value: str) -> None:
    """Write what no field of the model would write."""
    quote = connection.ops.quote_name
    table, key = row._meta.db_table, row._meta.pk.column
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {quote(table)} SET {quote(column)} = %s WHERE {quote(key)} = %s", (value, row.pk))


@pytest.fixture(params=range(2))
def time(request: pytest.FixtureRequest) -> str:
    if connection.vendor not in TIMES:
        pytest.skip("It takes no such times.")
    return TIMES[connection.vendor][request.param]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize("bad", [{0}, {2}, {4}, {0, 1, 2, 3}, {1, 2, 3, 4}, {0, 1, 2, 3, 4}])
def test_rows_with_a_time_that_is_none(
    audit: Audit, monkeypatch: pytest.MonkeyPatch, time: str, size: int, bad: set[int]
) -> None:
    monkeypatch.setattr(tables, "SLICE", size)
    room, other = Room.objects.create(code="a", floor=4), Room.objects.create(code="b", floor=0)
    rows = [kept(room, "~" if floor else "+", minute=floor, floor=floor) for floor in range(5)]
    kept(other, "+", minute=0)
    for place in bad:
        damage(rows[place], "history_date", time)
    audit()
    out = run("simple_history")
    assert out.startswith("6 rows read")
    named = {int(key) for key in re.findall(r"recorded_historicalroom (\d+)", out)}
    assert named == {rows[place].pk for place in bad}
    taken = [floor for floor in range(5) if floor not in bad]
    found = [event.changes["floor"][1] for event in events(room, source="import")]
    assert found == taken
    assert len(events(other)) == 1
    assert not taken or differences() == []
    assert "0 events written" in run("simple_history")


def test_such_a_time_in_a_table_without_its_package(audit: Audit, time: str) -> None:
    product = Product.objects.create(name="c")
    bad = log(product, UPDATE, {"name": ["a", "b"]})
    log(product, UPDATE, {"name": ["b", "c"]}, minute=1)
    damage(bad, "timestamp", time)
    audit()
    assert f"auditlog_logentry {bad.pk}" in run("auditlog")
    assert events(product)[0].changes == {"name": ["b", "c"]}
    assert differences() == []


@pytest.mark.parametrize("naive", [dt.datetime(9999, 12, 31, 23, 59), dt.datetime(1, 1, 1)])
def test_a_time_that_utc_does_not_have(settings: Any, naive: dt.datetime) -> None:
    settings.TIME_ZONE = "America/New_York" if naive.year > 1 else "Asia/Tokyo"
    with pytest.raises(Unusable, match="no valid time"):
        moment(naive)


def test_numbers_that_json_does_not_have_are_texts(audit: Audit) -> None:
    product = Product.objects.create(name="a", attributes={})
    log(product, UPDATE, '{"attributes": [{"a": 1}, {"a": [NaN, -Infinity]}]}')
    log(product, UPDATE, {"attributes": ["NaN", "Infinity"]}, minute=1)
    audit()
    assert "refuses" not in run("auditlog")
    first, second, *_ = events(product)
    assert first.changes == {"attributes": [{"a": 1}, {"a": ["nan", "-inf"]}]}
    assert second.changes == {"attributes": ["nan", "inf"]}
    assert differences() == []
    assert "0 events written" in run("auditlog")


def test_texts_of_related_objects_that_raise(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    product = Product.objects.create(name="a")
    green, red = Tag.objects.create(name="green"), Tag.objects.create(name="red")
    product.tags.add(red)
    text = Tag.__str__

    def failing(tag: Tag) -> str:
        if tag.pk == green.pk:
            raise AttributeError
        return text(tag)

    monkeypatch.setattr(Tag, "__str__", failing)
    log(product, UPDATE, {"tags": {"type": "m2m", "operation": "add", "objects": ["red"]}})
    audit()
    assert "left out" not in run("auditlog")
    assert events(product)[0].changes == {"tags": {"added": [red.pk], "removed": []}}


class Odd(Ledger):
    """Says that a product has members whose keys are none, and what no field of the project can read."""

    def histories(self) -> Iterable[TableHistory]:
        return [self.history("app.product", self.odd), *super().histories()]

    def history(self, label: str, entry: Any) -> TableHistory:
        rows = AuditlogEntry.objects.using(self.using)
        return TableHistory(label, rows, key=["object_pk"], order=["timestamp", "id"], entry=entry)

    def odd(self, row: AuditlogEntry) -> Entry:
        if row.action == 1:
            raise AttributeError(row.object_repr)
        return Entry(
            key=str(row.pk), at=row.timestamp, event_type="update", object_id=row.object_pk, members={"tags": ["red"]}
        )


class Broken(Odd):
    """Has a history that breaks off after its first row."""

    def history(self, label: str, entry: Any) -> TableHistory:
        return Breaking(label, AuditlogEntry.objects.using(self.using), key=["object_pk"], order=["id"], entry=entry)


class Breaking(TableHistory):
    def slices(self, *arguments: Any) -> Iterator[Any]:
        for count, entries in super().slices(*arguments):
            yield count, entries[:1]
            raise AttributeError("no such attribute")


def test_whatever_a_row_raises_the_others_are_taken(audit: Audit) -> None:
    product, room = Product.objects.create(name="a"), Room.objects.create(code="a", floor=1)
    raising, members = log(product, 1), log(product, 0, minute=1)
    kept(room, "+", minute=0)
    audit()
    out = run("tests.test_import_damaged.Odd")
    assert f"it can't be read (AttributeError): auditlog_logentry {raising.pk}" in out
    assert f"it can't be taken (ValidationError): auditlog_logentry {members.pk}" in out
    assert "app.room" in {event.model for event in AuditEvent.objects.all()}


def test_a_history_that_breaks_off_is_named_and_the_others_are_taken(
    audit: Audit, caplog: pytest.LogCaptureFixture
) -> None:
    product, room = Product.objects.create(name="a"), Room.objects.create(code="a", floor=1)
    log(product, 1)
    kept(room, "+", minute=0)
    audit()
    out = run("tests.test_import_damaged.Broken", code=1)
    assert out.splitlines()[-1] == "auditlog_logentry can't be read to the end; the log says why."
    assert "no such attribute" in caplog.text
    assert [event.model for event in AuditEvent.objects.all()] == ["app.room", "app.room"]


@pytest.mark.parametrize(
    ("error", "is_of_row"),
    [
        (DataError("timestamp too large"), True),
        (AttributeError(), True),
        (OperationalError("the connection is gone"), False),
        (CannotImport("no such table"), False),
    ],
)
def test_what_is_about_one_row(error: Exception, is_of_row: bool) -> None:
    assert is_of_one_row(error) == is_of_row


@pytest.mark.parametrize("is_audited", [True, False])
@pytest.mark.parametrize("minute", [0, 1, 2])
def test_a_second_run_writes_nothing_wherever_somebody_has_looked(audit: Audit, is_audited: bool, minute: int) -> None:
    product = Product.objects.create(name="a")
    log(product, CREATE, {"name": ["None", "b"]})
    log(product, UPDATE, {"name": ["b", "a"]}, minute=1)
    log(product, ACCESS, minute=minute)
    LogEntry.objects.create(
        user=User.objects.create_user("ada"),
        content_type=ContentType.objects.get_for_model(Product),
        object_id=str(product.pk),
        object_repr="a",
        action_flag=2,
        change_message="",
    )
    audit(*([] if is_audited else [{"name": "other", "model": "app.Tag"}]))
    run("admin")
    run("auditlog")
    before = AuditEvent.objects.count()
    for source in ("auditlog", "admin"):
        assert "0 events written" in run(source)
    assert AuditEvent.objects.count() == before
    log(product, UPDATE, {"name": ["a", "c"]}, minute=3)
    assert ("0 events written" if is_audited else "1 event written") in run("auditlog")


@pytest.mark.parametrize("keys", [("{}", " {}"), (" {}", "{}"), ("{}", "0{}"), ("0{}", "{}", " {}")])
@pytest.mark.parametrize("at_once", [1, 500])
@pytest.mark.parametrize("closes", [[], ["--no-close"]])
def test_a_key_that_is_written_in_two_ways(
    audit: Audit, monkeypatch: pytest.MonkeyPatch, keys: tuple[str, ...], at_once: int, closes: list[str]
) -> None:
    monkeypatch.setattr(tables, "OBJECTS", at_once)
    product = Product.objects.create(name="d")
    for minute, name in enumerate(("a", "b", "c", "d")):
        key = keys[minute % len(keys)].format(product.pk)
        log(product, UPDATE, {"name": [chr(ord(name) - 1), name]}, minute=minute, pk=key)
    audit()
    out = run("auditlog", *closes)
    times = [event.recorded_at for event in events(product)]
    assert times == sorted(times)
    assert " left out, because it" in out
    before = AuditEvent.objects.count()
    assert "0 events written" in run("auditlog", *closes)
    assert AuditEvent.objects.count() == before
    assert closes or differences() == []


def test_related_objects_as_a_pair_of_values_are_unclear(audit: Audit) -> None:
    product = Product.objects.create(name="a")
    log(product, UPDATE, {"tags": [None, [[1, 2], [3]]], "name": ["b", "a"]})
    audit()
    assert "1 value of app.product.tags can't be told from its text" in run("auditlog")
    assert events(product)[0].changes == {"name": ["b", "a"]}
    assert differences() == []
    assert "0 events written" in run("auditlog")


def test_objects_of_which_no_row_can_be_read_begin_with_their_baseline(audit: Audit) -> None:
    product, other = Product.objects.create(name="a"), Product.objects.create(name="b")
    for one in (product, other):
        log(one, UPDATE, '{"name": ')
    audit()
    other.name = "c"
    other.save()
    assert "2 rows were left out" in run("auditlog")
    call_command("audit_baseline", verbosity=0, stdout=io.StringIO())
    assert list(Replay(get_registry().plans.values(), "default").differences()) == []
    assert "0 events written" in run("auditlog")


class Unprepared(Ledger):
    """Has a history of rows whose other tables can't all be read."""

    def histories(self) -> Iterable[TableHistory]:
        rows = AuditlogEntry.objects.using(self.using)
        return [Unready("app.product", rows, key=["object_pk"], order=["id"], entry=self.entry)]

    def entry(self, row: AuditlogEntry) -> Entry:
        name = {"name": row.object_repr}
        return Entry(key=str(row.pk), at=row.timestamp, event_type="update", object_id=row.object_pk, snapshot=name)


class Unready(TableHistory):
    def prepare(self, rows: Any) -> None:
        if any(row.actor_id for row in rows):
            raise ValueError


def test_a_row_whose_other_tables_cannot_be_read_leaves_out_itself_alone(audit: Audit) -> None:
    product = Product.objects.create(name="c")
    rows = [log(product, UPDATE, object_repr=name, minute=place) for place, name in enumerate("abc")]
    damage(rows[1], "actor_id", "7")
    audit()
    assert f"it can't be read (ValueError): auditlog_logentry {rows[1].pk}" in run(f"{__name__}.Unprepared")
    assert [event.changes["name"][1] for event in events(product) if "name" in event.changes] == ["a", "c"]
    assert differences() == []


@pytest.mark.skipif(connection.vendor != "sqlite", reason="it keeps any text in a column of numbers")
@pytest.mark.parametrize("size", [1, 2, 500])
def test_objects_with_a_key_that_is_none_are_named_and_the_others_are_taken(
    audit: Audit, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(tables, "OBJECTS", size)
    rooms = [Room.objects.create(code=code, floor=floor) for floor, code in enumerate("abcd")]
    rows = [kept(room, "+", minute=0) for room in rooms]
    damage(rows[0], "id", "{}")
    damage(rows[1], "id", "1.5")
    damage(rows[2], "id", "none")
    audit()
    out = run("simple_history")
    assert out.startswith("4 rows read")
    assert {int(key) for key in re.findall(r"recorded_historicalroom (\d+)", out)} == {row.pk for row in rows[:3]}
    assert [event.event_type for event in events(rooms[3])] == ["create"]
    assert "0 events written" in run("simple_history")


def test_rows_of_no_object_are_named(audit: Audit) -> None:
    product = Product.objects.create(name="a")
    orphans = [log(product, UPDATE, object_id=None) for _ in range(2)]
    log(product, UPDATE, object_id=product.pk)
    audit()
    out = run(f"{__name__}.ByNumber")
    assert out.startswith("3 rows read")
    assert all(f"auditlog_logentry {orphan.pk}" in out for orphan in orphans)


class ByNumber(Ledger):
    """Looks up objects by a column that may be null."""

    def histories(self) -> Iterable[TableHistory]:
        rows = AuditlogEntry.objects.using(self.using)
        return [TableHistory("app.product", rows, key=["object_id"], order=["id"], entry=self.entry)]

    def entry(self, row: AuditlogEntry) -> Entry:
        return Entry(key=str(row.pk), at=row.timestamp, event_type="update", object_id=row.object_id)


class Actorless(Unprepared):
    """Names users by a number that is none."""

    def histories(self) -> Iterable[TableHistory]:
        rows = AuditlogEntry.objects.using(self.using)
        return [TableHistory("app.product", rows, key=["object_pk"], order=["id"], entry=self.entry)]

    def entry(self, row: AuditlogEntry) -> Entry:
        entry = super().entry(row)
        entry.actor = float("inf")
        return entry


def test_a_user_whose_key_is_none_costs_no_row(audit: Audit) -> None:
    product = Product.objects.create(name="b")
    log(product, UPDATE, object_repr="b")
    audit()
    assert "left out" not in run(f"{__name__}.Actorless")
    assert events(product)[0].actor_id == "inf"


class Keyless(Actorless):
    """Names an object by a number that is none."""

    def entry(self, row: AuditlogEntry) -> Entry:
        entry = super().entry(row)
        entry.event_type = "seen" if row.action == ACCESS else entry.event_type
        entry.object_id = float("inf") if row.object_repr == "none" else row.object_pk
        return entry


@pytest.mark.parametrize("action", [UPDATE, ACCESS])
def test_an_object_whose_key_is_none_costs_no_other_row(audit: Audit, action: int) -> None:
    product = Product.objects.create(name="b")
    bad = log(product, action, object_repr="none")
    log(product, action, object_repr="b", minute=1)
    audit()
    assert f"it can't be taken (OverflowError): auditlog_logentry {bad.pk}" in run(f"{__name__}.Keyless")
    assert events(product)[0].event_type == ("seen" if action == ACCESS else "baseline")


@pytest.mark.parametrize(("method", "error"), [("add", OverflowError()), ("_insert", DataError("it is too large"))])
def test_an_event_that_cannot_be_written_is_none_of_the_state_that_is_closed(
    audit: Audit, monkeypatch: pytest.MonkeyPatch, method: str, error: Exception
) -> None:
    product = Product.objects.create(name="d")
    for place, (old, new) in enumerate(("za", "ab", "bd")):
        log(product, UPDATE, {"name": [old, new]}, minute=place)
    original = getattr(Writer, method)

    def fail(writer: Writer, *pending: Any, **columns: Any) -> None:
        if "['b', 'd']" in (told := str((pending, columns))) and "'update'" in told:
            raise error
        original(writer, *pending, **columns)

    monkeypatch.setattr(Writer, method, fail)
    audit()
    assert "1 row was left out" in run("auditlog")
    # The baseline says what the event would have said.
    assert events(product)[-1].changes["name"] == ["b", "d"]
    assert differences() == []
    assert "0 events written" in run("auditlog")
