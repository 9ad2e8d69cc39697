"""The search of the list of events: filters that are typed or chosen, and free text."""

from __future__ import annotations

import datetime as dt
import re
from html import unescape

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.html import strip_tags
from django.utils.http import urlencode

from django_signal_audit.models.events import utc_now
from tests.app.models import Tag

from .samples import NOON, make_event

pytestmark = pytest.mark.django_db

LIST = reverse("admin:django_signal_audit_auditevent_changelist")


def open_list(client, **parameters):
    response = client.get(f"{LIST}?{urlencode(parameters, doseq=True)}")
    assert response.status_code == 200
    return response


def shown(client, q="", **parameters):
    """Return the primary keys in the list, in its order."""
    return [event.pk for event in open_list(client, q=q, **parameters).context["cl"].result_list]


def text_of(response):
    return " ".join(unescape(strip_tags(response.content.decode())).split())


def links_of(response):
    """Return the addresses of a page by their texts."""
    found = re.findall(r'<a href="(\?[^"]*)"[^>]*>(.*?)</a>', response.content.decode(), re.DOTALL)
    return {strip_tags(unescape(text)).strip(): LIST + unescape(address) for address, text in found}


def viewer_of(client, *codenames):
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_auditevent", *codenames]))
    client.force_login(user)
    return client


class TestFilters:
    @pytest.fixture
    def found(self):
        make_event(object_repr="Robusta", actor_repr="carla", actor_id="9", correlation_id="other", object_id="4")
        return make_event(
            model="app.product", event_type="delete", object_id="8", object_repr="Arabica coffee", actor_id="7",
            actor_repr="Bruno", rules=["things"], level="warning", correlation_id="0190-abc",
            changes={"price": ["1.00", None]}, context={"reason": "Market prices of May"},
        )  # fmt: skip

    @pytest.mark.parametrize(
        "q",
        [
            "actor:bruno", "actor:BRU", "actor:7", 'object:"Arabica coffee"', "object:arab", "object:8",
            "model:product", "model:app.product", "model:Product", "field:price", "event:delete", "event:deleted",
            "rule:things", "level:warning", "LEVEL:warning", 'reason:"market prices"', "reason:Market",
            "request:0190-abc", "actor:bruno field:price level:warning", 'object:"Arabica coffee',
        ],
    )  # fmt: skip
    def test_each_is_typed(self, admin_client, audit, found, q):
        audit({"name": "things", "model": "app.Product"})
        assert shown(admin_client, q) == [found.pk]

    @pytest.mark.parametrize(
        "q",
        [
            "actor:runo", "actor:carla field:price", "object:coffee", "field:pric", "reason:prices", "rule:thing",
            "event:delet", "request:0190", "actor:bruno actor:carla",
        ],
    )  # fmt: skip
    def test_what_only_resembles_the_value_is_not_found(self, admin_client, found, q):
        assert shown(admin_client, q) == []

    def test_each_is_a_parameter_of_the_address_too(self, admin_client, found):
        for name, value in {
            "object": "arabica", "field": "price", "reason": "market", "request": "0190-abc", "actor_name": "Bruno",
        }.items():  # fmt: skip
            assert shown(admin_client, **{name: value}) == [found.pk], name

    def test_a_field_is_found_by_its_label(self, admin_client, audit):
        audit({"name": "users", "model": "auth.User"})
        event = make_event(changes={"email": ["a", "b"]})
        make_event(changes={"username": ["a", "b"]})
        assert shown(admin_client, 'field:"Email address"') == [event.pk]

    def test_nobody_is_an_actor(self, admin_client):
        make_event(actor_id="7", actor_repr="bruno")
        make_event(actor_repr="nightly import")
        make_event(actor_id="9")
        event = make_event()
        assert shown(admin_client, "actor:none") == [event.pk]

    @pytest.mark.parametrize("name", ["Ärger", "ÄRGER", "ärger", "är"])
    def test_letters_beyond_ascii_have_two_cases_as_well(self, admin_client, name):
        event = make_event(object_repr="Ärger im Lager", actor_repr="Ärger")
        make_event(object_repr="Arger")
        found = shown(admin_client, object=name)
        assert event.pk in found
        assert event.pk in shown(admin_client, actor=name)

    @pytest.mark.parametrize("name", ["100%", "a_c", "a\\b", "it's", '"', "%", "_"])
    def test_what_databases_take_for_patterns_are_letters(self, admin_client, name):
        event = make_event(object_repr=f"{name} of it")
        make_event(object_repr="100 percent")
        make_event(object_repr="abc")
        assert shown(admin_client, object=name) == [event.pk]

    def test_dates_are_typed_as_well(self, admin_client):
        days = [make_event(recorded_at=NOON + dt.timedelta(days=number)).pk for number in range(3)]
        assert shown(admin_client, "after:2026-03-11 before:2026-03-11") == [days[1]]
        recent = make_event(recorded_at=utc_now() - dt.timedelta(hours=1)).pk
        assert shown(admin_client, "after:2h") == [recent]

    def test_the_time_that_is_chosen_wins_over_dates_that_are_hidden(self, admin_client):
        make_event()
        recent = make_event(recorded_at=utc_now() - dt.timedelta(hours=3)).pk
        assert shown(admin_client, time="24h", since="2020-01-01") == [recent]
        assert len(shown(admin_client, time="", since="2027-01-01")) == 2
        assert shown(admin_client, time="range", since="2026-03-10", until="2026-03-10") != [recent]

    def test_chips_say_what_is_in_force_and_take_it_away(self, admin_client, found):
        response = open_list(admin_client, q="actor:bruno level:warning", since="2026-03-01", until="2026-03-31")
        assert [(chip.label, chip.value) for chip in response.context["form"].chips()] == [
            ("Time", "March 1, 2026 to March 31, 2026"), ("Actor", "bruno"), ("Level", "warning"),
        ]  # fmt: skip
        [remove] = [chip.remove for chip in response.context["form"].chips() if chip.label == "Level"]
        assert remove == "?actor=bruno&since=2026-03-01&until=2026-03-31"
        assert response.context["form"].text == ""

    def test_free_text_stays_in_the_box(self, admin_client, found):
        assert open_list(admin_client, q="arab level:warning").context["form"].text == "arab"

    def test_fields_are_those_of_the_chosen_model(self, admin_client, audit):
        audit({"name": "all", "model": ["auth.User", "app.Tag"]})
        choices = {
            select.name: [value for value, _ in select.options]
            for select in open_list(admin_client, model="app.tag").context["form"].selects()
        }
        assert set(choices["field"]) == {"", *(field.name for field in Tag._meta.fields if not field.primary_key)}


