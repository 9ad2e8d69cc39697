"""Statements that psycopg keeps on the server: only this package's, and none where another client may be given them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, models, transaction
from django.db.models import Func, Value
from django.db.models.functions import Length

from django_signal_audit.models import AuditEvent

from .app.models import Tag
from .columns.models import City, Every, OddlyNamed
from .conftest import SAVES_ARE_ONE_STATEMENT, Audit, events

if SAVES_ARE_ONE_STATEMENT:
    import psycopg

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not SAVES_ARE_ONE_STATEMENT, reason="only the engine for PostgreSQL prepares statements"),
]
TAGS = {"name": "tags", "model": "app.Tag"}
EVERY = {"name": "every", "model": "columns.Every"}


@pytest.fixture(autouse=True)
def new_connection() -> Iterator[None]:
    """Have nothing prepared yet, and leave no other test anything."""
    connection.close()
    yield
    connection.close()


def prepared() -> list[str]:
    """Return the statements that the server keeps for the connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements ORDER BY prepare_time, name")
        return [statement for (statement,) in cursor.fetchall()]


def write(times: int = 5) -> None:
    """Create, save and delete tags."""
    for number in range(times):
        tag = Tag.objects.create(name=str(number))
        tag.name = "other"
        tag.save()
        tag.delete()


def test_a_statement_is_prepared_when_it_is_used_again(audit: Audit) -> None:
    audit(TAGS)
    counts = []
    for number in range(5):
        Tag.objects.create(name=str(number))
        counts.append(len(prepared()))
    # The first of a connection asks who the server is, and a request that writes once pays for no preparation.
    assert counts == [0, 0, 1, 1, 1]


def test_nothing_is_prepared_behind_a_pooler(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    audit(TAGS)
    # The process that works for a transaction isn't the one that answered when the driver connected.
    monkeypatch.setattr(psycopg.ConnectionInfo, "backend_pid", property(lambda _: 1))
    write()
    assert prepared() == []
    assert len(events()) == 15


def test_the_least_numbers_of_columns_are_saved_and_deleted_behind_a_pooler(
    audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit(EVERY, {"name": "keyed", "model": "columns.OddlyNamed"})
    monkeypatch.setattr(psycopg.ConnectionInfo, "backend_pid", property(lambda _: 1))
    with transaction.atomic():
        row = Every.objects.create(small=-(2**15), number=-(2**31), big=-(2**63))
        row.save()
        row.delete()
    with transaction.atomic():
        # Its unique column may be what others refer to, and has to stay.
        keyed = OddlyNamed.objects.create(position=-(2**31))
        keyed.o0 = 1
        keyed.save()
    assert [event.event_type for event in events()] == ["create", "delete", "create", "update"]


def test_a_connection_that_is_made_anew_asks_anew(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    audit(TAGS)
    write()
    assert prepared()
    connection.close()
    monkeypatch.setattr(psycopg.ConnectionInfo, "backend_pid", property(lambda _: 1))
    write()
    assert prepared() == []


def test_a_tool_that_replaces_the_drivers_cursors_sees_each_statement(audit: Audit) -> None:
    audit(TAGS)
    seen: list[str] = []

    class Tracing(psycopg.ClientCursor):  # type: ignore[type-arg]
        def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(str(query))
            return super().execute(query, *args, **kwargs)

    connection.ensure_connection()
    connection.connection.cursor_factory = Tracing
    write()
    assert sum(AuditEvent._meta.db_table in query for query in seen) == len(events()) == 15
    assert prepared() == []


def test_statements_of_django_are_not_kept(audit: Audit) -> None:
    audit(TAGS)
    for number in range(10):
        write(1)
        list(Tag.objects.filter(name=str(number)))
        Every.objects.filter(number=3).exists()
    assert connection.connection.prepare_threshold is None
    found = prepared()
    assert found
    assert all(AuditEvent._meta.db_table in statement for statement in found)


def test_they_outlive_savepoints_that_are_rolled_back(audit: Audit) -> None:
    audit(TAGS)
    write()
    before = prepared()
    with transaction.atomic():
        for _ in range(3):
            with transaction.atomic():
                write(1)
                transaction.set_rollback(True)
    assert prepared() == before != []
    assert len(events()) == 15


def test_a_plan_for_a_small_table_ends_some_day(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    audit(TAGS)
    clock = [1000.0]
    monkeypatch.setattr("django_signal_audit.events.prepared.monotonic", lambda: clock[0])
    for number in range(4):
        Tag.objects.create(name=str(number))
    [first] = prepared()
    clock[0] += 600
    for number in range(4):
        Tag.objects.create(name=str(number))
    assert len(prepared()) == 2
    assert prepared()[1] != first


def test_numbers_of_all_sizes_share_a_statement(audit: Audit) -> None:
    City.objects.create(pk=1, name="one")
    audit(EVERY)
    row = Every.objects.create(name="a")
    for number in (1, 70_000, 2**40, -(2**62), 3):
        row.big = number
        row.save(update_fields=["big"])
    assert len(prepared()) == 1
    assert events()[-1].changes == {"big": [-(2**62), 3]}


def test_expressions_whose_types_the_server_cannot_tell_are_sent_as_text(
    audit: Audit, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    monkeypatch.setattr(Every, "__str__", lambda self: self.name)
    City.objects.create(pk=1, name="one")
    audit(EVERY)
    Every.objects.create(name="a")
    for number in range(4):
        text = Func(Value("-"), Value("a" * number), Value("b"), function="concat_ws", output_field=models.CharField())
        with django_assert_num_queries(1):
            assert Every.objects.update(number=Length(text)) == 1
    assert [event.changes["number"] for event in events()[1:]] == [[None, 2], [2, 3], [3, 4], [4, 5]]
    assert prepared() == []
