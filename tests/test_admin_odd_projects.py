"""ModelAdmins, forms, users and permission backends of a kind that projects have and nobody thought of."""

from __future__ import annotations

import pytest
from django import forms
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models.signals import pre_save
from django.urls import reverse

from django_signal_audit.admin.links import history_url
from django_signal_audit.models import AuditEvent
from tests.app.models import Category, Person, Picture, Product, Seat, Tag, Team

from .conftest import events, last
from .model_admins import person_who_may, registered
from .revert_pages import PLAIN, address, deletion, page_of, stored, text_of

pytestmark = pytest.mark.django_db

LIST = reverse("admin:django_signal_audit_auditevent_changelist")
DASHBOARD = reverse("admin:django_signal_audit_auditevent_dashboard")


def change(obj, **values):
    """Save the values and return the event."""
    for name, value in values.items():
        setattr(obj, name, value)
    obj.save()
    return last()


def untouched(client, event, obj, status):
    """Fail unless the change isn't reverted."""
    before = stored(obj)
    assert client.post(address(event)).status_code == status
    assert stored(obj) == before


@pytest.fixture
def product(audit):
    audit(PLAIN)
    return Product.objects.create(name="Diesel", price="1.00")


@pytest.fixture
def ann(client):
    user = person_who_may("ann", "view_product", "change_product", "view_person", "change_person")
    client.force_login(user)
    return user


