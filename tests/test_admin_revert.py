"""Putting a change back: asked for, checked under lock, itself recorded, or refused with the reason."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from django_signal_audit.admin.links import history_url
from django_signal_audit.events.values import mask, to_json
from django_signal_audit.models import AuditEvent
from tests.app.models import Category, Country, Person, Product, Restaurant, Tag

from .conftest import last
from .revert_pages import address, page_of, refused, text_of
from .samples import HOSTILE, make_event

pytestmark = pytest.mark.django_db


@pytest.fixture
def product(audit):
    audit()
    return Product.objects.create(name="Oil", price="10.00", attributes={"a": 1}, released=dt.date(2026, 1, 2))


def change(product, **values):
    """Save the values and return the event."""
    for name, value in values.items():
        setattr(product, name, value)
    product.save()
    return last()


class TestRevert:
    def test_the_fields_get_their_old_values_and_that_is_recorded(self, admin_client, product):
        category = Category.objects.create(name="Fruit")
        event = change(product, name="Petrol", price=Decimal("12.50"), attributes={}, released=None, category=category)
        product.stock = 7
        product.save()
        assert f'href="{address(event)}"' in text_of(admin_client.get(page_of(event)))
        assert "10.00" in text_of(admin_client.get(address(event)))
        assert admin_client.post(address(event)).status_code == 302
        product.refresh_from_db()
        assert (product.name, product.price, product.attributes) == ("Oil", Decimal("10.00"), {"a": 1})
        assert (product.released, product.category, product.stock) == (dt.date(2026, 1, 2), None, 7)
        back = last()
        assert back.actor_repr == "admin"
        assert str(event.uid) in back.context["reason"]
        assert back.changes["name"] == ["Petrol", "Oil"]
        assert back.changes["modified"][1] > event.changes["modified"][1]

    def test_it_can_be_reverted_itself(self, admin_client, product):
        event = change(product, name="Petrol")
        admin_client.post(address(event))
        admin_client.post(address(last()))
        product.refresh_from_db()
        assert product.name == "Petrol"

    def test_asking_changes_nothing(self, admin_client, product):
        event = change(product, name="Petrol")
        assert "Reverting is recorded as a new event" in text_of(admin_client.get(address(event)))
        product.refresh_from_db()
        assert product.name == "Petrol"

    def test_inherited_fields_and_odd_keys(self, admin_client, audit):
        audit()
        restaurant = Restaurant.objects.create(name="Napoli", stars=1)
        country = Country.objects.create(code="a/b ü", name="old")
        for obj, values in ((restaurant, {"name": "Roma", "stars": 3}), (country, {"name": "new"})):
            admin_client.post(address(change(obj, **values)))
            obj.refresh_from_db()
        assert (restaurant.name, restaurant.stars, country.name) == ("Napoli", 1, "old")


def test_the_page_marks_the_words_that_change_and_names_the_model_as_lists_do(admin_client, product):
    product.name = "light oil from the north sea"
    product.save()
    product.name = "light oil from the south sea"
    product.save()
    page = text_of(admin_client.get(address(last())))
    assert "from the <del>south</del> sea" in page
    assert "from the <ins>north</ins> sea" in page
    assert "(Product) will get back" in page


class TestMembers:
    @pytest.fixture
    def tags(self):
        return [Tag.objects.create(name=name) for name in ("sweet", "light", "heavy")]

    @pytest.fixture
    def event(self, product, tags):
        """Return the event of one call that took the first tag away and gave the two others."""
        product.tags.set(tags[:1])
        product.tags.set(tags[1:])
        return last()

    def test_what_came_goes_and_what_went_comes_again(self, admin_client, product, tags, event):
        assert f'href="{address(event)}"' in text_of(admin_client.get(page_of(event)))
        page = text_of(admin_client.get(address(event)))
        assert "+ <bdi>sweet" in page
        assert page.count("\N{MINUS SIGN} ") == 2
        assert admin_client.post(address(event)).status_code == 302
        assert list(product.tags.all()) == tags[:1]
        assert str(event.uid) in last().context["reason"]
        assert AuditEvent.objects.state_of(Product, product.pk)["tags"] == [tags[0].pk]

    def test_members_that_are_none_of_it_stay(self, admin_client, product, tags, event):
        other = Tag.objects.create(name="other")
        product.tags.add(other)
        admin_client.post(address(event))
        assert set(product.tags.all()) == {tags[0], other}

    def test_it_is_refused_when_a_member_came_back_or_went(self, admin_client, product, tags, event):
        product.tags.add(tags[0])
        refused(admin_client, event, "“Tags” has changed since.")
        product.tags.remove(*tags[:2])
        refused(admin_client, event, "“Tags” has changed since.")

    def test_it_is_refused_when_a_member_is_deleted(self, admin_client, tags, event):
        tags[0].delete()
        refused(admin_client, event, "The object that “Tags” referred to no longer exists.")

    def test_it_is_refused_when_the_field_is_gone_or_the_event_is_odd(self, admin_client, product):
        odd = {"event_type": "m2m", "model": "app.product", "object_id": str(product.pk)}
        gone = make_event(**odd, changes={"labels": {"added": [1], "removed": []}})
        refused(admin_client, gone, "The field “labels” no longer exists.")
        for changes in ({"tags": {"added": ["x"], "removed": []}}, {"tags": [None, 1]}, {}):
            event = make_event(**odd, changes=changes)
            refused(admin_client, event, "No value is recorded that could be restored.")

    def test_people_who_know_each_other(self, admin_client, audit):
        audit()
        ada, bob = Person.objects.create(name="Ada"), Person.objects.create(name="Bob")
        ada.friends.add(bob)
        event = AuditEvent.objects.for_object(ada).of_type("m2m").get()
        assert admin_client.post(address(event)).status_code == 302
        assert not bob.friends.exists()


class TestRefusal:
    def test_a_value_that_has_changed_since(self, admin_client, product):
        event = change(product, name="Petrol", stock=3)
        change(product, name="Diesel")
        refused(admin_client, event, "“Name” has changed since.")
        product.refresh_from_db()
        assert (product.name, product.stock) == ("Diesel", 3)

    def test_the_object_is_gone(self, admin_client, product):
        event = change(product, name="Petrol")
        product.delete()
        refused(admin_client, event, "The object no longer exists.")

    def test_what_a_foreign_key_named_is_gone(self, admin_client, product):
        category = Category.objects.create(name="Fruit")
        change(product, category=category)
        event = change(product, category=None)
        category.delete()
        refused(admin_client, event, "referred to no longer exists")

    @pytest.mark.parametrize(
        ("value", "reason"), [(mask("x", "secret"), "is masked"), (to_json(b"abc"), "Only a digest of")]
    )
    def test_values_that_are_not_known(self, admin_client, product, value, reason):
        event = make_event(model="app.product", object_id=str(product.pk), changes={"name": [value, "Oil"]})
        refused(admin_client, event, reason)

    def test_a_field_that_is_gone(self, admin_client, product):
        event = make_event(model="app.product", object_id=str(product.pk), changes={"once": ["a", "b"]})
        refused(admin_client, event, "no longer exists")

    def test_what_each_save_sets_by_itself(self, admin_client, product):
        stamps = ["2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"]
        event = make_event(model="app.product", object_id=str(product.pk), changes={"modified": stamps})
        refused(admin_client, event, "No value is recorded that could be restored.")

    def test_what_the_database_refuses(self, admin_client, product):
        product.slug = "oil"
        product.save()
        event = change(product, slug="petrol")
        Product.objects.create(name="Other", slug="oil")
        assert "The database rejects it" in text_of(admin_client.post(address(event)), 409)
        product.refresh_from_db()
        assert product.slug == "petrol"

    def test_nothing_is_changed_without_a_trace(self, admin_client, product, audit):
        event = change(product, name="Petrol")
        audit({"name": "tags", "model": "app.Tag"})
        assert "be recorded" in text_of(admin_client.post(address(event)), 409)
        product.refresh_from_db()
        assert product.name == "Petrol"

    def test_hostile_values_render_as_text(self, admin_client, product):
        event = change(product, name=HOSTILE)
        assert "<script>alert" not in text_of(admin_client.get(address(event)))


class TestLinkInTheHistory:
    """At each event that can be reverted, and at no other."""

    def links(self, client, product):
        """Return the events of the product's history from which a link leads to the page that asks."""
        text = text_of(client.get(history_url("admin", "app.product", str(product.pk))))
        return [event for event in AuditEvent.objects.order_by("id") if f'href="{address(event)}"' in text]

    def test_it_leads_to_the_page_that_asks(self, admin_client, product):
        event = change(product, name="Petrol")
        assert self.links(admin_client, product) == [event]
        assert "Yes, revert</button>" in text_of(admin_client.get(address(event)))

    def test_not_where_the_value_has_changed_since(self, admin_client, product):
        change(product, name="Petrol")
        newer, other = change(product, name="Diesel"), change(product, stock=3)
        assert self.links(admin_client, product) == [newer, other]

    def test_not_where_the_old_value_is_not_known(self, admin_client, product):
        change(product, api_token="secret")
        assert self.links(admin_client, product) == []

    def test_of_what_is_gone_only_its_end(self, admin_client, audit):
        audit()
        tag = Tag.objects.create(name="light")
        change(tag, name="heavy")
        key = tag.pk
        tag.delete()
        text = text_of(admin_client.get(history_url("admin", "app.tag", str(key))))
        assert [event.event_type for event in AuditEvent.objects.all() if f'href="{address(event)}"' in text] == [
            "delete"
        ]

    @pytest.mark.parametrize("missing", ["revert_auditevent", "change_product", None])
    def test_only_for_who_may(self, client, product, missing):
        event = change(product, name="Petrol")
        needed = {"view_auditevent", "view_product", "revert_auditevent", "change_product"} - {missing}
        user = User.objects.create_user("editor", is_staff=True)
        user.user_permissions.set(
            Permission.objects.filter(codename__in=needed, content_type__app_label__in=["app", "django_signal_audit"])
        )
        client.force_login(user)
        assert self.links(client, product) == ([event] if missing is None else [])

    def test_it_costs_no_query_per_event(self, admin_client, product, django_assert_num_queries):
        change(product, name="Petrol")
        self.links(admin_client, product)
        with CaptureQueriesContext(connection) as few:
            self.links(admin_client, product)
        for number in range(20):
            change(product, stock=number + 1)
        with django_assert_num_queries(len(few)):
            self.links(admin_client, product)


