"""All changes of one request are reverted together, the newest first, or none of them is."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from django.contrib import admin
from django.urls import reverse

from django_signal_audit.admin.links import revert_request_url
from django_signal_audit.context.scopes import audit_context, current_context
from django_signal_audit.models import AuditEvent
from tests.app.models import Category, Picture, Product, Restaurant, Tag

from .model_admins import person_who_may, registered
from .revert_pages import problems, text_of
from .samples import HOSTILE, make_event

pytestmark = pytest.mark.django_db

LIST = reverse("admin:django_signal_audit_auditevent_changelist")


@pytest.fixture
def product(audit):
    audit()
    product = Product.objects.create(name="Oil", price="10.00", category=Category.objects.create(name="Fuel"))
    product.tags.add(Tag.objects.create(name="sweet"))
    return product


def recorded(change):
    """Do something as one request, and return its correlation."""
    with audit_context(reason="by mistake"):
        change()
        return current_context().correlation_id


def post(client, correlation, status=302, **values):
    address = revert_request_url("admin", correlation)
    seen = re.search(r'name="seen" value="(\w+)"', text_of(client.get(address)))[1]
    response = client.post(address, {"seen": seen, **values})
    assert response.status_code == status
    return response.content.decode()


def everything():
    return {
        model: list(model.objects.order_by("pk").values())
        for model in (Product, Category, Tag, Picture, Product.tags.through)
    }


class TestReverted:
    def test_updates_members_deletions_and_creations(self, admin_client, product):
        picture = Picture.objects.create(product=product, file="a.jpg")
        before = everything()

        def change():
            product.name, product.price = "Petrol", Decimal("12.00")
            product.save()
            product.tags.set([Tag.objects.create(name="new")])
            product.name = "Diesel"
            product.save()
            picture.delete()

        correlation = recorded(change)
        text = text_of(admin_client.get(revert_request_url("admin", correlation)))
        assert "5 changes" in text
        post(admin_client, correlation, reason="it was a mistake")
        after = everything()
        for rows in (*before.values(), *after.values()):
            for row in rows:
                row.pop("modified", None)
                row.pop("id", None)
        assert after == before
        new = AuditEvent.objects.filter(context__reason="it was a mistake")
        assert new.count() == 6  # members go and come by an event each
        assert len(set(new.values_list("correlation_id", flat=True))) == 1
        assert {event.context["extra"]["reverted_request"] for event in new} == {correlation}
        assert problems() == []

    def test_a_cascade_comes_back_with_what_it_began_with(self, admin_client, product):
        key = product.pk
        Picture.objects.create(product=product, file="a.jpg")
        correlation = recorded(product.delete)
        post(admin_client, correlation)
        assert Product.objects.get().pk == key
        assert Picture.objects.get().product_id == key
        assert Product.objects.get().tags.get().name == "sweet"
        assert problems() == []

    def test_a_multi_table_child_is_deleted_with_its_parents_row(self, admin_client, audit):
        audit()
        correlation = recorded(lambda: Restaurant.objects.create(name="Napoli"))
        post(admin_client, correlation)
        assert not Restaurant.objects.exists()
        assert problems() == []

    def test_without_a_reason_it_names_the_request(self, admin_client, product):
        correlation = recorded(lambda: Product.objects.update(name="x"))
        post(admin_client, correlation)
        assert AuditEvent.objects.latest("id").context["reason"] == f"Revert of request {correlation}"

    def test_the_list_of_the_request_leads_there(self, admin_client, product):
        correlation = recorded(lambda: Product.objects.update(name="x"))
        address = revert_request_url("admin", correlation)
        assert f'href="{address}"' in text_of(admin_client.get(LIST, {"request": correlation}))
        assert "/revert/?request" not in text_of(admin_client.get(LIST))

    def test_asking_changes_nothing(self, admin_client, product):
        correlation = recorded(lambda: Product.objects.update(name="x"))
        before = everything(), AuditEvent.objects.count()
        assert "All of these changes are reverted together" in text_of(
            admin_client.get(revert_request_url("admin", correlation))
        )
        assert (everything(), AuditEvent.objects.count()) == before

    def test_what_was_changed_before_it_was_deleted(self, admin_client, product):
        key = product.pk

        def change():
            product.name = "Petrol"
            product.save()
            product.delete()

        post(admin_client, recorded(change))
        assert Product.objects.get(pk=key).name == "Oil"
        assert problems() == []

    def test_what_came_and_went_stays_gone(self, admin_client, product):
        def change():
            Product.objects.update(name="Petrol")
            Tag.objects.create(name="passing").delete()

        correlation = recorded(change)
        post(admin_client, correlation)
        assert Product.objects.get().name == "Oil"
        assert not Tag.objects.filter(name="passing").exists()
        passing = recorded(lambda: Tag.objects.create(name="passing").delete())
        assert "deleted already" in text_of(admin_client.get(revert_request_url("admin", passing)))


class TestAllOrNothing:
    def refused(self, client, correlation, reason):
        before = everything(), AuditEvent.objects.count()
        text = post(client, correlation, status=409)
        assert reason in text
        assert (everything(), AuditEvent.objects.count()) == before

    def test_one_value_has_changed_since(self, admin_client, product):
        other = Product.objects.create(name="Coal")

        def change():
            product.name = other.name = "x"
            product.save()
            other.save()

        correlation = recorded(change)
        product.name = "y"
        product.save()
        self.refused(admin_client, correlation, "“Name” has changed since.")

    def test_what_was_created_has_changed_or_is_referred_to(self, admin_client, audit):
        audit()
        made = []
        correlation = recorded(lambda: made.append(Category.objects.create(name="a")))
        Product.objects.create(name="Oil", category=made[0])
        self.refused(admin_client, correlation, "Other objects refer to it.")
        Product.objects.all().delete()
        Category.objects.update(name="b")
        self.refused(admin_client, correlation, "“Name” has changed since.")

    def test_more_was_recorded_after_the_page_was_opened(self, admin_client, product):
        correlation = recorded(lambda: Product.objects.update(name="x"))
        address = revert_request_url("admin", correlation)
        seen = re.search(r'name="seen" value="(\w+)"', text_of(admin_client.get(address)))[1]
        make_event(
            model="app.product", object_id=str(product.pk), correlation_id=correlation, changes={"stock": [0, 1]}
        )
        text = text_of(admin_client.post(address, {"seen": seen}), 409)
        assert "More has been recorded in the meantime." in text
        assert Product.objects.get().name == "x"

    def test_masked_values(self, admin_client, product):
        correlation = recorded(lambda: Product.objects.update(api_token="new"))
        self.refused(admin_client, correlation, "(changed): “Api token” is masked")

    def test_too_many(self, admin_client, audit):
        audit()
        correlation = recorded(lambda: Tag.objects.bulk_create([Tag(name=f"{n}") for n in range(201)]))
        text = text_of(admin_client.get(revert_request_url("admin", correlation)))
        assert "It has more than 200 changes." in text
        assert "audit-main" not in text


class TestRights:
    @pytest.fixture
    def correlation(self, product):
        def change():
            Product.objects.update(name="x")
            Category.objects.update(name="y")

        return recorded(change)

    def test_it_takes_the_rights_to_revert_each(self, client, correlation):
        address = revert_request_url("admin", correlation)
        client.force_login(person_who_may("a", "view_product", "change_product", "view_category"))
        assert "You may not revert it" in text_of(client.get(address))
        client.force_login(person_who_may("b", "view_product", "change_product", "change_category"))
        post(client, correlation)
        assert (Product.objects.get().name, Category.objects.get().name) == ("Oil", "Fuel")

    def test_events_that_the_user_may_not_see_are_not_reverted_around(self, client, correlation):
        client.force_login(person_who_may("a", "view_product", "change_product"))
        text = text_of(client.get(revert_request_url("admin", correlation)))
        assert "You may not view all of its changes." in text
        assert "Fuel" not in text

    def test_what_was_created_takes_the_right_to_delete(self, client, audit):
        class NoDeletion(admin.ModelAdmin):
            def has_delete_permission(self, request, obj=None):
                return False

        audit()
        correlation = recorded(lambda: Tag.objects.create(name="x"))
        client.force_login(person_who_may("a", "view_tag", "delete_tag"))
        with registered(Tag, NoDeletion):
            assert "You may not revert it" in text_of(client.get(revert_request_url("admin", correlation)))
        with registered(Tag):
            post(client, correlation)
        assert not Tag.objects.exists()

    def test_nobody_without_the_permissions(self, client, correlation):
        user = person_who_may("a", "view_product", "change_product", "change_category", "view_category")
        user.user_permissions.remove(*user.user_permissions.filter(codename="revert_auditevent"))
        client.force_login(user)
        assert client.get(revert_request_url("admin", correlation)).status_code == 403
        assert "/revert/?request" not in text_of(client.get(LIST, {"request": correlation}))

    @pytest.mark.parametrize("correlation", ["", "nothing", "\0", HOSTILE, "x" * 5000])
    def test_requests_that_never_were(self, admin_client, db, correlation):
        assert admin_client.get(revert_request_url("admin", correlation)).status_code == 404
        assert admin_client.post(revert_request_url("admin", correlation)).status_code == 404
