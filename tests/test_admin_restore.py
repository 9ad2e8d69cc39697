"""Restoring an object as it was at any point of its history: chosen by field, checked like a revert, recorded."""

from __future__ import annotations

import re
from decimal import Decimal
from html import unescape

import pytest
from django import forms
from django.contrib import admin
from django.contrib.auth.models import User

from django_signal_audit.admin.links import event_url, history_url, restore_url
from django_signal_audit.models import AuditEvent
from tests.app.models import Category, Country, Document, Person, Place, Product, Restaurant, Shelf, Tag, Thing

from .conftest import last
from .model_admins import person_who_may, registered
from .revert_pages import problems, stored, text_of
from .samples import HOSTILE, make_event

pytestmark = pytest.mark.django_db

TOKEN = re.compile(
    r'<input type="checkbox" name="field" value="([^"]+)"[^>]*?( disabled)?( aria-describedby[^>]*)?( checked)?>'
)
NOTHING_SAVED = "The object has changed in the meantime. Nothing was saved."


def address(obj, point):
    """Return the page that restores the object as an event left it, or as it was at a time."""
    label = obj._meta.concrete_model._meta.label_lower
    return restore_url("admin", label, str(obj.pk), str(getattr(point, "pk", point)))


def boxes(text):
    """Return what the form sends for each field that can be chosen, by the field's name."""
    found = re.findall(r'<input type="checkbox" name="field" value="([^"]+)"([^>]*)>', text)
    return {unescape(token).partition(":")[0]: unescape(token) for token, rest in found if " disabled" not in rest}


def restore(client, url, *names, reason="", status=302):
    """Choose fields, all if none is named, and restore them; return the answer's text."""
    offered = boxes(text_of(client.get(url)))
    response = client.post(url, {"field": [offered[name] for name in names or offered], "reason": reason})
    assert response.status_code == status
    return response.content.decode()


@pytest.fixture
def product(audit):
    audit()
    return Product.objects.create(name="Oil", price="10.00", stock=5, attributes={"a": 1, "b": {"c": 2}})


@pytest.fixture
def first(product):
    """Return the event of the creation, after which everything has changed twice."""
    created = last()
    tags = [Tag.objects.create(name=name) for name in ("sweet", "light")]
    product.tags.add(tags[0])
    for name, price in (("Petrol", "12.50"), ("Diesel", "73.00")):
        product.name, product.price = name, Decimal(price)
        product.save()
    product.attributes = {"a": 1, "b": {"c": 3}}
    product.save()
    product.tags.set([tags[1]])
    return created


