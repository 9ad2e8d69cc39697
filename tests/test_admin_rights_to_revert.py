"""What the ModelAdmin would not let a user change by hand is not reverted either."""

from __future__ import annotations

import datetime as dt

import pytest
from django import forms
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Permission, User
from django.core.exceptions import ValidationError

from tests.app.models import Category, Person, Picture, Place, Product, Restaurant, Seat, Stamped, Tag, Team

from .columns.models import Every
from .conftest import events, last
from .model_admins import person_who_may, registered
from .revert_pages import address, deletion, page_of, stored, text_of

pytestmark = pytest.mark.django_db


class CarefulUserAdmin(UserAdmin):
    """Superusers alone appoint superusers, and nobody else changes one."""

    def get_readonly_fields(self, request, obj=None):
        return () if request.user.is_superuser else ("is_superuser", "is_staff", "user_permissions", "groups")

    def has_change_permission(self, request, obj=None):
        is_allowed = super().has_change_permission(request, obj)
        return is_allowed and (request.user.is_superuser or obj is None or not obj.is_superuser)


def change(obj, **values):
    """Save the values and return the event."""
    for name, value in values.items():
        setattr(obj, name, value)
    obj.save()
    return last()


def untouched(client, event, obj, status):
    """Fail unless the change is not reverted, nor offered to be."""
    before = stored(obj)
    assert address(event) not in client.get(page_of(event)).content.decode()
    assert client.post(address(event)).status_code == status
    assert stored(obj) == before


@pytest.fixture
def users(audit):
    audit({"name": "users", "model": "auth.User"})


class TestUsers:
    def test_a_demoted_user_does_not_become_superuser_again(self, client, users):
        ann = person_who_may("ann", "view_user", "change_user", is_superuser=True)
        event = change(ann, is_superuser=False)
        client.force_login(ann)
        with registered(User, CarefulUserAdmin):
            untouched(client, event, ann, 409)
            assert "You may not change “Superuser status”." in text_of(client.get(page_of(event)))

    def test_neither_by_an_event_that_changed_something_else_too(self, client, users):
        ann = person_who_may("ann", "view_user", "change_user", is_superuser=True)
        event = change(ann, is_superuser=False, first_name="Ann")
        client.force_login(ann)
        with registered(User, CarefulUserAdmin):
            untouched(client, event, ann, 409)

    def test_nor_by_members(self, client, users):
        ann = person_who_may("ann", "view_user", "change_user")
        permission = Permission.objects.get(codename="delete_user")
        ann.user_permissions.add(permission)
        ann.user_permissions.remove(permission)
        event = last()
        client.force_login(ann)
        with registered(User, CarefulUserAdmin):
            assert client.post(address(event)).status_code == 409
        assert permission not in ann.user_permissions.all()

    def test_nor_as_a_deleted_superuser_who_is_restored(self, client, users):
        boss = User.objects.create_user("boss", is_superuser=True, is_staff=True, first_name="Bo")
        event = deletion(boss)
        client.force_login(person_who_may("ann", "view_user", "change_user", "add_user"))
        with registered(User, CarefulUserAdmin):
            # Nobody restores a user: the password is not recorded.
            assert client.post(address(event)).status_code == 409
        assert not User.objects.filter(username="boss").exists()

    def test_the_address_of_a_superuser_is_for_superusers(self, client, users, admin_client):
        boss = User.objects.create_user("boss", email="a@x.org", is_superuser=True)
        event = change(boss, email="b@x.org")
        client.force_login(person_who_may("ann", "view_user", "change_user"))
        with registered(User, CarefulUserAdmin):
            untouched(client, event, boss, 403)
            assert admin_client.post(address(event)).status_code == 302
        boss.refresh_from_db()
        assert boss.email == "a@x.org"

    def test_superusers_revert_what_they_may_change(self, admin_client, users):
        ann = person_who_may("ann")
        event = change(ann, is_superuser=True)
        with registered(User, CarefulUserAdmin):
            assert admin_client.post(address(event)).status_code == 302
        ann.refresh_from_db()
        assert not ann.is_superuser


