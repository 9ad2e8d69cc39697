"""Reverting changes that have odd models, managers, rules or events behind it: right, or refused with a sentence."""

from __future__ import annotations

from html import unescape

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.core.exceptions import ValidationError
from django.db import connection, models
from django.db.models.signals import pre_save
from django.utils.html import strip_tags

from django_signal_audit.admin.links import history_url
from django_signal_audit.models import AuditEvent
from tests.app.models import (
    Atlas,
    Cellar,
    Entry,
    Hidden,
    Person,
    Place,
    Product,
    Restaurant,
    Room,
    Shelf,
    Stamped,
    Tag,
    Thing,
)

from .conftest import last
from .revert_pages import PLAIN, address, deletion, page_of, problems, refused, stored, text_of
from .samples import make_event

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _everything(audit):
    audit(PLAIN)


def revert_change(client, event):
    """Confirm, and return the reason why not, ``""`` if it was done."""
    response = client.post(address(event))
    if response.status_code == 302:
        return ""
    text = text_of(response, 409)
    return unescape(strip_tags(text.partition('role="alert">')[2].partition("</p>")[0]))


class TestComesAgain:
    def test_a_child_whose_parents_key_is_a_text(self, admin_client):
        atlas = Atlas.objects.create(code="north", scale=5)
        before = stored(atlas)
        assert revert_change(admin_client, deletion(atlas)) == ""
        assert stored(atlas) == before
        assert problems() == []

    def test_a_composite_key_of_which_no_rule_records_a_part(self, admin_client, audit):
        audit({**PLAIN, "exclude": ["number"]})
        entry = Entry.objects.create(shelf=Shelf.objects.create(code="a"), number=3)
        assert revert_change(admin_client, deletion(entry)) == ""
        assert Entry.objects.get().number == 3

    def test_a_member_of_itself(self, admin_client):
        person = Person.objects.create(name="Ada")
        person.follows.add(person)
        assert revert_change(admin_client, deletion(person)) == ""
        assert list(person.follows.all()) == [person]
        assert problems() == []

    def test_a_row_that_refers_to_itself(self, admin_client):
        if connection.vendor == "mysql":
            pytest.skip("it lets nobody delete such a row")
        Shelf.objects.create(code="attic")
        thing = Thing.objects.create(name="a")
        thing.part_of = thing
        thing.save()
        assert revert_change(admin_client, deletion(thing)) == ""
        assert Thing.objects.get().part_of == thing
        assert problems() == []

    def test_the_stamps_of_model_utils(self, admin_client):
        row = Stamped.objects.create(name="a")
        row.name = "b"
        row.save()
        event = last()
        row.save()
        assert revert_change(admin_client, event) == ""
        assert revert_change(admin_client, deletion(row)) == ""
        assert stored(row)["name"] == "a"
        assert stored(row)["created"] == row.created

    def test_from_a_replica_to_where_rows_are_written(self, admin_client, settings, monkeypatch):
        tag = Tag.objects.create(name="a")
        event = deletion(tag)
        monkeypatch.setattr(AuditEvent, "from_db", classmethod(_from_replica))
        settings.DATABASE_ROUTERS = [Primary()]
        assert revert_change(admin_client, event) == ""
        assert stored(tag)["name"] == "a"

    def test_the_page_tells_of_members_and_files_that_do_not_come(self, admin_client, audit):
        audit({**PLAIN, "exclude": ["tags"]}, MASK_FIELDS=[])
        product = Product.objects.create(name="a", photo="photos/gone.png")
        page = text_of(admin_client.get(address(deletion(product))))
        assert "won&#x27;t be restored: Tags." in page
        assert "won&#x27;t be restored: photos/gone.png." in page

    def test_events_without_a_correlation_id_link_to_nothing(self, admin_client):
        event = make_event(model="app.tag", object_id="7", event_type="delete", changes={"name": ["a", None]})
        assert "an event of its own" not in text_of(admin_client.get(address(event)))


class Primary:
    def db_for_write(self, model, **hints):
        return "default"


def _from_replica(cls, db, field_names, values, **options):
    event = cls(**dict(zip(field_names, values, strict=True)))
    event._state.adding, event._state.db = False, "other"
    return event


