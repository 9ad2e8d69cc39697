"""An inline that the page of a parent does not show a user is not shown on any page of ours, nor reverted."""

from __future__ import annotations

import pytest
from django import forms
from django.contrib import admin
from django.db import models
from django.forms.models import BaseInlineFormSet
from django.urls import reverse

from django_signal_audit.admin.access import access_of, forget_access
from django_signal_audit.admin.links import history_url
from tests.app.models import Category, Person, Place, Product, Restaurant, Seat, Team

from .conftest import events, last
from .model_admins import person_who_may, registered
from .revert_pages import address, deletion, page_of

pytestmark = pytest.mark.django_db

MODELS = ("team", "seat", "product", "category")
LIST = reverse("admin:django_signal_audit_auditevent_changelist")


class Seats(admin.TabularInline):
    model = Seat


class Products(admin.TabularInline):
    model = Product


class HiddenByInlines(admin.ModelAdmin):
    inlines = (Seats,)

    def get_inlines(self, request, obj):
        return []


class HiddenByInstances(admin.ModelAdmin):
    inlines = (Seats,)

    def get_inline_instances(self, request, obj=None):
        return []


class HiddenByFormsets(admin.ModelAdmin):
    inlines = (Seats,)

    def get_formsets_with_inlines(self, request, obj=None):
        return iter(())


class HiddenByMadeFormsets(admin.ModelAdmin):
    inlines = (Seats,)

    def get_inline_formsets(self, request, formsets, inline_instances, obj=None, **kwargs):
        return []


class ForbiddenSeats(Seats):
    def has_view_permission(self, request, obj=None):
        return False

    has_change_permission = has_add_permission = has_delete_permission = has_view_permission


class HiddenByPermission(admin.ModelAdmin):
    inlines = (ForbiddenSeats,)


class FewerSeats(Seats):
    def get_queryset(self, request):
        return super().get_queryset(request).exclude(role="secret")


class HiddenByQueryset(admin.ModelAdmin):
    inlines = (FewerSeats,)


class FewerForms(BaseInlineFormSet):
    def get_queryset(self):
        return super().get_queryset().exclude(role="secret")


class SeatsOfFormset(Seats):
    formset = FewerForms


class HiddenByFormset(admin.ModelAdmin):
    inlines = (SeatsOfFormset,)


class SeatsOfMadeFormset(Seats):
    def get_formset(self, request, obj=None, **kwargs):
        return super().get_formset(request, obj, formset=FewerForms, **kwargs)


class HiddenByMadeFormset(admin.ModelAdmin):
    inlines = (SeatsOfMadeFormset,)


class OfOneTeam(admin.ModelAdmin):
    inlines = (Seats,)

    def get_inline_instances(self, request, obj=None):
        return super().get_inline_instances(request, obj) if obj is not None and obj.name == "Open" else []


HIDING = [
    HiddenByInlines,
    HiddenByInstances,
    HiddenByFormsets,
    HiddenByMadeFormsets,
    HiddenByPermission,
    HiddenByQueryset,
    HiddenByFormset,
    HiddenByMadeFormset,
    OfOneTeam,
]


@pytest.fixture
def seen_by_joe(client, audit):
    audit()
    may = [f"{action}_{model}" for action in ("view", "change", "add", "delete") for model in MODELS]
    client.force_login(person_who_may("joe", *may, "view_person"))
    return client


def seat_of(team, role="secret"):
    return Seat.objects.create(team=Team.objects.create(name=team), person=Person.objects.create(name="Ada"), role=role)


def pages_of(client, row):
    """Return what the pages about a row show."""
    label, key = row._meta.label_lower, str(row.pk)
    history = history_url("admin", label, key)
    urls = [f"{LIST}?model={label}", f"{reverse('signal_audit:events')}?model={label}"]
    urls += [page_of(event) for event in events(model=label, object_id=key)]
    urls += [history, f"{history}?at=0h", f"{history}?older=1h"]
    return "".join(client.get(url, follow=True).content.decode() for url in urls)


@pytest.mark.parametrize("kind", HIDING)
class TestInlinesThatAreHidden:
    def test_their_rows_are_not_shown_while_they_are_there(self, seen_by_joe, kind):
        seat = seat_of("Reds")
        with registered(Team, kind):
            assert "secret" not in seen_by_joe.get(f"/admin/app/team/{seat.team_id}/change/").content.decode()
            assert "secret" not in pages_of(seen_by_joe, seat)

    @pytest.mark.parametrize("is_team_gone", [False, True])
    def test_nor_once_they_are_deleted(self, seen_by_joe, kind, is_team_gone):
        seat = seat_of("Reds")
        deletion(seat)
        if is_team_gone:
            deletion(seat.team)
        with registered(Team, kind):
            assert "secret" not in pages_of(seen_by_joe, seat)

    def test_they_are_not_reverted(self, seen_by_joe, kind):
        seat = seat_of("Reds", role="earlier")
        seat.role = "secret"
        seat.save()
        updated, pk = last(), seat.pk
        with registered(Team, kind):
            assert seen_by_joe.post(address(updated)).status_code in (403, 404)
            assert Seat.objects.get().role == "secret"
            deleted = deletion(seat)
            assert seen_by_joe.post(address(deleted)).status_code in (403, 404)
        assert not Seat.objects.filter(pk=pk).exists()