class TestFields:
    class ReadOnly(admin.ModelAdmin):
        readonly_fields = ("stock",)

    class AskedReadOnly(admin.ModelAdmin):
        def get_readonly_fields(self, request, obj=None):
            return ["stock"]

    class Excluded(admin.ModelAdmin):
        exclude = ("stock",)

    class Named(admin.ModelAdmin):
        fields = ("name",)

    class Formed(admin.ModelAdmin):
        class form(forms.ModelForm):  # Django's name for it
            class Meta:
                exclude = ("stock",)

    class Disabled(admin.ModelAdmin):
        def get_form(self, request, obj=None, **kwargs):
            form = super().get_form(request, obj, **kwargs)
            form.base_fields["stock"].disabled = True
            return form

    class ViewOnly(admin.ModelAdmin):
        def has_change_permission(self, request, obj=None):
            return False

    @pytest.mark.parametrize("kind", [ReadOnly, AskedReadOnly, Excluded, Named, Formed, Disabled, ViewOnly])
    def test_a_field_that_no_form_offers_is_not_reverted(self, admin_client, audit, kind):
        audit()
        product = Product.objects.create(name="Oil", stock=1)
        event = change(product, stock=2, name="Petrol")
        with registered(Product, kind):
            untouched(admin_client, event, product, 403 if kind is self.ViewOnly else 409)

    @pytest.mark.parametrize("kind", [ReadOnly, AskedReadOnly, Excluded, Named, Formed, Disabled])
    def test_the_other_fields_are(self, admin_client, audit, kind):
        audit()
        product = Product.objects.create(name="Oil", stock=1)
        event = change(product, name="Petrol")
        with registered(Product, kind):
            assert admin_client.post(address(event)).status_code == 302
        product.refresh_from_db()
        assert product.name == "Oil"

    @pytest.mark.parametrize("kind", [ReadOnly, Excluded, Named])
    def test_a_row_is_restored_without_them(self, admin_client, audit, kind):
        audit()
        product = Product.objects.create(name="Oil", stock=7)
        event = deletion(product)
        with registered(Product, kind):
            page = text_of(admin_client.get(address(event)))
            assert "You may not set these fields, so they get their defaults" in page
            assert admin_client.post(address(event)).status_code == 302
        restored = Product.objects.get(pk=product.pk)
        assert (restored.name, restored.stock) == ("Oil", 0)

    def test_a_plain_model_admin_restores_all_of_it(self, admin_client, audit):
        audit()
        product = Product.objects.create(name="Oil", stock=7, price=3, category=Category.objects.create(name="Fuel"))
        tag = Tag.objects.create(name="sticky")
        product.tags.add(tag)
        before = stored(product)
        event = deletion(product)
        with registered(Product):
            assert admin_client.post(address(event)).status_code == 302
        after = stored(product)
        assert {**before, "modified": None} == {**after, "modified": None}
        assert list(Product.objects.get(pk=product.pk).tags.all()) == [tag]

    def test_times_that_a_row_sets_by_itself_are_no_obstacle(self, admin_client, audit):
        audit()
        row = Stamped.objects.create(name="a")
        event = change(row, name="b")
        with registered(Stamped):
            assert admin_client.post(address(event)).status_code == 302
        row.refresh_from_db()
        assert row.name == "a"


