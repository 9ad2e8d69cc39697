"""Who may not see a row or a field in its ModelAdmin does not see it on any page of ours."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.contrib.contenttypes.admin import GenericTabularInline
from django.urls import path, reverse

from django_signal_audit.admin.links import history_url
from django_signal_audit.checks import check_plugins, check_rules
from django_signal_audit.delivery.worker import deliver
from django_signal_audit.models import AuditEvent, Notification
from tests.app.models import Category, CheapProduct, Note, Person, Picture, Place, Product, Restaurant, Seat, Tag, Team

from .conftest import events, last
from .model_admins import person_who_may, registered
from .notices import INBOX, calling
from .revert_pages import address, page_of
from .samples import make_event
from .urls import urlpatterns

pytestmark = pytest.mark.django_db

LIST = reverse("admin:django_signal_audit_auditevent_changelist")
DASHBOARD = reverse("admin:django_signal_audit_auditevent_dashboard")


class OwnersOnly(admin.ModelAdmin):
    """Shows people the rows that they own, and superusers all."""

    def get_queryset(self, request):
        rows = super().get_queryset(request)
        return rows if request.user.is_superuser else rows.filter(owner=request.user)


class OwnersMayView(admin.ModelAdmin):
    """Lets people open the rows that they own."""

    def has_view_permission(self, request, obj=None):
        return super().has_view_permission(request, obj) and (obj is None or obj.owner_id == request.user.pk)

    def has_change_permission(self, request, obj=None):
        return self.has_view_permission(request, obj)


class OwnersOpen(admin.ModelAdmin):
    """Lists all rows and opens for people those that they own."""

    def get_object(self, request, object_id, from_field=None):
        found = super().get_object(request, object_id, from_field)
        return found if found is not None and found.owner_id == request.user.pk else None


class Broken(admin.ModelAdmin):
    def get_queryset(self, request):
        return request.user.profile.rows


class BrokenPermission(admin.ModelAdmin):
    def has_view_permission(self, request, obj=None):
        return obj is None or obj.no_such_field


class Sliced(admin.ModelAdmin):
    def get_queryset(self, request):
        return super().get_queryset(request).filter(owner=request.user)[:100]


class United(admin.ModelAdmin):
    def get_queryset(self, request):
        rows = super().get_queryset(request)
        return rows.filter(owner=request.user).union(rows.filter(name="of nobody at all"))


def history_of(obj, label=None, pk=None):
    return history_url("admin", label or type(obj)._meta.label_lower, str(pk or obj.pk))


def shown(client, query=""):
    return [event.pk for event in client.get(f"{LIST}?{query}").context["cl"].result_list]


def counted(client):
    """Return what the dashboard counts: all events, those of each object, and those of all users together."""
    context = client.get(DASHBOARD).context
    tables = {table.name: [(row.label, row.value) for row in table.rows] for table in context["tables"]}
    total = [tile.value for tile in context["tiles"] if tile.name == "events"]
    return total, tables["objects"], sum(value for _label, value in tables["users"])


@pytest.fixture
def ann():
    return person_who_may("ann", "view_person", "change_person", "view_product", "view_team", "view_tag", "view_place")


@pytest.fixture
def seen_by_ann(client, ann):
    client.force_login(ann)
    return client


@pytest.fixture
def rows(audit, ann):
    """Return a row of Ann and a row of Bob, and the events of both."""
    audit()
    bob = User.objects.create_user("bob")
    own, foreign = Person.objects.create(name="Own", owner=ann), Person.objects.create(name="Foreign", owner=bob)
    return own, foreign


@pytest.mark.parametrize("kind", [OwnersOnly, OwnersMayView, OwnersOpen, Sliced, United])
class TestRowsOfOthers:
    def test_the_list_and_its_searches_leave_them_out(self, seen_by_ann, rows, kind):
        own, foreign = rows
        with registered(Person, kind):
            expected = [event.pk for event in events(object_id=str(own.pk), model="app.person")]
            assert shown(seen_by_ann) == expected
            assert shown(seen_by_ann, "model=app.person") == expected
            assert shown(seen_by_ann, f"q={foreign.pk}") == []
            assert shown(seen_by_ann, "rule=all&event_type=create") == expected
            assert "Foreign" not in seen_by_ann.get(LIST).content.decode()

    def test_neither_the_page_of_an_event_nor_the_history_opens(self, seen_by_ann, rows, kind):
        own, foreign = rows
        with registered(Person, kind):
            [event] = events(model="app.person", object_id=str(foreign.pk))
            assert seen_by_ann.get(page_of(event)).status_code == 302
            assert "Foreign" not in seen_by_ann.get(page_of(event), follow=True).content.decode()
            assert seen_by_ann.get(history_of(foreign)).status_code == 403
            assert seen_by_ann.get(f"{history_of(foreign)}?at=1h").status_code == 403
            assert seen_by_ann.get(address(event)).status_code == 404
            assert seen_by_ann.get(history_of(own)).status_code == 200

    def test_the_dashboard_does_not_count_them(self, seen_by_ann, rows, kind):
        with registered(Person, kind):
            assert counted(seen_by_ann) == (["1"], [("Own", 1)], 1)

    def test_they_are_not_named_in_other_events(self, seen_by_ann, rows, kind):
        own, foreign = rows
        own.friends.add(foreign)
        with registered(Person, kind):
            text = seen_by_ann.get(history_of(own)).content.decode()
            assert "Foreign" not in text
            assert f"+&nbsp;<bdi>{foreign.pk}</bdi>" in text

    def test_what_happened_to_them_does_not_stand_beside_an_object(self, seen_by_ann, rows, kind):
        own, foreign = rows
        team = Team.objects.create(name="Reds")
        for person in rows:
            Seat.objects.create(team=team, person=person)
        foreign.follows.add(own)
        with registered(Person, kind):
            for page in ("", "?tab=related"):
                assert "Foreign" not in seen_by_ann.get(history_of(own) + page).content.decode()

    def test_no_notification_tells_of_them(self, seen_by_ann, rows, kind):
        for row in rows:
            event = AuditEvent.objects.for_object(row).get()
            Notification.objects.create(
                event=event.uid, rule="all", channel="x", status="sent", data={"subject": row.name}
            )
        listed = reverse("admin:django_signal_audit_notification_changelist")
        with registered(Person, kind):
            assert "Own" in seen_by_ann.get(listed).content.decode()
            assert "Foreign" not in seen_by_ann.get(listed).content.decode()
            [secret] = [one for one in Notification.objects.all() if one.subject == "Foreign"]
            page = reverse("admin:django_signal_audit_notification_change", args=(secret.pk,))
            assert "Foreign" not in seen_by_ann.get(page).content.decode()


class TestDeletedRows:
    def test_they_are_shown_where_the_queryset_hides_nothing(self, seen_by_ann, rows):
        for row in rows:
            row.delete()
        with registered(Person):
            assert len(shown(seen_by_ann)) == len(events(model="app.person"))

    def test_they_are_hidden_where_it_does(self, seen_by_ann, rows):
        own, _ = rows
        key = own.pk
        own.delete()
        with registered(Person, OwnersOnly):
            assert shown(seen_by_ann) == []
            assert seen_by_ann.get(history_of(own, pk=key)).status_code == 403

    def test_superusers_see_them_where_it_hides_nothing_from_them(self, admin_client, rows):
        for row in rows:
            row.delete()
        with registered(Person, OwnersOnly):
            assert len(shown(admin_client, "model=app.person")) == len(events(model="app.person"))

    def test_a_permission_for_each_row_is_asked_of_the_row_as_it_was(self, seen_by_ann, rows):
        for row in rows:
            row.delete()
        with registered(Person, OwnersMayView):
            assert {event.object_repr for event in AuditEvent.objects.filter(pk__in=shown(seen_by_ann))} == {"Own"}

    def test_the_project_can_show_them(self, seen_by_ann, rows, audit):
        own, _ = rows
        own.delete()
        audit(VISIBILITY="tests.test_admin_rights_to_view.own_events")
        with registered(Person, OwnersOnly):
            assert {event.object_repr for event in AuditEvent.objects.filter(pk__in=shown(seen_by_ann))} == {"Own"}


def own_events(user, events):
    """Return the events that the user may see: those of objects called their own."""
    assert user.is_authenticated
    return events.filter(object_repr="Own")


def nonsense(user, events):
    raise RuntimeError


def nothing_sensible(user, events):
    return [1, 2, 3]


class TestModelsWithoutModelAdmin:
    def test_the_permission_is_enough_without_a_hook(self, seen_by_ann, rows):
        assert len(shown(seen_by_ann)) == 2

    def test_the_hook_decides_about_each_event(self, seen_by_ann, rows, audit):
        own, foreign = rows
        audit(VISIBILITY="tests.test_admin_rights_to_view.own_events")
        [event] = events(model="app.person", object_id=str(own.pk))
        [other] = events(model="app.person", object_id=str(foreign.pk))
        assert shown(seen_by_ann) == [event.pk]
        assert seen_by_ann.get(page_of(other)).status_code == 302
        assert "Foreign" not in seen_by_ann.get(history_of(foreign)).content.decode()
        assert "Foreign" not in seen_by_ann.get(f"{history_of(foreign)}?at=2100-01-01").content.decode()
        assert counted(seen_by_ann) == (["1"], [("Own", 1)], 1)

    def test_it_takes_the_permission_as_well(self, client, rows, audit):
        audit(VISIBILITY="tests.test_admin_rights_to_view.own_events")
        client.force_login(person_who_may("cy"))
        assert shown(client) == []

    @pytest.mark.parametrize("name", ["nonsense", "nothing_sensible", "no_such_function"])
    def test_a_hook_that_does_not_work_shows_nothing(self, seen_by_ann, rows, audit, name):
        audit(VISIBILITY=f"tests.test_admin_rights_to_view.{name}")
        assert shown(seen_by_ann) == []

    @pytest.mark.parametrize("value", [("a.b",), 7, print])
    def test_a_hook_of_the_wrong_type_shows_nothing(self, seen_by_ann, rows, audit, value):
        audit(VISIBILITY=value)
        assert shown(seen_by_ann) == []

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("tests.test_admin_rights_to_view.own_events", []),
            ("tests.test_admin_rights_to_view.own_event", ["django_signal_audit.E060"]),
            ("tests.test_admin_rights_to_view.LIST", ["django_signal_audit.E060"]),
            ("no.such.module", ["django_signal_audit.E060"]),
            (own_events, ["django_signal_audit.E003"]),
        ],
    )
    def test_a_hook_that_cannot_work_is_reported(self, audit, value, expected):
        audit(VISIBILITY=value)
        found = [*check_plugins(), *check_rules()]
        assert [message.id for message in found] == expected
        assert all("VISIBILITY" in message.msg for message in found)

    def test_events_of_no_model_stay(self, seen_by_ann, audit):
        audit(VISIBILITY="tests.test_admin_rights_to_view.own_events")
        event = make_event(model="", object_id="", event_type="login")
        assert shown(seen_by_ann) == [event.pk]


class TestModelAdminsThatDoNotWork:
    @pytest.mark.parametrize("kind", [Broken, BrokenPermission])
    def test_they_show_nothing_and_break_no_page(self, seen_by_ann, rows, kind):
        login = make_event(model="", object_id="", event_type="login")
        with registered(Person, kind):
            assert shown(seen_by_ann) == [login.pk]
            assert seen_by_ann.get(history_of(rows[0])).status_code == 403
            assert seen_by_ann.get(DASHBOARD).status_code == 200


class TestFields:
    def edited(self, **values):
        product = Product.objects.create(name="Oil", price=1, stock=1)
        for name, value in values.items():
            setattr(product, name, value)
        product.save()
        return product, last()

    class Excluding(admin.ModelAdmin):
        exclude = ("stock",)

    class Naming(admin.ModelAdmin):
        fields = ("name", "price")

    class Grouping(admin.ModelAdmin):
        fieldsets = ((None, {"fields": (("name", "price"),)}),)

    class Asking(admin.ModelAdmin):
        def get_exclude(self, request, obj=None):
            return ["stock"]

    class Forming(admin.ModelAdmin):
        def get_form(self, request, obj=None, **kwargs):
            form = super().get_form(request, obj, **kwargs)
            form.base_fields.pop("stock", None)
            return form

    class Dropping(admin.ModelAdmin):
        def formfield_for_dbfield(self, db_field, request, **kwargs):
            return None if db_field.name == "stock" else super().formfield_for_dbfield(db_field, request, **kwargs)

    class ForSome(admin.ModelAdmin):
        def get_fields(self, request, obj=None):
            fields = [name for name in super().get_fields(request, obj) if name != "stock"]
            return fields if obj is None or obj.name != "Open" else [*fields, "stock"]

    @pytest.mark.parametrize("kind", [Excluding, Naming, Grouping, Asking, Forming, Dropping, ForSome])
    def test_excluded_fields_are_nowhere(self, seen_by_ann, audit, kind):
        audit()
        product, event = self.edited(stock=471108154, price=2)
        with registered(Product, kind):
            for url in (LIST, page_of(event), history_of(product), f"{history_of(product)}?at=2100-01-01"):
                text = seen_by_ann.get(url).content.decode()
                assert "471108154" not in text, url
                assert "Stock" not in text, url
            assert "Price" in seen_by_ann.get(page_of(event)).content.decode()
            assert "left out" in seen_by_ann.get(page_of(event)).content.decode()

    def test_which_are_excluded_may_depend_on_the_row(self, seen_by_ann, audit):
        audit()
        _, event = self.edited(stock=471108154, name="Open")
        with registered(Product, self.ForSome):
            assert "471108154" in seen_by_ann.get(page_of(event)).content.decode()
            assert "471108154" in seen_by_ann.get(LIST).content.decode()

    def test_read_only_fields_are_shown(self, seen_by_ann, audit):
        class ReadOnly(admin.ModelAdmin):
            readonly_fields = ("stock",)

        audit()
        _, event = self.edited(stock=471108154)
        with registered(Product, ReadOnly):
            assert "471108154" in seen_by_ann.get(page_of(event)).content.decode()

    def test_fields_of_deleted_rows_are_excluded_as_well(self, seen_by_ann, audit):
        audit()
        product, event = self.edited(stock=471108154)
        product.delete()
        with registered(Product, self.ForSome):
            assert "471108154" not in seen_by_ann.get(page_of(event)).content.decode()
            assert "471108154" not in seen_by_ann.get(page_of(last())).content.decode()

    def test_a_message_that_tells_of_them_is_not_shown(self, seen_by_ann, audit):
        audit()
        _, event = self.edited(stock=471108154)
        row = Notification.objects.create(
            event=event.uid,
            rule="all",
            channel="x",
            status="sent",
            data={"subject": "stock is 471108154", "body": "471108154"},
        )
        page = reverse("admin:django_signal_audit_notification_change", args=(row.pk,))
        with registered(Product, self.Excluding):
            assert "471108154" not in seen_by_ann.get(page).content.decode()
        with registered(Product):
            assert "471108154" in seen_by_ann.get(page).content.decode()

    def test_rows_that_refer_by_an_excluded_field_do_not_stand_beside_the_object(self, client, audit):
        class WithoutCategory(admin.ModelAdmin):
            exclude = ("category",)

        audit()
        category = Category.objects.create(name="Fruit")
        Product.objects.create(name="Banana", category=category)
        client.force_login(person_who_may("dan", "view_product", "view_category"))
        with registered(Product):
            assert "Banana" in client.get(history_of(category) + "?tab=related").content.decode()
        with registered(Product, WithoutCategory):
            assert "Banana" not in client.get(history_of(category) + "?tab=related").content.decode()


class TestOtherOwners:
    """Rows of models that are registered in another way than by themselves."""

    def test_the_model_admin_of_a_proxy(self, client, audit):
        class Cheap(admin.ModelAdmin):
            exclude = ("stock",)

            def get_queryset(self, request):
                return super().get_queryset(request).filter(price__lt=10)

        audit()
        cheap, dear = Product.objects.create(name="Cheap", price=1), Product.objects.create(name="Dear", price=99)
        client.force_login(person_who_may("eve", "view_cheapproduct", "view_product"))
        with registered(CheapProduct, Cheap):
            assert [event.object_repr for event in AuditEvent.objects.filter(pk__in=shown(client))] == ["Cheap"]
            assert "Stock" not in client.get(history_of(cheap, "app.product")).content.decode()
            assert client.get(history_of(dear, "app.product")).status_code == 403

    def test_the_page_of_the_parent_decides_about_its_inlines(self, seen_by_ann, rows):
        class Seats(admin.TabularInline):
            model = Seat
            fk_name = "person"
            exclude = ("role",)

        class WithSeats(OwnersOnly):
            inlines = (Seats,)

        for person in rows:
            Seat.objects.create(team=Team.objects.create(name="Reds"), person=person, role="keeper")
        own, foreign = Seat.objects.order_by("pk")
        seen_by_ann.force_login(person := rows[0].owner)
        person.user_permissions.add(*_permissions("view_seat"))
        with registered(Person, WithSeats):
            assert len(shown(seen_by_ann, "model=app.seat")) == 1
            assert "Role" not in seen_by_ann.get(f"{LIST}?model=app.seat").content.decode()
            assert seen_by_ann.get(history_of(own)).status_code == 200
            assert seen_by_ann.get(history_of(foreign)).status_code == 403
            own_key, foreign_key = own.pk, foreign.pk
            own.delete()
            foreign.delete()
            assert len(shown(seen_by_ann, "model=app.seat&event_type=delete")) == 1
            assert seen_by_ann.get(history_of(own, pk=own_key)).status_code == 200
            assert seen_by_ann.get(history_of(foreign, pk=foreign_key)).status_code == 403

    def test_generic_inlines_show_what_their_parent_shows(self, seen_by_ann, rows):
        class Notes(GenericTabularInline):
            model = Note

        class WithNotes(OwnersOnly):
            inlines = (Notes,)

        for person in rows:
            Note.objects.create(text=f"on {person}", about=person)
        Note.objects.create(text="on a tag", about=Tag.objects.create(name="x"))
        rows[0].owner.user_permissions.add(*_permissions("view_note"))
        seen_by_ann.force_login(User.objects.get(username="ann"))
        with registered(Person, WithNotes):
            found = AuditEvent.objects.filter(pk__in=shown(seen_by_ann, "model=app.note"))
            assert [event.object_repr for event in found] == ["on Own"]

    def test_an_inline_of_a_plain_parent_takes_its_own_permission(self, client, audit):
        class Pictures(admin.TabularInline):
            model = Picture

        class WithPictures(admin.ModelAdmin):
            inlines = (Pictures,)

        audit()
        Picture.objects.create(product=Product.objects.create(name="Oil"), file="a.png")
        client.force_login(person_who_may("fay", "view_product"))
        with registered(Product, WithPictures):
            assert shown(client, "model=app.picture") == []
        client.force_login(person_who_may("gus", "view_product", "view_picture"))
        with registered(Product, WithPictures):
            assert len(shown(client, "model=app.picture")) == 1

    def test_the_parent_of_a_multi_table_child(self, client, audit):
        class Named(admin.ModelAdmin):
            exclude = ("name",)

            def get_queryset(self, request):
                return super().get_queryset(request).filter(name="Napoli")

        audit()
        seen = Restaurant.objects.create(name="Napoli", stars=1)
        hidden = Restaurant.objects.create(name="Roma", stars=2)
        client.force_login(person_who_may("hal", "view_place", "view_restaurant"))
        with registered(Place, Named):
            assert len(shown(client)) == 1
            text = client.get(history_of(seen)).content.decode()
            assert "Stars" in text
            assert "Name" not in text
            assert client.get(history_of(hidden)).status_code == 403

    def test_each_site_has_its_own_answer(self, rf, rows, ann):
        from django_signal_audit.admin.access import access_of

        other = admin.AdminSite(name="other")
        other.register(Person, OwnersOnly)
        request = rf.get("/")
        request.user = ann
        with registered(Person):
            both = events(model="app.person")
            assert access_of(request, admin.site).filter(both) == both
            assert [event.object_repr for event in access_of(request, other).filter(both)] == ["Own"]


def _permissions(*codenames):
    from django.contrib.auth.models import Permission

    return Permission.objects.filter(codename__in=codenames)


class TestAProjectWithASiteOfItsOwn:
    """Django's default site has our pages in every project, also where no address leads to it."""

    class NoHidden(admin.ModelAdmin):
        exclude = ["stock"]

        def get_queryset(self, request):
            return super().get_queryset(request).exclude(name__startswith="HIDDEN")

    @pytest.fixture
    def staff(self, settings):
        site = admin.AdminSite(name="staff")
        site.register(Product, self.NoHidden)
        for model in (AuditEvent, Notification):
            site.register(model, type(admin.site._registry[model]))
        before = admin.site._registry.pop(Product, None)
        others = [one for one in urlpatterns if not str(one.pattern).startswith("admin/")]
        settings.ROOT_URLCONF = (path("staff/", site.urls), *others)
        yield site
        if before is not None:
            admin.site._registry[Product] = before

    @pytest.mark.parametrize("is_here", [True, False])
    def test_json_and_panel_show_what_its_pages_show(self, client, audit, staff, settings, is_here):
        audit()
        if not is_here:  # the site is on another host, or in another process
            settings.ROOT_URLCONF = tuple(one for one in urlpatterns if not str(one.pattern).startswith("admin/"))
        hidden = Product.objects.create(name="HIDDEN one", stock=471108154)
        shown = Product.objects.create(name="open", stock=471108154)
        client.force_login(person_who_may("eve", "view_product"))
        text = client.get("/inbox/api/events/").content.decode()
        assert "open" in text
        pages = [text]
        for product in (hidden, shown):
            event = AuditEvent.objects.for_object(product).get()
            pages.append(client.get(f"/inbox/api/events/{event.uid}/").content.decode())
            pages.append(client.get(f"/inbox/api/objects/app.product/{product.pk}/events/").content.decode())
            if is_here:
                page = f"/staff/django_signal_audit/auditevent/{event.pk}/change/"
                pages.append(client.get(page, follow=True).content.decode())
        assert [page for page in pages if "HIDDEN" in page or "471108154" in page] == []


