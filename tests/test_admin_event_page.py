"""The page of one event: what surrounds it, and the addresses it is known by."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.urls import reverse
from django.utils import translation
from django.utils.html import escape, strip_tags

from django_signal_audit.admin.links import event_url
from django_signal_audit.context.scopes import audit_context
from django_signal_audit.models import AuditEvent
from tests.app.models import Product

from .samples import NOON, make_event

pytestmark = pytest.mark.django_db


def page_of(event):
    return reverse("admin:django_signal_audit_auditevent_change", args=(event.pk,))


def permalink_of(uid):
    return reverse("admin:django_signal_audit_auditevent_permalink", args=(uid,))


def text_of(response):
    assert response.status_code == 200
    return " ".join(strip_tags(response.content.decode()).split())


def section(response, title):
    """Return the card that has a title."""
    found = re.findall(r'<section class="audit-card.*?</section>', response.content.decode(), re.DOTALL)
    return next((part for part in found if title in part), "")


@pytest.fixture
def viewer(client):
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_auditevent", "view_user"]))
    client.force_login(user)
    return client


class TestSentence:
    @pytest.mark.parametrize(
        ("event_type", "said"),
        [("update", "root changed ada"), ("create", "root created ada"), ("delete", "root deleted ada"),
         ("product_viewed", "root product_viewed ada")],
    )  # fmt: skip
    def test_the_headline_says_who_did_what_to_what(self, admin_client, event_type, said):
        event = make_event(event_type=event_type, actor_id="7", actor_repr="root")
        assert said in text_of(admin_client.get(page_of(event)))

    @pytest.mark.parametrize(
        ("event_type", "name", "said"),
        [("update", "ada", "root: ada \N{EN DASH} geändert"), ("login", "", "root: Anmeldung")],
    )
    def test_the_headline_has_the_order_of_the_language(self, admin_client, event_type, name, said):
        event = make_event(event_type=event_type, actor_repr="root", object_id=name, object_repr=name)
        with translation.override("de"):
            assert said in text_of(admin_client.get(page_of(event)))

    @pytest.mark.parametrize(
        ("values", "here"),
        [({}, "ada, Mar 10, 2020, 13:00"),
         ({"object_repr": "a\u202eb<i> " * 20}, "a\\u202eb<i> " * 4 + "a\\u202eb<i>…, Mar 10, 2020, 13:00"),
         ({"event_type": "login", "object_id": "", "object_repr": ""}, "login, Mar 10, 2020, 13:00"),
         ({"event_type": "delete", "object_repr": ""}, "3, Mar 10, 2020, 13:00")],
    )  # fmt: skip
    def test_the_breadcrumbs_and_the_tab_name_the_object_and_the_time(self, admin_client, values, here):
        event = make_event(**{"changes": {"email": ["a", "b"]}, "recorded_at": NOON.replace(year=2020), **values})
        for page in (page_of(event), reverse("admin:django_signal_audit_auditevent_revert", args=(event.pk,))):
            response = admin_client.get(page)
            if response.status_code == 403:  # what no change of a row is can't be reverted
                assert event.event_type == "login"
                continue
            source = response.content.decode()
            crumbs = re.search(r'<(?:ol|div) class="breadcrumbs">.*?</(?:ol|div)>', source, re.DOTALL)[0]
            assert f"{escape(here)}" in crumbs
            assert f"{event.event_type} " not in crumbs
        assert f"<title>{escape(here)}" in admin_client.get(page_of(event)).content.decode()

    def test_the_object_is_opened_by_its_name(self, admin_client, admin_user):
        event = make_event(object_id=str(admin_user.pk), object_repr="Ada <i>")
        assert ">Open Ada &lt;i&gt;</a>" in admin_client.get(page_of(event)).content.decode()

    def test_what_the_package_records_is_the_headline(self, admin_client):
        event = make_event(event_type="events_pruned", model="", object_id="", object_repr="", data={"count": 3})
        assert "3 events were pruned." in text_of(admin_client.get(page_of(event)))

    def test_a_number_says_by_how_much_it_changed(self, admin_client):
        event = make_event(model="app.product", changes={"price": ["100.00", "88.80"], "stock": [0, 5]})
        text = text_of(admin_client.get(page_of(event)))
        assert "88.80 \N{MINUS SIGN}11.2 %" in text
        assert text.count(" %") == 1

    def test_a_key_that_a_document_lacked_is_not_set(self, admin_client):
        event = make_event(model="app.product", changes={"attributes": [{"a": 1}, {"a": 1, "grade": "x"}]})
        text = text_of(admin_client.get(page_of(event)))
        assert "grade not set x" in text

    @pytest.mark.parametrize(
        ("source", "said"), [("orm", "Source write to one object"), ("bulk", "Source bulk"), ("x", "Source x")]
    )
    def test_the_source_is_said_in_words(self, admin_client, source, said):
        assert said in text_of(admin_client.get(page_of(make_event(source=source))))


class TestNeighbours:
    def test_the_previous_and_the_next_event_of_the_object(self, admin_client):
        events = [make_event(changes={"email": [str(number), "x"]}) for number in range(4)]
        make_event(object_id="4")
        around = section(admin_client.get(page_of(events[1])), "Previous and next change")
        assert [page_of(event) in around for event in events] == [True, False, True, False]

    @pytest.mark.parametrize("number", [0, 1])
    def test_the_first_and_the_last_have_one(self, admin_client, number):
        events = [make_event(), make_event()]
        around = section(admin_client.get(page_of(events[number])), "Previous and next change")
        assert ("Previous," in around, "Next," in around) == (number == 1, number == 0)

    def test_an_only_event_has_none(self, admin_client):
        assert not section(admin_client.get(page_of(make_event())), "Previous and next change")

    def test_a_few_other_events_of_the_request_and_a_link_to_all(self, admin_client):
        events = [make_event(object_id=str(number), correlation_id="r") for number in range(8)]
        beside = section(admin_client.get(page_of(events[7])), "View all")
        assert [page_of(event) in beside for event in events] == [False, False, *[True] * 5, False]
        assert "?request=r" in beside

    def test_events_that_the_user_may_not_see_are_left_out(self, viewer):
        event = make_event(correlation_id="r")
        hidden = make_event(model="auth.group", correlation_id="r")
        response = viewer.get(page_of(event))
        assert page_of(hidden) not in response.content.decode()
        assert not section(response, "View all")


class TestAddresses:
    def test_the_permalink_leads_to_the_event(self, admin_client):
        event = make_event()
        assert permalink_of(event.uid) in admin_client.get(page_of(event)).content.decode()
        assert admin_client.get(permalink_of(event.uid)).url == page_of(event)
        assert admin_client.get(permalink_of(event.uid) + "?format=json").url == page_of(event) + "?format=json"

    def test_the_json_has_the_columns_of_the_event(self, admin_client):
        event = make_event(changes={"email": ["a", "<b>"]})
        found = admin_client.get(f"{page_of(event)}?format=json")
        assert found["Content-Type"] == "application/json"
        assert found.json()["uid"] == str(event.uid)
        assert found.json()["changes"] == {"email": ["a", "<b>"]}

    def test_the_json_lacks_the_fields_that_the_user_may_not_see(self, viewer, monkeypatch):
        monkeypatch.setattr(type(admin.site._registry[User]), "exclude", ["email"], raising=False)
        monkeypatch.setattr(type(admin.site._registry[User]), "fieldsets", None)
        event = make_event(changes={"email": ["a", "b"], "first_name": ["a", "b"]})
        assert viewer.get(f"{page_of(event)}?format=json").json()["changes"] == {"first_name": ["a", "b"]}

    def test_hidden_events_are_as_if_they_were_not_there(self, viewer):
        hidden = make_event(model="auth.group")
        assert viewer.get(permalink_of(hidden.uid)).status_code == 404
        assert viewer.get(permalink_of(uuid4())).status_code == 404
        assert viewer.get(f"{page_of(hidden)}?format=json").status_code == 302

    def test_both_take_the_permission(self, client):
        client.force_login(User.objects.create_user("clerk", is_staff=True))
        event = make_event()
        assert client.get(permalink_of(event.uid)).status_code == 404
        assert client.get(f"{page_of(event)}?format=json").status_code == 403


def test_a_change_that_cannot_be_reverted_says_when_it_was_changed_again_and_by_whom(admin_client, audit):
    audit()
    product = Product.objects.create(name="Oil")
    Product.objects.update(name="Petrol")
    event = AuditEvent.objects.latest("id")
    Product.objects.update(stock=3)
    with audit_context(actor="bruno"):
        Product.objects.update(name="Diesel")
    later = AuditEvent.objects.latest("id")
    with audit_context(actor="carla"):
        Product.objects.update(name="Kerosene")
    text = admin_client.get(event_url("admin", event.pk)).content.decode()
    assert "Changed again:" in text
    note = text[text.index("Changed again:") :].partition("</p>")[0]
    assert f'href="{event_url("admin", later.pk)}"' in note
    assert "bruno" in note
    assert f"?older={event.pk}&amp;newer=current" in note
    assert product.pk