class TestChoices:
    class OwnCategories(admin.ModelAdmin):
        def formfield_for_foreignkey(self, db_field, request, **kwargs):
            if db_field.name == "category":
                kwargs["queryset"] = Category.objects.filter(name="Own")
            return super().formfield_for_foreignkey(db_field, request, **kwargs)

        def formfield_for_manytomany(self, db_field, request, **kwargs):
            kwargs["queryset"] = Tag.objects.filter(name="Own")
            return super().formfield_for_manytomany(db_field, request, **kwargs)

    @pytest.fixture
    def product(self, audit):
        audit()
        return Product.objects.create(name="Oil")

    @pytest.mark.parametrize(("name", "status"), [("Own", 302), ("Foreign", 409)])
    def test_a_row_that_the_form_does_not_offer_is_not_referred_to(self, admin_client, product, name, status):
        change(product, category=Category.objects.create(name=name))
        event = change(product, category=None)
        with registered(Product, self.OwnCategories):
            assert admin_client.post(address(event)).status_code == status
        product.refresh_from_db()
        assert (product.category is not None) is (status == 302)

    @pytest.mark.parametrize(("name", "status"), [("Own", 302), ("Foreign", 409)])
    def test_nor_made_a_member(self, admin_client, product, name, status):
        tag = Tag.objects.create(name=name)
        product.tags.add(tag)
        product.tags.remove(tag)
        event = last()
        with registered(Product, self.OwnCategories):
            assert admin_client.post(address(event)).status_code == status
        assert product.tags.count() == (status == 302)

    @pytest.mark.parametrize(("name", "status"), [("Own", 302), ("Foreign", 409)])
    def test_nor_by_a_row_that_is_restored(self, admin_client, product, name, status):
        change(product, category=Category.objects.create(name=name))
        event = deletion(product)
        with registered(Product, self.OwnCategories):
            assert admin_client.post(address(event)).status_code == status
        assert Product.objects.count() == (status == 302)

    def test_a_value_that_the_form_does_not_offer_is_not_set(self, admin_client, product):
        class Choosing(admin.ModelAdmin):
            def formfield_for_dbfield(self, db_field, request, **kwargs):
                if db_field.name == "name":
                    return forms.ChoiceField(choices=[("Petrol", "Petrol")])
                return super().formfield_for_dbfield(db_field, request, **kwargs)

        event = change(product, name="Petrol")
        with registered(Product, Choosing):
            untouched(admin_client, event, product, 409)


class Pictures(admin.TabularInline):
    model = Picture


class NoPicture(Pictures):
    max_num = 0


class NoPictureOfThis(Pictures):
    def get_max_num(self, request, obj=None, **kwargs):
        return 0


class OwnChoice(forms.TypedChoiceField):
    pass


class Careful(forms.CharField):
    def clean(self, value):
        if super().clean(value) == "forbidden":
            raise ValidationError("No.")
        return value


class Reading(forms.CharField):
    def to_python(self, value):
        if value == "forbidden":
            raise ValidationError("No.")
        return super().to_python(value)


class TwoTexts(forms.MultiWidget):
    def __init__(self):
        super().__init__([forms.TextInput(), forms.TextInput()])

    def decompress(self, value):
        return value.split("-") if value else ["", ""]


class OneOfTwo(forms.MultiValueField):
    widget = TwoTexts

    def __init__(self, **options):
        super().__init__([forms.CharField(max_length=1), Careful(max_length=20)], **options)

    def compress(self, data_list):
        return "-".join(data_list)