class TestSeveralOwners:
    """Where a model has several owners, the one who shows the row decides about its fields."""

    def test_fields_that_only_the_owner_of_other_rows_shows(self, client, audit):
        class OfPerson(admin.TabularInline):
            model = Seat
            exclude = ("role",)

        class OfTeam(admin.TabularInline):
            model = Seat

        class People(admin.ModelAdmin):
            inlines = (OfPerson,)

        class SomeTeams(admin.ModelAdmin):
            inlines = (OfTeam,)

            def get_queryset(self, request):
                return super().get_queryset(request).filter(name="mine")

        audit()
        seats = {
            name: Seat.objects.create(
                person=Person.objects.create(name=name), team=Team.objects.create(name=name), role=f"role of {name}"
            )
            for name in ("mine", "theirs")
        }
        for seat in seats.values():
            seat.role = "goalie"
            seat.save()
        client.force_login(person_who_may("eve", "view_seat", "view_person", "view_team"))
        with registered(Person, People), registered(Team, SomeTeams):
            pages = {name: client.get(history_of(seat)).content.decode() for name, seat in seats.items()}
        assert "role of mine" in pages["mine"]
        assert "role of theirs" not in pages["theirs"]


def test_a_message_of_which_an_event_is_pruned_is_hidden_from_who_does_not_see_all(client, audit):
    class NoHidden(admin.ModelAdmin):
        def get_queryset(self, request):
            return super().get_queryset(request).exclude(name__startswith="HIDDEN")

    audit(
        {"name": "all", "model": "app.Product", "notify": [{"channel": "inbox"}]},
        CHANNELS={"inbox": {"BACKEND": INBOX, "OPTIONS": {"to": "superusers"}}},
        DISPATCHER="django_signal_audit.dispatchers.WorkerDispatcher",
    )
    User.objects.create_superuser("root")
    Product.objects.bulk_create([Product(name="plain"), Product(name="HIDDEN one")])
    deliver()
    AuditEvent.objects.filter(object_repr="HIDDEN one").prune()
    message = Notification.objects.get()
    assert "HIDDEN one" in str(message.data)
    page = reverse("admin:django_signal_audit_notification_change", args=(message.pk,))
    with registered(Product, NoHidden):
        client.force_login(person_who_may("eve", "view_product", "view_notification"))
        assert "HIDDEN one" not in client.get(page).content.decode()


