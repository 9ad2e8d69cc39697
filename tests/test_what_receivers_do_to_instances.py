"""What receivers of the project do to the instance of a write: change it, its primary key too, pickle it, copy it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import StringIO
from typing import Any

import pytest
from django.core.cache import cache
from django.core.management import call_command
from django.db import models, transaction
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save

from .app.models import Country, Document, Place, Product, Restaurant, Tag
from .conftest import Audit, trail

pytestmark = pytest.mark.django_db
SIGNALS = [pre_save, post_save, pre_delete, post_delete, m2m_changed]


@contextmanager
def receiving(signal: Any, react: Callable[..., Any], sender: Any = None) -> Iterator[None]:
    signal.connect(react, sender=sender, weak=False)
    try:
        yield
    finally:
        signal.disconnect(react, sender=sender)


def replays() -> None:
    call_command("audit_replay", "--check", stdout=StringIO())


class TestPrimaryKeys:
    @pytest.mark.parametrize("is_first", [True, False])
    @pytest.mark.parametrize("capture_queries", [True, False])
    def test_of_another_row(self, audit: Audit, is_first: bool, capture_queries: bool) -> None:
        keys = {"CAPTURE_QUERIES": capture_queries}
        if not is_first:
            audit(**keys)
        one, two = Tag.objects.create(name="a"), Tag.objects.create(name="b")

        def turn(instance: Tag, **_: Any) -> None:
            instance.pk = two.pk

        with receiving(pre_save, turn, Tag):
            audit(**keys)
            before = len(trail())
            one.name = "c"
            one.save()
        assert trail(object_id=str(two.pk))[-1:] == [("update", {"name": ["b", "c"]})]
        assert len(trail()) == before + 1

    def test_of_a_row_that_is_new(self, audit: Audit) -> None:
        audit()
        one = Tag.objects.create(name="a")

        def turn(instance: Tag, **_: Any) -> None:
            instance.pk = 7_000

        with receiving(pre_save, turn, Tag):
            one.name = "c"
            one.save()
            Tag(name="d").save()
        assert trail(object_id="7000") == [("create", {"name": [None, "c"]}), ("update", {"name": ["c", "d"]})]
        replays()

    def test_that_makes_a_copy_of_an_update(self, audit: Audit) -> None:
        audit()
        one = Tag.objects.create(name="a")

        def turn(instance: Tag, **_: Any) -> None:
            instance.pk = None

        with receiving(pre_save, turn, Tag):
            one.name = "b"
            one.save()
        assert trail(object_id=str(one.pk)) == [("create", {"name": [None, "b"]})]
        assert Tag.objects.count() == 2
        replays()

    def test_of_text_and_of_uuids(self, audit: Audit) -> None:
        audit()
        country, other = Country.objects.create(code="AT", name="a"), Country.objects.create(code="DE", name="b")

        def turn(instance: Country, **_: Any) -> None:
            instance.code = "DE"

        with receiving(pre_save, turn, Country):
            country.name = "c"
            country.save()
        assert trail(object_id="DE")[1:] == [("update", {"name": ["b", "c"]})]
        assert other.code == "DE"
        paper, second = Document.objects.create(title="a"), Document.objects.create(title="b")

        def turn_paper(instance: Document, **_: Any) -> None:
            instance.pk = str(second.pk)

        with receiving(pre_save, turn_paper, Document):
            paper.title = "c"
            paper.save()
        assert trail(object_id=str(second.pk))[1:] == [("update", {"title": ["b", "c"]})]
        replays()

    @pytest.mark.parametrize("attribute", ["pk", "id"])
    def test_a_childs_primary_key_set_by_a_receiver_names_the_written_row(self, audit: Audit, attribute: str) -> None:
        audit()
        one, two = Restaurant.objects.create(name="a", stars=1), Restaurant.objects.create(name="b", stars=2)

        def turn(instance: Restaurant, **_: Any) -> None:
            setattr(instance, attribute, two.pk)
            instance.id = two.pk

        with receiving(pre_save, turn, Restaurant):
            one.name = "c"
            one.save()
        assert trail(object_id=str(two.pk))[1:] == [("update", {"name": ["b", "c"], "stars": [2, 1]})]
        replays()


class TestValues:
    def test_fields_that_receivers_change(self, audit: Audit) -> None:
        audit()
        product = Product.objects.create(name="a", slug="a")

        def change(instance: Product, **_: Any) -> None:
            instance.name, instance.slug = "changed", "changed"

        with receiving(pre_save, change, Product):
            product.save(update_fields=["name"])
            product.save()
        assert [list(changes) for _, changes in trail()[1:]] == [["name"], ["slug", "modified"]]
        replays()

    def test_update_fields_that_receivers_extend(self, audit: Audit) -> None:
        audit()
        product = Product.objects.create(name="a", slug="a")

        def change(instance: Product, update_fields: Any, **_: Any) -> None:
            # A list or set of the caller's is what the save goes on with.
            if isinstance(update_fields, set):
                update_fields.add("slug")
            instance.slug = "changed"

        with receiving(pre_save, change, Product):
            product.save_base(update_fields={"name"})
        assert [list(changes) for _, changes in trail()[1:]] == [["slug"]]
        replays()

    def test_the_database_that_receivers_set(self, audit: Audit) -> None:
        audit()
        tag = Tag.objects.create(name="a")

        def change(instance: Tag, **_: Any) -> None:
            instance._state.db = "other"

        with receiving(pre_save, change, Tag):
            tag.name = "b"
            tag.save()
        assert trail()[1:] == [("update", {"name": ["a", "b"]})]
        assert tag._state.db == "default"

    def test_a_save_base_of_the_projects_own(self, audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
        audit()
        one, two = Tag.objects.create(name="a"), Tag.objects.create(name="b")

        def save_base(self: Tag, *args: Any, **kwargs: Any) -> None:
            self.pk, self.name = two.pk, self.name.upper()
            models.Model.save_base(self, *args, **kwargs)

        monkeypatch.setattr(Tag, "save_base", save_base)
        one.name = "c"
        one.save()
        one.save_base()
        assert trail(object_id=str(two.pk))[1:] == [("update", {"name": ["b", "C"]})]
        replays()

    def test_a_save_within_a_save_of_the_same_row(self, audit: Audit) -> None:
        audit()
        tag = Tag.objects.create(name="a")

        def first(instance: Tag, update_fields: Any, **_: Any) -> None:
            if update_fields is None:
                Tag.objects.filter(pk=instance.pk).update(name="x")
                twin = Tag.objects.get(pk=instance.pk)
                twin.name = "y"
                twin.save(update_fields=["name"])

        with receiving(pre_save, first, Tag):
            tag.name = "b"
            tag.save()
        assert [changes["name"] for _, changes in trail()] == [[None, "a"], ["a", "x"], ["x", "y"], ["y", "b"]]


def look_inside(instance: models.Model) -> None:
    """Do to an instance what caches, queues and other packages do."""
    if instance.pk is not None:
        cache.set("instance", instance)
        assert cache.get("instance") == instance
    data = pickle.dumps(instance)
    assert b"signal_audit" not in data.replace(b"django_signal_audit.models", b"")
    assert set(vars(pickle.loads(data)._state)) <= {"db", "adding", "fields_cache", "peers", "fetch_mode"}
    assert set(vars(instance._state)) <= {"db", "adding", "fields_cache", "peers", "fetch_mode"}
    twin, deep = copy.copy(instance), copy.deepcopy(instance)
    for other in (twin, deep):
        assert set(vars(other)) <= {*vars(instance), "_django_version"}


@pytest.fixture
def looking() -> Iterator[list[Any]]:
    """Have every signal's receivers look inside the instance, ahead of ours and after them."""
    seen: list[Any] = []

    def look(signal: Any, instance: Any, **_: Any) -> None:
        look_inside(instance)
        seen.append(signal)

    with ExitStack() as stack:
        for signal in SIGNALS:
            stack.enter_context(receiving(signal, look))
        yield seen


