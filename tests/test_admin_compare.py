"""Two versions of an object beside each other, the state at a time, and the line of a numeric field."""

from __future__ import annotations

import datetime as dt
import json
import re
from decimal import Decimal
from html import unescape

import pytest
import time_machine
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from django_signal_audit.admin import history
from django_signal_audit.admin.links import history_url, restore_url
from django_signal_audit.context.scopes import audit_context
from django_signal_audit.models import AuditEvent
from django_signal_audit.reports.display import spelled_out
from tests.app.models import Category, Product, Tag

from .conftest import last
from .model_admins import person_who_may, registered
from .revert_pages import text_of
from .samples import HOSTILE, NOON, make_event

pytestmark = pytest.mark.django_db


def page(product, **asked):
    query = "&".join(f"{name}={getattr(value, 'pk', value)}" for name, value in asked.items())
    return f"{history_url('admin', 'app.product', str(product.pk))}?{query}"


def shown(response):
    """Return the texts of both sides by field, of the fields that are shown."""
    assert response.status_code == 200
    return {
        row.name: (row.lines[0].removed or row.lines[0].old.text, row.lines[0].added or row.lines[0].new.text)
        for row in response.context["rows"]
    }


@pytest.fixture
def product(audit):
    audit({"name": "all", "model": "app.*", "exclude": ["modified"]})
    with time_machine.travel(NOON, tick=False):
        return Product.objects.create(name="Oil", price="10.00", attributes={"a": 1}, api_token="x1")


@pytest.fixture
def versions(product):
    """Return the events: created, twice renamed with a price, and a tag."""
    found = [last()]
    for number, (name, price) in enumerate((("Petrol", "12.50"), ("Diesel", "73.00")), 1):
        with time_machine.travel(NOON + dt.timedelta(days=number), tick=False):
            product.name, product.price = name, Decimal(price)
            product.save()
        found.append(last())
    with time_machine.travel(NOON + dt.timedelta(days=3), tick=False):
        product.tags.add(Tag.objects.create(name="sweet"))
    return [*found, last()]