class TestChoicesOfFilters:
    def test_they_name_only_what_the_user_may_see(self, seen_by_ann, audit):
        audit(
            {"name": "people", "model": "app.Person"},
            {"name": "secret", "model": "app.Document"},
            {"name": "both", "model": ["app.Person", "app.Document"]},
            {"name": "logins", "events": ["login"]},
        )
        selects = {select.name: select for select in seen_by_ann.get(LIST).context["form"].selects()}
        assert [value for value, _ in selects["model"].options if value] == ["app.person"]
        assert [value for value, _ in selects["rule"].options if value] == ["people", "both", "logins"]
        chosen = seen_by_ann.get(f"{LIST}?model=app.document").context["form"]
        fields = [select for select in chosen.selects() if select.name == "field"]
        assert [value for select in fields for value, _ in select.options if value] == []

    def test_what_others_looked_for_when_they_exported_is_theirs(self, seen_by_ann, admin_client, audit, ann):
        audit({"name": "people", "model": "app.Person"})
        export = reverse("admin:django_signal_audit_auditevent_export")
        admin_client.post(f"{export}?q=HIDDENCLIENT&reason=HIDREASON", {"format": "csv"})
        event = AuditEvent.objects.get(event_type="events_exported")
        pages = [LIST, page_of(event), f"/inbox/api/events/{event.uid}/"]
        shown = [seen_by_ann.get(page).content.decode() for page in pages]
        assert [text for text in shown if "HIDDENCLIENT" in text or "HIDREASON" in text] == []
        assert "HIDDENCLIENT" in admin_client.get(page_of(event)).content.decode()
        own = make_event(
            event_type="events_exported", model="", object_id="", actor_id=str(ann.pk), data={"search": "OWNSEARCH"}
        )
        assert "OWNSEARCH" in seen_by_ann.get(page_of(own)).content.decode()


