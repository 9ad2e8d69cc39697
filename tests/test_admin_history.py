from __future__ import annotations

import datetime as dt
import re
from html import unescape

import pytest
import time_machine
from django.contrib import admin
from django.contrib.admin.sites import AdminSite, all_sites
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import path, reverse

from django_signal_audit.admin import AuditEventAdmin, NotificationAdmin
from django_signal_audit.admin.links import history_url
from django_signal_audit.models import AuditEvent, Notification
from tests.app.models import CheapProduct, Country, Document, Pizzeria, Product, Tag

from .samples import HOSTILE, NOON, make_event

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

# A site of the project's own, which has the log, and one that has it not.
back = AdminSite(name="back")
back.register([CheapProduct, Country, Document, Pizzeria, Tag])
back.register(AuditEvent, AuditEventAdmin)
bare = AdminSite(name="bare")
bare.register([Tag])
# Other tests' models have no page there.
# One that has the notifications, and not the log that they are about.
notes = AdminSite(name="notes")
notes.register(Notification, NotificationAdmin)
for one in (back, bare, notes):
    all_sites.discard(one)

urlpatterns = [
    path("back/", back.urls),
    path("bare/", bare.urls),
    path("notes/", notes.urls),
    path("admin/", admin.site.urls),
]

LINK = re.compile(r'<a href="([^"]+)" class="historylink">History</a>')


def text_of(response):
    assert response.status_code == 200
    return response.content.decode()


def link_on(client, obj, site="back"):
    """Return the address of the history link on an object's change form, None if there is none."""
    opts = obj._meta
    url = reverse(
        f"admin:{opts.app_label}_{opts.model_name}_change", args=(admin.utils.quote(obj.pk),), current_app=site
    )
    found = LINK.search(text_of(client.get(url)))
    address = unescape(found[1]) if found else ""
    return address if "/auditevent/history/" in address else None


class TestLink:
    def test_the_form_of_every_audited_model_has_one_history_button(self, admin_client, audit):
        audit()
        tag = Tag.objects.create(name="new")
        url = reverse("admin:app_tag_change", args=(tag.pk,), current_app="back")
        assert text_of(admin_client.get(url)).count("historylink") == 1
        address = link_on(admin_client, tag)
        assert address == f"/back/django_signal_audit/auditevent/history/app.tag/{tag.pk}/"
        assert "create" in text_of(admin_client.get(address))

    def test_an_unaudited_model_has_none(self, admin_client, audit):
        audit({"name": "countries", "model": "app.Country"})
        assert link_on(admin_client, Tag.objects.create(name="new")) is None

    def test_a_form_that_adds_has_none(self, admin_client, audit):
        audit()
        assert "/auditevent/history/" not in (
            text_of(admin_client.get(reverse("admin:app_tag_add", current_app="back")))
        )

    def test_who_may_not_view_events_has_none(self, client, audit):
        audit()
        tag = Tag.objects.create(name="new")
        user = User.objects.create_user("clerk", is_staff=True)
        user.user_permissions.add(Permission.objects.get(codename="change_tag", content_type__app_label="app"))
        client.force_login(user)
        assert link_on(client, tag) is None
        user.user_permissions.add(Permission.objects.get(codename="view_auditevent"))
        assert client.get(link_on(client, tag)).status_code == 200

    def test_no_link_leads_to_a_page_that_the_user_may_not_open(self, client, audit):
        # A child without a rule of its own has its parent's history, and that takes to view the parent.
        audit({"name": "places", "model": "app.Place"})
        pizzeria = Pizzeria.objects.create(name="Napoli")
        user = User.objects.create_user("clerk", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=["view_auditevent", "change_pizzeria"]))
        client.force_login(user)
        assert link_on(client, pizzeria) is None
        user.user_permissions.add(Permission.objects.get(codename="view_place"))
        assert client.get(link_on(client, pizzeria)).status_code == 200

    def test_a_site_without_the_log_has_none(self, admin_client, audit):
        audit()
        tag = Tag.objects.create(name="new")
        assert link_on(admin_client, tag, "bare") in (
            None,
            f"/admin/django_signal_audit/auditevent/history/app.tag/{tag.pk}/",
        )

    def test_a_proxy_has_its_concrete_models(self, admin_client, audit):
        audit({"name": "products", "model": "app.Product"})
        product = CheapProduct.objects.create(name="Oil")
        assert link_on(admin_client, product).endswith(f"/history/app.product/{product.pk}/")

    def test_a_child_without_a_rule_has_its_parents(self, admin_client, audit):
        audit({"name": "places", "model": "app.Place"})
        pizzeria = Pizzeria.objects.create(name="Napoli")
        address = link_on(admin_client, pizzeria)
        assert address.endswith(f"/history/app.place/{pizzeria.pk}/")
        assert "Napoli" in text_of(admin_client.get(address))

    def test_djangos_own_models_on_the_default_site(self, admin_client, audit):
        audit({"name": "groups", "model": "auth.Group"})
        group = Group.objects.create(name="editors")
        assert (
            link_on(admin_client, group, "admin")
            == f"/admin/django_signal_audit/auditevent/history/auth.group/{group.pk}/"
        )

    @pytest.mark.parametrize(
        "key",
        [
            "a/b",
            "a//b/",
            "..",
            ".",
            "a b",
            'quo"te',
            "<b>",
            "%2F",
            "_2F",
            "ü☃",
            "?x=1#y",
            "a\\b",
            "a\nb",
            "x" * 280,
            "history/x",
        ],
    )
    def test_keys_of_any_characters(self, admin_client, audit, key):
        audit({"name": "countries", "model": "app.Country"})
        country = Country.objects.create(code=key, name=f"land of {len(key)}")
        address = link_on(admin_client, country)
        assert "/./" not in address
        assert "/../" not in address
        response = admin_client.get(address)
        assert len(response.context["events"]) == 1
        assert f"land of {len(key)}" in text_of(response)