class TestCompare:
    def test_what_differs_between_two_versions_and_all_fields_on_demand(self, admin_client, product, versions):
        response = admin_client.get(page(product, older=versions[0], newer=versions[2]))
        assert shown(response) == {"name": ("Oil", "Diesel"), "price": ("10.00", "73.00")}
        text = text_of(response)
        assert "2 of 13 fields differ" in text
        assert "2 changes in between" in text
        assert "+630.0 %" in text
        everything = shown(admin_client.get(page(product, older=versions[0], newer=versions[2], all=1)))
        assert everything["stock"] == ("0", "0")
        assert len(everything) == 13

    def test_with_the_present_and_by_times(self, admin_client, product, versions):
        assert shown(admin_client.get(page(product, older=versions[1], newer="current"))) == {
            "name": ("Petrol", "Diesel"),
            "price": ("12.50", "73.00"),
            "tags": ("", shown(admin_client.get(page(product, older=versions[2], newer="")))["tags"][1]),
        } | {"tags": shown(admin_client.get(page(product, older=versions[2])))["tags"]}
        by_time = shown(admin_client.get(page(product, older="2026-03-10T20:00", newer="2026-03-11T20:00")))
        assert by_time == {"name": ("Oil", "Petrol"), "price": ("10.00", "12.50")}

    def test_a_wrong_order_is_swapped(self, admin_client, product, versions):
        right = shown(admin_client.get(page(product, older=versions[0], newer=versions[1])))
        assert shown(admin_client.get(page(product, older=versions[1], newer=versions[0]))) == right
        assert shown(admin_client.get(page(product, older="current", newer=versions[2]))).keys() == {"tags"}

    def test_the_form_names_the_versions_exactly(self, admin_client, product, versions):
        text = text_of(admin_client.get(page(product, older=versions[0], newer=versions[1])))
        typed = re.findall(r'name="(?:older|newer)" value="([^"]+)"', text)
        again = admin_client.get(
            history_url("admin", "app.product", str(product.pk)), dict(zip(("older", "newer"), typed, strict=True))
        )
        assert shown(again) == {"name": ("Oil", "Petrol"), "price": ("10.00", "12.50")}

    def test_before_its_creation_and_after_its_deletion(self, admin_client, product, versions):
        key = product.pk
        product.delete()
        product.pk = key
        gone = AuditEvent.objects.of_type("delete").latest("id")
        assert shown(admin_client.get(page(product, older=versions[2], newer=gone)))["name"] == ("Diesel", "—")
        assert shown(admin_client.get(page(product, older="2026-01-01", newer=versions[0])))["name"] == ("—", "Oil")
        assert "didn" in text_of(admin_client.get(page(product, older="2026-01-01", newer="2026-01-02")))

    def test_as_json(self, admin_client, product, versions):
        found = json.loads(admin_client.get(page(product, older=versions[0], newer="current", format="json")).content)
        assert (found["model"], found["object_id"]) == ("app.product", str(product.pk))
        assert found["older"]["event"] == str(versions[0].uid)
        assert (found["older"]["values"]["name"], found["newer"]["values"]["name"]) == ("Oil", "Diesel")
        assert "x1" not in json.dumps(found)

    def test_what_the_row_holds_although_no_event_says_so(self, admin_client, product, versions):
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("UPDATE app_product SET stock = 77")
        assert shown(admin_client.get(page(product, older=versions[3], newer="current"))) == {"stock": ("0", "77")}

    def test_who_may_restore_is_led_there(self, client, product, versions):
        client.force_login(person_who_may("clerk", "restore_auditevent", "change_product", "view_product"))
        address = restore_url("admin", "app.product", str(product.pk), str(versions[0].pk))
        assert address in text_of(client.get(page(product, older=versions[0], newer="current")))
        client.force_login(person_who_may("guest", "view_product"))
        assert "/restore/" not in text_of(client.get(page(product, older=versions[0], newer="current")))

    def test_excluded_fields_are_left_out_of_the_page_and_the_json(self, client, product, versions):
        class Narrow(admin.ModelAdmin):
            exclude = ["price"]

        client.force_login(person_who_may("clerk", "view_product"))
        with registered(Product, Narrow):
            text = text_of(client.get(page(product, older=versions[0], newer="current", all=1)))
            assert "73.00" not in text
            assert "Fields that you may not view are left out." in text
            assert b"73.00" not in client.get(page(product, older=versions[0], format="json")).content
        assert client.get(page(Product(pk=999), older="1")).status_code == 200

    @pytest.mark.parametrize("point", ["soon", "\0", "0", "9" * 40, HOSTILE, "2026-02-31", "-1", "1e9"])
    def test_points_that_are_none(self, admin_client, product, versions, point):
        address = history_url("admin", "app.product", str(product.pk))
        for asked in ({"older": point}, {"older": str(versions[0].pk), "newer": point}, {"at": point}):
            text = text_of(admin_client.get(address, asked))
            assert 'role="alert"' in text
            assert "<script>alert" not in text

    def test_a_model_that_is_gone(self, admin_client):
        event = make_event(model="gone.thing", changes={"price": ["1", "2"]})
        address = history_url("admin", "gone.thing", event.object_id)
        assert "The model “gone.thing” no longer exists." in text_of(admin_client.get(f"{address}?older={event.pk}"))


def only_shown(user, events):
    """Let everybody see the events with this reason."""
    return events.filter(context__reason="shown")


def test_the_row_does_not_tell_what_events_say_that_the_project_hides(client, audit):
    audit({"name": "all", "model": "app.*"}, VISIBILITY=f"{__name__}.only_shown")
    with audit_context(reason="shown"):
        product = Product.objects.create(name="Oil")
    created = last()
    with audit_context(reason="hidden"):
        Product.objects.update(name="Secret")
    client.force_login(person_who_may("guest", "view_product", "change_product", "restore_auditevent"))
    pages = [page(product), page(product, older=created, all=1), page(product, at=created)]
    for address in [*pages, restore_url("admin", "app.product", str(product.pk), str(created.pk))]:
        text = text_of(client.get(address))
        assert "Oil" in text
        assert "Secret" not in text, address


