"""The REST API: what the admin's list, histories and the inbox show, for the same users."""

from __future__ import annotations

import datetime as dt
import re
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
from django.test import Client, RequestFactory, override_settings
from django.utils import timezone
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema
from rest_framework import serializers
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import (
    AllowAny,
    BasePermission,
    DjangoModelPermissions,
    DjangoModelPermissionsOrAnonReadOnly,
    DjangoObjectPermissions,
    IsAuthenticatedOrReadOnly,
)
from rest_framework.renderers import JSONRenderer
from rest_framework.throttling import BaseThrottle
from rest_framework.versioning import URLPathVersioning
from rest_framework.views import APIView

from django_signal_audit import audit_context
from django_signal_audit.models import Notification

from .app.models import Country, Line, Person, Product
from .conftest import Audit, events, last
from .model_admins import person_who_may, registered
from .notices import INBOX, audit_settings
from .samples import make_event
from .test_admin_hostile_addresses import KEYS, LABELS, OLD
from .test_json_views import OwnersOnly, PricesHidden, store

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.rest_urls")]

API = "/api/audit/"
LIST = f"{API}events/"
MESSAGES = f"{API}notifications/"
JSON = "application/json"


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

    def test_of_an_object_have_pages_whatever_its_key_is(self, admin_client: Client, audit: Audit) -> None:
        audit()
        country = Country.objects.create(code="a/b c%2F?#")
        for number in range(3):
            country.name = f"n{number}"
            country.save()
        found = admin_client.get(f"{history(country)}?limit=2").json()
        older = admin_client.get(found["next"]).json()
        assert [event["event_type"] for event in older["results"]] == ["update", "create"]
        newer = admin_client.get(older["previous"]).json()
        assert newer["results"] == found["results"]


@pytest.mark.urls("tests.rest_versions_urls")
@pytest.mark.parametrize("prefix", ["/own/a%3Fb/3/", "/api/v2/audit/", "/unnamed/north/"])
def test_links_stay_below_a_prefix_that_captures_arguments(admin_client: Client, product: Product, prefix: str) -> None:
    uid = last().uid
    for rest in (f"events/{uid}/", "notifications/"):
        assert admin_client.get(f"{prefix}{rest}").status_code == 200, rest
    for rest in ("events/", f"objects/app.product/{product.pk}/events/"):
        page = admin_client.get(f"{prefix}{rest}?limit=1").json()
        assert page["next"].startswith(f"http://testserver{prefix}{rest}?")
        assert len(admin_client.get(page["next"]).json()["results"]) == 1


