"""Multi-table children: whatever writes a part of the row, its events are under the most derived ruled model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core import serializers
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from django_signal_audit.capture.inheritance import owners_of
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.replay import Replay
from django_signal_audit.rules.registry import get_registry

from .app.models import Club, Kiosk, Pizzeria, Place, Restaurant, Tag, Venue
from .columns.models import KINDS_OF_PAGES, Page
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


def kiosk_of(place: Place) -> Kiosk:
    """Return the child that now extends a place which had a history of its own."""
    kiosk = Kiosk(place=place, name=place.name, goods="news")
    kiosk.save()
    return kiosk


def a_fixtures_kiosk(place: Place) -> Kiosk:
    load(Kiosk, 77, place=place.pk, goods="news")
    return Kiosk.objects.get(pk=77)


EXTENSIONS = pytest.mark.parametrize("extend", [kiosk_of, a_fixtures_kiosk])


@EXTENSIONS
def test_a_parents_history_ends_when_a_child_with_another_key_extends_its_row(
    audit: Audit, extend: Callable[..., Kiosk]
) -> None:
    audit()
    tag = Tag.objects.create(name="t")
    place = Place.objects.create(name="a")
    place.tags.add(tag)
    kiosk = extend(place)
    ends = [event for event in events() if event.event_type == "extended"]
    assert [(event.model, event.object_id, event.changes) for event in ends] == [("app.place", str(place.pk), {})]
    assert ends[0].data == {"child": {"model": "app.kiosk", "object_id": str(kiosk.pk)}}
    assert not Notification.objects.filter(event=ends[0].uid).exists()
    assert replays()

    kiosk.name = "b"
    kiosk.save()
    Place.objects.filter(pk=place.pk).update(name="c")
    assert [event.event_type for event in events() if event.model == "app.place"][-1] == "extended"
    assert AuditEvent.objects.state_of(Place, place.pk) == {"name": "c", "tags": [tag.pk]}
    assert replays()


@EXTENSIONS
@pytest.mark.parametrize(
    "delete", [lambda kiosk: kiosk.delete(), lambda kiosk: Place.objects.filter(pk=kiosk.place_id).delete()]
)
def test_a_parents_row_that_went_with_a_child_of_another_key(
    audit: Audit, extend: Callable[..., Kiosk], delete: Callable[[Kiosk], object]
) -> None:
    audit()
    place = Place.objects.create(name="a")
    delete(extend(place))
    assert AuditEvent.objects.state_of(Place, place.pk) is None
    assert replays()
    again = Place.objects.create(pk=place.pk, name="again")
    assert AuditEvent.objects.state_of(Place, again.pk) == {"name": "again"}


@EXTENSIONS
def test_a_parents_row_outlives_a_child_of_another_key_and_its_history_begins_anew(
    audit: Audit, extend: Callable[..., Kiosk]
) -> None:
    audit()
    place = Place.objects.create(name="a")
    place.tags.add(Tag.objects.create(name="t"))
    kiosk = extend(place)
    kiosk.name = "b"
    kiosk.save()
    kiosk.delete(keep_parents=True)
    own = [event.event_type for event in events() if event.model == "app.place"]
    assert own == ["create", "m2m", "extended", "baseline"]
    assert AuditEvent.objects.state_of(Place, place.pk) == {
        "name": "b",
        "tags": list(place.tags.values_list("pk", flat=True)),
    }
    extend(place)
    assert [event.event_type for event in events() if event.model == "app.place"][-1] == "extended"
    assert replays()


def test_a_place_and_a_venue_become_a_club(audit: Audit) -> None:
    audit()
    Place.objects.create(name="another")
    place, venue = Place.objects.create(name="a"), Venue.objects.create(seats=5)
    assert place.pk != venue.pk
    Club(place_ptr=place, venue_ptr=venue, id=place.pk, venue_id=venue.pk, name="a", seats=6).save()
    assert [event.event_type for event in events() if event.model == "app.venue"] == ["create", "extended"]
    assert "extended" not in [event.event_type for event in events() if event.model == "app.place"]
    assert AuditEvent.objects.state_of(Venue, venue.pk) == {"seats": 6}
    assert AuditEvent.objects.state_of(Place, place.pk) == {"name": "a"}
    assert replays()


def test_the_state_of_a_parents_row_that_came_with_a_child_of_another_key(audit: Audit) -> None:
    audit()
    kiosk = Kiosk.objects.create(name="a", goods="x")
    assert [event.model for event in events()] == ["app.kiosk"]
    assert AuditEvent.objects.state_of(Place, kiosk.place_id) == {"name": "a"}
    assert AuditEvent.objects.state_of(Place, "no key") is None


def by_queryset(kiosk: Kiosk, place: Place) -> None:
    Kiosk.objects.filter(pk=kiosk.pk).update(place=place)


def by_save(kiosk: Kiosk, place: Place) -> None:
    moving = Kiosk.objects.get(pk=kiosk.pk)
    moving.place, moving.id, moving.name = place, place.pk, place.name
    moving.save()


def by_save_of_the_link(kiosk: Kiosk, place: Place) -> None:
    moving = Kiosk.objects.get(pk=kiosk.pk)
    moving.place, moving.id = place, place.pk
    moving.save(update_fields=["place"])


def by_bulk_update(kiosk: Kiosk, place: Place) -> None:
    Kiosk.objects.bulk_update([Kiosk(number=kiosk.pk, place=place)], ["place"])


@pytest.mark.parametrize("move", [by_queryset, by_save, by_save_of_the_link, by_bulk_update])
@pytest.mark.parametrize("name", ["p", "q"])
def test_a_child_with_another_key_moves_to_another_parents_row(
    audit: Audit, move: Callable[[Kiosk, Place], None], name: str
) -> None:
    audit()
    one, two = (Tag.objects.create(name=tag) for tag in "ab")
    left, taken = Place.objects.create(name="p"), Place.objects.create(name=name)
    left.tags.add(one)
    taken.tags.add(two)
    kiosk = kiosk_of(left)
    move(kiosk, taken)
    changes = [event.changes for event in events() if event.model == "app.kiosk"][-1]
    named = {} if name == "p" else {"name": ["p", "q"]}
    assert changes == {**named, "tags": {"added": [two.pk], "removed": [one.pk]}}
    types = [(event.object_id, event.event_type) for event in events() if event.model == "app.place"][-2:]
    assert types == [(str(left.pk), "baseline"), (str(taken.pk), "extended")]
    assert AuditEvent.objects.state_of(Place, left.pk) == {"name": "p", "tags": [one.pk]}
    assert AuditEvent.objects.state_of(Kiosk, kiosk.pk) == {"name": name, "goods": "news", "tags": [two.pk]}
    assert replays()


def rules_for_pages(number: int) -> list[dict[str, Any]]:
    models = [Page, *KINDS_OF_PAGES[:number]]
    return [{"name": model.__name__, "model": model._meta.label} for model in models]


def test_a_write_to_a_parent_takes_as_many_queries_however_many_children_there_are(audit: Audit) -> None:
    KINDS_OF_PAGES[1].objects.create(title="other")
    page, child = Page.objects.create(title="a"), KINDS_OF_PAGES[0].objects.create(title="b")
    counts = []
    # The first round asks for what is not known of the tables yet.
    for number in (2, 12, 2, 12):
        audit(*rules_for_pages(number))
        start = len(events())
        for write in (
            lambda: Page.objects.filter(pk__in=[page.pk, child.pk]).update(visits=F("visits") + 1),
            lambda: Page.objects.filter(title="nobody").update(visits=2),
            lambda: Page.objects.get(pk=page.pk).save(),
            lambda: Page(pk=child.pk, title="b", visits=50).save(update_fields=["visits"]),
            lambda: KINDS_OF_PAGES[0].objects.get(pk=child.pk).save(),
        ):
            with CaptureQueriesContext(connection) as queries:
                write()
            counts.append(len(queries))
        assert [(model, kind) for model, _, kind, _ in since(start)] == [
            ("columns.page0", "update"),
            ("columns.page", "update"),
            ("columns.page0", "update"),
        ]
    assert counts[-5:] == counts[-10:-5]


@pytest.mark.parametrize("condition", [{"pk__in": []}, {"title__in": []}, {"pk": 0}])
def test_an_update_of_no_row_of_a_parent(audit: Audit, condition: dict[str, Any]) -> None:
    audit(*rules_for_pages(12))
    KINDS_OF_PAGES[0].objects.create(title="a")
    assert Page.objects.filter(**condition).update(visits=3) == 0
    assert len(events()) == 1


@pytest.mark.parametrize("number", [1, 12])
def test_nobody_owns_no_key(audit: Audit, number: int) -> None:
    audit(*rules_for_pages(number))
    page, child = Page.objects.create(title="a"), KINDS_OF_PAGES[0].objects.create(title="b")
    plan = get_registry().plans[Page]
    plans, target = (plan, *plan.descendants), Page._meta.pk
    assert owners_of(plans, target, [], "default") == {}
    found = owners_of(plans, target, [page.pk, child.pk, 0], "default")
    assert {key: owner.plan.model for key, owner in found.items() if key} == {
        page.pk: Page,
        child.pk: KINDS_OF_PAGES[0],
    }
