"""A foreign key in a diff has the name that its object had then, by the object's own events."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from django_signal_audit.admin.links import history_url
from django_signal_audit.models import AuditEvent
from tests.app.models import Category, Product, Room, Shelf, Tag

from .conftest import last
from .model_admins import person_who_may, registered
from .revert_pages import page_of, text_of

pytestmark = pytest.mark.django_db

LIST = reverse("admin:django_signal_audit_auditevent_changelist")


@pytest.fixture
def category(audit):
    audit()
    return Category.objects.create(name="Fruit")


@pytest.fixture
def event(category):
    """Return the event of a product of the category, which was renamed later."""
    Product.objects.create(name="Apple", category=category)
    created = last()
    category.name = "Vegetables"
    category.save()
    return created


def test_the_name_of_that_time_is_shown_on_every_page(admin_client, category, event):
    product = Product.objects.get()
    Category.objects.update(name="Fruit")
    product.category = None
    product.save()
    Category.objects.update(name="Vegetables")
    for url in (page_of(event), LIST, history_url("admin", "app.product", str(product.pk)) + "?field=category"):
        text = text_of(admin_client.get(url))
        assert f"Fruit ({category.pk})" in text, url
        assert f"Vegetables ({category.pk})" not in text, url


def test_of_an_object_that_is_deleted_too(admin_client, category, event):
    key = category.pk
    category.delete()
    assert f"Fruit ({key}, deleted)" in text_of(admin_client.get(page_of(event)))
    assert f"Vegetables ({key}, deleted)" in text_of(
        admin_client.get(page_of(AuditEvent.objects.filter(model="app.product").latest("id")))
    )


def test_of_members(admin_client, audit):
    audit()
    tag, product = Tag.objects.create(name="sweet"), Product.objects.create(name="Apple")
    product.tags.add(tag)
    added = last()
    Tag.objects.update(name="sour")
    assert f"sweet ({tag.pk})" in text_of(admin_client.get(page_of(added)))
    tag.delete()
    assert "sweet (" in text_of(admin_client.get(page_of(added)))


def test_two_versions_have_the_names_of_their_times(admin_client, category, event):
    product = Product.objects.get()
    Product.objects.update(stock=5)
    newer = last()
    address = history_url("admin", "app.product", str(product.pk))
    rows = admin_client.get(f"{address}?older={event.pk}&newer={newer.pk}&all=1").context["rows"]
    line = next(row for row in rows if row.name == "category").lines[0]
    assert (line.old.text, line.new.text) == (f"Fruit ({category.pk})", f"Vegetables ({category.pk})")
    [shown] = [row for row in admin_client.get(f"{address}?at={event.pk}").context["rows"] if row.name == "category"]
    assert shown.lines[0].old.text == f"Fruit ({category.pk})"


def test_what_is_older_than_the_log_has_its_present_name(admin_client, audit):
    audit({"name": "products", "model": "app.Product"})
    category = Category.objects.create(name="Fruit")
    Product.objects.create(name="Apple", category=category)
    created = last()
    audit()
    Category.objects.update(name="Vegetables")
    assert f"Vegetables ({category.pk})" in text_of(admin_client.get(page_of(created)))


def test_a_key_that_is_no_primary_key_has_its_present_name(admin_client, audit):
    audit()
    room = Room.objects.create(code="r1", name="hall")
    Shelf.objects.create(code="s", room=room)
    assert "r1" in text_of(admin_client.get(page_of(last())))


class TestRights:
    def test_hidden_objects_are_not_named(self, client, category, event):
        class Narrow(admin.ModelAdmin):
            def get_queryset(self, request):
                return super().get_queryset(request).exclude(name="Vegetables")

        client.force_login(person_who_may("clerk", "view_product", "view_category"))
        with registered(Category, Narrow), registered(Product):
            text = text_of(client.get(page_of(event)))
        assert "Fruit" not in text
        assert "Vegetables" not in text

    def test_nor_deleted_ones_of_which_nobody_knows_whether_they_were_seen(self, client, category, event):
        class Narrow(admin.ModelAdmin):
            def get_queryset(self, request):
                return super().get_queryset(request).exclude(name="secret")

        category.delete()
        client.force_login(person_who_may("clerk", "view_product", "view_category"))
        with registered(Category, Narrow), registered(Product):
            assert "Fruit" not in text_of(client.get(page_of(event)))
        with registered(Category), registered(Product):
            assert "Fruit" in text_of(client.get(page_of(event)))

    def test_nor_those_of_models_that_the_user_may_not_view(self, client, category, event):
        client.force_login(person_who_may("clerk", "view_product"))
        assert "Fruit" not in text_of(client.get(page_of(event)))


def test_the_queries_do_not_grow_with_the_names(admin_client, audit):
    audit()
    counts = []
    for number in (2, 40):
        for place in range(number):
            product = Product.objects.create(name="Apple")
            product.category = Category.objects.create(name=f"c{number}-{place}")
            product.save(update_fields=["category"])
        admin_client.get(LIST)
        with CaptureQueriesContext(connection) as queries:
            text = text_of(admin_client.get(f"{LIST}?model=app.product&event_type=update"))
        assert f"c{number}-{number - 1} (" in text
        counts.append(len(queries))
    assert counts[0] == counts[1]