class TestSitesWithOneOfBothAdmins:
    @pytest.fixture
    def notification(self, audit):
        audit({"name": "tags", "model": "app.Tag"})
        tag = Tag.objects.create(name="new")
        event = AuditEvent.objects.for_object(tag).get()
        values = {"rule": "tags", "channel": "log", "recipient": "ops@example.com", "status": "dead"}
        return Notification.objects.create(**values, event=event.uid)

    @pytest.mark.parametrize("page", ["", "{event}/change/", "history/app.tag/{key}/", "dashboard/"])
    def test_the_log_alone_has_no_links_to_notifications(self, admin_client, notification, page):
        event = AuditEvent.objects.get(uid=notification.event)
        address = page.format(event=event.pk, key=event.object_id)
        text = admin_client.get(f"/back/django_signal_audit/auditevent/{address}").content.decode()
        assert "django_signal_audit/notification/" not in text
        assert "ops@example.com" not in text

    @pytest.mark.parametrize("page", ["", "{pk}/change/", "channels/", "retry/?status=dead"])
    def test_notifications_alone_have_no_links_to_the_log(self, admin_client, notification, page):
        response = admin_client.get(f"/notes/django_signal_audit/notification/{page.format(pk=notification.pk)}")
        assert "django_signal_audit/auditevent/" not in text_of(response)
        assert 'href=""' not in text_of(response)


class TestState:
    """What the object was at a moment."""

    @pytest.fixture
    def address(self, audit):
        audit()
        with time_machine.travel(NOON, tick=False):
            tag = Tag.objects.create(name="first name")
        with time_machine.travel(NOON + dt.timedelta(days=2), tick=False):
            tag.name = "second name"
            tag.save()
        with time_machine.travel(NOON + dt.timedelta(days=4), tick=False):
            address = history_url("back", "app.tag", str(tag.pk))
            tag.delete()
        return address

    @pytest.mark.parametrize(
        ("at", "state"),
        [
            ("2026-03-11", ["first name"]),
            ("2026-03-12T13:00", ["second name"]),
            ("2026-03-15", None),
            ("2026-03-01", None),
        ],
    )
    def test_the_state_at_a_moment_is_as_recorded(self, admin_client, address, at, state):
        response = admin_client.get(address, {"at": at})
        found = response.context["rows"]
        assert ([row.lines[0].old.text for row in found] or None) == state
        reasons = ("The object didn&#x27;t exist yet", "The object didn't exist yet", "The object was deleted by then.")
        assert any(reason in text_of(response) for reason in reasons) == (state is None)

    @pytest.mark.parametrize("at", ["soon", "\0", HOSTILE])
    def test_nonsense_is_said(self, admin_client, address, at):
        text = text_of(admin_client.get(address, {"at": at}))
        assert "a valid date" in text
        assert "<script>alert" not in text