class Tenants:
    """Sets the tenant of a request, as a middleware of a project does."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        request.tenant = request.headers.get("X-Tenant", "")
        return self.get_response(request)


class OfTenant(admin.ModelAdmin):
    def get_queryset(self, request):
        return super().get_queryset(request).filter(name__startswith=request.tenant)


class TestTenantsOfRequests:
    @pytest.fixture(autouse=True)
    def middleware(self, settings):
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.Tenants"]

    def test_a_row_of_another_tenant_is_neither_shown_nor_reverted(self, client, ann, product):
        event = change(product, name="Petrol")
        with registered(Product, OfTenant):
            other, own = {"X-Tenant": "Other"}, {"X-Tenant": "Petrol"}
            assert "Petrol" not in client.get(LIST, headers=other).content.decode()
            assert client.get(history_url("admin", "app.product", str(product.pk)), headers=other).status_code == 403
            assert client.post(address(event), headers=other).status_code == 404
            assert "Petrol" in client.get(LIST, headers=own).content.decode()

    def test_a_revert_that_moves_the_row_out_of_sight_is_refused(self, client, ann, product):
        event = change(product, name="Petrol")
        with registered(Product, OfTenant):
            response = client.post(address(event), headers={"X-Tenant": "Petrol"})
        assert "view the restored object" in text_of(response, 409)
        product.refresh_from_db()
        assert product.name == "Petrol"


def test_a_tenant_that_no_middleware_set_shows_nothing(client, ann, product):
    with registered(Product, OfTenant):
        assert client.get(LIST).status_code == 200
        assert events(model="app.product")
        assert client.get(LIST).context["cl"].result_list == []


class AnswersNone(admin.ModelAdmin):
    def has_change_permission(self, request, obj=None):
        return None


class RowsInAList(admin.ModelAdmin):
    def get_queryset(self, request):
        return list(super().get_queryset(request))


class RowsAsDictionaries(admin.ModelAdmin):
    def get_queryset(self, request):
        return super().get_queryset(request).filter(pk__gt=0).values()


class RowsThatFailLate(admin.ModelAdmin):
    def get_queryset(self, request):
        return super().get_queryset(request).filter(pk__in=(1 / 0 for _ in range(1)))


def test_a_permission_that_is_none_is_no_permission(client, ann, product):
    event = change(product, name="Petrol")
    with registered(Product, AnswersNone):
        assert client.get(page_of(event)).status_code == 200
        assert address(event) not in text_of(client.get(page_of(event)))
        untouched(client, event, product, 403)


@pytest.mark.parametrize("kind", [RowsInAList, RowsAsDictionaries, RowsThatFailLate])
def test_rows_that_cannot_be_asked_for_are_hidden_and_break_no_page(admin_client, product, kind):
    event = change(product, name="Petrol")
    with registered(Product, kind):
        for page in (LIST, DASHBOARD, f"{LIST}?model=app.product", f"{LIST}?q={product.pk}"):
            assert "Petrol" not in text_of(admin_client.get(page))
        assert admin_client.get(history_url("admin", "app.product", str(product.pk))).status_code == 403
        assert admin_client.post(address(event)).status_code == 404


def callable_column(obj):
    return "computed"


class FieldsByObject(admin.ModelAdmin):
    readonly_fields = (callable_column, "by_name")

    def by_name(self, obj):
        return obj.name

    def get_fields(self, request, obj=None):
        shown = ["name", callable_column, "by_name"]
        return [*shown, "price"] if obj is not None and obj.name == "Open" else shown


def test_fields_that_depend_on_the_object_and_columns_that_are_computed(client, ann, product):
    shown, hidden = Product.objects.create(name="Open", price="2.22"), product
    change(shown, price="3.33")
    change(hidden, price="74.44")
    with registered(Product, FieldsByObject):
        text = text_of(client.get(LIST))
        assert "3.33" in text
        assert "74.44" not in text
        assert client.get(address(last())).status_code == 200
        untouched(client, last(), hidden, 409)


class ByUser(admin.ModelAdmin):
    def get_exclude(self, request, obj=None):
        return None if request.user.is_superuser else ("price",)


def test_what_is_excluded_may_depend_on_the_user(client, ann, admin_client, product):
    event = change(product, price="74.44")
    with registered(Product, ByUser):
        client.force_login(ann)
        assert "74.44" not in text_of(client.get(page_of(event)))
        untouched(client, event, product, 409)
        assert "74.44" not in text_of(
            client.get(history_url("admin", "app.product", str(product.pk)) + "?at=2100-01-01")
        )


class DisablesLater(forms.ModelForm):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["price"].disabled = True


class RemovesLater(forms.ModelForm):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        del self.fields["price"]


class NarrowsLater(forms.ModelForm):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["category"].queryset = Category.objects.none()


class FailsLater(forms.ModelForm):
    def __init__(self, *args, tenant, **kwargs):
        super().__init__(*args, **kwargs)


class TestFormsThatDecideWhenTheyAreMade:
    @pytest.mark.parametrize("made", [DisablesLater, RemovesLater])
    def test_a_field_that_it_takes_away_is_not_reverted(self, admin_client, product, made):
        event = change(product, price="74.44")
        with registered(Product, type("WithForm", (admin.ModelAdmin,), {"form": made})):
            assert "You may not change “Price”." in text_of(admin_client.get(page_of(event)))
            untouched(admin_client, event, product, 409)

    def test_a_row_that_it_does_not_offer_is_not_set(self, admin_client, product):
        before, after = Category.objects.create(name="a"), Category.objects.create(name="b")
        change(product, category=before)
        event = change(product, category=after)
        with registered(Product, type("WithForm", (admin.ModelAdmin,), {"form": NarrowsLater})):
            untouched(admin_client, event, product, 409)

    def test_a_form_that_cannot_be_made_reverts_nothing(self, admin_client, product):
        event = change(product, price="74.44")
        with registered(Product, type("WithForm", (admin.ModelAdmin,), {"form": FailsLater})):
            assert admin_client.get(page_of(event)).status_code == 200
            untouched(admin_client, event, product, 403)

    def test_the_form_of_an_inline(self, admin_client, audit):
        audit(PLAIN)
        reds, ann, bob = (
            Team.objects.create(name="Reds"),
            Person.objects.create(name="Ann"),
            Person.objects.create(name="Bob"),
        )
        seat = Seat.objects.create(team=reds, person=ann)
        event = change(seat, person=bob)

        class SeatForm(forms.ModelForm):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                self.fields["person"].disabled = True

        inline = type("Seats", (admin.TabularInline,), {"model": Seat, "form": SeatForm})
        with registered(Team, type("WithSeats", (admin.ModelAdmin,), {"inlines": [inline]})):
            untouched(admin_client, event, seat, 409)


class Overrides(admin.ModelAdmin):
    raw_id_fields = ("category",)
    called: list[str] = []

    def save_model(self, request, obj, form, change):
        self.called.append("save_model")
        super().save_model(request, obj, form, change)

    def save_related(self, request, form, formsets, change):
        self.called.append("save_related")
        super().save_related(request, form, formsets, change)


def test_a_revert_calls_the_models_save_and_not_save_model(admin_client, product):
    before, after = Category.objects.create(name="a"), Category.objects.create(name="b")
    change(product, category=before)
    event = change(product, category=after)
    with registered(Product, Overrides):
        assert admin_client.post(address(event)).status_code == 302
    product.refresh_from_db()
    assert product.category == before
    assert Overrides.called == []


@pytest.mark.parametrize("error", [RuntimeError("locked"), KeyError("x"), PermissionDenied("no"), ZeroDivisionError()])
def test_a_receiver_that_raises_anything_refuses_the_revert(admin_client, product, error):
    event = change(product, name="Petrol")

    def refuse(**_):
        raise error

    pre_save.connect(refuse, sender=Product)
    try:
        assert "It can&#x27;t be saved" in text_of(admin_client.post(address(event)), 409)
    finally:
        pre_save.disconnect(refuse, sender=Product)
    product.refresh_from_db()
    assert product.name == "Petrol"


class TestFilesOfDeletedObjects:
    def test_a_file_outside_of_the_storage(self, admin_client, audit):
        audit(PLAIN)
        picture = Picture.objects.create(product=Product.objects.create(name="Diesel", price=1), file="a.png")
        Picture.objects.filter(pk=picture.pk).update(file="../../etc/passwd")
        event = deletion(Picture.objects.get())
        assert admin_client.get(address(event)).status_code == 200
        assert admin_client.get(page_of(event)).status_code == 200


class TestPeople:
    def test_who_may_only_view_posts_in_vain(self, client, product):
        event = change(product, name="Petrol")
        client.force_login(person_who_may("bob", "view_product"))
        untouched(client, event, product, 403)

    def test_who_may_revert_but_not_view_events(self, client, product):
        event = change(product, name="Petrol")
        bob = person_who_may("bob", "change_product", "view_product")
        bob.user_permissions.remove(bob.user_permissions.get(codename="view_auditevent"))
        client.force_login(bob)
        untouched(client, event, product, 403)
        assert client.get(address(event)).status_code == 403
        # An event that does not exist is no other answer.
        assert client.post(address(event).replace(f"/{event.pk}/", "/999999/")).status_code == 403

    def test_who_may_change_the_object_but_not_view_it_by_name(self, client, product):
        event = change(product, name="Petrol")
        client.force_login(person_who_may("bob", "change_product"))
        assert client.post(address(event)).status_code == 302

    def test_who_was_deactivated_is_out_at_once(self, client, ann, product):
        event = change(product, name="Petrol")
        User.objects.filter(pk=ann.pk).update(is_active=False)
        assert client.get(LIST).status_code == 302
        untouched(client, event, product, 302)

    def test_a_backend_that_lets_inactive_users_in_gives_them_nothing(self, client, settings, product):
        settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.AllowAllUsersModelBackend"]
        event = change(product, name="Petrol")
        boss = User.objects.create_user("boss", is_staff=True, is_superuser=True, is_active=False)
        client.force_login(boss)
        assert client.get(LIST).status_code == 302
        untouched(client, event, product, 302)


class OneObject:
    """Grants permissions for single objects, as django-guardian does."""

    def authenticate(self, request, **_):
        return None

    def has_perm(self, user, perm, obj=None):
        return obj is not None and perm.startswith("app.") and getattr(obj, "name", "") == "Mine"


class AsksForObjects(admin.ModelAdmin):
    def has_view_permission(self, request, obj=None):
        return obj is None or request.user.has_perm("app.view_product", obj)

    def has_change_permission(self, request, obj=None):
        return obj is None or request.user.has_perm("app.change_product", obj)


class TestPermissionsForSingleObjects:
    @pytest.fixture
    def bob(self, client, settings):
        settings.AUTHENTICATION_BACKENDS = [*settings.AUTHENTICATION_BACKENDS, f"{__name__}.OneObject"]
        bob = person_who_may("bob")
        client.force_login(bob, "django.contrib.auth.backends.ModelBackend")
        return bob

    @pytest.fixture
    def mine(self, product):
        return Product.objects.create(name="Mine", price="7.77")

    def test_a_model_admin_that_asks_for_them_is_followed(self, client, bob, product, mine):
        of_product, of_mine = change(product, price="74.44"), change(mine, price="75.55")
        with registered(Product, AsksForObjects):
            text = text_of(client.get(LIST))
            assert "75.55" in text
            assert "74.44" not in text
            assert client.post(address(of_product)).status_code == 404
            assert client.post(address(of_mine)).status_code == 302

    def test_a_plain_model_admin_asks_for_the_model_as_in_django(self, client, bob, mine):
        event = change(mine, price="75.55")
        with registered(Product):
            assert client.get("/admin/app/product/").status_code == 403
            assert "75.55" not in text_of(client.get(LIST))
            assert client.post(address(event)).status_code == 404

    def test_without_a_model_admin_too(self, client, bob, mine):
        event = change(mine, price="75.55")
        assert "75.55" not in text_of(client.get(LIST))
        assert client.post(address(event)).status_code == 404


def test_a_model_admin_of_another_site_grants_nothing_here(client, product):
    class Open(admin.ModelAdmin):
        def has_view_permission(self, request, obj=None):
            return True

        has_change_permission = has_view_permission

    event = change(product, name="Petrol")
    client.force_login(person_who_may("bob"))
    other = admin.AdminSite("other")
    other.register(Product, Open)
    before = admin.site._registry.pop(Product, None)
    try:
        assert "Petrol" not in text_of(client.get(LIST))
        assert client.post(address(event)).status_code == 404
        client.force_login(person_who_may("cat", "view_product"))
        assert "Petrol" in text_of(client.get(LIST))
        client.post(address(event))
        product.refresh_from_db()
        assert product.name == "Petrol"
    finally:
        if before is not None:
            admin.site._registry[Product] = before


class Sparse:
    """A user with what Django's admin asks for, and no more."""

    pk = 1
    id = 1
    is_active = is_staff = is_authenticated = True
    is_anonymous = False

    def has_perm(self, perm, obj=None):
        return perm != "app.view_tag" and perm != "app.change_tag"

    def has_module_perms(self, label):
        return True

    def get_username(self):
        return "sparse"

    def has_usable_password(self):
        return False


def test_a_user_model_without_superusers(rf, product):
    Tag.objects.create(name="hidden-tag")
    model_admin = admin.site._registry[AuditEvent]
    request = rf.get(LIST)
    request.user = Sparse()
    text = model_admin.changelist_view(request).render().content.decode()
    assert "Diesel" in text
    assert "hidden-tag" not in text
    request = rf.get(DASHBOARD)
    request.user = Sparse()
    assert model_admin.dashboard_view(request).render().status_code == 200