class TestFreeText:
    """A word is tried as one thing after another, and the first that finds something decides."""

    @pytest.fixture
    def events(self):
        return {
            "request": make_event(correlation_id="bruno", object_repr="one"),
            "object-key": make_event(object_id="bruno", object_repr="two"),
            "actor-key": make_event(actor_id="bruno", actor_repr="three", object_repr="three"),
            "actor": make_event(actor_repr="Bruno", object_repr="four"),
            "object": make_event(object_repr="Brunost", actor_repr="x"),
        }

    @pytest.mark.parametrize("reading", ["request", "object-key", "actor-key", "actor", "object"])
    def test_each_reading_is_the_one_where_those_before_find_nothing(self, admin_client, events, reading):
        names = list(events)
        with connection.cursor() as cursor:
            for name in names[: names.index(reading)]:
                cursor.execute("DELETE FROM django_signal_audit_auditevent WHERE id = %s", [events[name].pk])
        response = open_list(admin_client, q="bruno")
        assert [event.pk for event in response.context["cl"].result_list] == [events[reading].pk]
        assert response.context["form"].note()

    def test_a_note_says_how_it_was_read_and_offers_another_reading(self, admin_client, events):
        response = open_list(admin_client, q="Bruno", **{"as": "actor"})
        assert "Showing events by the actor Bruno." in text_of(response)
        other = links_of(response)["Search objects named “Bruno…” instead"]
        found = admin_client.get(other).context["cl"].result_list
        assert [event.pk for event in found] == [events["object"].pk]

    def test_pages_keep_to_the_reading_of_the_first(self, admin_client):
        events = [make_event(actor_repr="bruno").pk for _ in range(60)]
        older = links_of(open_list(admin_client, q="bruno"))["Older"]
        make_event(correlation_id="bruno")
        found = admin_client.get(older).context["cl"].result_list
        assert [event.pk for event in found] == events[9::-1]

    def test_a_uid_is_the_event(self, admin_client):
        event = make_event()
        assert "with this UID" in text_of(open_list(admin_client, q=str(event.uid)))

    def test_a_name_of_several_words_needs_no_quotes(self, admin_client):
        event = make_event(object_repr="Arabica coffee, washed")
        make_event(object_repr="Arabica")
        assert shown(admin_client, "arabica coffee") == [event.pk]
        assert shown(admin_client, '"arabica coffee"') == [event.pk]

    def test_more_names_than_are_looked_up_are_found_all_the_same(self, admin_client):
        events = [make_event(object_repr=f"thing {number}").pk for number in range(120)]
        make_event(object_repr="other")
        response = open_list(admin_client, q="thi")
        assert [event.pk for event in response.context["cl"].result_list] == events[:-51:-1]
        pages = [admin_client.get(links_of(response)["Oldest"]).context["cl"].result_list]
        assert [event.pk for event in pages[0]] == events[49::-1]

    def test_filters_narrow_what_it_finds(self, admin_client):
        make_event(object_repr="tea", level="info")
        event = make_event(object_repr="tea", level="critical")
        assert shown(admin_client, "tea level:critical") == [event.pk]