class TestPage:
    def open(self, client, label="auth.user", key="3"):
        return client.get(history_url("admin", label, key))

    def test_the_whole_life_newest_first_with_actor_reason_and_diff(self, admin_client):
        make_event(event_type="create", changes={"email": [None, "a@x"]})
        make_event(changes={"email": ["a@x", "b@x"]}, actor_repr="root", actor_id="7", context={"reason": "by phone"})
        make_event(object_id="33", changes={"email": ["no", "other"]})
        text = text_of(self.open(admin_client))
        positions = [text.index(part) for part in ("b@x", "by phone", "audit-icon-create")]
        assert positions == sorted(positions)
        for part in ("root", "Email address", "March 10, 2026 13:00:00 +01:00", "Open object"):
            assert part in text, part
        assert "other" not in text

    def test_a_deleted_object_is_said_to_be(self, admin_client):
        make_event(event_type="delete", changes={"email": ["a@x", None]})
        text = text_of(self.open(admin_client))
        assert ">deleted</span>" in text
        assert "Open object" not in text

    def test_a_model_that_is_gone(self, admin_client):
        make_event(model="gone.thing", changes={"price": ["1", "2"]})
        assert "price" in text_of(self.open(admin_client, "gone.thing"))

    def test_nothing_recorded_yet(self, admin_client):
        assert "Nothing is recorded for this object yet." in text_of(self.open(admin_client, key="4"))

    @pytest.mark.parametrize("key", ["a\x00b", "\udc80".encode("utf-8", "replace").decode(), "x" * 400])
    def test_keys_no_object_has(self, admin_client, key):
        assert "Nothing is recorded" in text_of(self.open(admin_client, key=key))

    @pytest.mark.parametrize("label", ["a\x00b", "gone.thing", "", "a.b.c"])
    def test_models_that_never_were(self, admin_client, label):
        assert admin_client.get(history_url("admin", label or "x", "1")).status_code == 200

    def test_long_lives_have_pages(self, admin_client):
        events = [make_event(changes={"email": [str(number), "x"]}).pk for number in range(120)][::-1]
        make_event(object_id="33")
        pages = [events[:50], events[50:100], events[100:]]
        assert self.follow(admin_client, "Older") == pages
        assert self.follow(admin_client, "Oldest")[-1] == events[-50:]
        assert self.follow(admin_client, "Newer", "p=oldest") == [events[70:], events[20:70], events[:50]]
        assert self.follow(admin_client, "Newest", "p=oldest")[-1] == events[:50]

    def follow(self, client, name, query=""):
        """Return the pages that the named link leads through, as lists of keys."""
        address, pages = history_url("admin", "auth.user", "3"), []
        while True:
            response = client.get(f"{address}?{query}")
            pages.append([event.pk for event in response.context["events"]])
            link = re.search(rf'<a href="\?([^"]*)"[^>]*>{name}</a>', text_of(response))
            if not link:
                return pages
            query = unescape(link[1])

    @pytest.mark.parametrize("page", ["2", "older", "newer-1-1-1", "%00"])
    def test_an_address_that_names_no_page_is_the_first(self, admin_client, page):
        event = make_event()
        response = admin_client.get(history_url("admin", "auth.user", "3") + f"?p={page}")
        assert [event.pk for event in response.context["events"]] == [event.pk]

    def test_past_the_end(self, admin_client):
        make_event(object_repr="ada of old")
        text = text_of(admin_client.get(history_url("admin", "auth.user", "3") + "?p=older-1-1"))
        assert "No events." in text
        assert "ada of old" in text
        assert re.search(r'<a href="\?">Newest</a>', text)

    def test_a_parent_has_what_happened_while_its_row_was_a_childs(self, admin_client, client, audit):
        audit()
        pizzeria = Pizzeria.objects.create(name="Napoli")
        pizzeria.name = "Roma"
        pizzeria.save()
        address = history_url("admin", "app.place", str(pizzeria.pk))
        assert "Roma" in text_of(admin_client.get(address))
        user = User.objects.create_user("viewer", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=["view_auditevent", "view_place"]))
        client.force_login(user)
        assert "Roma" not in text_of(client.get(address))

    def test_the_queries_do_not_grow_with_the_life(self, admin_client):
        counts = []
        for more in (2, 38):
            for _ in range(more):
                make_event(changes={"email": ["a", "b"]}, recorded_at=NOON)
            self.open(admin_client)
            with CaptureQueriesContext(connection) as queries:
                self.open(admin_client)
            counts.append(len(queries))
        # The admin may be the object itself, by chance: a row that is there takes two more.
        assert counts[0] == counts[1] <= 10


class TestWhatIsNotCertain:
    def test_fields_of_which_changes_are_left_out_are_named_beside_a_state(self, admin_client, audit):
        audit(
            {"name": "all", "model": "app.Product", "exclude": ["stock"]},
            {"name": "new", "model": "app.Product", "events": ["create"]},
        )
        product = Product.objects.create(name="Oil", stock=3)
        Product.objects.update(stock=4)
        page = text_of(admin_client.get(history_url("admin", "app.product", str(product.pk)), {"at": "2999-01-01"}))
        assert "Not every change of these fields is recorded, so their values may have been different: Stock." in page

    def test_nothing_is_said_where_all_is_recorded(self, admin_client, audit):
        audit()
        product = Product.objects.create(name="Oil", stock=3)
        page = text_of(admin_client.get(history_url("admin", "app.product", str(product.pk)), {"at": "2999-01-01"}))
        assert "Not every change" not in page