class TestFormFields:
    @pytest.mark.parametrize(
        "field", [forms.IntegerField(max_value=10), OwnChoice(choices=[(1, "one"), (2, "two")], coerce=int)]
    )
    def test_a_value_that_the_field_refuses_is_not_set(self, admin_client, audit, field):
        class Choosing(admin.ModelAdmin):
            def formfield_for_dbfield(self, db_field, request, **kwargs):
                return field if db_field.name == "stock" else super().formfield_for_dbfield(db_field, request, **kwargs)

        audit()
        product = Product.objects.create(name="a", stock=99)
        for stock in (1, 2):
            product.stock = stock
            product.save()
        allowed = last()
        refused = events()[-2]
        with registered(Product, Choosing):
            assert admin_client.post(address(allowed)).status_code == 302
            admin_client.post(address(refused))
        product.refresh_from_db()
        assert product.stock == 1

    @pytest.mark.parametrize(
        ("field", "old", "status"),
        [
            (forms.MultipleChoiceField(choices=[("a", "a"), ("b", "b")], required=False), ["a", "b"], 302),
            (forms.MultipleChoiceField(choices=[("a", "a"), ("b", "b")], required=False), ["a", "admin"], 409),
            (forms.MultipleChoiceField(choices=[("a", "a"), ("b", "b")], required=False), "a, b", 302),
            (forms.MultipleChoiceField(choices=[("a", "a"), ("b", "b")], required=False), "a,admin", 409),
            (Careful(required=False), "good", 302),
            (Careful(required=False), "forbidden", 409),
            (Reading(required=False), "good", 302),
            (Reading(required=False), "forbidden", 409),
            (forms.ComboField(fields=[forms.CharField(max_length=4), forms.SlugField()], required=False), "good", 302),
            (forms.ComboField(fields=[forms.CharField(max_length=4), forms.SlugField()], required=False), "bad!", 409),
            (forms.CharField(required=True), "", 409),
            (forms.CharField(required=False), "", 302),
            (forms.IntegerField(max_value=10), "99", 409),
            (forms.IntegerField(max_value=10), "9", 302),
            (forms.DateField(), "2024-02-30", 409),
            (forms.UUIDField(), "no key", 409),
            (OneOfTwo(required=False), "a-b", 302),
            (OneOfTwo(required=False), "a-forbidden", 409),
        ],
    )
    def test_a_field_that_cleans_in_a_way_of_its_own(self, admin_client, audit, field, old, status):
        class Choosing(admin.ModelAdmin):
            def formfield_for_dbfield(self, db_field, request, **kwargs):
                is_it = db_field.name == "attributes"
                return field if is_it else super().formfield_for_dbfield(db_field, request, **kwargs)

        audit()
        product = Product.objects.create(name="a", attributes=old)
        event = change(product, attributes="a")
        with registered(Product, Choosing):
            assert admin_client.post(address(event)).status_code == status
        product.refresh_from_db()
        assert product.attributes == (old if status == 302 else "a")

    def test_a_time_in_an_hour_that_comes_twice(self, admin_client, audit, settings):
        settings.TIME_ZONE = "Europe/Vienna"
        audit({"name": "every", "model": "columns.Every"})
        for moment in (
            dt.datetime(2025, 10, 26, 0, 30, tzinfo=dt.UTC),
            dt.datetime(2025, 10, 26, 1, 30, tzinfo=dt.UTC),
        ):
            row = Every.objects.create(moment=moment, name="a")
            event = change(row, moment=dt.datetime(2025, 1, 1, tzinfo=dt.UTC))
            with registered(Every):
                assert admin_client.post(address(event)).status_code == 302
            row.refresh_from_db()
            assert row.moment == moment

    @pytest.mark.parametrize(("inline", "count"), [(Pictures, 1), (NoPicture, 0), (NoPictureOfThis, 0)])
    def test_no_row_is_restored_where_the_inline_takes_none(self, admin_client, audit, inline, count):
        class WithPictures(admin.ModelAdmin):
            inlines = (inline,)

        audit()
        event = deletion(Picture.objects.create(product=Product.objects.create(name="a"), file="a.png"))
        with registered(Product, WithPictures):
            admin_client.post(address(event))
        assert Picture.objects.count() == count


def two_at_most(value):
    if value > 2:
        raise ValidationError("Two at most.")
    return value


class FieldsCode(forms.ModelForm):
    def clean_stock(self):
        return two_at_most(self.cleaned_data["stock"])


class FormsCode(forms.ModelForm):
    def clean(self):
        two_at_most(self.cleaned_data["stock"])


class FormsErrors(forms.ModelForm):
    def clean(self):
        if self.cleaned_data["stock"] > 2:
            self.add_error("name", "Not with so many in stock.")


class OtherFieldsCode(forms.ModelForm):
    def clean_tags(self):
        two_at_most(self.cleaned_data["stock"])
        return self.cleaned_data["tags"]


class InstancesCode(forms.ModelForm):
    def _post_clean(self):
        super()._post_clean()
        if self.instance.stock > 2:
            self.add_error(None, "Not with so many in stock.")