class TestLongLogs:
    def make(self, owner, count):
        AuditEvent.objects.bulk_create(
            AuditEvent(event_type="update", source="orm", model="app.person", object_id=str(owner), rules=["all"])
            for _ in range(count)
        )

    def test_a_page_reads_no_more_than_5000_events_and_offers_to_look_further(self, seen_by_ann, rows, monkeypatch):
        own, foreign = rows
        self.make(own.pk, 3)
        self.make(foreign.pk, 5100)
        with registered(Person, OwnersOnly):
            response = seen_by_ann.get(LIST)
            text = response.content.decode()
            assert list(response.context["cl"].result_list) == []
            assert "Search further" in text
            assert "Searched back to" in text
            further = response.context["cl"].page_links()["further"]
            response = seen_by_ann.get(LIST + further)
            assert len(response.context["cl"].result_list) == 4
            assert "Search further" not in response.content.decode()

    def test_its_pages_lead_through_all_that_may_be_seen_in_both_directions(self, seen_by_ann, rows):
        own, foreign = rows
        for _ in range(30):
            self.make(own.pk, 4)
            self.make(foreign.pk, 5)
        expected = [event.pk for event in events(object_id=str(own.pk), model="app.person")][::-1]
        with registered(Person, OwnersOnly):
            pages, query = [], ""
            while query is not None:
                changelist = seen_by_ann.get(LIST + query).context["cl"]
                pages.append([event.pk for event in changelist.result_list])
                query = changelist.page_links().get("older")
            assert pages == [expected[:50], expected[50:100], expected[100:]]
            changelist = seen_by_ann.get(LIST + "?p=oldest").context["cl"]
            assert [event.pk for event in changelist.result_list] == expected[-50:]
            changelist = seen_by_ann.get(LIST + changelist.page_links()["newer"]).context["cl"]
            assert [event.pk for event in changelist.result_list] == expected[-100:-50]

    def test_no_query_is_asked_for_each_row(self, seen_by_ann, rows, django_assert_max_num_queries):
        for _ in range(60):
            Person.objects.create(name="Own", owner=rows[0].owner)
        with registered(Person, OwnersOnly), django_assert_max_num_queries(14):
            assert len(shown(seen_by_ann)) == 50


