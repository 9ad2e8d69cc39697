"""MariaDB: a save and its event in one or two packets, whoever else writes, and whatever goes wrong on the way."""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import (
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    OperationalError,
    ProgrammingError,
    connection,
    connections,
    models,
    transaction,
)
from django.test.utils import CaptureQueriesContext

from django_signal_audit.capture.engines import why_portable
from django_signal_audit.capture.engines.mariadb import sets
from django_signal_audit.exceptions import EventNotWritten
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.rules.registry import get_registry

from .app.models import Document, Product, Tag
from .columns.models import City, Every
from .conftest import Audit, events, last, trail

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "mysql", reason="is about MariaDB"),
]

RULE = {"name": "every", "model": "columns.Every"}
TAGS = {"name": "tags", "model": "app.Tag"}
PRODUCTS = {"name": "products", "model": "app.Product", "fields": ["name", "stock"]}


def ask(sql: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    """Make sure that no test leaves a transaction behind, or a connection without autocommit."""
    yield
    assert connection.get_autocommit()
    assert ask("SELECT @@in_transaction, @@autocommit") == (0, 1)
    assert connection.execute_wrappers == []


def packets(work: Callable[[], Any]) -> list[str]:
    """Return what is sent: the statements of each packet in short. Autocommit is not switched meanwhile."""
    before = ask("SHOW SESSION STATUS LIKE 'Com_set_option'")
    with CaptureQueriesContext(connection) as queries:
        work()
    assert ask("SHOW SESSION STATUS LIKE 'Com_set_option'") == before
    return ["; ".join(part.split()[0] for part in query["sql"].split("; ")) for query in queries]


class TestPackets:
    def test_a_new_row_and_its_event_are_one(self, audit: Audit) -> None:
        audit(TAGS, {"name": "d", "model": "app.Document"})
        rows = [Tag(name="a"), Document(title="a"), Tag(pk=2**30, name="a")]
        for row in rows:
            assert packets(partial(row.save, force_insert=True)) == ["BEGIN; INSERT; INSERT; COMMIT"]
        assert [event.object_id for event in events()] == [str(row.pk) for row in rows]

    def test_a_save_is_two(self, audit: Audit) -> None:
        audit(TAGS)
        tag = Tag.objects.create(name="a")
        tag.name = "b"
        assert packets(tag.save) == ["BEGIN; SELECT; UPDATE", "INSERT; COMMIT"]
        tag.name = "c"
        assert packets(lambda: tag.save(update_fields=["name"])) == ["BEGIN; SELECT; UPDATE", "INSERT; COMMIT"]
        assert packets(tag.save) == ["BEGIN; SELECT; UPDATE", "COMMIT"]
        assert [changes["name"] for _, changes in trail()] == [[None, "a"], ["a", "b"], ["b", "c"]]

    def test_inside_a_transaction_its_begin_and_commit_are_the_projects(self, audit: Audit) -> None:
        audit(TAGS)
        with transaction.atomic():
            tag = Tag(name="a")
            Tag.objects.exists()
            assert packets(tag.save) == ["INSERT; INSERT"]
            tag.name = "b"
            assert packets(tag.save) == ["SELECT; UPDATE", "INSERT"]
            assert packets(tag.save) == ["SELECT; UPDATE"]
            transaction.set_rollback(True)
        assert (events(), Tag.objects.count()) == ([], 0)

    def test_whatever_else_begins_a_transaction_begins_it_with_its_first_statement(self, audit: Audit) -> None:
        audit(TAGS)
        tags = [Tag(name=str(number)) for number in range(3)]
        assert packets(lambda: Tag.objects.bulk_create(tags)) == ["BEGIN; INSERT", "INSERT", "COMMIT"]
        assert packets(Tag.objects.first().delete)[0].startswith("BEGIN; ")  # type: ignore[union-attr]
        assert packets(lambda: Tag.objects.update(name="a"))[0] == "BEGIN; SELECT"
        assert len(events()) == 6

    def test_a_save_of_a_secret_and_one_under_a_condition_are_two(self, audit: Audit) -> None:
        audit({"name": "t", "model": "app.Tag", "mask": ["name"]})
        assert packets(lambda: Tag.objects.create(name="a")) == ["BEGIN; INSERT", "INSERT; COMMIT"]
        audit({"name": "t", "model": "app.Tag", "when": {"name": {"to": "b"}}})
        tag = Tag.objects.create(name="a")
        tag.name = "b"
        assert packets(tag.save) == ["BEGIN; SELECT; UPDATE", "INSERT; COMMIT"]

    def test_notifications_travel_after_the_event(self, audit: Audit) -> None:
        User.objects.create_user("ada")
        notify = [{"channel": "inbox", "to": ["user:ada"]}]
        audit(
            {**TAGS, "notify": notify},
            CHANNELS={"inbox": {"BACKEND": "django_signal_audit.channels.inbox.InboxChannel"}},
            DISPATCHER="django_signal_audit.dispatchers.WorkerDispatcher",
        )
        assert packets(lambda: Tag.objects.create(name="b")) == ["BEGIN; INSERT; INSERT", "INSERT", "COMMIT"]
        assert [one.event for one in Notification.objects.all()] == [last().uid]

    def test_a_new_row_that_is_long_goes_on_its_own(self, audit: Audit) -> None:
        audit(RULE)
        assert packets(lambda: Every.objects.create(text="x" * 1_000_001)) == ["BEGIN; INSERT", "INSERT; COMMIT"]
        assert last().changes["text"][1]["length"] == 1_000_001

    def test_execute_wrappers_see_packets_while_they_run(self, audit: Audit) -> None:
        audit(TAGS)
        seen: list[Any] = []

        def watch(execute: Any, sql: str, *args: Any) -> Any:
            try:
                return execute(sql, *args)
            except Error as error:
                seen.append(error)
                raise

        with connection.execute_wrapper(watch), pytest.raises(IntegrityError):
            Tag(pk=Tag.objects.create(name="a").pk, name="b").save(force_insert=True)
        assert [type(error) for error in seen] == [IntegrityError]


class TestRefusals:
    def test_a_connection_that_takes_one_statement_at_a_time(self, audit: Audit) -> None:
        audit(TAGS)
        options = connection.settings_dict["OPTIONS"]
        connection.close()
        options["multi_statements"] = False
        try:
            assert "multi_statements" in why_portable(get_registry().plans[Tag], "default")
            tag = Tag.objects.create(name="a")
            tag.name = "b"
            with CaptureQueriesContext(connection) as queries:
                tag.save()
            assert not any(";" in query["sql"] for query in queries)
        finally:
            del options["multi_statements"]
            connection.close()
        assert [changes for _, changes in trail()] == [{"name": [None, "a"]}, {"name": ["a", "b"]}]

    @pytest.mark.parametrize("is_inside", [False, True])
    @pytest.mark.parametrize(
        "first",
        [lambda: Tag.objects.create(name="a"), Tag(name="a").save, lambda: Tag.objects.bulk_create([Tag(name="a")])],
    )
    def test_a_server_that_refuses_packets_is_asked_once(self, audit: Audit, first: Any, is_inside: bool) -> None:
        audit(TAGS)
        connection.close()
        connection.ensure_connection()
        connection.connection.set_server_option(1)  # MYSQL_OPTION_MULTI_STATEMENTS_OFF
        try:
            with transaction.atomic() if is_inside else nullcontext():
                first()
                tag = Tag.objects.get()
                tag.name = "b"
                with CaptureQueriesContext(connection) as queries:
                    tag.save()
            assert is_inside or not any(";" in query["sql"] for query in queries)
        finally:
            connection.close()
        assert [changes for _, changes in trail()] == [{"name": [None, "a"]}, {"name": ["a", "b"]}]

    def test_the_portable_engine_sends_no_packets(self, audit: Audit) -> None:
        audit(TAGS, ENGINE="portable")
        with CaptureQueriesContext(connection) as queries:
            Tag.objects.create(name="a").save()
        assert not any(";" in query["sql"] for query in queries)

    def test_hours_beyond_a_day_are_read_the_portable_way(self, audit: Audit) -> None:
        audit(RULE)
        row = Every.objects.create(hour=dt.time(1), name="a")
        with connection.cursor() as cursor:
            cursor.execute("UPDATE columns_every SET hour = '25:00:00'")
        row.name = "b"
        row.save()
        assert last().changes["name"] == ["a", "b"]
        assert last().changes["hour"][1] == "01:00:00"


WRITES: dict[str, Callable[[], Any]] = {
    "a unique value again": lambda: Every.objects.create(slug="taken"),
    "one by a save": lambda: Every(pk=Every.objects.get(slug="free").pk, slug="taken").save(),
    "a key again": lambda: Every(pk=Every.objects.get(slug="free").pk).save(force_insert=True),
    "no value": lambda: Every.objects.create(small=None),
    "none by a save": lambda: without_a_number().save(),
    "a related object that is not there": lambda: Every.objects.create(city_id=123456),
    "a number too large": lambda: Every.objects.create(number=2**40),
    "a text too long": lambda: Every.objects.create(name="x" * 201),
    "a function that is not there": lambda: with_a_function().save(),
    "a row that is gone": lambda: Every(pk=123456).save(force_update=True),
}


def without_a_number() -> Every:
    row = Every.objects.defer("hour").get(slug="free")
    row.small = None  # type: ignore[assignment]
    return row


def with_a_function() -> Every:
    row = Every.objects.defer("hour").get(slug="free")
    row.price = models.Func(function="NO_SUCH_FUNCTION", output_field=models.DecimalField())  # type: ignore[assignment]
    return row


class TestErrors:
    @pytest.mark.parametrize("is_inside", [False, True])
    def test_they_are_those_without_an_audit(self, audit: Audit, is_inside: bool) -> None:
        found: dict[str, Any] = {}
        for engine, rule in {"auto": RULE, "portable": RULE, "none": TAGS}.items():
            audit(rule, ENGINE="portable" if engine == "portable" else "auto")
            Every.objects.all().delete()
            Every.objects.create(slug="taken")
            Every.objects.create(slug="free")
            count = AuditEvent.objects.count()
            found[engine] = {name: self.fail(write, is_inside=is_inside) for name, write in WRITES.items()}
            assert (AuditEvent.objects.count(), Every.objects.count()) == (count, 2)
        assert found["auto"] == found["portable"] == found["none"]

    def fail(self, write: Callable[[], Any], *, is_inside: bool) -> tuple[type, int | None]:
        """Return the class of the error, and the server's number for it."""
        block = transaction.atomic() if is_inside else nullcontext()
        with pytest.raises(DatabaseError) as caught, block:
            write()
        assert ask("SELECT @@in_transaction") == (0,)
        number = caught.value.args[0]
        return type(caught.value), number if isinstance(number, int) else None

    def test_a_value_that_a_constraint_refuses(self, audit: Audit) -> None:
        audit(TAGS)
        tag = Tag.objects.create(name="a")
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE app_tag ADD CONSTRAINT no_b CHECK (name <> 'b')")
        try:
            tag.name = "b"
            for write in (
                tag.save,
                lambda: Tag.objects.create(name="b"),
                lambda: Tag.objects.bulk_create([Tag(name="b")]),
            ):
                with pytest.raises(IntegrityError, match="no_b") as caught:
                    write()
                assert caught.value.args[0] == 4025
        finally:
            with connection.cursor() as cursor:
                cursor.execute("ALTER TABLE app_tag DROP CONSTRAINT no_b")
        assert len(events()) == 1

    @pytest.mark.parametrize("column", ["object_repr", "changes"])
    def test_an_event_that_is_refused(self, audit: Audit, column: str) -> None:
        audit(TAGS)
        tag = Tag.objects.create(name="a")
        table = AuditEvent._meta.db_table
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table} ADD CONSTRAINT no_b CHECK ({column} NOT LIKE '%b%')")
        try:
            tag.name = "b"
            for write in (tag.save, lambda: Tag.objects.create(name="b")):
                with pytest.raises(EventNotWritten, match="no_b"):
                    write()
                with transaction.atomic(), pytest.raises(EventNotWritten, match="no_b"):
                    write()
        finally:
            with connection.cursor() as cursor:
                cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT no_b")
        assert list(Tag.objects.values_list("name", flat=True)) == ["a"]

    @pytest.mark.parametrize("params", [[1], [1, 2]])
    def test_a_text_that_asks_first_and_an_event_that_is_refused(
        self, audit: Audit, monkeypatch: pytest.MonkeyPatch, params: list[int]
    ) -> None:
        """What the driver refuses is not the first statement. A savepoint is, in front of the query of a text."""

        def text(self: Tag) -> str:
            with connection.cursor() as cursor, suppress(Error):
                cursor.execute("SELECT %s, %s", params)
            return self.name

        audit(TAGS)
        tag = Tag.objects.create(name="a")
        monkeypatch.setattr(Tag, "__str__", text)
        monkeypatch.setattr("django_signal_audit.events.insert._insert_sql", lambda *_: "INSERT INTO no_such_table")
        with pytest.raises(EventNotWritten):
            tag.delete()
        assert Tag.objects.count() == 1


