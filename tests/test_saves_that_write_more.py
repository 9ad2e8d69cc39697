"""Saves that write more than they are asked to: all of it is recorded."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.db import connection, connections

from .columns.models import Touched, TouchingItself, TouchingLater
from .conftest import Audit, events, last

pytestmark = pytest.mark.django_db

RULES = [{"name": "all", "model": "columns.*"}]


@pytest.mark.parametrize(("kind", "writer"), [(Touched, "by the manager"), (TouchingItself, "by itself")])
class TestFurtherColumnsOfTheSameStatement:
    def test_with_update_fields(self, audit: Audit, kind, writer: str) -> None:
        audit(*RULES)
        row = kind.objects.create(name="a")
        row.name = "b"
        row.save(update_fields=["name"])
        assert last().changes == {"name": ["a", "b"], "touched": ["", writer]}
        call_command("audit_replay", "--check", verbosity=0)

    def test_in_place_of_what_the_object_has(self, audit: Audit, kind, writer: str) -> None:
        audit(*RULES)
        row = kind.objects.create(name="a")
        row.touched = "by hand"
        row.save()
        stored = kind.objects.get()
        assert last().changes == {"touched": ["", stored.touched]}
        call_command("audit_replay", "--check", verbosity=0)

    def test_with_deferred_fields(self, audit: Audit, kind, writer: str) -> None:
        audit(*RULES)
        kind.objects.create(name="a")
        row = kind.objects.only("name").get()
        row.name = "b"
        row.save()
        assert last().changes == {"name": ["a", "b"], "touched": ["", writer]}

    def test_though_nothing_else_changes(self, audit: Audit, kind, writer: str) -> None:
        audit(*RULES)
        row = kind.objects.create(name="a")
        row.save(update_fields=["name"])
        assert last().changes == {"touched": ["", writer]}
        row.save(update_fields=["name"])
        assert len(events()) == 2

    def test_in_a_rule_for_that_column_alone(self, audit: Audit, kind, writer: str) -> None:
        audit({"name": "touched", "model": "columns.*", "fields": ["touched"]})
        row = kind.objects.create(name="a")
        row.name = "b"
        row.save(update_fields=["name"])
        assert last().changes == {"touched": ["", writer]}


def test_a_statement_of_the_saves_own(audit: Audit) -> None:
    audit(*RULES)
    row = TouchingLater.objects.create(name="a")
    assert [event.event_type for event in events()] == ["create", "update"]
    assert last().changes["touched"] == ["", "later"]
    row.name = "b"
    row.save(update_fields=["name"])
    assert set(last().changes) == {"at"}
    assert events()[-2].changes == {"name": ["a", "b"]}
    call_command("audit_replay", "--check", verbosity=0)


@pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL has cursors on the server")
@pytest.mark.parametrize("is_disabled", [True, False])
def test_cursors_on_the_server_are_used_only_where_the_project_allows_them(
    audit: Audit, monkeypatch, is_disabled: bool
) -> None:
    """A pooler of transactions may run the next statement on another connection, which has no such cursor."""
    used: list[object] = []
    original = type(connections["default"]).chunked_cursor
    monkeypatch.setattr(
        type(connections["default"]), "chunked_cursor", lambda self: used.append(self) or original(self)
    )
    monkeypatch.setitem(connection.settings_dict, "DISABLE_SERVER_SIDE_CURSORS", is_disabled)
    audit(*RULES, ENGINE="portable")
    Touched.objects.bulk_create([Touched(name=str(number)) for number in range(3)])
    Touched.objects.update(name="x")
    Touched.objects.filter(pk__in=Touched.objects.values("pk")).update(name="y")
    Touched.objects.filter(name="y").delete()
    call_command("audit_replay", "--check", verbosity=0)
    assert bool(used) is not is_disabled
