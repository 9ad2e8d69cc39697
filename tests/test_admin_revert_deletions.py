"""Putting a deletion back: the row comes again with all that it had, or not at all."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission, User
from django.core.files.base import ContentFile

from django_signal_audit.admin.links import history_url
from django_signal_audit.context.scopes import audit_context
from django_signal_audit.models import AuditEvent
from testproject.shop.models import Category as ShopCategory
from testproject.shop.models import Product as ShopProduct
from tests.app.models import (
    Box,
    Category,
    Country,
    Document,
    Kiosk,
    Line,
    Person,
    Picture,
    Pizzeria,
    Place,
    Product,
    Restaurant,
    Tag,
)

from .revert_pages import PLAIN, address, deletion, page_of, problems, refused, stored, text_of
from .samples import make_event

pytestmark = pytest.mark.django_db


@pytest.fixture
def product(audit, settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path
    audit(PLAIN, MASK_FIELDS=[])
    category = Category.objects.create(name="Fuel")
    product = Product.objects.create(
        name="Oil",
        slug="oil",
        price="10.00",
        weight=0.1,
        attributes={"a": [1, None]},
        released=dt.date(2026, 1, 2),
        api_token="t0ken",
        photo=ContentFile(b"x", name="oil.png"),
        category=category,
    )
    product.tags.set([Tag.objects.create(name=name) for name in ("sweet", "light")])
    return product


class TestComesAgain:
    def test_with_its_key_its_values_and_its_members(self, admin_client, product):
        before, tags = stored(product), set(product.tags.all())
        event = deletion(product)
        assert f'href="{address(event)}"' in text_of(admin_client.get(page_of(event)))
        page = text_of(admin_client.get(address(event)))
        assert "will be restored with its primary key" in page
        assert "+ <bdi>sweet" in page
        assert admin_client.post(address(event)).status_code == 302
        after = stored(product)
        # Each save sets it by itself.
        assert after.pop("modified") > before.pop("modified")
        assert after == before
        assert set(product.tags.all()) == tags
        created = AuditEvent.objects.of_type("create").filter(model="app.product").latest("id")
        assert created.actor_repr == "admin"
        assert str(event.uid) in created.context["reason"]
        assert created.new["price"] == Decimal("10.00")
        assert problems() == []

    def test_from_the_history_of_what_is_gone(self, admin_client, product):
        event = deletion(product)
        history = history_url("admin", "app.product", str(product.pk))
        assert f'href="{address(event)}"' in text_of(admin_client.get(history))
        admin_client.post(address(event))
        assert address(event) not in text_of(admin_client.get(history))

    def test_it_can_go_and_come_again_any_number_of_times(self, admin_client, product):
        for _ in range(3):
            assert admin_client.post(address(deletion(product))).status_code == 302
            product = Product.objects.get()
        assert product.name == "Oil"

    def test_what_the_first_save_sets_by_itself_is_as_it_was(self, admin_client, audit):
        audit({"name": "shop", "model": "shop.*"})
        category = ShopCategory.objects.create(name="Fuel")
        product = ShopProduct.objects.create(sku="a", name="Oil", price=1, category=category)
        ShopProduct.objects.update(created=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
        before = stored(product)
        admin_client.post(address(deletion(product)))
        after = stored(product)
        assert after.pop("modified") > before.pop("modified")
        assert after == before
        assert problems() == []

    @pytest.mark.parametrize(
        "make",
        [
            lambda: Country.objects.create(code='a/b "ü" %2F', name="odd"),
            lambda: Document.objects.create(id=uuid.uuid4(), title="a"),
            lambda: Line.objects.create(order=3, number=4, text="composite"),
            lambda: Restaurant.objects.create(name="Napoli", stars=2),
            lambda: Pizzeria.objects.create(name="Roma", stars=3, oven="steel"),
            lambda: Box.objects.create(width=3, height=4, label="big"),
        ],
        ids=["text", "uuid", "composite", "child", "grandchild", "generated"],
    )
    def test_rows_of_every_kind_come_again(self, admin_client, audit, make):
        audit(PLAIN)
        obj = make()
        before = stored(obj)
        event = deletion(obj)
        assert admin_client.post(address(event)).status_code == 302
        assert stored(obj) == before
        assert AuditEvent.objects.of_type("create").filter(model=event.model, object_id=event.object_id).count() == 2
        assert problems() == []

    def test_fields_that_can_do_without_get_their_defaults_and_the_page_says_which(self, admin_client, audit):
        audit({**PLAIN, "exclude": ["stock", "modified", "released"]})
        product = Product.objects.create(
            name="Oil", stock=7, api_token="t0ken", blob=b"x", released=dt.date(2026, 1, 2)
        )
        event = deletion(product)
        assert "get their defaults: Stock, Released, Blob, Api token." in text_of(admin_client.get(address(event)))
        assert admin_client.post(address(event)).status_code == 302
        after = stored(product)
        assert (after["stock"], after["released"], after["blob"], after["api_token"]) == (0, None, None, "")
        assert after["modified"] is not None

    def test_friends_of_both_sides(self, admin_client, audit):
        audit(PLAIN)
        ada, bob = Person.objects.create(name="Ada"), Person.objects.create(name="Bob")
        ada.friends.add(bob)
        admin_client.post(address(deletion(ada)))
        assert list(bob.friends.all()) == [ada]
        assert problems() == []

    def test_what_went_with_it_comes_after_it(self, admin_client, product):
        picture = Picture.objects.create(product=product, file="a.png")
        with audit_context(reason="Spring cleaning"):
            event = deletion(product)
        gone = AuditEvent.objects.of_type("delete").get(model="app.picture")
        assert gone.correlation_id == event.correlation_id
        refused(admin_client, gone, "The object that “Product” referred to no longer exists.")
        assert event.correlation_id in text_of(admin_client.get(address(event)))
        admin_client.post(address(event))
        admin_client.post(address(gone))
        assert Picture.objects.get() == picture


class TestRefusal:
    def test_an_object_that_exists_again_is_not_made_twice(self, admin_client, product):
        event = deletion(product)
        admin_client.post(address(event))
        refused(admin_client, event, "The object exists again.")

    def test_only_the_last_of_several(self, admin_client, product):
        event = deletion(product)
        admin_client.post(address(event))
        again = deletion(Product.objects.get())
        refused(admin_client, event, "Only the last deletion can be reverted")
        assert admin_client.post(address(again)).status_code == 302

    def test_the_parent_that_was_kept(self, admin_client, audit):
        audit(PLAIN)
        restaurant = Restaurant.objects.create(name="Napoli", stars=1)
        restaurant.delete(keep_parents=True)
        refused(admin_client, AuditEvent.objects.of_type("delete").get(), "still exists and may have changed since")
        assert Place.objects.count() == 1

    def test_a_child_with_a_key_of_its_own(self, admin_client, audit):
        audit(PLAIN)
        refused(admin_client, deletion(Kiosk.objects.create(name="a", goods="b")), "is not recorded")

    def test_what_a_foreign_key_named_is_gone(self, admin_client, product):
        event = deletion(product)
        Category.objects.all().delete()
        refused(admin_client, event, "The object that “Category” referred to no longer exists.")

    def test_a_member_is_gone(self, admin_client, product):
        event = deletion(product)
        Tag.objects.all()[0].delete()
        refused(admin_client, event, "The object that “Tags” referred to no longer exists.")

    def test_values_that_are_not_recorded(self, admin_client, audit):
        audit({**PLAIN, "mask": ["name"]})
        refused(admin_client, deletion(Tag.objects.create(name="a")), "“Name” is masked")
        audit({**PLAIN, "exclude": ["name"]})
        refused(admin_client, deletion(Tag.objects.create(name="a")), "“Name” is not recorded")
        audit(PLAIN, MAX_VALUE_BYTES=10)
        refused(admin_client, deletion(Tag.objects.create(name="a" * 50)), "Only a digest of “Name” is recorded")

    def test_events_that_are_odd(self, admin_client, product):
        values = {"model": "app.tag", "object_id": "77", "event_type": "delete"}
        refused(admin_client, make_event(**values, changes={"name": {"added": [], "removed": []}}), "“Name”")
        refused(admin_client, make_event(**{**values, "object_id": "x"}, changes={}), "Its primary key isn't recorded")

    def test_what_the_database_refuses(self, admin_client, product):
        event = deletion(product)
        Product.objects.create(name="Other", slug="oil")
        count = AuditEvent.objects.count()
        assert "The database rejects it" in text_of(admin_client.post(address(event)), 409)
        assert AuditEvent.objects.count() == count

    def test_nothing_comes_without_a_trace(self, admin_client, product, audit):
        event = deletion(product)
        audit({"name": "people", "model": "app.Person"})
        assert "be recorded" in text_of(admin_client.post(address(event)), 409)
        assert not Product.objects.exists()


class TestPermission:
    @pytest.mark.parametrize("missing", ["view_auditevent", "revert_auditevent", "add_tag", None])
    def test_it_takes_its_own_and_to_add_such_objects(self, client, audit, missing):
        audit(PLAIN)
        event = deletion(Tag.objects.create(name="light"))
        needed = {"view_auditevent", "view_tag", "revert_auditevent", "add_tag"} - {missing}
        user = User.objects.create_user("editor", is_staff=True)
        user.user_permissions.set(
            Permission.objects.filter(codename__in=needed, content_type__app_label__in=["app", "django_signal_audit"])
        )
        client.force_login(user)
        assert (client.post(address(event)).status_code == 302) is (missing is None)
        assert Tag.objects.exists() is (missing is None)
