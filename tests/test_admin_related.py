"""What happened beside an object: to the rows that refer to it, and to it as a member, from the other side."""

from __future__ import annotations

import uuid

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_signal_audit import audit_context
from django_signal_audit.admin import related
from django_signal_audit.admin.links import history_url
from django_signal_audit.models import AuditEvent
from tests.app.models import (
    Category,
    Document,
    Note,
    Person,
    Picture,
    Product,
    Restaurant,
    Room,
    Seat,
    Shelf,
    Tag,
    Team,
    Thing,
)

from .conftest import last
from .samples import make_event

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _rules(audit):
    audit()


@pytest.fixture
def beside(admin_client):
    """Return a function that opens the history of an object and returns the events beside it, the newest first."""

    def found(obj, client=admin_client):
        response = client.get(history_url("admin", obj._meta.label_lower, str(obj.pk)) + "?tab=related")
        assert response.status_code == 200
        shown = [view.event for view in response.context["related"]]
        assert ("No events of related objects." in response.content.decode()) == (not shown)
        return shown

    return found


def told(events):
    """Return model, type and changes of events."""
    return [(event.model.removeprefix("app."), event.event_type, event.changes) for event in events]


def gone(obj):
    """Delete an object and return it with the key it had."""
    key = obj.pk
    obj.delete()
    obj.pk = key
    return obj


def crowd(count, **values):
    """Write so many events that have nothing to do with anything, of kinds that are looked at."""
    defaults = {"event_type": "update", "source": "orm", "object_id": "0"}
    AuditEvent.objects.bulk_create(AuditEvent(**{**defaults, **values}) for _ in range(count))


class TestForeignKeys:
    @pytest.fixture
    def product(self):
        product, other = Product.objects.create(name="Oil"), Product.objects.create(name="Other")
        Picture.objects.create(product=product, file="front.jpg")
        Picture.objects.create(product=other, file="elsewhere.jpg")
        return product

    def test_the_events_of_rows_that_refer_to_it(self, beside, product):
        assert told(beside(product)) == [
            ("picture", "create", {"product": [None, product.pk], "file": [None, "front.jpg"]})
        ]

    def test_only_to_who_may_view_them(self, beside, client, product):
        user = User.objects.create_user("viewer", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=["view_auditevent", "view_product"]))
        client.force_login(user)
        assert beside(product, client) == []
        user.user_permissions.add(Permission.objects.get(codename="view_picture"))
        assert len(beside(product, client)) == 1

    def test_rows_that_are_gone_or_refer_to_another_now(self, beside, product):
        gone, moved = product.pictures.get(), Picture.objects.create(product=product, file="moved.jpg")
        gone.delete()
        moved.product = Product.objects.create(name="New owner")
        moved.save()
        assert [event.event_type for event in beside(product)] == ["update", "delete", "create", "create"]
        moved.file = "renamed.jpg"
        moved.save()
        assert [event.event_type for event in beside(product)] == ["update", "delete", "create", "create"]

    def test_they_are_found_by_their_request_however_long_ago(self, beside, product):
        with audit_context():
            product.name = "Oil, tidied"
            product.save()
            product.pictures.get().delete()
        crowd(related.MAX_RECENT + 1, model="app.picture", event_type="delete")
        assert [event.event_type for event in beside(product)] == ["delete"]

    def test_what_refers_to_it_now_is_found_however_long_ago(self, beside, product):
        crowd(related.MAX_RECENT + 1, model="app.picture", event_type="create")
        assert [event.event_type for event in beside(product)] == ["create"]

    def test_what_went_with_it(self, beside, product):
        note = Note(text="cheap", about=product)
        note.save()
        product.tags.add(Tag.objects.create(name="on sale"))
        found = told(beside(gone(product)))
        assert ("picture", "delete", {"product": [product.pk, None], "file": ["front.jpg", None]}) in found

    def test_a_key_that_is_no_primary_key(self, beside):
        room = Room.objects.create(code="attic")
        shelf = Shelf.objects.create(code="left", room=room)
        assert told(beside(room)) == [("shelf", "create", {"room": [None, "attic"]})]
        shelf.delete()
        assert [event.event_type for event in beside(gone(room))] == ["delete", "create"]

    def test_a_masked_key_of_what_is_gone_finds_nothing(self, beside, audit):
        audit({"name": "all", "model": "app.*", "mask": ["code"]})
        # Called what a masked value looks like.
        Shelf.objects.create(code="left", room=Room.objects.create(code="********", number=1))
        assert beside(gone(Room.objects.create(code="attic"))) == []

    def test_rows_of_a_hand_written_through_model(self, beside):
        team, person = Team.objects.create(name="Reds"), Person.objects.create(name="Ada")
        seat = Seat.objects.create(team=team, person=person)
        seat.role = "coach"
        seat.save()
        for one in (team, person):
            assert [(event.model, event.event_type) for event in beside(one)] == [
                ("app.seat", "update"),
                ("app.seat", "create"),
            ]

    def test_an_objects_own_events_are_not_beside_it(self, beside):
        root = Category.objects.create(name="Root")
        root.parent = root
        root.save()
        assert beside(root) == []
        child = Category.objects.create(name="Child", parent=root)
        assert [event.object_id for event in beside(root)] == [str(child.pk)]