class TestRefusal:
    @pytest.mark.parametrize("is_update", [True, False])
    @pytest.mark.parametrize("error", [ValidationError("no such name"), TypeError("no using"), OSError("no file")])
    def test_a_save_that_raises(self, admin_client, monkeypatch, error, is_update):
        def save(*args, **kwargs):
            raise error

        tag = Tag.objects.create(name="a")
        tag.name = "b"
        tag.save()
        event = last() if is_update else deletion(tag)
        monkeypatch.setattr(Tag, "save", save)
        assert "It can't be saved: " in revert_change(admin_client, event)

    @pytest.mark.parametrize("is_update", [True, False])
    def test_a_save_that_makes_something_else_of_it(self, admin_client, monkeypatch, is_update):
        def save(self, *args, **kwargs):
            self.name = "else"
            models.Model.save(self, *args, **kwargs)

        tag = Tag.objects.create(name="a")
        tag.name = "b"
        tag.save()
        event = last() if is_update else deletion(tag)
        monkeypatch.setattr(Tag, "save", save)
        assert (
            revert_change(admin_client, event)
            == "This change can't be reverted. “Name” wouldn't get its old value back."
        )
        assert Tag.objects.filter(name="else").count() == 0

    def test_members_that_a_manager_hides(self, admin_client):
        cellar = Cellar.objects.create()
        cellar.hidden.add(Hidden.objects.create(name="a"))
        assert "“Hidden” wouldn't get its old value back" in revert_change(admin_client, last())

    def test_a_row_that_a_manager_hides(self, admin_client):
        row = Hidden.objects.create(name="a", is_hidden=False)
        row.is_hidden = True
        row.save()
        assert revert_change(admin_client, last()).startswith("This change can't be reverted. The database rejects it:")

    def test_nobody_learns_the_other_values_of_the_row(self, client):
        product = Product.objects.create(name="a", api_token="t0ken")
        event = make_event(model="app.product", object_id=str(product.pk), changes={"name": [None, "a"]})
        user = User.objects.create_user("editor", is_staff=True)
        user.user_permissions.set(
            Permission.objects.filter(codename__in=["view_auditevent", "revert_auditevent", "change_product"])
        )
        client.force_login(user)
        reason = revert_change(client, event)
        assert "The database rejects it" in reason
        assert "t0ken" not in reason

    def test_a_trace_of_something_else_is_none(self, admin_client, audit):
        audit({**PLAIN, "events": ["delete", "m2m"]}, MASK_FIELDS=[])
        product = Product.objects.create(name="a")
        product.tags.add(Tag.objects.create(name="light"))
        assert "wouldn't be recorded" in revert_change(admin_client, deletion(product))

    def test_a_parents_row_that_lived_on_and_ended_later(self, admin_client):
        restaurant = Restaurant.objects.create(name="a", stars=1)
        restaurant.delete(keep_parents=True)
        event = AuditEvent.objects.of_type("delete").get()
        Place.objects.get().delete()
        refused(admin_client, event, "Only the last deletion can be reverted")

    def test_a_parents_row_that_comes_meanwhile(self, admin_client):
        restaurant = Restaurant.objects.create(name="mine", stars=1)
        event = deletion(restaurant)

        def come(**_):
            Place.objects.create(pk=restaurant.pk, name="a stranger's")

        pre_save.connect(come, sender=Restaurant)
        try:
            assert revert_change(admin_client, event) != ""
        finally:
            pre_save.disconnect(come, sender=Restaurant)
        assert not Place.objects.filter(name="mine").exists()

    def test_numbers_and_truths_are_two_things(self, admin_client):
        product = Product.objects.create(name="a", attributes={"n": 0})
        product.attributes = {"n": 1}
        product.save()
        event = last()
        product.attributes = {"n": True}
        product.save()
        assert "has changed since" in revert_change(admin_client, event)

    def test_a_key_that_no_database_keeps(self, admin_client):
        event = make_event(
            model="app.country", object_id=r"a\u0000b", event_type="delete", changes={"name": ["a", None]}
        )
        refused(admin_client, event, "Its primary key isn't recorded in full.")

    @pytest.mark.parametrize("event_type", ["update", "delete"])
    @pytest.mark.parametrize("key", ["x", "[1]", "7"])
    def test_a_key_that_is_none_of_a_composite_one(self, admin_client, key, event_type):
        event = make_event(model="app.line", object_id=key, event_type=event_type, changes={"text": ["a", None]})
        refused(admin_client, event, "Its primary key isn't recorded in full.")

    def test_a_field_that_is_gone(self, admin_client):
        changes = {"name": ["a", None], "once": ["b", None]}
        event = make_event(model="app.tag", object_id="7", event_type="delete", changes=changes)
        refused(admin_client, event, "The field “once” no longer exists.")

    def test_a_foreign_key_to_keys_of_another_type_now(self, admin_client):
        product = Product.objects.create(name="a")
        event = make_event(model="app.product", object_id=str(product.pk), changes={"category": ["abc", None]})
        refused(admin_client, event, "The object that “Category” referred to no longer exists.")

    def test_a_value_longer_than_the_column(self, admin_client):
        if connection.vendor == "sqlite":
            pytest.skip("SQLite stores it")
        event = make_event(model="app.tag", object_id="7", event_type="delete", changes={"name": ["a" * 80, None]})
        assert "The database rejects it" in revert_change(admin_client, event)


class TestOtherPages:
    def test_the_history_of_a_parents_row_that_outlived_the_childs(self, admin_client):
        restaurant = Restaurant.objects.create(name="a", stars=1)
        restaurant.stars = 2
        restaurant.save()
        restaurant.delete(keep_parents=True)
        Place.objects.get().save()
        place = Place.objects.get()
        place.name = "b"
        place.save()
        assert admin_client.get(history_url("admin", "app.place", str(place.pk))).status_code == 200

    def test_a_number_where_there_is_a_uuid_now(self, admin_client):
        event = make_event(model="app.thing", object_id="7", changes={"papers": {"added": [17], "removed": []}})
        assert admin_client.get(page_of(event)).status_code == 200
        event = make_event(model="app.document", object_id="7", changes={"id": [17, 18]})
        assert admin_client.get(page_of(event)).status_code == 200

    @pytest.mark.parametrize("is_allowed", [True, False])
    def test_the_models_own_admin_may_be_stricter(self, admin_client, is_allowed):
        class Strict(admin.ModelAdmin):
            def has_add_permission(self, request):
                return is_allowed

        event = deletion(Room.objects.create(code="a"))
        admin.site.register(Room, Strict)
        try:
            assert (admin_client.post(address(event)).status_code == 302) is is_allowed
        finally:
            admin.site.unregister(Room)