class TestState:
    def test_all_fields_with_what_differs_from_now(self, admin_client, product, versions):
        response = admin_client.get(page(product, at="2026-03-11T20:00"))
        found = shown(response)
        assert found["name"] == ("Petrol", "Diesel")
        assert found["stock"] == ("0", "0")
        text = text_of(response)
        assert "13 fields" in text
        assert "3 differ from current" in text
        assert shown(admin_client.get(page(product, at="2026-03-11T20:00", differing=1))).keys() == {
            "name",
            "price",
            "tags",
        }

    def test_after_a_change_and_on_to_the_next(self, admin_client, product, versions):
        text = text_of(admin_client.get(page(product, at=versions[1])))
        assert f'href="?at={versions[0].pk}"' in text
        assert f'href="?at={versions[2].pk}"' in text
        assert "Previous change" not in text_of(admin_client.get(page(product, at=versions[0])))
        assert "Next change" not in text_of(admin_client.get(page(product, at=versions[3])))

    def test_members_are_listed_by_name(self, admin_client, product, versions):
        tag = Tag.objects.get()
        found = shown(admin_client.get(page(product, at=versions[3])))
        assert found["tags"] == (f"sweet ({tag.pk})", f"sweet ({tag.pk})")
        Tag.objects.create(name="light").products.add(product)
        old, new = shown(admin_client.get(page(product, at=versions[3])))["tags"]
        assert old == f"sweet ({tag.pk})"
        assert "light" in new

    def test_as_json(self, admin_client, product, versions):
        found = json.loads(admin_client.get(page(product, at=versions[1], format="json")).content)
        assert found["state"]["values"]["name"] == "Petrol"
        assert found["state"]["at"].startswith("2026-03-11T12:00:00")


def test_a_version_of_the_hour_that_comes_twice_is_typed_so_that_it_is_found_again(admin_client, product, settings):
    settings.TIME_ZONE = "Europe/Vienna"
    night = dt.datetime(2026, 10, 25, tzinfo=dt.UTC)
    for minute, name in ((30, "Summer"), (90, "Winter")):
        with time_machine.travel(night + dt.timedelta(minutes=minute), tick=False):
            product.name = name
            product.save()
        event = last()
        typed = admin_client.get(page(product, at=event)).context["typed"]
        address = history_url("admin", "app.product", str(product.pk))
        assert shown(admin_client.get(address, {"at": typed[0]}))["name"][0] == name


@pytest.mark.parametrize("value", [3, True, "sweet", 1.5, [["a"]], {"a": 1}])
def test_versions_from_before_a_column_became_many_to_many_can_be_read(admin_client, product, versions, value):
    key = str(product.pk)
    event = make_event(model="app.product", object_id=key, changes={"tags": [None, value], "name": ["Diesel", "Fuel"]})
    for query in ({"at": event.pk}, {"older": event.pk, "all": 1}, {"older": versions[0].pk, "newer": event.pk}):
        response = admin_client.get(history_url("admin", "app.product", key), query)
        assert shown(response)["name"]
    text = text_of(admin_client.get(restore_url("admin", "app.product", key, str(event.pk))))
    assert 'aria-label="Name"' in text
    assert 'aria-label="Tags"' not in text
    make_event(model="app.product", object_id=key, event_type="delete", changes={"tags": [value, None]})
    assert admin_client.get(restore_url("admin", "app.product", key, str(last().pk))).status_code == 200