class TestMistakes:
    def test_an_unknown_filter_is_named_with_those_there_are(self, admin_client):
        make_event()
        response = open_list(admin_client, q="colour:red")
        assert response.context["cl"].result_list == []
        text = text_of(response)
        assert "“colour:” isn't a search filter. Use actor:, object:," in text
        assert response.context["form"].text == "colour:red"
        assert "No events match" not in text

    def test_a_colon_in_quotes_is_text(self, admin_client):
        event = make_event(object_repr="colour:red")
        assert shown(admin_client, '"colour:red"') == [event.pk]

    @pytest.mark.parametrize("q", ["actor:", "after:soon", "before:2026-02-30", "x" * 10_000, "level: after:"])
    def test_a_mistake_is_said_and_nothing_is_searched(self, admin_client, q):
        make_event()
        response = open_list(admin_client, q=q)
        assert response.context["cl"].result_list == []
        assert 'class="audit-note audit-note-error" role="alert"' in response.content.decode()

    @pytest.mark.parametrize(
        "q",
        [
            ":", "::::", '"', '""', '"""', "AND OR NOT", "'; DROP TABLE x; --", ".*", "(", "\\", "%", "a:b:c:d",
            "\0", "😀", "object:\x00", 'reason:"', "field:a.b", 'field:"$[0]"', "field:'\"", "model:..", "x" * 2000,
            "9" * 1500, "object:" + "W" * 1900, "after:9999-12-31", "before:0001-01-01",
        ],
    )  # fmt: skip
    def test_whatever_is_typed_is_an_answer(self, admin_client, q):
        make_event(changes={"a": [1, 2]}, context={"reason": "x"})
        open_list(admin_client, q=q)

    def test_nothing_found_says_what_was_asked_for(self, admin_client):
        response = open_list(admin_client, q="actor:brunno after:7d")
        assert "No events match. Time: Last 7 days, Actor: brunno." in text_of(response)
        assert links_of(response)["Search all time"] == f"{LIST}?actor=brunno"

    def test_an_empty_log_says_so(self, admin_client):
        assert "No events recorded yet." in text_of(open_list(admin_client))


