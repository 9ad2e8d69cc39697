"""The replay against audit logs that are true, and against every way in which one can be false."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, models
from django.db.models import F
from django.test.utils import isolate_apps

from django_signal_audit.context.scopes import suspended
from django_signal_audit.models import AuditEvent
from django_signal_audit.replay import Kind, Replay
from django_signal_audit.replay import replay as replay_module
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.rules.registry import get_registry

from .app.models import (
    Category,
    Club,
    Country,
    Document,
    Kiosk,
    Line,
    Person,
    Pizzeria,
    Place,
    Product,
    Restaurant,
    Shelf,
    Tag,
    Thing,
    Venue,
)
from .conftest import Audit
from .machine import oracle, world
from .samples import make_event

pytestmark = pytest.mark.django_db


def run() -> Replay:
    return Replay(get_registry().plans.values(), "default")


def differences() -> list[tuple[str, Any, str, Any, Any]]:
    """Return what the replay finds: kind, key, field, recorded and actual."""
    return [(item.kind, item.pk, item.field, item.recorded, item.actual) for item in run().differences()]


def left_out() -> list[tuple[str, str, int | None]]:
    replay = run()
    assert list(replay.differences()) == []
    return [(item.model._meta.label_lower, item.field, item.rows) for item in replay.left_out()]


class TestTrueTrails:
    def test_rows_of_every_kind_have_no_difference(self, audit: Audit) -> None:
        audit()
        world.furnish()
        replay = run()
        assert list(replay.differences()) == []
        assert replay.left_out() == []
        assert replay.rows == len(oracle.tables())

    def test_a_row_with_every_kind_of_change_has_no_difference(self, audit: Audit) -> None:
        audit()
        product = Product.objects.create(name="a", price="1.005", weight=0.1, attributes={"a": [1.0, None]})
        Product.objects.update(stock=F("stock") + 1, price=F("price") * 3)
        product.tags.add(Tag.objects.create(name="t"))
        product.delete()
        Product.objects.create(pk=product.pk, name="another with its key")
        assert differences() == []

    @pytest.mark.skipif("connection.vendor == 'mysql'", reason="foreign keys are checked at once")
    def test_members_that_come_before_their_owner(self, audit: Audit) -> None:
        audit()
        tags = [Tag.objects.create(name=name) for name in "abc"]
        product = Product(pk=77, name="late")
        product._state.db = "default"
        product.tags.set(tags)
        product.tags.remove(tags[0])
        product.save()
        assert differences() == []
        keys = [tag.pk for tag in tags[1:]]
        assert AuditEvent.objects.state_of(Product, 77)["tags"] == keys  # type: ignore[index]

    @pytest.mark.parametrize("is_told_first", [True, False])
    def test_members_that_stay_for_the_next_owner(self, audit: Audit, is_told_first: bool) -> None:
        """Another transaction adds members while the owner is deleted and made anew under its key."""
        audit()
        tag = Tag.objects.create(name="a")
        product = Product.objects.create(name="first")
        came = {"changes": {"tags": {"added": [tag.pk], "removed": []}}, "event_type": "m2m"}
        about = {"model": "app.product", "object_id": str(product.pk)}
        if is_told_first:
            make_event(**came, **about)
        Product.objects.filter(pk=product.pk).delete()
        if not is_told_first:
            make_event(**came, **about)
        Product.objects.create(pk=product.pk, name="second")
        with suspended():
            Product.tags.through.objects.create(product_id=product.pk, tag=tag)
        assert differences() == []

    def test_more_rows_than_a_chunk_and_more_events_than_a_page(self, audit: Audit, monkeypatch: Any) -> None:
        audit()
        monkeypatch.setattr(replay_module, "PAGE", 700)
        Category.objects.bulk_create([Category(name=f"c{number}") for number in range(1201)])
        Category.objects.update(name="x")
        Category.objects.filter(name="x").update(name="y")
        replay = run()
        assert list(replay.differences()) == []
        assert replay.rows == 1201

    def test_a_chunk_costs_the_same_queries_however_many_rows(
        self, audit: Audit, django_assert_num_queries: Any
    ) -> None:
        audit({"name": "places", "model": ["app.Place", "app.Restaurant"]})
        for count in (1, 40):
            for number in range(count):
                Restaurant.objects.create(name=f"r{number}")
                Place.objects.create(name=f"p{number}")
            # The tables; per model keys, rows, members, events, last words and their rows; what extends places.
            with django_assert_num_queries(1 + 2 * 6 + 1):
                assert differences() == []

    def test_long_keys_and_keys_that_differ_in_case(self, audit: Audit) -> None:
        audit()
        keys = ["k" * 300, "ä", "b" if connection.vendor == "mysql" else "Ä", "["]
        for key in keys:
            Country.objects.create(code=key, name="old")
            Country.objects.filter(code=key).update(name=f"name of {key[:9]}")
        assert differences() == []
        with suspended():
            Country.objects.filter(code__in=keys[:2])._raw_delete("default")
        gone = [(item[0], item[1][:9]) for item in differences()]
        assert sorted(gone) == [(Kind.GONE, "k" * 9), (Kind.GONE, "ä")]

    def test_custom_events_tell_nothing_of_a_row(self, audit: Audit) -> None:
        audit()
        tag = Tag.objects.create(name="t")
        make_event(event_type="exported", source="manual", model="app.tag", object_id=str(tag.pk))
        make_event(event_type="exported", source="manual", model="app.tag", object_id="0")
        assert differences() == []

    @pytest.mark.parametrize("limit", [20, 10**6])
    def test_tags_and_digests(self, audit: Audit, limit: int) -> None:
        audit(MAX_VALUE_BYTES=200)
        values = {"api_token": "secret", "blob": b"\0" * 1000, "attributes": {"a": "x" * 300}}
        product = Product.objects.create(name="a" * 50, **values)
        audit(MAX_VALUE_BYTES=limit)
        assert differences() == []
        with suspended():
            Product.objects.update(api_token="other", blob=b"\0", attributes={"a": "y" * 300})
        found = {field: (kind, pk, set(actual)) for kind, pk, field, _recorded, actual in differences()}
        assert found["api_token"] == (Kind.VALUE, product.pk, {"$masked"})
        assert found["blob"] == (Kind.VALUE, product.pk, {"$digest", "length"})
        assert found.keys() == {"api_token", "blob", "attributes"}

    def test_what_is_masked_since(self, audit: Audit) -> None:
        audit()
        Product.objects.create(name="open")
        audit({"name": "all", "model": "app.*", "mask": ["name"]})
        assert differences() == []
        with suspended():
            Product.objects.update(name="secret")
        ((kind, _pk, field, recorded, actual),) = differences()
        assert (kind, field, recorded) == (Kind.VALUE, "name", "open")
        assert "$masked" in actual


class TestFalseTrails:
    def test_an_unseen_change_of_values_is_a_difference(self, audit: Audit) -> None:
        audit()
        product = Product.objects.create(name="a", price=1)
        Product.objects.create(name="b")
        with suspended():
            Product.objects.filter(pk=product.pk).update(price="2.5", attributes={"a": True})
        assert differences() == [
            (Kind.VALUE, product.pk, "price", "1.00", "2.50"),
            (Kind.VALUE, product.pk, "attributes", {}, {"a": True}),
        ]

    def test_one_and_true_are_not_the_same(self, audit: Audit) -> None:
        audit()
        Product.objects.create(name="a", attributes={"a": 1})
        with suspended():
            Product.objects.update(attributes={"a": True})
        assert [item[3:] for item in differences()] == [({"a": 1}, {"a": True})]

    def test_an_unseen_change_of_m2m_pairs_is_a_difference(self, audit: Audit) -> None:
        audit()
        shelves = [Shelf.objects.create(code=code) for code in ("attic", "b", "c")]
        thing = Thing.objects.create(name="a")
        thing.shelves.set(shelves[:2])
        other = Thing.objects.create(name="b")
        with suspended():
            thing.shelves.through.objects.filter(shelf="b").update(shelf="c")
            other.shelves.through.objects.create(thing=other, shelf=shelves[0])
        assert differences() == [
            (Kind.MEMBERS, thing.pk, "shelves", ["attic", "b"], ["attic", "c"]),
            (Kind.MEMBERS, other.pk, "shelves", [], ["attic"]),
        ]

    def test_rows_that_are_older_than_the_rules(self, audit: Audit) -> None:
        old, changed = (Category.objects.create(name=name) for name in "ab")
        audit()
        Category.objects.filter(pk=changed.pk).update(name="c")
        Category.objects.create(name="new")
        assert differences() == [
            (Kind.UNRECORDED, old.pk, "", None, None),
            (Kind.UNSTARTED, changed.pk, "", None, None),
        ]

    def test_rows_that_went_and_came_unseen(self, audit: Audit) -> None:
        audit()
        gone, back, deleted = (Category.objects.create(name=name) for name in "abc")
        deleted.delete()
        Category(pk=back.pk).delete()
        with suspended():
            Category.objects.filter(pk=gone.pk)._raw_delete("default")
            Category.objects.bulk_create([Category(pk=back.pk, name="b")])
        assert differences() == [
            (Kind.DELETED, back.pk, "", None, None),
            (Kind.GONE, gone.pk, "", None, None),
        ]

    def test_keys_of_every_kind(self, audit: Audit) -> None:
        audit()
        document, line = Document.objects.create(title="a"), Line.objects.create(order=1, number=2, text="a")
        Line.objects.create(order=1, number=3, text="b")
        with suspended():
            Document.objects.update(title="b")
            Line.objects.filter(pk=line.pk)._raw_delete("default")
        assert differences() == [
            (Kind.VALUE, document.pk, "title", "a", "b"),
            (Kind.GONE, (1, 2), "", None, None),
        ]

    def test_children_are_told_of_as_what_they_are(self, audit: Audit) -> None:
        audit()
        place, club, kiosk, pizzeria = (model.objects.create(name="a") for model in (Place, Club, Kiosk, Pizzeria))
        with suspended():
            Place.objects.update(name="b")
            Venue.objects.update(seats=1)
        found = [(item.model, item.pk, item.field) for item in run().differences()]
        assert sorted(found, key=str) == sorted(
            [
                (Place, place.pk, "name"),
                (Club, club.pk, "name"),
                (Club, club.pk, "seats"),
                (Kiosk, kiosk.pk, "name"),
                (Pizzeria, pizzeria.pk, "name"),
            ],
            key=str,
        )


class TestLeftOut:
    def test_what_rules_do_not_always_record(self, audit: Audit) -> None:
        audit(
            {"name": "drops", "model": "app.Product", "fields": ["price"], "when": {"price": "decreased"}},
            {"name": "some", "model": "app.Product", "fields": ["name", "tags"], "events": ["create", "update"]},
            {"name": "gone", "model": "app.Product", "fields": ["name", "stock"], "events": ["delete"]},
            {"name": "tags", "model": "app.Tag", "events": ["update"]},
        )
        product = Product.objects.create(name="a", price=3, stock=1)
        Product.objects.update(name="b", price=5, stock=2)
        product.tags.add(Tag.objects.create(name="t"))
        found = left_out()
        compared = {field.name for field in Product._meta.get_fields()} - {field for _, field, _ in found}
        assert compared & {"name", "price", "stock", "tags", "photo"} == {"name"}
        assert ("app.tag", "", None) in found

    def test_fields_that_came_and_went(self, audit: Audit) -> None:
        audit({"name": "names", "model": "app.Category", "fields": ["name"]})
        category = Category.objects.create(name="a")
        make_event(model="app.category", object_id=str(category.pk), changes={"colour": ["red", "blue"]})
        audit({"name": "all", "model": "app.Category"})
        Category.objects.create(name="b")
        assert left_out() == [("app.category", "parent", 1), ("app.category", "colour", 1)]

    def test_tables_that_are_not_there(self, audit: Audit, monkeypatch: Any) -> None:
        audit({"name": "all", "model": "app.Tag"})
        monkeypatch.setattr(Tag._meta, "db_table", "nowhere")
        assert left_out() == [("app.tag", "", None)]

    @isolate_apps("tests.app")
    def test_models_that_have_nothing_but_a_key(self, monkeypatch: Any) -> None:
        class Bare(models.Model):
            class Meta:
                app_label = "app"

        monkeypatch.setattr(Bare._meta, "db_table", Tag._meta.db_table)
        plan = ModelPlan(Bare, compiled=(), all_fields={}, all_members={}, secret=frozenset())
        (found,) = Replay([plan], "default").left_out()
        assert found.reason == "the model has no field besides its primary key"


class TestWritersMeanwhile:
    """Somebody writes between the look at the rows and the look at their events."""

    @pytest.fixture
    def meanwhile(self, monkeypatch: Any) -> Any:
        original = replay_module.RecordedStates.states

        def apply(*works: Any) -> None:
            waiting = list(works)

            def states(self: Any, names: Any) -> Any:
                if waiting:
                    waiting.pop(0)()
                return original(self, names)

            monkeypatch.setattr(replay_module.RecordedStates, "states", states)

        return apply

    @pytest.fixture
    def meanwhile_again(self, monkeypatch: Any) -> Any:
        original = replay_module.RecordedStates.states_since

        def apply(work: Any) -> None:
            def states_since(self: Any, name: str, event_id: int) -> Any:
                work()
                return original(self, name, event_id)

            monkeypatch.setattr(replay_module.RecordedStates, "states_since", states_since)

        return apply

    def test_a_row_that_changes(self, audit: Audit, meanwhile: Any, meanwhile_again: Any) -> None:
        audit({"name": "all", "model": "app.Product", "exclude": ["modified"]})
        product = Product.objects.create(name="a")
        tags = Tag.objects.bulk_create([Tag(name="a"), Tag(name="b")])

        def write() -> None:
            Product.objects.update(stock=F("stock") + 1)
            product.tags.set(tags if product.tags.count() == 0 else [])

        meanwhile(write)
        meanwhile_again(lambda: [write(), write()])
        assert differences() == []

    def test_a_row_that_goes_and_one_that_comes(self, audit: Audit, meanwhile: Any) -> None:
        audit({"name": "all", "model": "app.Person"})
        person = Person.objects.create(name="a")

        def write() -> None:
            person.delete()
            Person.objects.create(name="b")

        meanwhile(write)
        assert differences() == []

    def test_what_is_wrong_stays_wrong(self, audit: Audit, meanwhile: Any) -> None:
        audit({"name": "all", "model": "app.Product", "fields": ["price", "stock"]})
        Product.objects.create(name="a")
        with suspended():
            Product.objects.update(price=3)
        meanwhile(lambda: Product.objects.update(stock=5))
        assert [item[2:] for item in differences()] == [("price", "0.00", "3.00")]


class TestStateOf:
    def test_state_of_returns_typed_values(self, audit: Audit) -> None:
        audit()
        tags = [Tag.objects.create(name=str(number)) for number in range(12)]
        product = Product.objects.create(name="a", price=3, weight=1, released=dt.date(2026, 1, 31), api_token="x")
        product.tags.set(tags[::-1])
        state = AuditEvent.objects.state_of(Product, str(product.pk))
        assert state is not None
        assert (state["price"], state["weight"], state["released"]) == (Decimal("3.00"), 1.0, dt.date(2026, 1, 31))
        assert isinstance(state["weight"], float)
        assert state["modified"] == product.modified
        assert state["tags"] == sorted(tag.pk for tag in tags)

    def test_unknown_and_deleted_rows(self, audit: Audit) -> None:
        audit()
        country = Country.objects.create(code="at", name="Austria")
        assert AuditEvent.objects.state_of(Country, "at") == {"name": "Austria"}
        assert AuditEvent.objects.state_of(Country, "AT") is None
        country.delete()
        assert AuditEvent.objects.state_of(Country, "at") is None

    def test_state_of_a_moment_is_what_held_then(self, audit: Audit) -> None:
        audit()
        tag = Tag.objects.create(name="first")
        moments = [event.recorded_at for event in AuditEvent.objects.for_object(tag)]
        Tag.objects.update(name="second")
        moments += [event.recorded_at for event in AuditEvent.objects.for_object(tag)[:1]]
        Tag.objects.all().delete()

        def name_at(moment: dt.datetime) -> Any:
            state = AuditEvent.objects.state_of(Tag, tag.pk, at=moment)
            return state and state["name"]

        instant = dt.timedelta(microseconds=1)
        assert [name_at(moment) for moment in (moments[0] - instant, *moments)] == [None, "first", "second"]
        assert AuditEvent.objects.state_of(Tag, tag.pk) is None