class TestField:
    """The history of one field."""

    def test_only_its_changes_with_a_line_of_the_numbers(self, admin_client, product, versions):
        response = admin_client.get(page(product, field="price"))
        assert [event.pk for event in response.context["events"]] == [event.pk for event in versions[2::-1]]
        text = text_of(response)
        assert "last 3 changes" in text
        assert "From 10.00 (March 10, 2026 13:00:00 +01:00) to 73.00 (March 12, 2026 13:00:00 +01:00)" in text
        assert "Diesel" not in text[text.index("audit-entries") :]
        assert "style=" not in text[text.index("<svg class=") : text.index("</svg>", text.index("<svg class="))]
        line = re.search(r'class="audit-steps-line" d="([^"]+)"', text)[1]
        assert line.count("H") == 3

    @pytest.mark.parametrize("field", ["name", "attributes", "api_token", "category", "nothing", HOSTILE, "\0"])
    def test_fields_that_have_no_line(self, admin_client, product, versions, field):
        address = history_url("admin", "app.product", str(product.pk))
        text = text_of(admin_client.get(address, {"field": field}))
        assert "audit-steps" not in text
        assert "<script>alert" not in text

    @pytest.mark.parametrize("values", [[0, 0, 0], [-5, 5, 0], [10**9, 10**9 + 1], [None, 4, None, 5], [7]])
    def test_numbers_of_every_size(self, admin_client, product, values):
        for old, new in zip([3, *values], values, strict=False):
            make_event(model="app.product", object_id=str(product.pk), changes={"stock": [old, new]})
        text = text_of(admin_client.get(page(product, field="stock")))
        # Only the drawing: the token of a form may have any letters.
        drawing = text.partition("<svg class=")[2].partition("</svg>")[0] if "audit-steps-line" in text else ""
        assert "nan" not in drawing

    def test_hidden_fields_are_no_choice(self, client, product, versions):
        class Narrow(admin.ModelAdmin):
            exclude = ["price"]

        client.force_login(person_who_may("clerk", "view_product"))
        with registered(Product, Narrow):
            text = text_of(client.get(page(product, field="price")))
        assert "73.00" not in text
        assert '<option value="price"' not in text

    @pytest.mark.parametrize("field", ["prise", "id", HOSTILE, "x" * 10_000])
    def test_a_name_that_no_field_has_is_an_error(self, admin_client, product, versions, field):
        response = admin_client.get(history_url("admin", "app.product", str(product.pk)), {"field": field})
        assert list(response.context["events"]) == []
        note = re.search(r'role="alert">([^<]*)<', text_of(response))[1]
        assert unescape(note) == f"“{spelled_out(field[:200])}” isn't a recorded field of this object."

    def test_a_hidden_field_reads_like_one_that_does_not_exist(self, client, product, versions):
        class Narrow(admin.ModelAdmin):
            exclude = ["price"]

        client.force_login(person_who_may("clerk", "view_product"))
        with registered(Product, Narrow):
            assert "“price” isn't a recorded field of this object." in unescape(
                text_of(client.get(page(product, field="price")))
            )

    @pytest.mark.parametrize("query", ["feild=price", "field=price&limit=3", "event_type=update"])
    def test_a_parameter_that_the_page_does_not_have_is_an_error(self, admin_client, product, versions, query):
        text = unescape(text_of(admin_client.get(f"{page(product)}{query}")))
        name = query.rpartition("&")[2].partition("=")[0]
        assert f"“{name}” isn't a parameter of this page. Use field, tab, at, older, newer, p." in text

    def test_a_parameter_of_djangos_own_admin_is_no_error(self, admin_client, product, versions):
        assert "isn't a parameter" not in unescape(text_of(admin_client.get(page(product, _popup=1))))

    def test_a_field_is_found_by_its_label_as_in_the_list(self, admin_client, product, versions):
        assert len(admin_client.get(page(product, field="Price")).context["events"]) == 3
        assert len(admin_client.get(page(product, field="API TOKEN")).context["events"]) == 1

    def test_a_field_that_is_no_longer_recorded_is_found_while_events_have_it(
        self, admin_client, audit, product, versions
    ):
        audit({"name": "all", "model": "app.*", "exclude": ["price"]})
        response = admin_client.get(page(product, field="price"))
        assert len(response.context["events"]) == 3
        assert '<option value="price" selected>' in text_of(response)

    def test_events_from_before_the_field_was_renamed_are_found(self, admin_client, audit, product, versions):
        make_event(model="app.product", object_id=str(product.pk), changes={"cost": ["1.00", "2.00"]})
        audit({"name": "all", "model": "app.*"}, RENAMED={"app.Product.cost": "app.Product.price"})
        for field in ("price", "cost"):
            response = admin_client.get(page(product, field=field))
            assert len(response.context["events"]) == 4
            assert "1.00" in text_of(response)

    def test_a_field_may_be_named_like_a_method_of_a_dict(self, admin_client, product, versions, monkeypatch):
        names = ("items", "keys", "values", "get")
        monkeypatch.setattr(history, "fields_of", lambda _access, _labels: {name: name.title() for name in names})
        for name in names:
            make_event(model="app.product", object_id=str(product.pk), changes={name: ["a", "b"]})
            text = text_of(admin_client.get(page(product, field=name)))
            assert f'<option value="{name}" selected>{name.title()}</option>' in text

    def test_pages_keep_the_field(self, admin_client, product):
        for number in range(60):
            make_event(model="app.product", object_id=str(product.pk), changes={"stock": [number, number + 1]})
        text = text_of(admin_client.get(page(product, field="stock")))
        older = re.search(r'<a href="\?([^"]+)" rel="next"', text)[1].replace("&amp;", "&")
        assert older.startswith("field=stock&")
        assert len(admin_client.get(f"{page(product)}{older}").context["events"]) == 11


