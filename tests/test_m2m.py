from __future__ import annotations

import pytest
from django.db import transaction

from django_signal_audit.models import AuditEvent

from .app.models import CheapProduct, Person, Place, Product, Restaurant, Seat, Tag, Team
from .conftest import Audit, events, last

pytestmark = pytest.mark.django_db

RULE = {"name": "members", "model": ["app.Product", "app.Person", "app.Place"], "events": ["m2m"]}


@pytest.fixture
def tags() -> list[Tag]:
    return [Tag.objects.create(name=name) for name in "abcd"]


def keys(*objects: object) -> list[int]:
    return sorted(item.pk for item in objects)


def moves() -> list[tuple[str, dict]]:
    return [(event.object_repr, event.changes) for event in events()]


def test_add_remove_clear(audit: Audit, tags: list[Tag]) -> None:
    audit(RULE)
    a, b, c, d = tags
    product = Product.objects.create(name="Oil")
    product.tags.add(a, b)
    product.tags.add(b)
    product.tags.remove(b, d)
    product.tags.add(c)
    product.tags.clear()
    product.tags.clear()
    assert moves() == [
        ("Oil", {"tags": {"added": keys(a, b), "removed": []}}),
        ("Oil", {"tags": {"added": [], "removed": keys(b)}}),
        ("Oil", {"tags": {"added": keys(c), "removed": []}}),
        ("Oil", {"tags": {"added": [], "removed": keys(a, c)}}),
    ]
    assert {event.event_type for event in events()} == {"m2m"}


@pytest.mark.parametrize("clear", [False, True])
def test_set_is_one_event_with_the_net_effect(audit: Audit, tags: list[Tag], clear: bool) -> None:
    audit(RULE)
    a, b, c, _ = tags
    product = Product.objects.create(name="Oil")
    product.tags.set([a, b])
    product.tags.set([b, c], clear=clear)
    product.tags.set([c, b], clear=clear)
    assert moves() == [
        ("Oil", {"tags": {"added": keys(a, b), "removed": []}}),
        ("Oil", {"tags": {"added": keys(c), "removed": keys(a)}}),
    ]
    assert AuditEvent.objects.state_of(Product, product.pk) == {"tags": keys(b, c)}


def test_the_reverse_side_is_recorded_on_the_owners(audit: Audit, tags: list[Tag]) -> None:
    audit(RULE)
    tag = tags[0]
    one, two = Product.objects.create(name="one"), Product.objects.create(name="two")
    tag.products.add(one, two)
    tag.products.remove(one)
    tag.products.set([one])
    tag.products.clear()
    tags_added, tags_removed = (
        {"tags": {"added": [tag.pk], "removed": []}},
        {"tags": {"added": [], "removed": [tag.pk]}},
    )
    assert moves() == [
        ("one", tags_added),
        ("two", tags_added),
        ("one", tags_removed),
        ("one", tags_added),
        ("two", tags_removed),
        ("one", tags_removed),
    ]
    assert {event.model for event in events()} == {"app.product"}


def test_create_through_the_manager(audit: Audit) -> None:
    audit(RULE)
    product = Product.objects.create(name="Oil")
    tag = product.tags.create(name="new")
    assert last().changes == {"tags": {"added": [tag.pk], "removed": []}}


def test_symmetrical_relations_have_two_owners(audit: Audit) -> None:
    audit(RULE)
    one, two = Person.objects.create(name="one"), Person.objects.create(name="two")
    one.friends.add(two)
    one.friends.add(two)
    two.friends.remove(one)
    one.friends.add(one)
    assert moves() == [
        ("one", {"friends": {"added": [two.pk], "removed": []}}),
        ("two", {"friends": {"added": [one.pk], "removed": []}}),
        ("one", {"friends": {"added": [], "removed": [two.pk]}}),
        ("two", {"friends": {"added": [], "removed": [one.pk]}}),
        ("one", {"friends": {"added": [one.pk], "removed": []}}),
    ]
    one.friends.set([two])
    one.friends.clear()
    for person in (one, two):
        assert AuditEvent.objects.state_of(Person, person.pk) == {"friends": []}


def test_relations_to_oneself_from_the_other_side(audit: Audit) -> None:
    audit(RULE)
    one, two = Person.objects.create(name="one"), Person.objects.create(name="two")
    two.followers.add(one)
    assert moves() == [("one", {"follows": {"added": [two.pk], "removed": []}})]


def test_hand_written_through_models_are_their_own_record(audit: Audit) -> None:
    audit({"name": "t", "model": ["app.Team", "app.Seat"]})
    team, person = Team.objects.create(name="t"), Person.objects.create(name="p")
    seat = Seat.objects.create(team=team, person=person)
    seat.delete()
    assert [(event.model, event.event_type) for event in events()] == [
        ("app.team", "create"),
        ("app.seat", "create"),
        ("app.seat", "delete"),
    ]


def test_inherited_and_proxy_owners(audit: Audit, tags: list[Tag]) -> None:
    audit(RULE, {"name": "r", "model": "app.Restaurant", "events": ["m2m"]})
    restaurant = Restaurant.objects.create(name="Luigi")
    restaurant.tags.add(tags[0])
    tags[1].places.add(restaurant)
    Place.objects.get(pk=restaurant.pk).tags.remove(tags[0])
    assert {event.model for event in events()} == {"app.restaurant"}
    assert len(events()) == 3
    CheapProduct.objects.create(name="cheap").tags.add(tags[0])
    assert last().model == "app.product"


def test_unwatched_m2m_fields_are_left_alone(audit: Audit, tags: list[Tag]) -> None:
    audit({"name": "p", "model": "app.Product", "fields": ["name"]})
    from django.db.models.signals import m2m_changed, pre_delete

    assert not m2m_changed.has_listeners(Product.tags.through)
    assert not pre_delete.has_listeners(Tag)
    Product.objects.create(name="Oil").tags.set(tags)
    assert [event.event_type for event in events()] == ["create"]


def test_set_is_let_be_when_rules_change(audit: Audit, tags: list[Tag]) -> None:
    audit(RULE)
    product = Product.objects.create(name="Oil")
    product.tags.set(tags)
    audit({"name": "p", "model": "app.Product", "fields": ["name"]})
    product.tags.set([])
    assert [event.event_type for event in events()] == ["m2m"]
    audit(RULE)
    product.tags.set(tags)
    assert len(events()) == 2


def test_a_failing_set_leaves_nothing(audit: Audit, tags: list[Tag]) -> None:
    audit(RULE)
    product = Product.objects.create(name="Oil")
    product.tags.set(tags[:2])
    with pytest.raises(ValueError, match="expected a number"), transaction.atomic():
        product.tags.set([tags[2].pk, "x"])
    assert len(events()) == 1
