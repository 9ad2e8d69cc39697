"""The REST API: what the admin's list, histories and the inbox show, for the same users."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest

pytest.importorskip("rest_framework", reason="djangorestframework is not installed; the extra drf has it")
pytest.importorskip("drf_spectacular", reason="drf-spectacular is not installed; the extra drf has it")

import yaml
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client, override_settings
from django.utils import timezone
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

from django_signal_audit import audit_context
from django_signal_audit.models import Notification

from .app.models import Country, Line, Person, Product
from .conftest import Audit, events, last
from .model_admins import person_who_may, registered
from .notices import INBOX, audit_settings
from .test_admin_hostile_addresses import KEYS, LABELS, OLD
from .test_json_views import OwnersOnly, PricesHidden, store

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.rest_urls")]

API = "/api/audit/"
LIST = f"{API}events/"
MESSAGES = f"{API}notifications/"
JSON = "application/json"


@pytest.fixture(autouse=True)
def rest_settings(settings: Any) -> None:
    settings.REST_FRAMEWORK = {"DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema"}


def history(obj: Any, label: str = "", key: str = "") -> str:
    return f"{API}objects/{label or obj._meta.label_lower}/{quote(key or str(obj.pk), safe='')}/events/"


def detail(uid: object) -> str:
    return f"{LIST}{uid}/"


@pytest.fixture
def product(audit: Audit) -> Product:
    audit({"name": "products", "model": "app.Product", "exclude": ["modified"]})
    with audit_context(actor="bruno", reason="Market prices"):
        product = Product.objects.create(name="Tea", price=Decimal("10.00"))
        product.price = Decimal("9.00")
        product.save()
    return product


class TestWho:
    def test_may_ask(self, client: Client, product: Product) -> None:
        for address in (LIST, history(product), detail(last().uid), detail(UUID(int=7)), MESSAGES):
            assert client.get(address).status_code == 403
        client.force_login(User.objects.create_user("bob", is_staff=True))
        for address in (LIST, history(product), detail(last().uid)):
            assert client.get(address).status_code == 403
        assert client.get(MESSAGES).status_code == 200

    def test_may_view_the_model(self, client: Client, product: Product) -> None:
        client.force_login(person_who_may("ann"))
        assert client.get(LIST).json()["results"] == []
        assert client.get(history(product)).status_code == 404
        assert client.get(detail(last().uid)).status_code == 404

    def test_may_only_read_events(self, admin_client: Client, product: Product) -> None:
        for address in (LIST, history(product), detail(last().uid)):
            for send in (admin_client.post, admin_client.put, admin_client.patch, admin_client.delete):
                assert send(address, {}, JSON).status_code == 405

    def test_is_authenticated_by_the_view(self, product: Product) -> None:
        User.objects.create_superuser("root", password="secret")
        found = Client().get(LIST, headers={"Authorization": "Basic cm9vdDpzZWNyZXQ="})
        assert len(found.json()["results"]) == 2
        assert not Session.objects.exists()


class TestEvents:
    def test_come_newest_first(self, admin_client: Client, product: Product) -> None:
        found = admin_client.get(LIST).json()
        assert [event["event_type"] for event in found["results"]] == ["update", "create"]
        newest = found["results"][0]
        assert newest["changes"] == {"price": ["10.00", "9.00"]}
        assert newest["uid"] == str(last().uid)
        assert (newest["actor_repr"], newest["context"]["reason"]) == ("bruno", "Market prices")
        assert admin_client.get(detail(last().uid)).json() == newest

    @pytest.mark.parametrize(
        ("query", "count"),
        [
            ("q=actor:bruno", 2), ("q=Tea", 2), ("event_type=update", 1), ("field=price&event_type=update", 1),
            ("model=app.product&format=json", 2), ("q=reason:Market", 2), ("level=critical", 0), ("time=24h", 2),
        ],
    )  # fmt: skip
    def test_are_found_as_in_the_admin(self, admin_client: Client, product: Product, query: str, count: int) -> None:
        assert len(admin_client.get(f"{LIST}?{query}").json()["results"]) == count

    def test_are_paged_in_both_directions(self, admin_client: Client, product: Product) -> None:
        for number in range(5):
            product.stock = number + 1
            product.save()
        everything = [event["uid"] for event in admin_client.get(LIST).json()["results"]]
        for address in (LIST, history(product)):
            seen, page, before = [], f"{address}?limit=3", None
            while page:
                found = admin_client.get(page).json()
                seen += [event["uid"] for event in found["results"]]
                page, before = found["next"], found["previous"]
            assert seen == everything
            assert before is not None
            assert before.startswith("http://testserver/api/audit/")
            assert [event["uid"] for event in admin_client.get(before).json()["results"]] == everything[3:6]

    @pytest.mark.parametrize("query", ["q=colour:red", "since=yesterday", "colour=red", "limit=0", "limit=x"])
    def test_are_not_searched_by_what_is_wrong(self, admin_client: Client, product: Product, query: str) -> None:
        response = admin_client.get(f"{LIST}?{query}")
        assert response.status_code == 400
        assert response.json()

    def test_leave_out_what_the_modeladmin_hides(self, client: Client, product: Product) -> None:
        ann = person_who_may("ann", "view_product", "view_person")
        client.force_login(ann)
        with registered(Product, PricesHidden), override_settings(ROOT_URLCONF="tests.rest_urls"):
            for address in (LIST, history(product)):
                newest = client.get(address).json()["results"][0]
                assert (newest["changes"], newest["is_cut"]) == ({}, True)

    def test_of_rows_that_the_modeladmin_hides_are_not_there(self, client: Client, audit: Audit) -> None:
        audit()
        ann = person_who_may("ann", "view_person")
        own, foreign = Person.objects.create(name="Own", owner=ann), Person.objects.create(name="Foreign")
        client.force_login(ann)
        with registered(Person, OwnersOnly), override_settings(ROOT_URLCONF="tests.rest_urls"):
            assert {event["object_id"] for event in client.get(LIST).json()["results"]} == {str(own.pk)}
            assert client.get(history(foreign)).status_code == 404
            [event] = events(model="app.person", object_id=str(foreign.pk))
            assert client.get(detail(event.uid)).status_code == 404

    def test_of_an_object_are_found_by_keys_of_every_kind(self, admin_client: Client, audit: Audit) -> None:
        audit()
        line, country = Line.objects.create(order=1, number=2, text="a"), Country.objects.create(code="a/b c%2F?#")
        assert len(admin_client.get(history(line, key="[1, 2]")).json()["results"]) == 1
        assert len(admin_client.get(history(country)).json()["results"]) == 1
        address = history(country)
        country.delete()
        assert admin_client.get(address).json()["results"][0]["event_type"] == "delete"


class TestNotifications:
    @pytest.fixture
    def ada(self, client: Client, settings: Any) -> User:
        settings.SIGNAL_AUDIT = audit_settings(channels={"inbox": {"BACKEND": INBOX}})
        ada = User.objects.create_user("ada")
        client.force_login(ada)
        return ada

    def message(self, user: User, **values: Any) -> Notification:
        made = {"rule": "watch", "channel": "inbox", "recipient": str(user.pk), "status": "sent"}
        data = {"subject": "Oil", "body": "changed"}
        return Notification.objects.create(**made, sent_at=timezone.now(), data=data, **values)

    def test_are_the_users_own(self, client: Client, ada: User) -> None:
        own, foreign = self.message(ada), self.message(User.objects.create_user("bob"))
        found = client.get(MESSAGES).json()
        assert [message["id"] for message in found["results"]] == [own.pk]
        assert (found["unread"], found["next"], found["previous"]) == (1, None, None)
        assert found["results"][0] | {"sent_at": ""} == {
            "id": own.pk, "subject": "Oil", "body": "changed", "rule": "watch", "sent_at": "",
            "seen_at": found["results"][0]["seen_at"], "read_at": None,
        }  # fmt: skip
        assert client.get(f"{MESSAGES}{own.pk}/").json()["subject"] == "Oil"
        assert client.get(f"{MESSAGES}{foreign.pk}/").status_code == 404
        assert client.post(f"{MESSAGES}{foreign.pk}/read/").status_code == 404

    def test_are_marked_as_read_one_by_one_or_together(self, client: Client, ada: User) -> None:
        messages = [self.message(ada) for _ in range(5)]
        keys = [message.pk for message in messages]
        foreign = self.message(User.objects.create_user("bob"))
        assert client.post(f"{MESSAGES}{keys[0]}/read/").json() == {"marked": 1, "unread": 4}
        assert client.post(f"{MESSAGES}{keys[0]}/read/").json() == {"marked": 0, "unread": 4}
        several = {"ids": [keys[1], foreign.pk]}
        assert client.post(f"{MESSAGES}read/", several, JSON).json() == {"marked": 1, "unread": 3}
        assert client.post(f"{MESSAGES}read/", {"up_to": keys[3]}, JSON).json() == {"marked": 2, "unread": 1}
        again = {"ids": [keys[3]], "read": False}
        assert client.post(f"{MESSAGES}read/", again, JSON).json() == {"marked": 1, "unread": 2}
        assert client.post(f"{MESSAGES}read/", {"up_to": keys[3], "read": False}, JSON).status_code == 400
        assert client.post(f"{MESSAGES}read/", {"up_to": keys[3]}, JSON).json() == {"marked": 1, "unread": 1}
        foreign.refresh_from_db()
        assert foreign.read_at is None
        assert client.get(f"{MESSAGES}{keys[0]}/").json()["read_at"]

    def test_are_paged(self, client: Client, ada: User) -> None:
        keys = [self.message(ada).pk for _ in range(45)]
        seen, page = [], MESSAGES
        while page:
            found = client.get(page).json()
            seen += [message["id"] for message in found["results"]]
            page = found["next"]
        assert seen == keys[::-1]
        newer = client.get(found["previous"]).json()
        assert [message["id"] for message in newer["results"]] == keys[::-1][20:40]

    @pytest.mark.parametrize(
        "body",
        [{}, {"ids": []}, {"ids": "x"}, {"ids": [-1]}, {"ids": [2**70]}, {"up_to": "x"}, {"up_to": 2**70}, [], "x",
         {"ids": [1] * 1001}, {"ids": [None]}, {"ids": [[1]]}, {"up_to": {}}, None],
    )  # fmt: skip
    def test_are_not_marked_by_what_is_wrong(self, client: Client, ada: User, body: object) -> None:
        message = self.message(ada)
        assert client.post(f"{MESSAGES}read/", body, JSON).status_code == 400
        message.refresh_from_db()
        assert message.read_at is None

    @pytest.mark.parametrize("number", ["0", "9" * 19, "9" * 60])
    def test_that_are_not_there(self, client: Client, ada: User, number: str) -> None:
        for address in (f"{MESSAGES}{number}/", f"{MESSAGES}{number}/read/"):
            assert client.get(address).status_code in (404, 405)
            assert client.post(address).status_code in (404, 405)
        for end in ("before", "after"):
            assert client.get(f"{MESSAGES}?{end}={number}").status_code in (200, 400)
            assert client.get(f"{MESSAGES}?{end}=x").status_code == 400


class TestNothingIsAServerError:
    @pytest.mark.parametrize("query", [*OLD, "q=" + "x" * 10_000, "format=xml", "format=%00", "version=9", "limit=٣"])
    def test_for_a_query(self, admin_client: Client, product: Product, query: str) -> None:
        for address in (LIST, history(product), MESSAGES, detail(last().uid)):
            assert admin_client.get(f"{address}?{query}").status_code < 500

    @pytest.mark.parametrize("key", KEYS, ids=lambda key: key[:20])
    def test_for_a_path(self, admin_client: Client, product: Product, key: str) -> None:
        for address in (*(f"{API}objects/{label}/{key}/events/" for label in (*LABELS, key)), f"{LIST}{key}/"):
            assert admin_client.get(address).status_code < 500

    @pytest.mark.parametrize(
        "value", ["[1e999]", '{"a": ["\\ud800", 1]}', '"text"', "3", "null", "[[1], 2]", '{"a": {"added": 1}}']
    )
    def test_for_a_stored_value(self, admin_client: Client, product: Product, value: str) -> None:
        store(last().pk, value)
        for address in (LIST, history(product), detail(last().uid)):
            assert admin_client.get(address).status_code == 200


class TestSchema:
    def test_is_generated_without_a_warning(self, admin_client: Client) -> None:
        GENERATOR_STATS.reset()
        schema = SchemaGenerator(patterns=None).get_schema(request=None, public=True)
        validate_schema(schema)
        assert not GENERATOR_STATS
        ours = {path: methods for path, methods in schema["paths"].items() if path.startswith(API)}
        assert {path: list(methods) for path, methods in ours.items()} == {
            LIST: ["get"],
            f"{LIST}{{uid}}/": ["get"],
            f"{API}objects/{{label}}/{{key}}/events/": ["get"],
            MESSAGES: ["get"],
            f"{MESSAGES}{{id}}/": ["get"],
            f"{MESSAGES}{{id}}/read/": ["post"],
            f"{MESSAGES}read/": ["post"],
        }

    def test_names_each_filter_of_the_list(self, admin_client: Client, product: Product) -> None:
        schema = yaml.safe_load(admin_client.get("/api/schema/").content)
        for parameter in schema["paths"][LIST]["get"]["parameters"]:
            assert parameter["description"]
            answer = admin_client.get(f"{LIST}?{parameter['name']}=1h")
            assert "There is no parameter" not in answer.content.decode()
