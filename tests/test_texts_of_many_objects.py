"""A ``__str__`` that follows foreign keys costs a bulk call a fixed number of queries, however many rows it has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_signal_audit.models import AuditEvent

from .app.models import Category, Tag
from .columns.models import City, Flat, House, Weighty
from .conftest import Audit, events

pytestmark = pytest.mark.django_db

RULES = [{"name": "all", "model": "columns.*"}]


def flats(count: int) -> list[Flat]:
    """Return flats, each in a house of its own in a city of its own; every third one has no house."""
    cities = City.objects.bulk_create([City(name=f"city {number}") for number in range(count)])
    houses = House.objects.bulk_create([House(name=f"house {one.pk}", city=one) for one in cities])
    return [Flat(number=number, house=None if number % 3 == 0 else one) for number, one in enumerate(houses)]


def bulk_create(rows):
    Flat.objects.bulk_create(rows)


def update(rows):
    Flat.objects.update(size=5)


def bulk_update(rows):
    for row in rows:
        row.size = 7
    Flat.objects.bulk_update(rows, ["size"])


def delete(rows):
    Flat.objects.all().delete()


def delete_of_the_houses(rows):
    House.objects.all().delete()


def delete_of_the_cities(rows):
    City.objects.all().delete()


def add_to_a_tag(rows):
    Tag.objects.create(name="x").flats.add(*rows)


def upsert(rows):
    for row in rows:
        row.size = 9
    Flat.objects.bulk_create(rows, update_conflicts=True, update_fields=["size"], **UNIQUE)


def move_the_keys(rows):
    from django.db.models import F

    Flat.objects.update(id=F("id") + 10_000)


UNIQUE = {} if connection.vendor == "mysql" else {"unique_fields": ["id"]}


@pytest.mark.parametrize(
    "rule", [RULES[0], {"name": "if", "model": "columns.*", "when": "tests.columns.models.always"}]
)
@pytest.mark.parametrize(
    "write",
    [
        bulk_create,
        update,
        bulk_update,
        delete,
        delete_of_the_houses,
        delete_of_the_cities,
        add_to_a_tag,
        upsert,
        move_the_keys,
    ],
)
def test_the_queries_do_not_grow_with_the_rows(audit: Audit, write, rule) -> None:
    audit(rule)
    City.objects.create(name="the first write")
    counts = []
    for count in (10, 20):
        audit({"name": "none", "events": ["login"]})
        Flat.objects.all().delete()
        rows = flats(count)
        if write is not bulk_create:
            Flat.objects.bulk_create(rows)
        goes = write in (delete_of_the_houses, delete_of_the_cities)
        expected = {str(row) for row in rows if row.house or not goes}
        rows = rows if write is bulk_create else list(Flat.objects.all())
        audit(rule)
        known = set(events(model="columns.flat"))
        with CaptureQueriesContext(connection) as queries:
            write(rows)
        counts.append(len(queries))
        texts = {event.object_repr for event in events(model="columns.flat") if event not in known}
        # MariaDB cannot defer its constraints, so Django sets such a foreign key to NULL before the row goes.
        assert {text for text in texts if not goes or "in None" not in text} == expected
    assert counts[0] == counts[1], [one["sql"][:150] for one in queries]


def test_a_baseline_asks_a_fixed_number_of_queries(audit: Audit) -> None:
    counts = []
    for count in (10, 20):
        audit({"name": "none", "events": ["login"]})
        Flat.objects.bulk_create(flats(count))
        audit({"name": "all", "model": "columns.Flat"})
        with CaptureQueriesContext(connection) as queries:
            call_command("audit_baseline", verbosity=0)
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_the_objects_that_follow_nothing_cost_no_query(audit: Audit) -> None:
    audit()
    Category.objects.bulk_create([Category(name=str(number)) for number in range(3)])
    with CaptureQueriesContext(connection) as queries:
        Category.objects.update(name="x")
    assert not [one for one in queries if "IN (1, 2" in one["sql"] and "app_product" in one["sql"]]


def test_texts_that_fail(audit: Audit, monkeypatch) -> None:
    monkeypatch.setattr(Flat, "__str__", lambda self: self.house.name)
    audit(*RULES)
    rows = flats(4)
    Flat.objects.bulk_create(rows)
    expected = [row.house.name if row.house else "<Flat: __str__ raised AttributeError>" for row in rows]
    assert [event.object_repr for event in events(model="columns.flat")] == expected


class Hostile(str):
    """A text that fails whatever is asked of it."""

    def __len__(self) -> int:
        raise RuntimeError

    def __getitem__(self, item: Any) -> str:
        raise RuntimeError

    def encode(self, *_: Any) -> bytes:
        raise RuntimeError


def test_a_text_of_a_class_of_its_own(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    audit({"name": "all", "model": "columns.*"})
    monkeypatch.setattr(Flat, "__str__", lambda self: Hostile("a flat"))
    Flat.objects.bulk_create([Flat(number=1), Flat(number=2)])
    Flat.objects.create(number=3).delete()
    assert {event.object_repr for event in events()} == {"a flat"}


def by_property(self: Weighty) -> str:
    return self.both


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (Weighty.__str__, "a"),
        (lambda self: self.other, "other"),
        (lambda self: f"{self.name}, {self.other}", "a, other"),
        (by_property, "a and other"),
        (lambda self: getattr(self, "oth" + "er"), "other"),
        (lambda self: str(len(self.scan)), "3"),
    ],
)
def test_columns_that_nobody_audits_are_read_for_texts_alone(
    audit: Audit, monkeypatch: pytest.MonkeyPatch, text: Callable[[Weighty], str], expected: str
) -> None:
    monkeypatch.setattr(Weighty, "__str__", text)
    audit({"name": "w", "model": "columns.Weighty", "fields": ["number"]})
    for _ in range(2):
        Weighty.objects.bulk_create([Weighty(name="a", scan=b"abc"), Weighty(name="a", scan=b"abc")])
        with CaptureQueriesContext(connection) as queries:
            Weighty.objects.update(number=1)
            Weighty.objects.all().delete()
        if expected == "a":
            assert not [one for one in queries if "scan" in one["sql"] or "other" in one["sql"]]
    assert {(event.object_repr, event.event_type) for event in AuditEvent.objects.all()} == {
        (expected, "create"),
        (expected, "update"),
        (expected, "delete"),
    }