def test_a_message_about_hidden_objects_shows_neither_its_error_nor_whom_it_goes_to(client, audit):
    class NoHidden(admin.ModelAdmin):
        def get_queryset(self, request):
            return super().get_queryset(request).exclude(name__startswith="HIDDEN")

    audit(
        {"name": "all", "model": "app.Product", "notify": [{"channel": "inbox"}]},
        CHANNELS={"inbox": {"BACKEND": INBOX, "OPTIONS": {"to": "superusers"}}},
        DISPATCHER="django_signal_audit.dispatchers.WorkerDispatcher",
    )
    User.objects.create_superuser("root")
    Product.objects.create(name="HIDDEN one")
    Notification.objects.update(recipient="owner-of-it@example.com", last_error="550 no such box: HIDDEN one")
    message = Notification.objects.get()
    pages = [
        reverse("admin:django_signal_audit_notification_change", args=(message.pk,)),
        reverse("admin:django_signal_audit_notification_changelist"),
    ]
    log = reverse("admin:django_signal_audit_notification_history", args=(message.pk,))
    with registered(Product, NoHidden):
        client.force_login(person_who_may("eve", "view_product", "view_notification"))
        for page in pages:
            text = client.get(page).content.decode()
            assert "owner-of-it" not in text
            assert "550 no such box" not in text
        assert "owner-of-it" not in client.get(log).content.decode()
    with registered(Product, admin.ModelAdmin):
        for page in pages:
            text = client.get(page).content.decode()
            assert "owner-of-it" in text
            assert "550 no such box" in text
        assert "owner-of-it" in client.get(log).content.decode()