class TestRestore:
    def test_all_fields_come_back_by_one_update_and_their_members_by_another_event(self, admin_client, product, first):
        text = text_of(admin_client.get(address(product, first)))
        assert "4 fields differ" in text
        assert "73.00" in text
        count = AuditEvent.objects.count()
        restore(admin_client, address(product, first), reason="Taken off sale by mistake")
        product.refresh_from_db()
        assert (product.name, product.price, product.attributes) == ("Oil", Decimal("10.00"), {"a": 1, "b": {"c": 2}})
        assert list(product.tags.all()) == []
        new = list(AuditEvent.objects.order_by("id")[count:])
        assert [event.event_type for event in new] == ["update", "m2m"]
        assert {event.context["reason"] for event in new} == {"Taken off sale by mistake"}
        assert {event.actor_repr for event in new} == {"admin"}
        assert len({event.correlation_id for event in new}) == 1
        assert new[0].context["extra"] == {"restored_version": str(first.uid)}
        assert problems() == []

    def test_only_the_chosen_fields(self, admin_client, product, first):
        restore(admin_client, address(product, first), "price")
        product.refresh_from_db()
        assert (product.name, product.price) == ("Diesel", Decimal("10.00"))
        assert product.tags.get().name == "light"

    def test_a_version_in_the_middle_of_the_history_and_one_by_time(self, admin_client, product, first):
        middle = AuditEvent.objects.of_type("update").filter(model="app.product").earliest("id")
        for point in (middle, middle.recorded_at.isoformat()):
            restore(admin_client, address(product, point), "name", "price")
            product.refresh_from_db()
            assert (product.name, product.price) == ("Petrol", Decimal("12.50"))
            Product.objects.update(name="Diesel", price=13)

    def test_without_a_reason_the_event_names_the_version(self, admin_client, product, first):
        restore(admin_client, address(product, first), "name")
        assert last().context["reason"] == f"Restore of the version of event {first.uid}"

    def test_a_success_leads_to_the_history_and_names_the_new_event(self, admin_client, product, first):
        url = address(product, first)
        response = admin_client.post(url, {"field": [boxes(text_of(admin_client.get(url)))["name"]]}, follow=True)
        assert response.redirect_chain == [(history_url("admin", "app.product", str(product.pk)), 302)]
        assert f'href="{event_url("admin", last().pk)}"' in text_of(response)

    def test_asking_changes_nothing(self, admin_client, product, first):
        before, count = stored(product), AuditEvent.objects.count()
        text = text_of(admin_client.get(address(product, first)))
        assert "may trigger notifications" in text
        assert (stored(product), AuditEvent.objects.count()) == (before, count)

    def test_nothing_differs(self, admin_client, product):
        assert "Nothing differs" in text_of(admin_client.get(address(product, last())))
        assert "Select at least one field." in restore(admin_client, address(product, last()), status=409)

    def test_fields_that_set_themselves_are_named_and_left_alone(self, admin_client, product, first):
        text = text_of(admin_client.get(address(product, first)))
        assert "modified" not in boxes(text)

    def test_odd_keys_and_multi_table_children(self, admin_client, audit):
        audit()
        restaurant, country = (
            Restaurant.objects.create(name="Napoli", stars=1),
            Country.objects.create(code="a/b ü", name="old"),
        )
        for obj, values in ((restaurant, {"name": "Roma", "stars": 3}), (country, {"name": "new"})):
            created = AuditEvent.objects.for_object(obj).get()
            type(obj).objects.filter(pk=obj.pk).update(**values)
            restore(admin_client, address(obj, created))
            obj.refresh_from_db()
        assert (restaurant.name, restaurant.stars, country.name) == ("Napoli", 1, "old")
        assert problems() == []

    def test_the_page_of_an_event_leads_there(self, admin_client, product, first):
        assert f'href="{address(product, first)}"' in text_of(admin_client.get(event_url("admin", first.pk)))


class TestMeanwhile:
    def test_a_value_that_moved_on_saves_nothing_and_shows_the_new_table(self, admin_client, product, first):
        url = address(product, first)
        seen = boxes(text_of(admin_client.get(url)))
        product.price = Decimal("99.00")
        product.save()
        count = AuditEvent.objects.count()
        response = admin_client.post(url, {"field": list(seen.values()), "reason": "why"})
        text = text_of(response, 409)
        assert NOTHING_SAVED in text
        assert "99.00" in text
        assert 'value="why"' in text
        assert AuditEvent.objects.count() == count
        assert boxes(text)["price"] != seen["price"]

    def test_a_field_that_was_not_chosen_may_move_on(self, admin_client, product, first):
        seen = boxes(text_of(admin_client.get(address(product, first))))
        Product.objects.update(price=99)
        assert admin_client.post(address(product, first), {"field": seen["name"]}).status_code == 302

    def test_members_that_moved_on(self, admin_client, product, first):
        seen = boxes(text_of(admin_client.get(address(product, first))))
        product.tags.clear()
        assert NOTHING_SAVED in text_of(admin_client.post(address(product, first), {"field": seen["tags"]}), 409)

    def test_an_object_that_was_deleted_meanwhile(self, admin_client, product, first):
        url = address(product, first)
        seen = boxes(text_of(admin_client.get(url)))
        product.delete()
        assert NOTHING_SAVED in text_of(admin_client.post(url, {"field": seen["name"]}), 409)
        assert not Product.objects.exists()

    @pytest.mark.parametrize("token", ["", "name", "name:0", "password:1", "\0", HOSTILE, "x" * 5000])
    def test_what_no_form_sends(self, admin_client, product, first, token):
        before = stored(product)
        text = text_of(admin_client.post(address(product, first), {"field": token}), 409)
        assert "<script>alert" not in text
        assert stored(product) == before