@pytest.mark.parametrize("capture_queries", [True, False])
def test_instances_are_pickled_cached_and_copied(audit: Audit, looking: list[Any], capture_queries: bool) -> None:
    audit(CAPTURE_QUERIES=capture_queries)
    tag, place = Tag(name="a"), Restaurant(name="p", stars=1)
    written: list[Any] = [
        lambda: tag.save(),
        lambda: place.save(),
        lambda: tag.save(),
        lambda: place.tags.add(tag),
        lambda: place.tags.set([]),
        lambda: tag.places.set([place]),
        lambda: tag.places.clear(),
        lambda: tag.delete(),
        lambda: place.delete(),
    ]
    for write in written:
        write()
        look_inside(tag)
        look_inside(place)
    assert set(looking) == set(SIGNALS)
    assert [kind for kind, _ in trail(model="app.restaurant")] == ["create", *["m2m"] * 4, "delete"]


@pytest.mark.parametrize("capture_queries", [True, False])
def test_a_copy_is_saved_within_the_save_of_its_original(audit: Audit, capture_queries: bool) -> None:
    audit(CAPTURE_QUERIES=capture_queries)
    tag = Tag.objects.create(name="a")

    def save_copy(instance: Tag, **_: Any) -> None:
        if instance.name == "b":
            twin = copy.copy(instance)  # which shares the original's _state
            twin.pk, twin.name = None, "twin"
            twin.save()

    for signal in (pre_save, post_save):
        with receiving(signal, save_copy, Tag):
            tag.name = "b"
            tag.save()
        assert [changes["name"] for _, changes in trail(object_id=str(tag.pk))][-1] == ["a", "b"]
        twin = Tag.objects.exclude(pk=tag.pk).get()
        assert trail(object_id=str(twin.pk)) == [("create", {"name": [None, "twin"]})]
        twin.delete()
        tag.name = "a"
        tag.save()


def test_an_abandoned_deletion_leaves_nothing_on_the_instance(audit: Audit) -> None:
    class Stop(Exception):
        pass

    def stop(**_: Any) -> None:
        raise Stop

    audit(CAPTURE_QUERIES=False)
    place = Place.objects.create(name="a")
    with receiving(pre_delete, stop, Place), pytest.raises(Stop), transaction.atomic():
        place.delete()
    look_inside(place)
    place.delete()
    assert [kind for kind, _ in trail()] == ["create", "delete"]