class TestSettingsForFormats:
    """Columns are written as the project's own serializers write them; recorded JSON stays as it was recorded."""

    @pytest.fixture
    def event(self, product: Product) -> Any:
        event = last()
        # Not by the manager: events can't be changed.
        moment = dt.datetime(2026, 7, 1, 12, 30, 15, 250_000, tzinfo=dt.UTC)
        return make_event(model=event.model, object_id=event.object_id, changes=event.changes, recorded_at=moment)

    def recorded_at(self, client: Client, event: Any) -> Any:
        found = client.get(detail(event.uid)).json()
        page = client.get(f"{LIST}?model=app.product").json()["results"]
        assert found in page
        assert found["changes"] == {"price": ["10.00", "9.00"]}
        return found["recorded_at"]

    def use(self, settings: Any, **formats: Any) -> None:
        settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, **formats}

    def test_times_are_in_the_current_time_zone(self, admin_client: Client, event: Any, settings: Any) -> None:
        settings.TIME_ZONE = "Europe/Berlin"
        assert self.recorded_at(admin_client, event) == "2026-07-01T14:30:15.250000+02:00"

    def test_times_have_no_time_zone_without_use_tz(self, admin_client: Client, event: Any, settings: Any) -> None:
        settings.TIME_ZONE, settings.USE_TZ = "Europe/Berlin", False
        assert self.recorded_at(admin_client, event) == "2026-07-01T14:30:15.250000"

    @pytest.mark.parametrize(
        ("form", "text"),
        [
            ("%Y-%m-%d %H:%M", "2026-07-01 14:30"),
            ("iso-8601", "2026-07-01T14:30:15.250000+02:00"),
            (None, "2026-07-01T12:30:15.250000Z"),
        ],
    )
    def test_times_follow_datetime_format(
        self, admin_client: Client, event: Any, settings: Any, form: str | None, text: str
    ) -> None:
        settings.TIME_ZONE = "Europe/Berlin"
        self.use(settings, DATETIME_FORMAT=form)
        assert self.recorded_at(admin_client, event) == text

    def test_where_a_search_ended_follows_it_too(
        self, admin_client: Client, event: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.use(settings, DATETIME_FORMAT="%d/%m/%Y")
        monkeypatch.setattr("django_signal_audit.admin.keyset.MOST_READ", 2)
        found = admin_client.get(f"{LIST}?q=reason:nothing").json()["searched_to"]
        assert re.fullmatch(r"\d\d/\d\d/\d{4}", found)

    def test_recorded_values_stay_exact(self, admin_client: Client, event: Any, settings: Any) -> None:
        self.use(settings, COERCE_DECIMAL_TO_STRING=False, DATE_FORMAT="%d.%m.%Y")
        self.recorded_at(admin_client, event)

    def test_keys_of_messages_follow_coerce_bigint_to_string(self, client: Client, settings: Any) -> None:
        if not hasattr(serializers, "BigIntegerField"):
            pytest.skip("REST framework has the setting from version 3.17 on")
        settings.SIGNAL_AUDIT = audit_settings(channels={"inbox": {"BACKEND": INBOX}})
        ada = User.objects.create_user("ada")
        client.force_login(ada)
        values = {"rule": "watch", "channel": "inbox", "recipient": str(ada.pk), "status": "sent"}
        row = Notification.objects.create(**values, sent_at=timezone.now(), data={})
        self.use(settings, COERCE_BIGINT_TO_STRING=True)
        assert client.get(MESSAGES).json()["results"][0]["id"] == str(row.pk)
        assert client.post(f"{MESSAGES}read/", {"ids": [str(row.pk)]}, JSON).json()["marked"] == 1


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


class OnlyFromTheOffice(BasePermission):
    message = "Come to the office."

    def has_permission(self, request: Any, view: Any) -> bool:
        return request.headers.get("X-Office") == "yes"


class NoCreations(BasePermission):
    def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
        return obj.event_type != "create"


class Viewing(DjangoModelPermissions):
    perms_map = {**DjangoModelPermissions.perms_map, "GET": ["%(app_label)s.view_%(model_name)s"]}


class Shouting(JSONRenderer):
    media_type = "application/vnd.shop+json"

    def render(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        return super().render(data, *args, **kwargs).upper()


class OnceOnly(BaseThrottle):
    seen: list[str] = []

    def allow_request(self, request: Any, view: Any) -> bool:
        self.seen.append(request.path)
        return self.seen.count(request.path) < 2


class Always(BaseAuthentication):
    def authenticate(self, request: Any) -> Any:
        return User.objects.get(username=request.headers.get("X-User", "nobody")), None


class TestProject:
    """What the project asks for in REST_FRAMEWORK holds; REST framework copies it to APIView."""

    @pytest.fixture
    def ann(self, client: Client) -> User:
        ann = person_who_may("ann", "view_product")
        client.force_login(ann)
        return ann

    def addresses(self, product: Product) -> tuple[str, ...]:
        return LIST, history(product), detail(last().uid), MESSAGES

    def test_permissions_are_asked_and_our_own_too(
        self, client: Client, product: Product, ann: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(APIView, "permission_classes", [OnlyFromTheOffice])
        for address in self.addresses(product):
            refused = client.get(address)
            assert (refused.status_code, refused.json()) == (403, {"detail": "Come to the office."})
            assert client.get(address, headers={"X-Office": "yes"}).status_code == 200
        assert client.post(f"{MESSAGES}read/", {"up_to": 1}, JSON).status_code == 403
        client.force_login(User.objects.create_user("bob", is_staff=True))
        for address in self.addresses(product)[:3]:
            assert client.get(address, headers={"X-Office": "yes"}).status_code == 403
        client.logout()
        assert client.get(MESSAGES, headers={"X-Office": "yes"}).status_code == 403

    def test_our_own_permissions_hold_in_a_subclass_with_others(self, product: Product) -> None:
        # Its schema is chosen when it's imported.
        from django_signal_audit.rest.views import EventList

        class Open(EventList):
            permission_classes = [AllowAny]

        request = RequestFactory().get("/")
        request.user = User.objects.create_user("bob")
        assert Open.as_view()(request).status_code == 403
        request.user = User.objects.create_superuser("root")
        assert len(Open.as_view()(request).data["results"]) == 2

    @pytest.mark.parametrize("kind", [DjangoModelPermissions, DjangoModelPermissionsOrAnonReadOnly, Viewing])
    def test_permissions_for_models_are_those_for_events(
        self, client: Client, product: Product, ann: User, monkeypatch: pytest.MonkeyPatch, kind: type
    ) -> None:
        monkeypatch.setattr(APIView, "permission_classes", [kind])
        for address in self.addresses(product):
            assert client.get(address).status_code == 200
        # Nobody can have the permission to add a message, and all mark their own.
        assert client.post(f"{MESSAGES}read/", {"up_to": 1}, JSON).status_code == 200
        client.logout()
        for address in self.addresses(product):
            assert client.get(address).status_code == 403

    def test_permissions_for_objects_are_asked_about_one_event(
        self, client: Client, product: Product, ann: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(APIView, "permission_classes", [NoCreations])
        [created] = events(event_type="create")
        assert client.get(detail(created.uid)).status_code == 403
        assert client.get(detail(last().uid)).status_code == 200
        monkeypatch.setattr(APIView, "permission_classes", [DjangoObjectPermissions])
        assert client.get(detail(created.uid)).status_code == 200

    def test_throttles_count(
        self, client: Client, product: Product, ann: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(APIView, "throttle_classes", [OnceOnly])
        monkeypatch.setattr(OnceOnly, "seen", [])
        for address in self.addresses(product):
            assert [client.get(address).status_code for _ in range(2)] == [200, 429]

    @override_settings(ROOT_URLCONF="tests.rest_versions_urls")
    def test_authentication_renderers_and_versions_are_the_projects(
        self, client: Client, product: Product, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        User.objects.create_superuser("root")
        monkeypatch.setattr(APIView, "authentication_classes", [Always])
        monkeypatch.setattr(APIView, "renderer_classes", [Shouting])
        monkeypatch.setattr(APIView, "versioning_class", URLPathVersioning)
        for address in self.addresses(product):
            found = client.get(address.replace(API, "/api/v2/audit/"), headers={"X-User": "root"})
            assert (found.status_code, found["Content-Type"]) == (200, "application/vnd.shop+json")
            assert b'"UID"' in found.content or b'"UNREAD"' in found.content

    @override_settings(ROOT_URLCONF="tests.rest_versions_urls")
    def test_what_its_pattern_captures_is_no_error(self, client: Client, product: Product, ann: User) -> None:
        for address in self.addresses(product):
            assert client.get(address.replace(API, "/api/v2/audit/")).status_code == 200
        assert client.post("/api/v2/audit/notifications/read/", {"up_to": 1}, JSON).status_code == 200
        assert client.post("/api/v2/audit/notifications/7/read/").status_code == 404

    @pytest.mark.parametrize(("size", "count"), [(3, 3), (None, 50), (1000, 100)])
    def test_pages_have_the_size_of_the_projects(
        self, client: Client, product: Product, ann: User, settings: Any, size: int | None, count: int
    ) -> None:
        settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "PAGE_SIZE": size}
        for _ in range(110):
            make_event(model="app.product", object_id=str(product.pk), recorded_at=timezone.now())
        for address in (LIST, history(product)):
            found = client.get(address).json()
            assert len(found["results"]) == count
            assert len(client.get(found["next"]).json()["results"]) == min(count, 112 - count)
            assert len(client.get(f"{address}?limit=2").json()["results"]) == 2

    def test_the_schema_says_that_one_has_to_log_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for kind in (AllowAny, IsAuthenticatedOrReadOnly):
            monkeypatch.setattr(APIView, "permission_classes", [kind])
            schema = SchemaGenerator(patterns=None).get_schema(request=None, public=True)
            assert {} not in schema["paths"][LIST]["get"]["security"]


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