class TestHowMuchIsRead:
    """What no index answers is looked for in so many events, and then it's for the user to go on."""

    @pytest.fixture(autouse=True)
    def _few(self, monkeypatch):
        monkeypatch.setattr("django_signal_audit.admin.keyset.MOST_READ", 100)

    @pytest.mark.parametrize(
        "parameters",
        [
            {"field": "price"},
            {"reason": "audit"},
            {"field": "price", "model": "auth.user"},
            {"field": "price", "actor": "7", "q": "ad"},
            {"reason": "audit", "request": "r"},
        ],
    )
    def test_a_rare_event_is_found_by_searching_further(self, admin_client, parameters):
        same = {"actor_id": "7", "actor_repr": "ada", "correlation_id": "r"}
        rare = make_event(changes={"price": [1, 2]}, context={"reason": "Audit of May"}, **same)
        for _ in range(250):
            make_event(changes={"name": [1, 2]}, **same)
        response, pages = open_list(admin_client, **parameters), 1
        while not response.context["cl"].result_list:
            assert "Searched back to" in text_of(response)
            response, pages = admin_client.get(links_of(response)["Search further"]), pages + 1
        assert [event.pk for event in response.context["cl"].result_list] == [rare.pk]
        assert pages == 3

    def test_the_narrower_index_is_read(self, admin_client):
        """Of two filters, each of many events, the one with few makes the other cheap."""
        rare = make_event(actor_id="7", actor_repr="ada", level="critical")
        for _ in range(400):
            make_event(actor_id="7", actor_repr="ada")
        assert shown(admin_client, "actor:7 level:critical") == [rare.pk]

    def test_a_period_narrows_the_events_of_an_object(self, admin_client):
        old = make_event(object_id="77")
        make_event(object_id="77", recorded_at=NOON + dt.timedelta(days=9))
        assert shown(admin_client, "object:77 before:2026-03-11") == [old.pk]

    def test_the_number_of_statements_is_bounded(self, admin_client):
        for _ in range(150):
            make_event(changes={"name": [1, 2]})
        open_list(admin_client)
        with CaptureQueriesContext(connection) as queries:
            open_list(admin_client, field="price")
        assert len(queries) < 15


class TestWhoSeesWhat:
    def test_a_word_tells_nothing_of_hidden_objects(self, client):
        viewer_of(client, "view_user")
        make_event(model="auth.group", object_repr="Secret plan", actor_repr="mallory", actor_id="66")
        own = make_event(object_repr="public")
        for q in ("secret", "mallory", "66", "3"):
            found = shown(client, q)
            assert found in ([], [own.pk]), q
        text = text_of(open_list(client, q="secret"))
        assert "No events match." in text
        assert "Searched back" not in text

    def test_a_reading_of_hidden_events_does_not_hide_another(self, client):
        viewer_of(client, "view_user")
        make_event(model="auth.group", correlation_id="tea")
        own = make_event(object_repr="Tea")
        assert shown(client, "tea") == [own.pk]

    def test_a_field_that_is_hidden_finds_nothing(self, client, audit, monkeypatch):
        viewer_of(client, "view_user")
        audit({"name": "users", "model": "auth.User"})
        monkeypatch.setattr(type(admin.site._registry[User]), "exclude", ["email"], raising=False)
        monkeypatch.setattr(type(admin.site._registry[User]), "fieldsets", None)
        event = make_event(changes={"email": ["a", "b"], "first_name": ["a", "b"]})
        assert shown(client, "field:first_name") == [event.pk]
        assert shown(client, "field:email") == []
        assert shown(client, 'field:"Email address"') == []
        fields = {
            value
            for select in open_list(client, model="auth.user").context["form"].selects()
            if select.name == "field"
            for value, _ in select.options
        }
        assert "email" not in fields
        assert "first_name" in fields


class TestOwnEvents:
    def test_what_the_package_records_reads_like_a_sentence(self, admin_client):
        data = {"models": ["auth.User"], "reason": "Import of 2026"}
        make_event(event_type="auditing_suspended", model="", object_id="", object_repr="", level="warning", data=data)
        make_event(event_type="events_pruned", model="", object_id="", object_repr="", data={"count": 1200})
        text = text_of(open_list(admin_client))
        assert "Auditing of Users was suspended: Import of 2026" in text
        assert "1200 events were pruned." in text.replace(",", "")
        assert len(shown(admin_client, event_type="events_pruned")) == 1

    @pytest.mark.parametrize("data", [{}, {"models": "x", "count": "many"}, [], {"models": [1, None]}])
    def test_one_with_odd_data_is_shown_too(self, admin_client, data):
        for name in ("auditing_suspended", "auditing_resumed", "events_pruned"):
            make_event(event_type=name, data=data)
        open_list(admin_client)
