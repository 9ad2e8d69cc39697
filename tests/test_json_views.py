"""The audit log as JSON: what the admin's list and histories show, for the same users."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from django_signal_audit import audit_context
from django_signal_audit.admin import keyset

from .app.models import Category, Country, Line, Person, Pizzeria, Product
from .conftest import Audit, events, last
from .model_admins import person_who_may, registered
from .test_admin_hostile_addresses import KEYS, LABELS, OLD

pytestmark = pytest.mark.django_db

LIST = reverse("signal_audit:events")


def history(obj: Any, label: str = "", key: str = "") -> str:
    label = label or obj._meta.label_lower
    return f"{reverse('signal_audit:inbox')}api/objects/{label}/{quote(key or str(obj.pk), safe='')}/events/"


@pytest.fixture
def product(audit: Audit) -> Product:
    audit({"name": "products", "model": "app.Product", "exclude": ["modified"]})
    with audit_context(actor="bruno", reason="Market prices"):
        product = Product.objects.create(name="Tea", price=Decimal("10.00"))
        product.price = Decimal("9.00")
        product.save()
    return product


class TestWho:
    @pytest.mark.parametrize("address", [LIST, reverse("signal_audit:event", args=(UUID(int=7),)), f"{LIST}?q=Tea"])
    def test_may_ask(self, client: Client, product: Product, address: str) -> None:
        assert client.get(address).status_code == 401
        client.force_login(User.objects.create_user("bob", is_staff=True))
        assert client.get(address).status_code == 403
        assert client.get(history(product)).status_code == 403

    def test_may_view_the_model(self, client: Client, product: Product) -> None:
        client.force_login(person_who_may("ann"))
        assert client.get(LIST).json()["events"] == []
        assert client.get(history(product)).status_code == 404
        assert client.get(reverse("signal_audit:event", args=(last().uid,))).status_code == 404

    def test_may_only_read(self, admin_client: Client, product: Product) -> None:
        for address in (LIST, history(product), reverse("signal_audit:event", args=(last().uid,))):
            assert {admin_client.post(address).status_code, admin_client.delete(address).status_code} == {405}


class TestEvents:
    def test_come_newest_first_as_the_export_has_them(self, admin_client: Client, product: Product) -> None:
        found = admin_client.get(LIST).json()
        assert [event["event_type"] for event in found["events"]] == ["update", "create"]
        newest = found["events"][0]
        assert newest["changes"] == {"price": ["10.00", "9.00"]}
        assert newest["uid"] == str(last().uid)
        assert newest["recorded_at"].endswith("+00:00")
        assert (newest["actor_repr"], newest["context"]["reason"]) == ("bruno", "Market prices")

    def test_have_an_address_each(self, admin_client: Client, product: Product) -> None:
        found = admin_client.get(reverse("signal_audit:event", args=(last().uid,))).json()
        assert found == admin_client.get(LIST).json()["events"][0]

    @pytest.mark.parametrize(
        ("query", "count"),
        [
            ("q=actor:bruno", 2), ("q=Tea", 2), ("event_type=update", 1), ("field=price&event_type=update", 1),
            ("model=app.product", 2), ("q=reason:Market", 2), ("level=critical", 0), ("since=1h&until=2099-01-01", 2),
            ("rule=products&actor_name=bruno", 2), ("object=Tea", 2), ("time=24h", 2), ("as=object&q=tea", 2),
        ],
    )  # fmt: skip
    def test_are_found_as_in_the_admin(self, admin_client: Client, product: Product, query: str, count: int) -> None:
        assert len(admin_client.get(f"{LIST}?{query}").json()["events"]) == count

    def test_say_how_free_text_was_read(self, admin_client: Client, product: Product) -> None:
        assert admin_client.get(f"{LIST}?q=Tea").json()["read_as"] == "object"
        assert admin_client.get(LIST).json()["read_as"] is None

    def test_are_paged_in_both_directions(self, admin_client: Client, product: Product) -> None:
        for number in range(5):
            product.stock = number + 1
            product.save()
        everything = [event["uid"] for event in admin_client.get(LIST).json()["events"]]
        for address in (LIST, history(product)):
            seen, pages, page = [], 0, f"{address}?limit=3"
            while page:
                found = admin_client.get(page).json()
                seen += [event["uid"] for event in found["events"]]
                pages, newest, page = pages + 1, found["newer"], found["older"]
            assert (seen, pages) == (everything, 3)
            back = admin_client.get(newest).json()
            assert [event["uid"] for event in back["events"]] == everything[3:6]
            assert admin_client.get(f"{address}?limit=3").json()["newer"] is None

    @pytest.mark.parametrize(
        "query", ["q=colour:red", "since=yesterday", "colour=red", "limit=0", "limit=x", "limit=101", "limit=-1"]
    )
    def test_are_not_searched_by_what_is_wrong(self, admin_client: Client, product: Product, query: str) -> None:
        response = admin_client.get(f"{LIST}?{query}")
        assert response.status_code == 400
        assert response.json()["error"]

    def test_are_read_up_to_a_limit_where_no_index_answers(
        self, admin_client: Client, product: Product, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(keyset, "MOST_READ", 2)
        for number in range(5):
            product.stock = number + 1
            product.save()
        found = admin_client.get(f"{LIST}?reason=Market").json()
        assert found["events"] == []
        assert found["searched_to"]
        while found["older"] and not found["events"]:
            found = admin_client.get(found["older"]).json()
        assert found["events"][0]["context"]["reason"] == "Market prices"


class PricesHidden(admin.ModelAdmin):
    exclude = ("price",)


class OwnersOnly(admin.ModelAdmin):
    def get_queryset(self, request: Any) -> Any:
        return super().get_queryset(request).filter(owner=request.user)


def test_the_queries_do_not_grow_with_the_page(admin_client: Client, audit: Audit) -> None:
    audit()
    product = Product.objects.create(name="Tea")
    found = {}
    for count in (2, 20):
        for _ in range(count):
            product.category = Category.objects.create(name="a")
            product.save()
        for address in (LIST, history(product)):
            with CaptureQueriesContext(connection) as queries:
                admin_client.get(address)
            found[count, address] = len(queries)
    assert found[2, LIST] == found[20, LIST]
    assert found[2, history(product)] == found[20, history(product)]


class TestWhatTheModelAdminHides:
    def test_are_fields(self, client: Client, product: Product) -> None:
        client.force_login(person_who_may("ann", "view_product"))
        event = reverse("signal_audit:event", args=(last().uid,))
        with registered(Product, PricesHidden):
            for address in (LIST, history(product)):
                newest = client.get(address).json()["events"][0]
                assert (newest["changes"], newest["is_cut"]) == ({}, True)
            assert client.get(event).json()["changes"] == {}
            assert client.get(f"{LIST}?field=price").json()["events"] == []
        assert client.get(event).json()["is_cut"] is False

    def test_are_rows(self, client: Client, audit: Audit) -> None:
        audit()
        ann = person_who_may("ann", "view_person")
        own, foreign = Person.objects.create(name="Own", owner=ann), Person.objects.create(name="Foreign")
        client.force_login(ann)
        with registered(Person, OwnersOnly):
            assert {event["object_id"] for event in client.get(LIST).json()["events"]} == {str(own.pk)}
            assert client.get(history(own)).status_code == 200
            assert client.get(history(foreign)).status_code == 404
            [event] = events(model="app.person", object_id=str(foreign.pk))
            assert client.get(reverse("signal_audit:event", args=(event.uid,))).status_code == 404


class TestHistory:
    def test_of_keys_of_every_kind(self, admin_client: Client, audit: Audit) -> None:
        audit()
        line = Line.objects.create(order=1, number=2, text="a")
        country = Country.objects.create(code="a/b c%2F?#", name="Odd")
        pizzeria = Pizzeria.objects.create(name="Da Gino")
        assert len(admin_client.get(history(line, key="[1, 2]")).json()["events"]) == 1
        assert len(admin_client.get(history(country)).json()["events"]) == 1
        assert len(admin_client.get(history(pizzeria, label="app.place")).json()["events"]) == 1

    def test_of_a_deleted_object(self, admin_client: Client, product: Product) -> None:
        address = history(product)
        product.delete()
        assert admin_client.get(address).json()["events"][0]["event_type"] == "delete"

    def test_of_nothing_is_empty(self, admin_client: Client, product: Product) -> None:
        found = admin_client.get(history(product, key="0")).json()
        assert found == {"events": [], "newer": None, "older": None, "searched_to": None, "read_as": None}


def store(pk: int, value: str) -> None:
    """Write JSON into the documents of an event, past Python."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            for column in ("changes", "data", "context", "rules"):
                cursor.execute(f"UPDATE django_signal_audit_auditevent SET {column} = %s WHERE id = %s", [value, pk])
    except DatabaseError:
        pytest.skip("this database stores no such value")