@pytest.mark.parametrize("kind", [HiddenByQueryset, HiddenByFormset, HiddenByMadeFormset, OfOneTeam])
def test_the_rows_that_a_page_shows_are_shown_and_reverted(seen_by_joe, kind):
    seat = seat_of("Open", role="known")
    seat.role = "other"
    seat.save()
    with registered(Team, kind):
        assert "known" in pages_of(seen_by_joe, seat)
        assert seen_by_joe.post(address(last())).status_code == 302
    assert Seat.objects.get().role == "known"


def test_deleted_rows_of_an_inline_that_hides_none_are_shown(seen_by_joe):
    seat = seat_of("Open")
    deletion(seat)
    with registered(Team, OfOneTeam):
        assert "secret" in pages_of(seen_by_joe, seat)


def test_what_the_page_makes_of_an_inline_counts(seen_by_joe):
    class ChangedInstances(admin.ModelAdmin):
        inlines = (Products,)

        def get_inline_instances(self, request, obj=None):
            [inline] = super().get_inline_instances(request, obj)
            inline.exclude = ("slug",)
            return [inline]

    product = Product.objects.create(name="Oil", slug="secret", category=Category.objects.create(name="Fuel"))
    product.slug = "other"
    product.save()
    with registered(Category, ChangedInstances):
        assert "secret" not in pages_of(seen_by_joe, product)
        assert seen_by_joe.post(address(last())).status_code == 409
    assert Product.objects.get().slug == "other"


def test_an_inline_that_only_some_pages_have_is_an_inline(seen_by_joe):
    class Adding(admin.ModelAdmin):
        def get_inline_instances(self, request, obj=None):
            return [ForbiddenSeats(self.model, self.admin_site)]

    seat = seat_of("Reds")
    with registered(Team, Adding):
        assert "secret" not in pages_of(seen_by_joe, seat)


def test_a_row_that_an_inline_does_not_delete_is_not_deleted_by_a_revert(seen_by_joe):
    class KeptSeats(Seats):
        can_delete = False

    class Keeping(admin.ModelAdmin):
        inlines = (KeptSeats,)

    class Plain(admin.ModelAdmin):
        inlines = (Seats,)

    seat_of("Reds")
    for kind, may in ((Keeping, False), (OfOneTeam, False), (Plain, True)):
        with registered(Team, kind):
            request = seen_by_joe.get(LIST).wsgi_request
            forget_access(request)
            [event] = events(model="app.seat")
            assert (access_of(request, admin.site).limits(event, "delete") is not None) is may


class TestValuesThatAFormNeverShows:
    class WithSecret(forms.ModelForm):
        class Meta:
            widgets = {"slug": forms.PasswordInput}

    class Shown(forms.ModelForm):
        class Meta:
            widgets = {"slug": forms.PasswordInput(render_value=True)}

    class InInit(forms.ModelForm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.fields["slug"].widget = forms.PasswordInput()

    class ByName(admin.ModelAdmin):
        def formfield_for_dbfield(self, db_field, request, **kwargs):
            found = super().formfield_for_dbfield(db_field, request, **kwargs)
            if db_field.name == "slug":
                found.widget = forms.PasswordInput()
            return found

    class ByClass(admin.ModelAdmin):
        formfield_overrides = {models.SlugField: {"widget": forms.PasswordInput}}

    @pytest.mark.parametrize(
        ("kind", "is_shown"),
        [
            (type("ByForm", (admin.ModelAdmin,), {"form": WithSecret}), False),
            (type("ByInit", (admin.ModelAdmin,), {"form": InInit}), False),
            (ByName, False),
            (ByClass, False),
            (type("ByValue", (admin.ModelAdmin,), {"form": Shown}), True),
        ],
    )
    def test_they_are_left_out_as_excluded_ones(self, seen_by_joe, kind, is_shown):
        product = Product.objects.create(name="Oil", slug="secret")
        with registered(Product, kind):
            page = seen_by_joe.get(f"/admin/app/product/{product.pk}/change/").content.decode()
            assert ("secret" in page) is is_shown
            assert ("secret" in pages_of(seen_by_joe, product)) is is_shown

    def test_in_an_inline_too(self, seen_by_joe):
        for form in (self.WithSecret, self.InInit):
            inline = type("SecretProducts", (Products,), {"form": form})
            category = Category.objects.create(name="Fuel")
            product = Product.objects.create(name="Oil", slug="secret", category=category)
            with registered(Category, type("Categories", (admin.ModelAdmin,), {"inlines": (inline,)})):
                page = seen_by_joe.get(f"/admin/app/category/{category.pk}/change/").content.decode()
                assert "secret" not in page
                assert "secret" not in pages_of(seen_by_joe, product)
            product.delete()


def test_a_deleted_row_of_a_child_is_not_shown_as_its_parents(client, audit):
    class Open(admin.ModelAdmin):
        def get_queryset(self, request):
            return super().get_queryset(request).exclude(name="secret")

    audit({"name": "places", "model": "app.Place"})
    row = Restaurant.objects.create(name="secret")
    client.force_login(person_who_may("joe", "view_place", "view_restaurant"))
    with registered(Restaurant, Open):
        assert "secret" not in client.get(LIST).content.decode()
        deletion_of = Place.objects.get(pk=row.pk)
        row.delete()
        assert "secret" not in client.get(LIST).content.decode()
        assert client.get(history_url("admin", "app.place", str(deletion_of.pk))).status_code == 403
