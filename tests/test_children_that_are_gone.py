"""Saves of multi-table instances whose child's row is gone, or going: the event names the row that was written."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, connections, models, transaction

from django_signal_audit.models import AuditEvent

from .app.models import Kiosk, Pizzeria, Place, Restaurant
from .conftest import Audit, events, trail

Stale = Callable[[Any], None]


def _delete_row(row: models.Model) -> None:
    row.delete(keep_parents=True)


def _delete_raw(row: models.Model) -> None:
    rows: Any = models.QuerySet(type(row)).filter(pk=row.pk)
    rows._raw_delete("default")


@pytest.mark.django_db
@pytest.mark.parametrize("delete", [_delete_row, _delete_raw])
@pytest.mark.parametrize("fields", [["name"], {"name"}])
def test_a_stale_child_saves_a_field_of_its_parent(audit: Audit, delete: Stale, fields: Any) -> None:
    audit()
    child = Restaurant.objects.create(name="a", stars=1)
    stale = Restaurant.objects.get(pk=child.pk)
    delete(child)
    stale.name = "b"
    stale.save(update_fields=fields)
    event = AuditEvent.objects.latest("id")
    assert (event.model, event.event_type, event.changes) == ("app.place", "update", {"name": ["a", "b"]})
    assert event.object_id == str(stale.pk)
    assert event.object_repr == "b"
    assert AuditEvent.objects.state_of(Restaurant, stale.pk) is None
    assert (AuditEvent.objects.state_of(Place, stale.pk) or {})["name"] == "b"
    call_command("audit_replay", "--check", stdout=StringIO())


@pytest.mark.django_db
def test_a_stale_grandchild_saves_a_field_of_its_grandparent(audit: Audit) -> None:
    audit()
    child = Pizzeria.objects.create(name="a", stars=1)
    stale = Pizzeria.objects.get(pk=child.pk)
    child.delete(keep_parents=True)
    stale.name = "b"
    stale.save(update_fields=["name"])
    event = AuditEvent.objects.latest("id")
    assert (event.model, event.event_type, event.changes) == ("app.restaurant", "update", {"name": ["a", "b"]})
    restaurant = Restaurant.objects.get()
    restaurant.delete(keep_parents=True)
    stale.name = "c"
    stale.save(update_fields=["name"])
    event = AuditEvent.objects.latest("id")
    assert (event.model, event.event_type, event.changes) == ("app.place", "update", {"name": ["b", "c"]})
    call_command("audit_replay", "--check", stdout=StringIO())


@pytest.mark.django_db
def test_a_stale_child_with_a_key_of_its_own_saves_a_field_of_its_parent(audit: Audit) -> None:
    audit()
    child = Kiosk.objects.create(name="a", goods="x")
    stale = Kiosk.objects.get(pk=child.pk)
    child.delete(keep_parents=True)
    stale.name = "b"
    stale.save(update_fields=["name"])
    event = AuditEvent.objects.latest("id")
    assert (event.model, event.object_id, event.changes) == ("app.place", str(stale.place_id), {"name": ["a", "b"]})


@pytest.mark.django_db
def test_a_stale_child_whose_own_rule_watches_nothing_of_its_parent(audit: Audit) -> None:
    child = Restaurant.objects.create(name="a", stars=1)
    stale = Restaurant.objects.get(pk=child.pk)
    audit(
        {"name": "places", "model": "app.Place", "events": ["update"]},
        {"name": "stars", "model": "app.Restaurant", "fields": ["stars"], "events": ["update"]},
    )
    child.delete(keep_parents=True)
    stale.name = "b"
    stale.save(update_fields=["name"])
    (event,) = events(event_type="update")
    assert (event.model, event.changes) == ("app.place", {"name": ["a", "b"]})


@pytest.mark.django_db
def test_a_stale_child_of_a_parent_that_nobody_watches(audit: Audit) -> None:
    audit({"name": "restaurants", "model": "app.Restaurant"})
    child = Restaurant.objects.create(name="a", stars=1)
    stale = Restaurant.objects.get(pk=child.pk)
    child.delete(keep_parents=True)
    stale.name = "b"
    stale.save(update_fields=["name"])
    assert [kind for kind, _ in trail()] == ["create", "delete"]


@pytest.mark.django_db
def test_a_stale_child_is_saved_as_a_whole(audit: Audit) -> None:
    audit()
    child = Restaurant.objects.create(name="a", stars=1)
    stale = Restaurant.objects.get(pk=child.pk)
    child.delete(keep_parents=True)
    stale.name = "b"
    stale.save()
    event = AuditEvent.objects.latest("id")
    assert (event.model, event.event_type) == ("app.restaurant", "create")
    assert event.changes["name"] == [None, "b"]
    call_command("audit_replay", "--check", stdout=StringIO())


@pytest.mark.django_db
def test_a_child_that_names_its_parent_by_the_inherited_key(audit: Audit) -> None:
    audit()
    one, two = Restaurant.objects.create(name="a", stars=1), Restaurant.objects.create(name="b", stars=2)
    built = Restaurant(name="c", stars=3)
    built.id = two.pk  # Django takes the link from it
    built.save()
    event = AuditEvent.objects.latest("id")
    assert (event.object_id, event.changes) == (str(two.pk), {"name": ["b", "c"], "stars": [2, 3]})
    built = Restaurant.objects.get(pk=two.pk)
    built.id, built.name = one.pk, "d"
    built.save()
    event = AuditEvent.objects.latest("id")
    assert (event.object_id, event.changes) == (str(one.pk), {"name": ["a", "d"], "stars": [1, 3]})
    call_command("audit_replay", "--check", stdout=StringIO())


servers_only = pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer")


@contextmanager
def _in_a_thread(work: Callable[[], None]) -> Iterator[None]:
    """Run something on a connection of its own beside a block, to its end; what it raises is raised."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if errors:
        raise errors[0]


@servers_only
@pytest.mark.slow
@pytest.mark.server
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("keep_parents", [True, False])
@pytest.mark.parametrize("model", [Restaurant, Pizzeria])
def test_a_parent_is_saved_while_its_childs_row_is_being_deleted(
    audit: Audit, keep_parents: bool, model: type[Restaurant]
) -> None:
    audit()
    child = model.objects.create(name="a", stars=1)
    pk = child.pk
    parent = Place.objects.get(pk=pk)
    parent.name = "b"
    deleted, waited = threading.Event(), threading.Event()

    def delete() -> None:
        with transaction.atomic():
            child.delete(keep_parents=keep_parents)
            deleted.set()
            assert waited.wait(10)

    def save() -> None:
        assert deleted.wait(10)
        threading.Timer(0.5, waited.set).start()
        parent.save()

    with _in_a_thread(save):
        delete()
    assert Place.objects.get(pk=pk).name == "b"
    newest = AuditEvent.objects.filter(object_id=str(pk)).latest("id")
    nearest = "app.restaurant" if keep_parents and model is Pizzeria else "app.place"
    kind = "update" if keep_parents else "create"
    old = "a" if keep_parents else None
    assert (newest.model, newest.event_type, newest.changes) == (nearest, kind, {"name": [old, "b"]})
    call_command("audit_replay", "--check", stdout=StringIO())