class TestDeleted:
    def test_as_it_was_at_its_end_and_at_any_point_before(self, admin_client, product, first):
        key = product.pk
        for point in ("deletion", first):
            Product.objects.get(pk=key).delete()
            deleted = last() if last().event_type == "delete" else AuditEvent.objects.of_type("delete").latest("id")
            product.pk = key
            restore(admin_client, address(product, deleted if point == "deletion" else point))
            product.refresh_from_db()
            assert product.name == ("Diesel" if point == "deletion" else "Oil")
        assert problems() == []

    def test_fields_that_are_left_out_get_their_defaults(self, admin_client, product, first):
        key = product.pk
        product.delete()
        product.pk = key
        restore(admin_client, address(product, AuditEvent.objects.of_type("delete").latest("id")), "price", "tags")
        product.refresh_from_db()
        assert (product.name, product.price, product.stock) == ("Diesel", Decimal("73.00"), 0)
        assert product.tags.get().name == "light"

    def test_what_it_referred_to_is_gone(self, admin_client, audit):
        audit()
        category = Category.objects.create(name="Fruit")
        product = Product.objects.create(name="Apple", category=category)
        key, created = product.pk, last()
        product.delete()
        category.delete()
        product.pk = key
        text = text_of(admin_client.get(address(product, created)))
        assert "The object that “Category” referred to no longer exists." in text
        assert "category" not in boxes(text)
        restore(admin_client, address(product, created))
        product.refresh_from_db()
        assert (product.name, product.category) == ("Apple", None)

    def test_a_child_comes_back_whole_from_the_history_of_its_parent(self, admin_client, audit):
        audit()
        restaurant = Restaurant.objects.create(name="Napoli", stars=1)
        created, pk = AuditEvent.objects.for_object(restaurant).get(), restaurant.pk
        restaurant.delete()
        deleted = AuditEvent.objects.of_type("delete").get()
        for point in (str(created.pk), str(deleted.pk), "2100-01-01"):
            parents = restore_url("admin", "app.place", str(pk), point)
            childs = parents.partition("?")[0].replace("app.place", "app.restaurant")
            assert admin_client.get(parents).headers["Location"].partition("?")[0] == childs
            # Nothing is saved where a form of another page is sent.
            assert admin_client.post(parents, {"field": "name:x"}).headers["Location"].startswith(childs)
            assert not Place.objects.exists()
        restore(admin_client, restore_url("admin", "app.restaurant", str(pk), str(deleted.pk)))
        assert Restaurant.objects.values_list("pk", "name", "stars").get() == (pk, "Napoli", 1)
        assert problems() == []

    def test_it_takes_the_permission_to_add(self, client, product):
        key, created = product.pk, last()
        product.delete()
        product.pk = key
        client.force_login(person_who_may("clerk", "restore_auditevent", "change_product", "view_product"))
        assert client.get(address(product, created)).status_code == 403
        client.force_login(
            person_who_may("boss", "restore_auditevent", "add_product", "change_product", "view_product")
        )
        restore(client, address(product, created))
        assert Product.objects.get().name == "Oil"