class Failing(forms.ModelForm):
    def clean_stock(self):
        two_at_most(self.cleaned_data["stock"])
        if self.cleaned_data["stock"] > 1:
            raise LookupError("the warehouse is away")
        return self.cleaned_data["stock"]


class OwnInteger(forms.IntegerField):
    def validate(self, value):
        super().validate(value)
        two_at_most(value)


class OwnField(forms.ModelForm):
    stock = OwnInteger()


class TestCodeOfForms:
    KINDS = (FieldsCode, FormsCode, FormsErrors, OtherFieldsCode, InstancesCode, OwnField)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(("stock", "is_reverted"), [(1, True), (9, False)])
    def test_a_value_that_the_form_finds_invalid_is_not_set(self, admin_client, audit, kind, stock, is_reverted):
        class Formed(admin.ModelAdmin):
            form = kind

        audit()
        product = Product.objects.create(name="Oil", stock=stock)
        event = change(product, stock=2)
        with registered(Product, Formed):
            if is_reverted:
                assert admin_client.post(address(event)).status_code == 302
                product.refresh_from_db()
                assert product.stock == stock
            else:
                assert admin_client.post(address(event)).status_code == 409
                product.refresh_from_db()
                assert product.stock == 2

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(("stock", "count"), [(1, 1), (9, 0)])
    def test_a_row_that_the_form_finds_invalid_is_not_restored(self, admin_client, audit, kind, stock, count):
        class Formed(admin.ModelAdmin):
            form = kind

        audit()
        event = deletion(Product.objects.create(name="Oil", stock=stock, category=Category.objects.create(name="c")))
        with registered(Product, Formed):
            admin_client.post(address(event))
        assert Product.objects.count() == count

    def test_the_form_knows_keys_as_objects_and_the_row_as_it_is(self, admin_client, audit):
        seen = []

        class Looking(forms.ModelForm):
            def clean_category(self):
                seen.append((self.instance.name, self.cleaned_data["category"], list(self.cleaned_data["tags"])))
                return self.cleaned_data["category"]

        class Formed(admin.ModelAdmin):
            form = Looking

        audit()
        category, tag = Category.objects.create(name="Fuel"), Tag.objects.create(name="sticky")
        product = Product.objects.create(name="Oil", category=category)
        product.tags.add(tag)
        event = change(product, name="Petrol", category=None)
        with registered(Product, Formed):
            assert admin_client.post(address(event)).status_code == 302
        assert set(map(str, seen)) == {str(("Petrol", category, [tag]))}

    @pytest.mark.parametrize(("name", "count"), [("good", 1), ("bad", 0)])
    def test_members_that_the_form_finds_invalid_do_not_come_back(self, admin_client, audit, name, count):
        class Members(forms.ModelForm):
            def clean_tags(self):
                if any(tag.name == "bad" for tag in self.cleaned_data["tags"]):
                    raise ValidationError("Bad tags are out.")
                return self.cleaned_data["tags"]

        class Formed(admin.ModelAdmin):
            form = Members

        audit()
        product, tag = Product.objects.create(name="Oil"), Tag.objects.create(name=name)
        product.tags.add(tag, Tag.objects.create(name="stays"))
        product.tags.remove(tag)
        event = last()
        with registered(Product, Formed):
            admin_client.post(address(event))
        assert product.tags.filter(pk=tag.pk).count() == count

    @pytest.mark.parametrize(("name", "count"), [("a.png", 1), ("a.exe", 0)])
    def test_the_form_of_an_inline_is_asked_too(self, admin_client, audit, name, count):
        class Named(forms.ModelForm):
            def clean_file(self):
                if self.cleaned_data["file"].name.endswith(".exe"):
                    raise ValidationError("No programs.")
                return self.cleaned_data["file"]

        class Careful(Pictures):
            form = Named

        class WithPictures(admin.ModelAdmin):
            inlines = (Careful,)

        audit()
        picture = Picture.objects.create(product=Product.objects.create(name="a"), file=name)
        event = change(picture, file="b.png")
        with registered(Product, WithPictures):
            admin_client.post(address(event))
        assert Picture.objects.filter(file=name).count() == count

    def test_a_form_that_fails_refuses_and_the_page_says_why(self, admin_client, audit):
        class Formed(admin.ModelAdmin):
            form = Failing

        audit()
        product = Product.objects.create(name="Oil", stock=2)
        event = change(product, stock=1)
        with registered(Product, Formed):
            assert "the warehouse is away" in text_of(admin_client.get(address(event)))
            assert "the warehouse is away" in text_of(admin_client.get(page_of(event)))
            untouched(admin_client, event, product, 409)

    def test_what_is_invalid_elsewhere_in_the_row_is_no_obstacle(self, admin_client, audit):
        audit()
        product = Product.objects.create(name="", stock=2)
        event = change(product, stock=1)
        with registered(Product):
            assert admin_client.post(address(event)).status_code == 302
        product.refresh_from_db()
        assert product.stock == 2

    def test_what_the_model_finds_invalid_is_not_set(self, admin_client, audit, monkeypatch):
        monkeypatch.setattr(Product, "clean", lambda self: two_at_most(self.stock))
        audit()
        product = Product.objects.create(name="Oil", stock=9)
        event = change(product, stock=2)
        with registered(Product):
            untouched(admin_client, event, product, 409)