class TestList:
    def test_events_of_one_request_share_actor_and_reason(self, admin_client, product):
        events = [
            make_event(
                model="app.product",
                object_id=str(product.pk),
                correlation_id="a",
                actor_repr="ada",
                changes={"name": [f"{n}", f"{n + 1}"]},
            )
            for n in range(3)
        ]
        make_event(
            model="app.product",
            object_id=str(product.pk),
            correlation_id="b",
            actor_repr="ada",
            changes={"name": ["3", "4"]},
        )
        together = admin_client.get(page(product)).context["together"]
        assert [len(one.entries) for one in together][:2] == [1, 3]
        assert {entry.row.event.pk for entry in together[1].entries} == {event.pk for event in events}

    def test_the_menu_offers_what_the_user_may_do(self, client, product, versions):
        client.force_login(person_who_may("guest", "view_product"))
        text = text_of(client.get(page(product)))
        assert "State after this change" in text
        assert "Restore this version" not in text
        assert "Revert this change" not in text
        client.force_login(person_who_may("boss", "view_product", "change_product", "restore_auditevent"))
        text = text_of(client.get(page(product)))
        assert text.count("Restore this version…") == 4
        assert text.count("Revert this change…") == 1

    def test_the_newest_change_and_the_present_are_chosen_to_be_compared(self, admin_client, product, versions):
        text = text_of(admin_client.get(page(product)))
        chosen = re.findall(r'<input type="radio" name="(older|newer)" value="(\w+)"[^>]* checked>', text)
        assert chosen == [("newer", "current"), ("older", str(versions[3].pk))]

    def test_djangos_own_log_is_a_tab(self, admin_client, admin_user, product):
        LogEntry.objects.log_actions(admin_user.pk, [product], 2, change_message="by hand <b>", single_object=True)
        with registered(Product):
            text = text_of(admin_client.get(page(product, tab="log")))
            assert f'href="{reverse("admin:app_product_history", args=(product.pk,))}"' in text
        assert "by hand &lt;b&gt;" in text

    def test_nobody_sees_djangos_own_log_who_may_not_open_it(self, client, product):
        class Hidden(admin.ModelAdmin):
            def has_view_or_change_permission(self, request, obj=None):
                return obj is None

        client.force_login(person_who_may("guest", "view_product"))
        with registered(Product, Hidden):
            response = client.get(page(product, tab="log"))
        assert response.status_code == 403 or "Admin log" not in response.content.decode()

    def test_a_category_that_nothing_refers_to(self, admin_client, audit):
        audit()
        category = Category.objects.create(name="Fruit")
        text = text_of(admin_client.get(history_url("admin", "app.category", str(category.pk)) + "?tab=related"))
        assert "No events of related objects." in text

    def test_an_object_that_was_only_viewed_has_its_name(self, admin_client):
        make_event(event_type="thing_viewed", object_repr="ada of old")
        text = text_of(admin_client.get(history_url("admin", "auth.user", "3")))
        assert "<bdi>ada of old</bdi>" in text
        assert "Restore this version" not in text