class TestWhatCannot:
    def test_masked_values_and_digests_are_named_and_the_others_restored(self, admin_client, audit):
        audit()
        product = Product.objects.create(name="Oil", api_token="old secret", blob=b"old")
        created = last()
        Product.objects.update(name="Petrol", api_token="new secret", blob=b"new")
        text = text_of(admin_client.get(address(product, created)))
        assert "“Api token” is masked: its old value isn&#x27;t recorded." in text
        assert "Only a digest of “Blob” is recorded, not its old value." in text
        assert "secret" not in text.replace("audit-secret", "")
        assert set(boxes(text)) == {"name"}
        restore(admin_client, address(product, created))
        product.refresh_from_db()
        assert (product.name, product.api_token) == ("Oil", "new secret")

    def test_a_secret_that_is_the_same_does_not_differ(self, admin_client, audit):
        audit()
        product = Product.objects.create(name="Oil", api_token="same secret")
        created = last()
        Product.objects.update(name="Petrol")
        assert "Api token" not in text_of(admin_client.get(address(product, created)))

    def test_fields_that_are_gone(self, admin_client, audit):
        audit()
        tag = Tag.objects.create(name="new")
        event = make_event(
            event_type="create",
            model="app.tag",
            object_id=str(tag.pk),
            changes={"name": [None, "old"], "colour": [None, "red"]},
        )
        text = text_of(admin_client.get(address(tag, event)))
        assert set(boxes(text)) == {"name"}
        restore(admin_client, address(tag, event))
        tag.refresh_from_db()
        assert tag.name == "old"

    def test_a_model_that_is_gone(self, admin_client):
        event = make_event(model="gone.thing", changes={"price": ["1", "2"]})
        text = text_of(admin_client.get(restore_url("admin", "gone.thing", "3", str(event.pk))))
        assert "The model “gone.thing” no longer exists." in text

    def test_related_rows_that_are_gone(self, admin_client, audit):
        audit()
        old, new = Shelf.objects.create(code="old"), Shelf.objects.create(code="new")
        thing = Thing.objects.create(name="lamp", shelf=old)
        paper = Document.objects.create(title="a")
        thing.papers.add(paper)
        version = last()
        thing.shelf, thing.name = new, "vase"
        thing.save()
        thing.papers.clear()
        old.delete()
        paper.delete()
        text = text_of(admin_client.get(address(thing, version)))
        assert "The object that “Shelf” referred to no longer exists." in text
        assert "The object that “Papers” referred to no longer exists." in text
        restore(admin_client, address(thing, version))
        thing.refresh_from_db()
        assert (thing.name, thing.shelf_id) == ("lamp", "new")

    def test_fields_that_no_rule_records_any_more(self, admin_client, audit):
        audit()
        product = Product.objects.create(name="Oil", stock=5)
        created = last()
        Product.objects.update(name="Petrol", stock=6)
        audit({"name": "names", "model": "app.Product", "fields": ["name"]})
        assert set(boxes(text_of(admin_client.get(address(product, created))))) == {"name"}

    @pytest.mark.parametrize(
        "point", ["", "current", "0", "999999", "9" * 30, "soon", "\0", HOSTILE, "2026-02-31", "1900-01-01"]
    )
    def test_points_at_which_nothing_was(self, admin_client, product, point):
        text = text_of(admin_client.get(restore_url("admin", "app.product", str(product.pk), point)))
        assert "This version can&#x27;t be restored." in text or "can't be restored" in text
        assert "<script>alert" not in text
        assert text_of(admin_client.post(restore_url("admin", "app.product", str(product.pk), point)))

    def test_an_event_of_another_object_is_no_version_of_this_one(self, admin_client, product):
        Tag.objects.create(name="x")
        assert "This object has no such version." in text_of(admin_client.get(address(product, last())))

    @pytest.mark.parametrize(
        "changes", [{"name": [None]}, {"name": "x"}, [], {"tags": {"added": ["x"]}}, {"price": [None, {}]}]
    )
    def test_documents_that_are_none(self, admin_client, audit, changes):
        audit()
        product = Product.objects.create(name="Oil")
        event = make_event(event_type="update", model="app.product", object_id=str(product.pk), changes=changes)
        text_of(admin_client.get(address(product, event)))


