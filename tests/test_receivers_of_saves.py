"""The receivers of pre_save and post_save: to whom they are connected, what they decide, and when they go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import models
from django.db.models.signals import ModelSignal, post_delete, post_save, pre_delete, pre_save
from django.test import override_settings

from .app.models import CheapProduct, Hidden, Kiosk, Pizzeria, Place, Product, Restaurant, Tag, Unaudited
from .conftest import Audit, events, trail

pytestmark = pytest.mark.django_db

OF_SAVES = [pre_save, post_save]
OF_DELETES = [pre_delete, post_delete]
both = pytest.mark.parametrize("capture_queries", [True, False])


@contextmanager
def receiving(signal: ModelSignal, receiver: Any, sender: type[models.Model]) -> Iterator[None]:
    signal.connect(receiver, sender=sender)
    try:
        yield
    finally:
        signal.disconnect(receiver, sender=sender)


@both
def test_they_are_connected_to_what_rules_name(audit: Audit, capture_queries: bool) -> None:
    audit({"name": "p", "model": "app.Product"}, {"name": "u", "model": "auth.User"}, CAPTURE_QUERIES=capture_queries)
    # Without a receiver of deletions Django need not load the rows.
    for signal in OF_SAVES if capture_queries else (*OF_SAVES, *OF_DELETES):
        assert signal.has_listeners(Product)
        assert signal.has_listeners(CheapProduct)
        assert signal.has_listeners(User)
        assert not signal.has_listeners(Unaudited)
        assert not signal.has_listeners(Session)
        assert not signal.has_listeners(Product.tags.through)


@both
def test_children_without_a_rule_have_those_of_saves_only(audit: Audit, capture_queries: bool) -> None:
    audit({"name": "p", "model": "app.Place"}, CAPTURE_QUERIES=capture_queries)
    for child in (Restaurant, Pizzeria, Kiosk):
        # Django sends no pre_save for a child's parent, but a pre_delete.
        assert all(signal.has_listeners(child) for signal in OF_SAVES)
        assert not any(signal.has_listeners(child) for signal in OF_DELETES)


@both
@pytest.mark.parametrize(
    ("kinds", "connected"),
    [
        (["create"], OF_SAVES),
        (["update"], OF_SAVES),
        (["delete"], OF_DELETES),
        (["m2m"], []),
        (["create", "update", "delete", "m2m"], [*OF_SAVES, *OF_DELETES]),
    ],
)
def test_only_those_are_connected_that_rules_have_use_for(
    audit: Audit, kinds: list[str], connected: list[ModelSignal], capture_queries: bool
) -> None:
    audit({"name": "p", "model": "app.Product", "events": kinds}, CAPTURE_QUERIES=capture_queries)
    if capture_queries:
        connected = [signal for signal in connected if signal in OF_SAVES]
    assert [signal for signal in (*OF_SAVES, *OF_DELETES) if signal.has_listeners(Product)] == connected


@both
def test_they_go_with_the_rules(audit: Audit, capture_queries: bool) -> None:
    counts = [len(signal.receivers) for signal in (*OF_SAVES, *OF_DELETES)]
    with override_settings(SIGNAL_AUDIT={"RULES": [{"name": "h", "model": "app.Hidden"}]}):
        assert pre_save.has_listeners(Hidden)
    assert not pre_save.has_listeners(Hidden)
    audit({"name": "h", "model": "app.Hidden"}, CAPTURE_QUERIES=capture_queries)
    assert pre_save.has_listeners(Hidden)
    audit({"name": "t", "model": "app.Tag"}, CAPTURE_QUERIES=capture_queries)
    assert not any(signal.has_listeners(Hidden) for signal in (*OF_SAVES, *OF_DELETES))
    audit({"name": "l", "events": ["login"]}, CAPTURE_QUERIES=capture_queries)
    assert [len(signal.receivers) for signal in (*OF_SAVES, *OF_DELETES)] == counts


@both
def test_each_is_connected_once(audit: Audit, capture_queries: bool) -> None:
    audit({"name": "p", "model": "app.Place"}, {"name": "all", "model": "app.*"}, CAPTURE_QUERIES=capture_queries)
    ours = [
        receiver.__name__
        for signal in OF_SAVES
        for receiver in signal._live_receivers(Pizzeria)[0]
        if receiver.__module__.startswith("django_signal_audit.")
    ]
    assert ours == ["on_pre_save", "on_post_save"]


@both
def test_a_save_of_fields_that_no_rule_watches_costs_nothing(
    audit: Audit, django_assert_num_queries: Any, capture_queries: bool
) -> None:
    product = Product.objects.create(name="a")
    audit({"name": "p", "model": "app.Product", "fields": ["name"]}, CAPTURE_QUERIES=capture_queries)
    product.stock = 2
    with django_assert_num_queries(1):
        product.save(update_fields=["stock"])
    assert trail() == []


@both
@pytest.mark.parametrize("kind", [Restaurant, Pizzeria])
def test_a_child_without_a_rule_saves_a_field_of_its_own(
    audit: Audit, kind: type[Restaurant], capture_queries: bool
) -> None:
    child = kind.objects.create(name="a")
    audit({"name": "p", "model": "app.Place"}, CAPTURE_QUERIES=capture_queries)
    child.stars, child.name = 2, "b"
    child.save(update_fields=["stars"])
    assert trail() == []
    child.save(update_fields=["name", "stars"])
    assert trail() == [("update", {"name": ["a", "b"]})]
    deferred = kind.objects.only("stars").get()
    deferred.stars = 3
    deferred.save()
    assert len(events()) == 1


@both
def test_a_rule_on_updates_decides_of_creations_too(audit: Audit, capture_queries: bool) -> None:
    audit({"name": "p", "model": "app.Product", "events": ["update"]}, CAPTURE_QUERIES=capture_queries)
    product = Product.objects.create(name="a")
    product.stock = 1
    product.save()
    assert [kind for kind, _ in trail()] == ["update"]


@both
def test_what_a_receiver_changes_after_the_decision_is_recorded(audit: Audit, capture_queries: bool) -> None:
    audit({"name": "t", "model": "app.Tag"}, CAPTURE_QUERIES=capture_queries)
    tag, other = Tag.objects.create(name="a"), Tag.objects.create(name="b")

    def turn(instance: Tag, **_: Any) -> None:
        instance.pk, instance.name = other.pk, "c"

    with receiving(pre_save, turn, Tag):
        tag.save()
    assert events()[-1].object_id == str(other.pk)
    assert trail()[-1] == ("update", {"name": ["b", "c"]})


@both
def test_a_receiver_of_post_save_writes_the_table_by_itself(audit: Audit, capture_queries: bool) -> None:
    audit({"name": "t", "model": "app.Tag"}, CAPTURE_QUERIES=capture_queries)

    def again(instance: Tag, using: str, **_: Any) -> None:
        if instance.name == "a":
            instance.name = "b"
            instance.save_base(using=using, update_fields=["name"])
        elif instance.name == "b":
            instance.name = "c"
            instance._save_table(cls=Tag, using=using, force_update=True)  # type: ignore[attr-defined]

    with receiving(post_save, again, Tag):
        Tag.objects.create(name="a")
    expected = [("create", {"name": [None, "a"]}), ("update", {"name": ["a", "b"]}), ("update", {"name": ["b", "c"]})]
    assert trail() == (expected if capture_queries else expected[:2])


def test_an_update_in_a_receiver_of_post_save_is_no_save(audit: Audit) -> None:
    audit({"name": "t", "model": "app.Tag"})

    def again(instance: Tag, **_: Any) -> None:
        models.QuerySet(Tag).filter(pk=instance.pk).update(name="b")

    with receiving(post_save, again, Tag):
        Tag.objects.create(name="a")
    assert [event.source for event in events()] == ["orm", "bulk"]
    assert trail()[-1] == ("update", {"name": ["a", "b"]})


@both
def test_creations_alone_are_watched_of_the_parent_of_a_child_without_a_rule(
    audit: Audit, capture_queries: bool
) -> None:
    audit({"name": "p", "model": "app.Place", "events": ["create"]}, CAPTURE_QUERIES=capture_queries)
    child = Restaurant.objects.create(name="a")
    child.name = "b"
    child.save()
    child.save(update_fields=["name"])
    Restaurant(pk=child.pk, id=child.pk, name="c").save()
    assert trail() == [("create", {"name": [None, "a"]})]
    Restaurant(pk=child.pk + 5, id=child.pk + 5, name="d").save()
    assert trail()[1:] == [("create", {"name": [None, "d"]})]


@both
@pytest.mark.usefixtures("other_methods")
def test_creations_alone_are_watched_of_the_parent_of_a_child_that_saves_in_its_own_way(
    audit: Audit, capture_queries: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_table(self: Restaurant, *args: Any, **kwargs: Any) -> Any:
        return models.Model._save_table(self, *args, **kwargs)  # type: ignore[attr-defined]

    monkeypatch.setattr(Restaurant, "_save_table", save_table, raising=False)
    audit({"name": "p", "model": "app.Place", "events": ["create"]}, CAPTURE_QUERIES=capture_queries)
    first = Restaurant.objects.create(name="a")
    child = Restaurant(pk=first.pk + 5, id=first.pk + 5, name="b")
    child.save()
    child.save(update_fields=["name"])
    child.save()
    assert trail() == [("create", {"name": [None, "a"]}), ("create", {"name": [None, "b"]})]


@both
def test_a_raw_save_of_a_child_without_a_rule_does_not_write_its_parent(audit: Audit, capture_queries: bool) -> None:
    place = Place.objects.create(name="a")
    audit({"name": "p", "model": "app.Place"}, CAPTURE_QUERIES=capture_queries)
    Restaurant(place_ptr_id=place.pk, stars=2).save_base(raw=True)
    Restaurant(place_ptr_id=place.pk, stars=3).save_base(raw=True)
    assert (Place.objects.get().name, Restaurant.objects.get().stars) == ("a", 3)
    assert trail() == []