class TestPermission:
    @pytest.mark.parametrize("missing", ["view_auditevent", "revert_auditevent", "change_product", None])
    def test_it_takes_its_own_and_to_change_the_object(self, client, product, missing):
        needed = {"view_auditevent", "revert_auditevent", "change_product"} - {missing}
        user = User.objects.create_user("editor", is_staff=True)
        user.user_permissions.set(
            Permission.objects.filter(codename__in=needed, content_type__app_label__in=["app", "django_signal_audit"])
        )
        client.force_login(user)
        event = change(product, name="Petrol")
        status = client.post(address(event)).status_code
        product.refresh_from_db()
        assert (status == 302, product.name) == ((True, "Oil") if missing is None else (False, "Petrol"))

    @pytest.mark.parametrize("event_type", ["create", "login", "price_looked_up"])
    def test_of_other_events_there_is_no_way_back(self, admin_client, product, event_type):
        event = make_event(model="app.product", object_id=str(product.pk), event_type=event_type)
        assert admin_client.post(address(event)).status_code == 403
        assert address(event) not in text_of(admin_client.get(page_of(event)))

    def test_an_event_that_is_not_there(self, admin_client):
        url = reverse("admin:django_signal_audit_auditevent_revert", args=(4711,))
        assert admin_client.get(url).status_code == 404

    def test_a_form_of_another_site_changes_nothing(self, product, admin_user):
        from django.test import Client

        event = change(product, name="Petrol")
        client = Client(enforce_csrf_checks=True)
        client.force_login(admin_user)
        assert client.post(address(event)).status_code == 403
