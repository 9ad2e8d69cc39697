"""Multi-table children: whatever writes a part of the row, its events are under the most derived ruled model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core import serializers
from django.db import connection
from django.db.models import F

from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.replay import Replay
from django_signal_audit.rules.registry import get_registry

from .app.models import Club, Kiosk, Pizzeria, Place, Restaurant, Tag, Venue
from .conftest import Audit, events
from .processes.stage import LOG

pytestmark = pytest.mark.django_db


def load(model: Any, pk: Any, **fields: Any) -> None:
    entry = {"model": model._meta.label_lower, "pk": pk, "fields": fields}
    for item in serializers.deserialize("python", [entry]):
        item.save()


def save(model: Any, pk: Any, **fields: Any) -> None:
    obj = model.objects.get(pk=pk)
    for name, value in fields.items():
        setattr(obj, name, value)
    obj.save()


def save_some(model: Any, pk: Any, **fields: Any) -> None:
    model(pk=pk, **fields).save(update_fields=list(fields))


def update(model: Any, pk: Any, **fields: Any) -> None:
    model.objects.filter(pk=pk).update(**fields)


def bulk_update(model: Any, pk: Any, **fields: Any) -> None:
    model.objects.bulk_update([model(pk=pk, **fields)], list(fields))


WRITES = pytest.mark.parametrize("write", [load, save, save_some, update, bulk_update])


def since(start: int) -> list[Any]:
    return [(event.model, event.object_id, event.event_type, event.changes) for event in events()[start:]]


@WRITES
def test_a_part_of_a_childs_row(audit: Audit, write: Callable[..., None]) -> None:
    audit()
    Place.objects.create(name="a place of no child")
    Venue.objects.bulk_create([Venue(seats=1)] * 3)
    club, kiosk, pizzeria = (model.objects.create(name="old") for model in (Club, Kiosk, Pizzeria))
    start = len(events())
    write(Venue, club.venue_id, seats=2)
    write(Place, club.pk, name="new")
    write(Place, kiosk.place_id, name="new")
    write(Restaurant, pizzeria.pk, stars=3)
    write(Place, pizzeria.pk, name="new")
    name = {"name": ["old", "new"]}
    assert since(start) == [
        ("app.club", str(club.pk), "update", {"seats": [0, 2]}),
        ("app.club", str(club.pk), "update", name),
        ("app.kiosk", str(kiosk.pk), "update", name),
        ("app.pizzeria", str(pizzeria.pk), "update", {"stars": [0, 3]}),
        ("app.pizzeria", str(pizzeria.pk), "update", name),
    ]
    assert [event.object_repr for event in events()[start + 1 :]] == ["new", "new", "old", "new"]


def test_an_update_of_parents_with_and_without_children(audit: Audit) -> None:
    audit()
    # A key that means one row in the one table and another in the other.
    club = Club.objects.create(id=1000, venue_id=2000, name="b")
    venue = Venue.objects.create(venue_id=1000)
    start = len(events())
    Venue.objects.update(seats=F("seats") + 1)
    assert sorted(since(start)) == [
        ("app.club", str(club.pk), "update", {"seats": [0, 1]}),
        ("app.venue", str(venue.pk), "update", {"seats": [0, 1]}),
    ]


def test_the_recorded_state_of_a_parents_part(audit: Audit) -> None:
    audit()
    pizzeria = Pizzeria.objects.create(name="old", stars=1)
    Place.objects.filter(pk=pizzeria.pk).update(name="new")
    state_of = AuditEvent.objects.state_of
    assert state_of(Pizzeria, pizzeria.pk) == {"name": "new", "stars": 1, "oven": "wood"}
    assert state_of(Restaurant, pizzeria.pk) == {"name": "new", "stars": 1}
    assert state_of(Place, pizzeria.pk) == {"name": "new"}
    Pizzeria.objects.all().delete()
    assert state_of(Place, pizzeria.pk) is None


def replays() -> bool:
    return not list(Replay(get_registry().plans.values(), "default").differences())


def test_a_parents_row_becomes_a_childs_and_is_its_own_again(audit: Audit) -> None:
    audit()
    tag = Tag.objects.create(name="t")
    place = Place.objects.create(name="old")
    place.tags.add(tag)
    start = len(events())
    Restaurant(place_ptr_id=place.pk, name="new", stars=2).save()
    assert replays()
    Restaurant.objects.get().delete(keep_parents=True)
    assert replays()
    Place.objects.update(name="last")
    pk, came, went = str(place.pk), {"added": [tag.pk], "removed": []}, {"added": [], "removed": [tag.pk]}
    assert since(start) == [
        ("app.restaurant", pk, "create", {"name": [None, "new"], "stars": [None, 2], "tags": came}),
        ("app.restaurant", pk, "delete", {"name": ["new", None], "stars": [2, None], "tags": went}),
        # Nothing happened to the place, so nobody is told of it.
        ("app.place", pk, "baseline", {"name": [None, "new"], "tags": came}),
        ("app.place", pk, "update", {"name": ["new", "last"]}),
    ]
    assert replays()
    assert AuditEvent.objects.state_of(Place, place.pk) == {"name": "last", "tags": [tag.pk]}
    assert AuditEvent.objects.state_of(Restaurant, place.pk) is None


def test_a_parents_row_extended_by_a_fixture(audit: Audit) -> None:
    audit()
    place, tag = Place.objects.create(name="a"), Tag.objects.create(name="t")
    place.tags.add(tag)
    Restaurant(place_ptr_id=place.pk).save_base(raw=True)
    assert events()[-1].changes == {
        "name": [None, "a"],
        "stars": [None, 0],
        "tags": {"added": [tag.pk], "removed": []},
    }
    assert replays()


@pytest.mark.parametrize("model", [Pizzeria, Restaurant])
def test_the_parents_that_are_kept_are_told_of_once(audit: Audit, model: Any) -> None:
    audit({"name": "all", "model": "app.*", "notify": ["log"]}, CHANNELS=LOG)
    pizzeria = Pizzeria.objects.create(name="a")
    start, told = len(events()), Notification.objects.count()
    model.objects.get(pk=pizzeria.pk).delete(keep_parents=True)
    left = "app.restaurant" if model is Pizzeria else "app.place"
    assert [(label, kind) for label, _, kind, _ in since(start)] == [("app.pizzeria", "delete"), (left, "baseline")]
    assert replays()
    assert Notification.objects.count() == told + 1


def test_a_childs_row_deleted_past_the_collector(audit: Audit) -> None:
    audit()
    club = Club.objects.create(name="a", seats=3)
    start = len(events())
    Club.objects.all()._raw_delete("default")
    assert since(start)[1:] == [
        ("app.place", str(club.pk), "baseline", {"name": [None, "a"]}),
        ("app.venue", str(club.venue_id), "baseline", {"seats": [None, 3]}),
    ]
    assert replays()


def test_an_upsert_of_a_parents_part(audit: Audit) -> None:
    audit()
    pizzeria = Pizzeria.objects.create(name="old")
    start = len(events())
    options: dict[str, Any] = {"update_conflicts": True, "update_fields": ["name"]}
    if connection.features.supports_update_conflicts_with_target:
        options["unique_fields"] = ["pk"]
    Place.objects.bulk_create([Place(pk=pizzeria.pk, name="new")], **options)
    assert since(start) == [("app.pizzeria", str(pizzeria.pk), "update", {"name": ["old", "new"]})]
    assert events()[-1].object_repr == "new"