class TestRowsThatAreNotOpened:
    class Opening(admin.ModelAdmin):
        def get_object(self, request, object_id, from_field=None):
            found = super().get_object(request, object_id, from_field)
            return found if found is None or found.stock < 5 else None

    def test_they_are_not_reverted(self, admin_client, audit):
        audit()
        product = Product.objects.create(name="Oil", stock=7)
        event = change(product, name="Petrol")
        with registered(Product, self.Opening):
            assert admin_client.post(address(event)).status_code == 404
        assert Product.objects.get().name == "Petrol"

    def test_nor_put_where_nobody_opens_them(self, admin_client, audit):
        audit()
        product = Product.objects.create(name="Oil", stock=7)
        event = change(product, stock=1)
        with registered(Product, self.Opening):
            assert admin_client.post(address(event)).status_code == 409
        assert Product.objects.get().stock == 1

    def test_the_others_are(self, admin_client, audit):
        audit()
        product = Product.objects.create(name="Oil", stock=1)
        event = change(product, name="Petrol")
        with registered(Product, self.Opening):
            assert admin_client.post(address(event)).status_code == 302
        assert Product.objects.get().name == "Oil"


class TestRows:
    class Tenants(admin.ModelAdmin):
        def get_queryset(self, request):
            return super().get_queryset(request).filter(owner=request.user)

    def test_rows_of_other_tenants_are_not_reverted(self, client, audit):
        audit()
        ann, bob = person_who_may("ann", "view_person", "change_person"), User.objects.create_user("bob")
        own, foreign = Person.objects.create(name="own", owner=ann), Person.objects.create(name="foreign", owner=bob)
        events = {person: change(person, name=f"{person} now") for person in (own, foreign)}
        client.force_login(ann)
        with registered(Person, self.Tenants):
            assert client.post(address(events[foreign])).status_code == 404
            assert client.post(address(events[own])).status_code == 302
        assert set(Person.objects.values_list("name", flat=True)) == {"own", "foreign now"}

    def test_nor_restored_where_the_project_shows_their_history(self, client, audit):
        audit(VISIBILITY="tests.test_admin_rights_to_revert.everything")
        ann, bob = person_who_may("ann", "view_person", "change_person", "add_person"), User.objects.create_user("bob")
        own, foreign = Person.objects.create(name="own", owner=ann), Person.objects.create(name="foreign", owner=bob)
        events = [deletion(own), deletion(foreign)]
        client.force_login(ann)
        with registered(Person, self.Tenants):
            assert [client.post(address(event)).status_code for event in events] == [302, 409]
        assert [person.name for person in Person.objects.all()] == ["own"]

    @pytest.mark.parametrize("codename", ["add_tag", "change_tag", "delete_tag"])
    def test_a_row_is_restored_by_who_may_add_such_rows(self, client, audit, codename):
        audit()
        event = deletion(Tag.objects.create(name="x"))
        client.force_login(person_who_may("ann", "view_tag", codename))
        with registered(Tag):
            assert client.post(address(event)).status_code == (302 if codename == "add_tag" else 403)
        assert Tag.objects.exists() is (codename == "add_tag")

    def test_a_model_admin_that_lets_nobody_add_restores_nothing(self, admin_client, audit):
        class NoMore(admin.ModelAdmin):
            def has_add_permission(self, request):
                return False

        audit()
        event = deletion(Tag.objects.create(name="x"))
        with registered(Tag, NoMore):
            assert admin_client.post(address(event)).status_code == 403