class TestGenericForeignKeys:
    def test_rows_that_refer_to_it_and_to_no_other_model(self, beside):
        product = Product.objects.create(name="Oil")
        tag = Tag.objects.create(pk=product.pk, name="of the same key")
        note, other = Note(text="cheap", about=product), Note(text="other", about=tag)
        note.save()
        other.save()
        assert [event.object_repr for event in beside(product)] == ["cheap"]
        note.delete()
        assert [(event.object_repr, event.event_type) for event in beside(product)] == [
            ("cheap", "delete"),
            ("cheap", "create"),
        ]


class TestMembers:
    """An m2m change is an event of the row that declares the field, and is shown at the members too."""

    def test_whichever_side_wrote_it(self, beside):
        tag, product = Tag.objects.create(name="on sale"), Product.objects.create(name="Oil")
        product.tags.add(tag)
        tag.products.remove(product)
        tag.products.set([product])
        assert told(beside(tag)) == [
            ("product", "m2m", {"tags": {"added": [tag.pk], "removed": []}}),
            ("product", "m2m", {"tags": {"added": [], "removed": [tag.pk]}}),
            ("product", "m2m", {"tags": {"added": [tag.pk], "removed": []}}),
        ]

    def test_other_members_and_other_changes_are_not(self, beside):
        tag, other = Tag.objects.create(name="on sale"), Tag.objects.create(name="other")
        product = Product.objects.create(name="Oil")
        product.tags.add(tag)
        event = last()
        product.tags.add(other)
        product.name = "Petrol"
        product.save()
        assert beside(tag) == [event]

    def test_those_of_a_child_of_the_model_that_declares_the_field(self, beside):
        tag, restaurant = Tag.objects.create(name="cosy"), Restaurant.objects.create(name="Napoli")
        restaurant.tags.add(tag)
        assert [(event.model, event.event_type) for event in beside(tag)] == [("app.restaurant", "m2m")]

    def test_keys_of_any_type(self, beside):
        shelf, paper = Shelf.objects.create(code="top"), Document.objects.create(id=uuid.uuid4(), title="Deed")
        thing = Thing.objects.create(name="Lamp", shelf=Shelf.objects.create(code="attic"))
        thing.shelves.add(shelf)
        thing.papers.add(paper)
        assert told(beside(shelf)) == [("thing", "m2m", {"shelves": {"added": ["top"], "removed": []}})]
        assert told(beside(paper)) == [("thing", "m2m", {"papers": {"added": [str(paper.pk)], "removed": []}})]

    def test_a_field_that_refers_to_its_own_model(self, beside):
        ada, bob = Person.objects.create(name="Ada"), Person.objects.create(name="Bob")
        ada.follows.add(bob)
        assert [(event.object_repr, event.event_type) for event in beside(bob)] == [("Ada", "m2m")]
        # Of a symmetrical one each side has an event of its own.
        ada.friends.add(bob)
        assert len(beside(bob)) == 1

    def test_however_long_ago_if_it_is_one_still(self, beside):
        tag, product = Tag.objects.create(name="on sale"), Product.objects.create(name="Oil")
        product.tags.add(tag)
        crowd(
            related.MAX_RECENT + 1,
            model="app.product",
            event_type="m2m",
            changes={"tags": {"added": [0], "removed": []}},
        )
        assert [event.object_repr for event in beside(tag)] == ["Oil"]

    def test_of_a_member_that_is_gone(self, beside):
        tag, product = Tag.objects.create(name="on sale"), Product.objects.create(name="Oil")
        product.tags.add(tag)
        found = beside(gone(tag))
        assert [(event.object_repr, event.event_type) for event in found] == [("Oil", "m2m"), ("Oil", "m2m")]
        assert found[0].changes == {"tags": {"added": [], "removed": [tag.pk]}}


class TestBounds:
    def test_only_the_newest_are_shown(self, beside):
        product = Product.objects.create(name="Oil")
        Picture.objects.bulk_create(Picture(product=product, file=f"{number}.jpg") for number in range(60))
        assert len(beside(product)) == related.MAX_EVENTS

    def test_the_queries_grow_with_nothing(self, beside, django_assert_num_queries):
        product, tag = Product.objects.create(name="Oil"), Tag.objects.create(name="on sale")
        for obj in (product, tag):
            beside(obj)
        counts = []
        for obj in (product, tag):
            with CaptureQueriesContext(connection) as queries:
                beside(obj)
            counts.append(len(queries))
        for number in range(30):
            Picture.objects.create(product=product, file=f"{number}.jpg")
            Product.objects.create(name=f"{number}").tags.add(tag)
            product.tags.add(Tag.objects.create(name=f"{number}"))
        for obj, count in zip((product, tag), counts, strict=True):
            with CaptureQueriesContext(connection) as queries:
                assert len(beside(obj)) == related.MAX_EVENTS
            # One each to read what the references that are there now lead to, and what they are called.
            assert len(queries) <= count + 6

    def test_what_is_nobodys_is_no_object(self, beside):
        make_event(model="gone.thing", object_id="1")
        crowd(1, model="app.picture", changes={"product": [None, 1]})
        thing = Thing(pk=1)
        assert beside(thing) == []
