"""Deleted rows are shown only to users from whom nothing could have hidden them."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db import connection, models
from django.test.utils import isolate_apps
from django.urls import reverse

from django_signal_audit.admin.links import history_url
from tests.app.models import (
    Country,
    Hidden,
    Note,
    Person,
    Picture,
    Place,
    Product,
    Restaurant,
    Seat,
    Tag,
    Team,
)

from .conftest import events
from .model_admins import person_who_may, registered
from .revert_pages import address, deletion, page_of
from .samples import make_event

pytestmark = pytest.mark.django_db

LIST = reverse("admin:django_signal_audit_auditevent_changelist")


def pages_of(client, row):
    """Return what the pages about a row show, whose name is a secret."""
    label, key = row._meta.concrete_model._meta.label_lower, str(row.pk)
    history = history_url("admin", label, key)
    urls = [f"{LIST}?model={label}", f"{reverse('signal_audit:events')}?model={label}", f"{LIST}?q=secret"]
    urls += [page_of(event) for event in events(model=label, object_id=key)]
    urls += [history, f"{history}?at=2100-01-01", f"{history}?older=1h"]
    return "".join(client.get(url, follow=True).content.decode() for url in urls).replace('value="secret"', "")


class TestDefaultManagersThatFilter:
    def test_deleted_rows_are_hidden_as_those_that_are_there(self, client, audit):
        audit()
        client.force_login(person_who_may("joe", *(f"{one}_hidden" for one in ("view", "change", "add", "delete"))))
        row = Hidden.objects.create(name="a secret")
        with registered(Hidden):
            assert "a secret" not in pages_of(client, row)
            event = deletion(row)
            assert "a secret" not in pages_of(client, row)
            assert client.post(address(event)).status_code == 404

    def test_so_are_those_that_the_manager_of_a_proxy_hides(self, admin_client, audit):
        class Open(models.Manager):
            def get_queryset(self):
                return super().get_queryset().exclude(name__contains="secret")

        with isolate_apps("tests.app"):

            class OpenProduct(Product):
                objects = Open()

                class Meta:
                    app_label = "app"
                    proxy = True

        audit()
        row, other = Product.objects.create(name="a secret"), Product.objects.create(name="known")
        with registered(OpenProduct):
            assert "a secret" not in pages_of(admin_client, row)
            assert "known" in pages_of(admin_client, other)
            deletion(row)
            assert "a secret" not in pages_of(admin_client, row)


def only_if(condition):
    """Return a ModelAdmin that shows the rows for which a function is true."""

    def has_view_permission(self, request, obj=None):
        return obj is None or bool(condition(obj))

    methods = dict.fromkeys(("has_view_permission", "has_change_permission"), has_view_permission)
    return type("OnlyIf", (admin.ModelAdmin,), methods)


def secret_product(**values):
    product = Product.objects.create(name="a secret", is_active=False, api_token="t", slug="slug", **values)
    product.tags.add(Tag.objects.create(name="barred"))
    Picture.objects.create(product=product, file="a.png")
    Note.objects.create(text="barred", about=product)
    return product


class TestPermissionsThatDependOnTheRow:
    @pytest.fixture
    def seen_by_joe(self, client, audit):
        audit({"name": "products", "model": "app.Product", "exclude": ["is_active"]})
        client.force_login(person_who_may("joe", "view_product", "change_product", "add_product"))
        return client

    @pytest.mark.parametrize(
        "condition",
        [
            lambda obj: obj.is_active,
            lambda obj: getattr(obj, "is_active", True),
            lambda obj: obj.api_token != "t",
            lambda obj: not obj.tags.filter(name="barred").exists(),
            lambda obj: not obj.pictures.exists(),
            lambda obj: not obj.notes.filter(text="barred").exists(),
            lambda obj: obj.refresh_from_db() or obj.is_active,
        ],
    )
    def test_what_is_not_recorded_of_a_row_hides_it(self, seen_by_joe, condition):
        product = secret_product()
        with registered(Product, only_if(condition)):
            assert "a secret" not in pages_of(seen_by_joe, product)
            event = deletion(product)
            assert "a secret" not in pages_of(seen_by_joe, product)
            assert seen_by_joe.post(address(event)).status_code == 404

    @pytest.mark.parametrize(
        "condition", [lambda obj: obj.slug == "slug", lambda obj: obj.pk and obj.category is None, lambda _obj: True]
    )
    def test_what_is_recorded_of_it_decides(self, seen_by_joe, condition):
        product = secret_product()
        with registered(Product, only_if(condition)):
            deletion(product)
            assert "a secret" in pages_of(seen_by_joe, product)

    def test_it_was_what_it_was_in_the_end(self, seen_by_joe):
        product = secret_product(stock=1)
        product.stock = 2
        product.save()
        deletion(product)
        for stock, is_shown in ((1, False), (2, True)):
            with registered(Product, only_if(lambda obj, stock=stock: obj.stock == stock)):
                assert ("a secret" in pages_of(seen_by_joe, product)) is is_shown

    def test_a_deletion_that_was_not_recorded_hides_it(self, seen_by_joe):
        product = secret_product()
        with connection.cursor() as cursor:
            for table in ("app_picture", "app_product_tags"):
                cursor.execute(f"DELETE FROM {table}")
            cursor.execute("DELETE FROM app_product")
        with registered(Product, only_if(lambda obj: obj.stock == 0)):
            assert "a secret" not in pages_of(seen_by_joe, product)

    @pytest.mark.parametrize("changes", [[1], "x", {"slug": ["slug"], "stock": {}}, {"slug": [{"a": 1}, None]}])
    def test_a_deletion_that_can_not_be_read_breaks_no_page(self, seen_by_joe, changes):
        class Asking(admin.ModelAdmin):
            def get_exclude(self, request, obj=None):
                return ["slug"] if obj is not None and obj.stock else []

        class Pictures(admin.TabularInline):
            model = Picture

            def get_queryset(self, request):
                return super().get_queryset(request).exclude(file="x")

        User.objects.get(username="joe").user_permissions.add(Permission.objects.get(codename="view_picture"))
        create = {"slug": [None, "a secret"]}
        for label in ("app.product", "app.picture"):
            make_event(model=label, object_id="7", event_type="create", changes=create)
            make_event(model=label, object_id="7", object_repr="gone", event_type="delete", changes=changes)
        with registered(Product, type("Both", (Asking,), {"inlines": (Pictures,)})):
            assert "a secret" not in pages_of(seen_by_joe, Product(pk=7))
            assert "a secret" not in pages_of(seen_by_joe, Picture(pk=7))

    def test_the_project_decides_about_what_can_not_be_told(self, client, audit):
        rule = {"name": "products", "model": "app.Product", "exclude": ["is_active"]}
        audit(rule, VISIBILITY="tests.test_admin_rights_to_deleted_rows.everything")
        client.force_login(person_who_may("joe", "view_product"))
        product = secret_product()
        with registered(Product, only_if(lambda obj: obj.is_active)):
            assert "a secret" not in pages_of(client, product)
            deletion(product)
            assert "a secret" in pages_of(client, product)
        with registered(Product, only_if(lambda obj: obj.stock)):
            assert "a secret" not in pages_of(client, product)

    def test_fields_that_depend_on_what_is_not_recorded_are_hidden(self, seen_by_joe):
        class Open(admin.ModelAdmin):
            def get_exclude(self, request, obj=None):
                return [] if obj is None or obj.is_active else ["slug"]

        product = secret_product()
        Product.objects.filter(pk=product.pk).update(slug="a secret slug")
        with registered(Product, Open):
            assert "a secret slug" not in pages_of(seen_by_joe, product)
            deletion(product)
            assert "a secret slug" not in pages_of(seen_by_joe, product)

    def test_a_relation_of_one_row_to_another_is_not_known_either(self, client, audit):
        audit({"name": "places", "model": "app.Place"})
        client.force_login(person_who_may("joe", "view_place"))
        place = Restaurant.objects.create(name="a secret").place_ptr
        with registered(Place, only_if(lambda obj: not hasattr(obj, "restaurant"))):
            assert "a secret" not in pages_of(client, place)
            key = place.pk
            place.delete()
            place.pk = key
            assert "a secret" not in pages_of(client, place)


def everything(user, events):
    """Return all events."""
    return events


class OfTheGroundFloor(admin.ModelAdmin):
    """Shows some rows, and more to superusers."""

    def get_queryset(self, request):
        rows = super().get_queryset(request)
        return rows if request.user.is_superuser else rows.filter(name="mine")


class TestKeysThatAreUsedAgain:
    """Who adds a row with the primary key of a deleted one does not see the history of that."""

    @pytest.fixture
    def seen_by_joe(self, client, audit):
        audit()
        may = [
            f"{action}_{model}" for action in ("view", "change", "add") for model in ("country", "line", "team", "seat")
        ]
        client.force_login(person_who_may("joe", *may, "restore_auditevent", "view_person"))
        return client

    def countries(self):
        """Make a country, delete it, and make another one with its key; return that."""
        secret = Country.objects.create(code="K1", name="a secret")
        secret.name = "a secret again"
        secret.save()
        deletion(secret)
        return Country.objects.create(code="K1", name="mine")

    def test_its_events_are_nowhere(self, seen_by_joe):
        country = self.countries()
        first, _second, deleted, own = events(model="app.country")
        with registered(Country, OfTheGroundFloor):
            text = pages_of(seen_by_joe, country)
            assert "a secret" not in text
            assert "mine" in text
            for event in (first, deleted):
                assert seen_by_joe.get(page_of(event)).status_code == 302
                assert seen_by_joe.post(address(event)).status_code == 404
            assert seen_by_joe.get(page_of(own)).status_code == 200

    @pytest.mark.parametrize("page", ["?at={}", "?older={}", "?at={}&format=json", "restore/?version={}"])
    def test_nor_are_its_states(self, seen_by_joe, page):
        country = self.countries()
        country.name = "a name of mine"
        with registered(Country, OfTheGroundFloor):
            for event in events(model="app.country")[:2]:
                for point in (event.pk, event.recorded_at.isoformat()):
                    url = history_url("admin", "app.country", "K1") + page.format(quote(str(point)))
                    assert "a secret" not in seen_by_joe.get(url).content.decode()

    def test_the_history_of_the_own_one_goes_on(self, seen_by_joe):
        country = self.countries()
        Country.objects.filter(code="K1").update(name="theirs")
        Country.objects.filter(code="K1").update(name="mine")
        with registered(Country, OfTheGroundFloor):
            text = pages_of(seen_by_joe, country)
        assert "theirs" in text
        assert "a secret" not in text

    def test_superusers_see_all_of_it(self, admin_client, audit):
        audit()
        country = self.countries()
        with registered(Country, OfTheGroundFloor):
            assert "a secret" in pages_of(admin_client, country)

    def test_a_row_that_was_added_past_us_has_no_earlier_history_either(self, seen_by_joe):
        country = self.countries()
        deletion(country)
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO app_country (code, name) VALUES ('K1', 'mine')")
        with registered(Country, OfTheGroundFloor):
            assert "secret" not in pages_of(seen_by_joe, country)

    def test_each_row_of_a_key_is_asked_about_as_it_was(self, seen_by_joe):
        country = self.countries()
        deletion(country)
        other = Country.objects.create(code="K1", name="a third")
        with registered(Country, only_if(lambda obj: "secret" not in obj.name)):
            text = pages_of(seen_by_joe, other)
            assert "mine" in text
            assert "a third" in text
            assert "a secret" not in text

    @pytest.mark.parametrize("page", ["?at={}", "?older={}", "?at={}&format=json", "restore/?version={}"])
    def test_the_fields_of_each_are_those_that_its_own_page_had(self, seen_by_joe, page):
        class Classified(admin.ModelAdmin):
            def get_exclude(self, request, obj=None):
                return ["slug"] if obj is not None and obj.stock else []

        first = Product.objects.create(name="x", slug="a secret", stock=1)
        key = first.pk
        deleted = deletion(first)
        Product.objects.create(pk=key, name="y", slug="known")
        own = events(model="app.product")[-1]
        User.objects.get(username="joe").user_permissions.add(
            *Permission.objects.filter(codename__in=["view_product", "change_product", "add_product"])
        )
        history = history_url("admin", "app.product", str(key))
        with registered(Product, Classified):
            for event in (events(model="app.product")[0], deleted):
                assert "a secret" not in seen_by_joe.get(history + page.format(event.pk)).content.decode()
            assert "a secret" not in seen_by_joe.get(history).content.decode()
            if "at=" in page:
                assert "known" in seen_by_joe.get(history + page.format(own.pk)).content.decode()

    def test_the_deleted_rows_of_a_deleted_parent_are_not_those_of_the_new_one(self, seen_by_joe):
        class Seats(admin.TabularInline):
            model = Seat

        class Teams(OfTheGroundFloor):
            inlines = (Seats,)

        person = Person.objects.create(name="Ada")
        team = Team.objects.create(name="theirs")
        seat = Seat.objects.create(team=team, person=person, role="a secret")
        deletion(seat)
        key = team.pk
        deletion(team)
        Team.objects.create(pk=key, name="mine")
        own = Seat.objects.create(team_id=key, person=person, role="my seat")
        deletion(own)
        with registered(Team, Teams):
            assert "a secret" not in pages_of(seen_by_joe, seat)
            assert "my seat" in pages_of(seen_by_joe, own)

    def test_a_page_asks_once_for_all_keys(self, seen_by_joe, django_assert_max_num_queries):
        for number in range(60):
            Country.objects.create(code=f"C{number}", name="mine")
        with registered(Country, OfTheGroundFloor), django_assert_max_num_queries(16):
            seen_by_joe.get(LIST)