class TestNothingIsAServerError:
    @pytest.mark.parametrize("query", [*OLD, "q=" + quote("'; DROP TABLE--"), "q=" + "x" * 10_000, "p=%00", "limit=٣"])
    def test_for_a_query(self, admin_client: Client, product: Product, query: str) -> None:
        for address in (LIST, history(product)):
            assert admin_client.get(f"{address}?{query}").status_code < 500

    @pytest.mark.parametrize("key", KEYS, ids=lambda key: key[:20])
    def test_for_a_path(self, admin_client: Client, product: Product, key: str) -> None:
        for label in (*LABELS, key):
            assert (
                admin_client.get(f"{reverse('signal_audit:inbox')}api/objects/{label}/{key}/events/").status_code < 500
            )
        assert admin_client.get(f"{LIST}{key}/").status_code < 500

    @pytest.mark.parametrize(
        "value", ["[1e999]", '{"a": ["\\ud800", 1]}', '"text"', "3", "null", "[[1], 2]", '{"a": {"added": 1}}']
    )
    def test_for_a_stored_value(self, admin_client: Client, product: Product, value: str) -> None:
        store(last().pk, value)
        for address in (LIST, history(product), reverse("signal_audit:event", args=(last().uid,))):
            assert admin_client.get(address).status_code == 200