class TestRights:
    """A user who may not see or change a thing in the registered ModelAdmin neither sees nor restores it."""

    @pytest.mark.parametrize("missing", ["restore_auditevent", "change_product", "view_auditevent"])
    def test_each_permission_is_needed(self, client, product, first, missing):
        user = person_who_may("clerk", "restore_auditevent", "change_product", "view_product")
        user.user_permissions.remove(*user.user_permissions.filter(codename=missing))
        client.force_login(user)
        assert client.get(address(product, first)).status_code == 403
        assert client.post(address(product, first)).status_code == 403

    def test_with_all_of_them(self, client, product, first):
        client.force_login(person_who_may("clerk", "restore_auditevent", "change_product", "view_product"))
        restore(client, address(product, first), "name")
        assert Product.objects.get().name == "Oil"

    def test_excluded_fields_are_not_shown_and_read_only_ones_not_restored(self, client, product, first):
        class Narrow(admin.ModelAdmin):
            exclude = ["price"]
            readonly_fields = ["name"]

        client.force_login(person_who_may("clerk", "restore_auditevent", "change_product", "view_product"))
        with registered(Product, Narrow):
            text = text_of(client.get(address(product, first)))
            assert "73.00" not in text
            assert "You may not change “Name”." in text
            assert set(boxes(text)) == {"attributes", "tags"}

    def test_rows_that_the_queryset_hides(self, client, product, first):
        class Narrow(admin.ModelAdmin):
            def get_queryset(self, request):
                return super().get_queryset(request).exclude(name="Diesel")

        client.force_login(person_who_may("clerk", "restore_auditevent", "change_product", "view_product"))
        with registered(Product, Narrow):
            assert client.get(address(product, first)).status_code == 403

    def test_what_the_form_refuses(self, admin_client, product, first):
        class Form(forms.ModelForm):
            def clean(self):
                if self.cleaned_data["name"] == "Oil" and not self.cleaned_data["tags"]:
                    raise forms.ValidationError("Oil needs a tag.")

            class Meta:
                model = Product
                fields = "__all__"

        class Strict(admin.ModelAdmin):
            form = Form

        with registered(Product, Strict):
            assert "Oil needs a tag." in text_of(admin_client.get(address(product, first)))
            assert "Oil needs a tag." in restore(admin_client, address(product, first), status=409)
            # Columns and members are asked about together.
            restore(admin_client, address(product, first), "name", "price")
        assert Product.objects.get().name == "Oil"

    def test_choices_that_the_user_is_not_offered(self, client, audit):
        class Narrow(admin.ModelAdmin):
            def formfield_for_foreignkey(self, db_field, request, **kwargs):
                if db_field.name == "category":
                    kwargs["queryset"] = Category.objects.exclude(name="secret")
                return super().formfield_for_foreignkey(db_field, request, **kwargs)

        audit()
        product = Product.objects.create(name="Oil", category=Category.objects.create(name="secret"))
        created = last()
        Product.objects.update(category=None, name="Petrol")
        client.force_login(person_who_may("clerk", "restore_auditevent", "change_product", "view_product"))
        with registered(Product, Narrow):
            text = text_of(client.get(address(product, created)))
            assert set(boxes(text)) == {"name"}

    def test_a_login_is_asked_for(self, client, product, first):
        assert client.get(address(product, first)).status_code == 302

    def test_a_person_with_a_user_that_is_gone(self, admin_client, audit):
        audit()
        owner = User.objects.create_user("owner")
        person = Person.objects.create(name="Ada", owner=owner)
        created = last()
        owner.delete()
        text = text_of(admin_client.get(address(person, created)))
        assert boxes(text) == {}
        assert "None of the fields that differ can be restored." in text