def test_the_page_of_the_channels_and_the_search_do_not_tell_of_hidden_messages(client, audit, admin_user):
    class NoHidden(admin.ModelAdmin):
        def get_queryset(self, request):
            return super().get_queryset(request).exclude(name__startswith="HIDDEN")

    audit(
        {"name": "all", "model": "app.Product", "notify": [{"channel": "boom"}]},
        CHANNELS={"boom": calling("boom", to=["owner@example.com"])},
        DISPATCHER="django_signal_audit.dispatchers.WorkerDispatcher",
    )
    for number in range(8):
        Product.objects.create(name=f"HIDDEN {number}")
    deliver("default")
    channels = reverse("admin:django_signal_audit_notification_channels")
    search = f"{reverse('admin:django_signal_audit_notification_changelist')}?q=owner@example.com"
    client.force_login(person_who_may("eve", "view_product", "view_notification"))
    with registered(Product, NoHidden):
        text = client.get(channels).content.decode()
        assert "ValueError" in text
        assert "owner@example.com" not in text
        assert len(client.get(search).context["cl"].result_list) == 0
        assert "owner@example.com" not in str(AuditEvent.objects.get(event_type="channel_failing").data)
    with registered(Product):
        assert len(client.get(search).context["cl"].result_list) == 8
        client.force_login(admin_user)
        assert "no way to owner@example.com" in client.get(channels).content.decode()
        assert len(client.get(search).context["cl"].result_list) == 8