@contextmanager
def locked_elsewhere(*rows: models.Model) -> Iterator[None]:
    """Hold the locks of rows in another transaction while a block runs."""
    is_locked, is_over = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            for row in rows:
                type(row)._base_manager.select_for_update().get(pk=row.pk)
            is_locked.set()
            is_over.wait(30)
        connections.close_all()

    thread = threading.Thread(target=hold)
    thread.start()
    assert is_locked.wait(30)
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@pytest.fixture
def impatient() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION innodb_lock_wait_timeout = 1")
    yield
    connection.close()


def in_threads(works: list[Callable[[], Any]]) -> list[BaseException | None]:
    """Run all of them at once, and return what each has raised."""
    raised: list[BaseException | None] = [None] * len(works)

    def run(at: int) -> None:
        try:
            works[at]()
        except BaseException as error:  # noqa: BLE001  # it is returned
            raised[at] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=[at]) for at in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


class TestManyRows:
    @pytest.fixture(autouse=True)
    def _rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Every, "__str__", lambda self: self.name)
        City.objects.create(pk=1, name="one")
        Every.objects.bulk_create([Every(name=f"row {at}", small=at, price=at % 7, city_id=1) for at in range(20)])

    def test_two_packets_change_them_and_write_their_events(self, audit: Audit) -> None:
        audit(RULE)
        with CaptureQueriesContext(connection) as sent:
            assert Every.objects.filter(small__gte=10).update(price=models.F("price") + 1) == 10
        assert [query["sql"].split(" ")[0] for query in sent] == ["BEGIN;", "UPDATE"]
        assert sent[1]["sql"].endswith("; COMMIT")
        found = events()
        assert [event.object_repr for event in found] == [f"row {at}" for at in range(10, 20)]
        assert [event.changes for event in found] == [
            {"price": [f"{at % 7}.0000", f"{at % 7 + 1}.0000"]} for at in range(10, 20)
        ]
        assert {event.correlation_id for event in found} == {str(found[0].uid)}
        assert [event.uid for event in found] == sorted({event.uid for event in found})
        assert {event.uid.version for event in found} == {7}
        assert len({event.recorded_at for event in found}) == 1

    def test_rows_that_do_not_change_have_no_event(self, audit: Audit) -> None:
        audit(RULE)
        assert Every.objects.filter(small__lt=10).update(price=1) == 10
        assert [event.changes["price"][0] for event in events()] == [
            f"{at % 7}.0000" for at in range(10) if at % 7 != 1
        ]

    def test_texts_that_a_collation_takes_for_equal(self, audit: Audit) -> None:
        audit(RULE)
        for text in ("abc", "ABC", "ABC "):
            Every.objects.filter(small__gt=-1).update(text=text)
        assert [event.changes["text"][1] for event in events()] == ["abc"] * 20 + ["ABC"] * 20 + ["ABC "] * 20

    def test_rows_that_sql_cannot_tell_of_are_left_to_the_portable_way(self, audit: Audit) -> None:
        audit(RULE)
        Every.objects.filter(pk=Every.objects.earliest("pk").pk).update(text="password=hunter2secret")
        assert Every.objects.filter(small__gt=-1).update(text="plain") == 20
        assert "hunter2" not in str([event.changes for event in events()])
        assert len(events()) == 21

    def test_nothing_is_left_behind(self, audit: Audit) -> None:
        audit(RULE)
        Every.objects.filter(small__gt=5).update(number=1)
        Every.objects.filter(small__gt=500).update(number=1)
        Every.objects.filter(small=3).update(text="a: b")
        Every.objects.filter(small__gt=-1).update(text="c")
        for table in ("django_signal_audit_before", "django_signal_audit_keys"):
            with pytest.raises(ProgrammingError), connection.cursor() as cursor:
                cursor.execute(f"SELECT 1 FROM {table}")

    def test_an_update_that_is_rolled_back_leaves_nothing(self, audit: Audit) -> None:
        audit(RULE)
        with transaction.atomic():
            with transaction.atomic():
                Every.objects.filter(small__gt=5).update(number=1)
                transaction.set_rollback(True)
            Every.objects.filter(small__gt=17).update(number=2)
        assert [event.changes["number"] for event in events()] == [[None, 2]] * 2
        assert Every.objects.filter(number=1).count() == 0

    def test_errors_are_those_without_an_audit(self, audit: Audit) -> None:
        audit(RULE)
        with pytest.raises(IntegrityError, match="slug"):
            Every.objects.filter(small__gt=5).update(slug="same")
        with pytest.raises(DataError):
            Every.objects.filter(small__gt=5).update(small=models.F("small") + 70_000)
        assert ask("SELECT @@in_transaction") == (0,)
        assert events() == []
        assert not Every.objects.filter(slug="same").exists()

    def test_events_that_are_refused(self, audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
        audit(RULE)
        made = sets._events
        monkeypatch.setattr(sets, "_events", lambda *args, **options: ("INSERT INTO no_such_table VALUES (1)", ()))
        with pytest.raises(EventNotWritten):
            Every.objects.filter(small__gt=5).update(number=1)
        assert not Every.objects.filter(number=1).exists()
        monkeypatch.setattr(sets, "_events", made)
        assert Every.objects.filter(small__gt=5).update(number=1) == 14

    def test_notifications_go_with_the_events(self, audit: Audit) -> None:
        User.objects.create_user("ada")
        channels = {"inbox": {"BACKEND": "django_signal_audit.channels.inbox.InboxChannel"}}
        audit({**RULE, "notify": [{"channel": "inbox", "to": ["user:ada"]}]}, CHANNELS=channels)
        Every.objects.filter(small__gt=5).update(number=1)
        [told] = Notification.objects.all()
        assert len(events()) == 14
        assert all(str(event.uid) in json.dumps(told.data) for event in events())

    def test_rows_that_come_after_the_look_are_left_alone(self, audit: Audit) -> None:
        audit(RULE)

        def insert_first(execute: Any, sql: str, *args: Any) -> Any:
            if sql.startswith("UPDATE"):
                in_threads([lambda: Every.objects.bulk_create([Every(name="new", small=50, city_id=1)])])
            return execute(sql, *args)

        with connection.execute_wrapper(insert_first):
            assert Every.objects.filter(small__gt=5).update(number=1) == 14
        assert Every.objects.get(small=50).number is None
        assert [event.event_type for event in events()] == ["create"] + ["update"] * 14

    def test_a_user_who_may_make_no_temporary_tables(self, audit: Audit) -> None:
        audit(RULE)

        def refuse(execute: Any, sql: str, *args: Any) -> Any:
            if "CREATE OR REPLACE TEMPORARY" in sql:
                raise OperationalError(1044, "Access denied for user")
            return execute(sql, *args)

        with connection.execute_wrapper(refuse):
            assert Every.objects.filter(small__gt=5).update(number=1) == 14
        assert len(events()) == 14

    def test_who_waits_for_rows_keeps_nobody_from_writing_events(self, audit: Audit) -> None:
        audit(RULE, PRODUCTS)
        row = Every.objects.get(small=7)
        with locked_elsewhere(row):
            waiting = threading.Thread(
                target=in_threads, args=[[lambda: Every.objects.filter(small__gt=5).update(number=1)]]
            )
            waiting.start()
            time.sleep(0.2)
            Product.objects.create(name="new", stock=1)
            assert Every.objects.filter(small__lt=5).update(number=1) == 5
            assert len(events()) == 6
        waiting.join()
        assert len(events()) == 20
        assert [event.uid for event in events()] == sorted(event.uid for event in events())


class TestOthers:
    @pytest.mark.usefixtures("impatient")
    @pytest.mark.parametrize("is_inside", [False, True])
    def test_a_row_that_stays_locked(self, audit: Audit, is_inside: bool) -> None:
        audit(PRODUCTS)
        row = Product.objects.create(name="a", stock=1)
        row.stock = 2
        block = transaction.atomic() if is_inside else nullcontext()
        with locked_elsewhere(row), pytest.raises(OperationalError) as caught, block:
            row.save()
        assert caught.value.args[0] == 1205
        assert ask("SELECT @@in_transaction") == (0,)
        row.save()
        assert trail()[1:] == [("update", {"stock": [1, 2]})]

    @pytest.mark.usefixtures("impatient")
    def test_those_who_wait_for_rows_keep_nobody_from_writing_events(self, audit: Audit) -> None:
        audit(PRODUCTS)
        rows = [Product.objects.create(name=str(number), stock=1) for number in range(5)]

        def save(row: Product) -> None:
            Product(pk=row.pk, name="waited", stock=5).save(update_fields=["name"])

        with locked_elsewhere(*rows[:4]):
            waiting = [threading.Thread(target=in_threads, args=[[lambda row=row: save(row)]]) for row in rows[:4]]
            for thread in waiting:
                thread.start()
            time.sleep(0.2)
            Product.objects.create(name="new", stock=1)
            save(rows[4])
            assert len(events()) == 7
        for thread in waiting:
            thread.join()
        assert len(events()) == 11

    def test_four_who_write_one_row_leave_a_chain(self, audit: Audit) -> None:
        audit(PRODUCTS)
        row = Product.objects.create(name="a", stock=0)

        def write() -> None:
            for _ in range(25):
                found = Product.objects.get(pk=row.pk)
                found.stock += 1
                found.save(update_fields=["stock"])
                found.stock = models.F("stock") + 1  # type: ignore[assignment]
                found.save()

        assert in_threads([write] * 4) == [None] * 4
        chain = [changes["stock"] for _, changes in trail()]
        assert [old for old, _ in chain[1:]] == [new for _, new in chain[:-1]]
        row.refresh_from_db()
        assert chain[-1][1] == row.stock
        moments = [event.recorded_at for event in events()]
        assert moments == sorted(moments)
        assert len({event.uid for event in events()}) == len(chain)

    def test_who_creates_a_row_again_is_recorded_after_its_deletion(self, audit: Audit) -> None:
        audit(TAGS)
        tag = Tag.objects.create(pk=5, name="a")
        is_deleted = threading.Event()

        def delete() -> None:
            with transaction.atomic():
                Tag.objects.get(pk=5).delete()
                is_deleted.set()
                time.sleep(0.3)

        def create() -> None:
            is_deleted.wait(30)
            Tag(pk=tag.pk, name="b").save(force_insert=True)

        assert in_threads([delete, create]) == [None, None]
        found = events()
        assert [event.event_type for event in found] == ["create", "delete", "create"]
        assert (found[2].recorded_at - found[1].recorded_at).total_seconds() > 0.2
        assert found[1].uid < found[2].uid

    def test_one_of_two_who_wait_for_each_other_is_rolled_back(self, audit: Audit) -> None:
        audit(PRODUCTS)
        rows = [Product.objects.create(name=str(number), stock=1) for number in range(2)]
        both = threading.Barrier(2)

        def write(one: Product, other: Product) -> None:
            with transaction.atomic():
                Product(pk=one.pk, name="x", stock=2).save(update_fields=["stock"])
                both.wait(30)
                Product(pk=other.pk, name="x", stock=2).save(update_fields=["stock"])

        raised = in_threads([lambda: write(*rows), lambda: write(*reversed(rows))])
        [error] = [one for one in raised if one is not None]
        assert isinstance(error, OperationalError)
        assert error.args[0] == 1213
        assert len(events()) == 4

    @pytest.mark.parametrize("beginning", ["BEGIN; SELECT", "INSERT INTO", "BEGIN; INSERT"])
    @pytest.mark.parametrize("is_inside", [False, True])
    def test_a_connection_that_is_killed_leaves_nothing(self, audit: Audit, beginning: str, is_inside: bool) -> None:
        audit(TAGS)
        tag = Tag.objects.create(name="a")
        start = beginning.removeprefix("BEGIN; ") if is_inside else beginning

        def kill(execute: Any, sql: str, *args: Any) -> Any:
            if sql.startswith((start, beginning.removeprefix("BEGIN; "))):
                number = connection.connection.thread_id()
                in_threads([lambda: ask_to_kill(number)])
            return execute(sql, *args)

        def write() -> None:
            with transaction.atomic() if is_inside else nullcontext(), connection.execute_wrapper(kill):
                tag.name = "b"
                Tag.objects.create(name="b") if beginning == "BEGIN; INSERT" else tag.save()

        with pytest.raises(OperationalError) as caught:
            write()
        assert caught.value.args[0] in (2006, 2013)
        connection.close()
        assert list(Tag.objects.values_list("name", flat=True)) == ["a"]
        assert len(events()) == 1


def ask_to_kill(number: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"KILL {number}")


class TestTexts:
    def test_of_a_deletion_that_ask_the_database(self, audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
        audit(TAGS)
        tag = Tag.objects.create(name="a")
        monkeypatch.setattr(Tag, "__str__", lambda self: f"one of {Tag.objects.count()}")
        assert sum(packet.count("BEGIN") for packet in packets(tag.delete)) == 1
        assert last().object_repr == "one of 1"

    def test_that_write(self, audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
        audit(TAGS, PRODUCTS)

        def text(self: Tag) -> str:
            Product.objects.create(name="of the text", stock=1)
            return self.name

        tag = Tag.objects.create(name="a")
        monkeypatch.setattr(Tag, "__str__", text)
        tag.name = "b"
        tag.save()
        tag.delete()
        assert {event.model for event in events()} == {"app.tag", "app.product"}
        assert AuditEvent.objects.filter(model="app.product").count() == Product.objects.count() > 0


class TestCounts:
    def test_rows_that_are_matched_count_and_not_those_that_change(self, audit: Audit) -> None:
        audit(TAGS)
        tag = Tag.objects.create(name="a")
        tag.save(force_update=True)
        tag.save(update_fields=["name"])
        Tag(pk=tag.pk, name="a").save()
        assert Tag.objects.filter(pk=tag.pk).update(name="a") == 1
        assert len(events()) == 1

    def test_a_row_that_is_not_there_is_inserted(self, audit: Audit) -> None:
        audit(TAGS)
        assert packets(Tag(pk=7, name="a").save) == ["BEGIN; SELECT; UPDATE", "INSERT", "INSERT; COMMIT"]
        assert [(event.event_type, event.object_id) for event in events()] == [("create", "7")]
        with pytest.raises(DatabaseError, match="did not affect"):
            Tag(pk=8, name="a").save(force_update=True)
        assert not Tag.objects.filter(pk=8).exists()

    def test_on_commit_runs_after_the_packet(self, audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
        audit(TAGS)
        called: list[bool] = []

        def text(self: Tag) -> str:
            transaction.on_commit(lambda: called.append(connection.in_atomic_block))
            return self.name

        tag = Tag.objects.create(name="a")
        monkeypatch.setattr(Tag, "__str__", text)
        tag.name = "b"
        tag.save()
        assert called == [False]
