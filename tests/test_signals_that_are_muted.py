"""Signals of models that somebody mutes around a write: it is recorded and notified of all the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import DatabaseError, transaction
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save

from django_signal_audit.exceptions import EventNotWritten
from django_signal_audit.models import AuditEvent, Notification

from .app.models import Category, Place, Product, Restaurant, Tag
from .conftest import Audit, trail

SIGNALS = {"pre_save": pre_save, "post_save": post_save, "pre_delete": pre_delete, "post_delete": post_delete}
RULE = {"name": "all", "model": "app.*", "notify": ["log"]}
CHANNELS = {"log": {"BACKEND": "django_signal_audit.channels.log.LogChannel"}}
EVERY = [["post_save"], ["pre_save"], ["pre_save", "post_save"], ["pre_delete"], ["post_delete"], list(SIGNALS)]


@contextmanager
def muted(names: Sequence[str]) -> Iterator[None]:
    """Take the receivers away, as helpers of tests do."""
    before = {name: SIGNALS[name].receivers for name in names}
    for name in names:
        SIGNALS[name].receivers = []
        SIGNALS[name].sender_receivers_cache.clear()
    try:
        yield
    finally:
        for name, receivers in before.items():
            SIGNALS[name].receivers = receivers
            SIGNALS[name].sender_receivers_cache.clear()


@contextmanager
def silenced(names: Sequence[str]) -> Iterator[None]:
    """Have the signals send nothing, as others do."""
    sends = [(SIGNALS[name], SIGNALS[name].send) for name in names]
    for signal, _ in sends:
        signal.send = lambda *_, **__: []  # type: ignore[method-assign]
    try:
        yield
    finally:
        for signal, send in sends:
            signal.send = send  # type: ignore[method-assign]


@pytest.fixture(params=[muted, silenced])
def mute(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.django_db
@pytest.mark.parametrize("capture_queries", [True, False])
@pytest.mark.parametrize("names", EVERY, ids="+".join)
def test_saves_with_muted_signals_are_recorded(
    audit: Audit, mute: Any, names: list[str], capture_queries: bool
) -> None:
    audit(RULE, CHANNELS=CHANNELS, CAPTURE_QUERIES=capture_queries)
    with mute(names):
        tag = Tag.objects.create(name="a")
        tag.name = "b"
        tag.save()
        tag.save(update_fields=["name"])
        child = Restaurant.objects.create(name="x", stars=1)
        child.stars = 2
        child.save()
        Product.objects.update_or_create(slug="p", defaults={"name": "p"})
    assert trail(source="orm", model="app.tag") == [("create", {"name": [None, "a"]}), ("update", {"name": ["a", "b"]})]
    assert [changes["stars"] for _, changes in trail(model="app.restaurant")] == [[None, 1], [1, 2]]
    assert [kind for kind, _ in trail(model="app.product")] == ["create"]
    assert set(Notification.objects.values_list("event", flat=True)) == set(
        AuditEvent.objects.values_list("uid", flat=True)
    )


@pytest.mark.django_db
@pytest.mark.parametrize("names", EVERY, ids="+".join)
def test_deletions_with_muted_signals_are_recorded(audit: Audit, mute: Any, names: list[str]) -> None:
    tag, other = Tag.objects.create(name="a"), Tag.objects.create(name="b")
    place = Place.objects.create(name="p")
    place.tags.set([tag, other])
    category = Category.objects.create(name="c")
    product = Product.objects.create(name="x", slug="x", category=category)
    audit(RULE, CHANNELS=CHANNELS)
    with mute(names):
        tag_pk, place_pk, category_pk = tag.pk, place.pk, category.pk
        tag.delete()
        place.delete()
        Tag.objects.all().delete()
        category.delete()
    assert trail(source="orm", event_type="delete", model="app.tag", object_id=str(tag_pk)) == [
        ("delete", {"name": ["a", None]})
    ]
    assert trail(source="bulk", model="app.tag") == [("delete", {"name": ["b", None]})]
    assert trail(source="orm", model="app.place", event_type="delete") == [
        ("delete", {"name": ["p", None], "tags": {"added": [], "removed": [other.pk]}})
    ]
    assert trail(model="app.place", event_type="m2m", object_id=str(place_pk)) == [
        ("m2m", {"tags": {"added": [], "removed": [tag_pk]}})
    ]
    assert trail(source="cascade", model="app.product", object_id=str(product.pk)) == [
        ("update", {"category": [category_pk, None]})
    ]
    assert Notification.objects.count() == 4  # one for each call


@pytest.mark.django_db
def test_m2m_changes_with_muted_signals_are_recorded(audit: Audit) -> None:
    tag, place = Tag.objects.create(name="a"), Place.objects.create(name="p")
    audit()
    before, m2m_changed.receivers = m2m_changed.receivers, []
    try:
        place.tags.set([tag])
        tag.places.clear()
    finally:
        m2m_changed.receivers = before
    assert trail() == [
        ("m2m", {"tags": {"added": [tag.pk], "removed": []}}),
        ("m2m", {"tags": {"added": [], "removed": [tag.pk]}}),
    ]


@pytest.mark.django_db(transaction=True)
def test_the_event_commits_with_the_save(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    audit(RULE, CHANNELS=CHANNELS)
    tag = Tag.objects.create(name="a")

    def fail(*_: Any, **__: Any) -> None:
        raise DatabaseError

    monkeypatch.setattr("django_signal_audit.delivery.outbox.enqueue", fail)
    tag.name = "b"
    with muted(["post_save", "pre_save"]), pytest.raises(EventNotWritten):
        tag.save()
    with muted(["post_save"]), pytest.raises(EventNotWritten), transaction.atomic():
        Restaurant.objects.create(name="x")
    assert Tag.objects.get().name == "a"
    assert not Restaurant.objects.exists()
    assert len(trail()) == 1


@pytest.mark.django_db
def test_what_a_failed_save_leaves_of_the_instance_is_what_django_leaves(
    audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit()
    tag = Tag(name="a")

    def fail(*_: Any, **__: Any) -> None:
        raise DatabaseError

    monkeypatch.setattr("django_signal_audit.recorder._insert", fail)
    monkeypatch.setattr("django_signal_audit.recorder.match_change", fail)
    with pytest.raises(Exception), transaction.atomic():  # noqa: B017, PT011
        tag.save()
    assert tag._state.adding
    assert tag._state.db is None


@pytest.mark.django_db
def test_models_that_nobody_watches_are_let_be(audit: Audit) -> None:
    audit({"name": "tags", "model": "app.Tag"})
    with muted(list(SIGNALS)):
        Category.objects.create(name="a").delete()
    assert trail() == []