def everything(user, events):
    """Return all events."""
    return events


class TestInlines:
    class Seats(admin.TabularInline):
        model = Seat
        fk_name = "team"
        readonly_fields = ("person",)

    def test_the_inline_says_what_can_be_changed(self, client, audit):
        class WithSeats(admin.ModelAdmin):
            inlines = (self.Seats,)

        audit()
        seat = Seat.objects.create(team=Team.objects.create(name="Reds"), person=Person.objects.create(name="Ada"))
        role, person = change(seat, role="keeper"), change(seat, person=Person.objects.create(name="Bob"))
        moved = change(seat, team=Team.objects.create(name="Blues"))
        client.force_login(person_who_may("ann", "view_seat", "change_seat", "view_team", "view_person"))
        with registered(Team, WithSeats):
            # It takes the permission to change the page that the inline is on.
            assert client.post(address(role)).status_code == 403
            User.objects.get(username="ann").user_permissions.add(*_permissions("change_team"))
            assert client.post(address(role)).status_code == 302
            assert client.post(address(person)).status_code == 409
            assert client.post(address(moved)).status_code == 409
        seat.refresh_from_db()
        assert (seat.role, seat.person.name, seat.team.name) == ("player", "Bob", "Blues")

    def test_a_row_is_restored_on_the_page_that_it_was_on(self, client, audit):
        class WithSeats(admin.ModelAdmin):
            inlines = (admin_inline(Seat, "team"),)

        audit()
        seat = Seat.objects.create(team=Team.objects.create(name="Reds"), person=Person.objects.create(name="Ada"))
        event = deletion(seat)
        client.force_login(person_who_may("ann", "view_seat", "add_seat", "change_team", "view_person"))
        with registered(Team, WithSeats):
            assert client.post(address(event)).status_code == 302
        assert Seat.objects.get().team.name == "Reds"


def admin_inline(kind, name):
    """Return a plain inline."""

    class Plain(admin.TabularInline):
        model = kind
        fk_name = name

    return Plain


def _permissions(*codenames):
    return Permission.objects.filter(codename__in=codenames)


def test_the_parent_of_a_multi_table_child_says_what_can_be_changed(client, audit):
    class ReadOnlyName(admin.ModelAdmin):
        readonly_fields = ("name",)

    audit()
    restaurant = Restaurant.objects.create(name="Napoli", stars=1)
    event = change(restaurant, name="Roma")
    client.force_login(person_who_may("ann", "view_restaurant", "change_restaurant", "view_place", "change_place"))
    with registered(Place, ReadOnlyName):
        untouched(client, event, restaurant, 409)


def test_a_link_is_offered_only_where_it_leads_somewhere(client, audit):
    from django_signal_audit.admin.links import history_url

    audit()
    product = Product.objects.create(name="Oil", stock=1)
    event = change(product, stock=2)
    client.force_login(person_who_may("ann", "view_product", "change_product"))
    history = history_url("admin", "app.product", str(product.pk))
    with registered(Product):
        assert address(event) in text_of(client.get(history))
    with registered(Product, TestFields.ReadOnly):
        assert address(event) not in text_of(client.get(history))