def test_rows_beside_an_object_are_shown_where_the_field_that_refers_to_it_is(client, audit):
    class Pictures(admin.ModelAdmin):
        def get_exclude(self, request, obj=None):
            return ["product"] if obj is not None and obj.file.name == "secret.jpg" else []

    audit()
    product = Product.objects.create(name="Oil")
    for name in ("secret.jpg", "known.jpg"):
        Picture.objects.create(product=product, file=name)
    client.force_login(person_who_may("eve", "view_product", "view_picture", "view_auditevent"))
    with registered(Product, admin.ModelAdmin), registered(Picture, Pictures):
        text = client.get(history_of(product) + "?tab=related").content.decode()
    assert "known.jpg" in text
    assert "secret.jpg" not in text


class TestAParentOfWhichOnlyTheChildHasAModelAdmin:
    @pytest.fixture
    def places(self, audit):
        audit({"name": "places", "model": "app.Place"})
        registered_rows = Restaurant.objects.create(name="HIDDEN inn"), Restaurant.objects.create(name="open inn")
        return [*registered_rows, Place.objects.create(name="a place")]

    def test_the_childs_decides_about_its_rows(self, client, places):
        class Restaurants(admin.ModelAdmin):
            exclude = ["name"]

            def get_queryset(self, request):
                return super().get_queryset(request).exclude(name__startswith="HIDDEN")

        client.force_login(person_who_may("eve", "view_place", "view_restaurant", "view_auditevent"))
        labels = {event.object_id: event.model for event in AuditEvent.objects.all()}
        with registered(Restaurant, Restaurants):
            text = client.get(LIST).content.decode()
            assert "HIDDEN" not in text
            assert "a place" in text
            hidden, shown, place = (AuditEvent.objects.get(object_id=str(row.pk)) for row in places)
            assert set(labels.values()) == {"app.place"}
            pages = [
                client.get(reverse("admin:django_signal_audit_auditevent_change", args=(event.pk,)))
                for event in (hidden, shown, place)
            ]
        assert [page.status_code for page in pages][1:] == [200, 200]
        assert "HIDDEN" not in pages[0].content.decode()
        assert "<td>open inn" not in pages[1].content.decode()
