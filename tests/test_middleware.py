from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import StreamingHttpResponse
from django.test import AsyncClient, Client, RequestFactory

from django_signal_audit import audit_context
from django_signal_audit.context.clients import client_ip
from django_signal_audit.middleware import AuditMiddleware

from .app.models import Category
from .app.signals import viewed
from .conftest import Audit, events, last, run_async


@pytest.fixture
def anna(db: None) -> User:
    return User.objects.create_user("anna", password="x")


@pytest.fixture
def bert(db: None) -> User:
    return User.objects.create_user("bert", password="x")


def test_the_request_is_in_the_context(audit: Audit, client: Client, anna: User) -> None:
    audit()
    client.force_login(anna)
    client.get("/create/a/?token=hunter2", headers={"User-Agent": "probe", "X-Request-ID": "r-1"})
    event = last()
    assert (event.actor_id, event.actor_repr) == (str(anna.pk), "anna")
    assert event.context == {
        "request": {
            "method": "GET",
            "path": "/create/a/",
            "ip": "127.0.0.1",
            "user_agent": "probe",
            "request_id": "r-1",
        }
    }


@pytest.mark.django_db
def test_an_anonymous_visitor_is_nobody(audit: Audit, client: Client) -> None:
    audit()
    client.get("/create/a/")
    assert (last().actor_id, last().actor_repr) == ("", "")


def test_authentication_in_the_view_counts(audit: Audit, client: Client, anna: User, bert: User) -> None:
    audit()
    client.force_login(anna)
    client.get("/token/a/", headers={"X-Token": "bert"})
    assert last().actor_repr == "bert"


def test_nothing_is_left_behind(audit: Audit, client: Client, anna: User) -> None:
    audit()
    client.force_login(anna)
    with pytest.raises(ValueError, match="no"):
        client.get("/fail/")
    Category.objects.create(name="later")
    assert last().actor_repr == ""
    assert last().context == {}


def test_events_of_a_request_share_their_correlation_id(audit: Audit, client: Client, anna: User) -> None:
    audit({"name": "c", "model": "app.Category"}, {"name": "r", "events": ["request"]})
    client.get("/create/a/")
    client.get("/create/b/")
    ids = [event.correlation_id for event in events()]
    assert ids[0] == ids[1] != ids[2] == ids[3]


def test_streamed_bodies_keep_the_actor(audit: Audit, client: Client, anna: User) -> None:
    audit()
    client.force_login(anna)
    response = client.get("/stream/a/")
    assert events() == []
    assert b"".join(response) == b"ab"
    assert last().actor_repr == "anna"


@pytest.mark.parametrize("actor", ["", "another request's"])
def test_what_a_body_does_when_the_client_goes_away(audit: Audit, rf: RequestFactory, anna: User, actor: str) -> None:
    audit()

    def body() -> Iterator[bytes]:
        try:
            yield b"a"
            yield b"b"
        finally:
            Category.objects.create(name="left")

    def closed() -> None:
        Category.objects.create(name="closed")

    def answer(request: Any) -> StreamingHttpResponse:
        response = StreamingHttpResponse(body())
        response._resource_closers.append(closed)  # type: ignore[attr-defined]
        return response

    request = rf.get("/")
    request.user = anna
    response: Any = AuditMiddleware(answer)(request)
    assert next(iter(response)) == b"a"
    with audit_context(actor=actor) if actor else nullcontext():
        response.close()
        Category.objects.create(name="later")
    assert [event.actor_repr for event in events(model="app.category")] == ["anna", "anna", actor]
    paths = [event.context.get("request", {}).get("path") for event in events(model="app.category")]
    assert paths == ["/", "/", None]


def test_concurrent_asgi_requests_name_their_own_users(audit: Audit, transactional_db: None) -> None:
    audit({"name": "c", "model": "app.Category"})
    users = [User.objects.create_user(name) for name in ("anna", "bert", "carl", "dora")]

    async def visit(user: User) -> None:
        client = AsyncClient()
        await client.aforce_login(user)
        await client.get(f"/acreate/{user.username}/")
        response = await client.get(f"/astream/{user.username}/")
        body = [part async for part in response]
        assert b"".join(body) == b"ab"
        await client.get(f"/create/{user.username}/")

    async def all_at_once() -> None:
        await asyncio.gather(*map(visit, users))

    run_async(all_at_once())
    found = events()
    assert len(found) == 12
    assert [event for event in found if event.actor_repr != event.object_repr] == []
    assert {event.context["request"]["method"] for event in found} == {"GET"}


@pytest.mark.django_db
def test_requests_are_events_where_a_rule_asks(audit: Audit, client: Client) -> None:
    audit({"name": "r", "events": ["request"], "paths": ["/create/*"], "methods": ["post"]})
    client.get("/create/a/")
    client.post("/create/b/")
    assert [
        (event.event_type, event.data["method"], event.data["path"], event.data["status"]) for event in events()
    ] == [("request", "POST", "/create/b/", 200)]


def test_logins_logouts_and_failures_are_recorded(audit: Audit, client: Client, anna: User) -> None:
    audit({"name": "accounts", "events": ["login", "logout", "login_failed"], "level": "warning"})
    client.login(username="anna", password="wrong")
    client.login(username="anna", password="x")
    client.logout()
    failed, login, logout = events()
    assert [event.event_type for event in events()] == ["login_failed", "login", "logout"]
    assert failed.data["credentials"]["username"] == "anna"
    assert "wrong" not in str(failed.data)
    assert (failed.actor_id, failed.level) == ("", "warning")
    assert (login.actor_repr, login.model, login.object_id) == ("anna", "auth.user", str(anna.pk))
    assert logout.actor_repr == "anna"


def test_custom_signals_are_recorded(audit: Audit, anna: User) -> None:
    audit(
        {"name": "viewed", "signal": "tests.app.signals.viewed", "event": "product_viewed"},
        {"name": "also", "events": ["product_viewed"], "level": "warning"},
    )
    category = Category.objects.create(name="a")
    viewed.send(sender=Category, instance=category, user=anna, page=3, token="hunter2")
    event = last()
    assert (event.event_type, event.source, event.model, event.object_repr) == (
        "product_viewed",
        "signal",
        "app.category",
        "a",
    )
    assert (event.actor_repr, event.rules, event.level) == ("anna", ["viewed", "also"], "warning")
    assert event.data["page"] == 3
    assert "hunter2" not in str(event.data)
    viewed.send(sender=None, instance="a text")
    assert last().data == {"instance": "a text"}
    audit({"name": "other", "model": "app.Product"})
    viewed.send(sender=None)
    assert len(events()) == 2


@pytest.mark.parametrize(
    ("remote", "forwarded", "trusted", "expected"),
    [
        ("1.2.3.4", "", [], "1.2.3.4"),
        ("1.2.3.4", "9.9.9.9", [], "1.2.3.4"),
        ("10.0.0.1", "9.9.9.9", ["10.0.0.0/8"], "9.9.9.9"),
        ("10.0.0.1", "6.6.6.6, 9.9.9.9, 10.0.0.2", ["10.0.0.0/8"], "9.9.9.9"),
        ("10.0.0.1", "6.6.6.6, rubbish", ["10.0.0.0/8"], "10.0.0.1"),
        ("10.0.0.1", "[2001:db8::1]:80", ["10.0.0.1"], "2001:db8::1"),
        ("", "9.9.9.9", ["10.0.0.0/8"], ""),
        ("unix:", "9.9.9.9", [], ""),
    ],
)
def test_the_clients_address_is_found_behind_trusted_proxies(
    settings: object, remote: str, forwarded: str, trusted: list[str], expected: str
) -> None:
    settings.SIGNAL_AUDIT = {"TRUSTED_PROXIES": trusted}
    request = RequestFactory().get("/", REMOTE_ADDR=remote, HTTP_X_FORWARDED_FOR=forwarded)
    assert client_ip(request) == expected


def test_a_user_that_cannot_be_loaded_stops_nothing(audit: Audit, client: Client, anna: User, monkeypatch) -> None:
    audit()
    client.force_login(anna)

    def fail(*_: object) -> None:
        raise OSError("directory is down")

    monkeypatch.setattr("django.contrib.auth.middleware.get_user", fail)
    assert client.get("/create/a/").status_code == 200
    assert (last().actor_id, last().actor_repr) == (str(anna.pk), "")


def test_stream_wrappers_are_iterators() -> None:
    from django_signal_audit.middleware import _AsyncStream, _Stream

    assert issubclass(_Stream, Iterator)
    assert issubclass(_AsyncStream, AsyncIterator)


@pytest.mark.django_db
def test_a_rule_without_a_model_masks_keys_of_data(audit: Audit) -> None:
    audit({"name": "v", "signal": "tests.app.signals.viewed", "event": "seen", "mask": ["place"]})
    viewed.send(sender=None, place="hideout", page=3)
    viewed.send(sender=None, place="hideout", page={"place": "hideout"})
    one, two = events()
    assert one.data["page"] == 3
    masked = [one.data["place"], two.data["place"], two.data["page"]["place"]]
    # Without an object, the event is part of the scope of a tag.
    assert len({item["$masked"] for item in masked}) == 3
    assert "hideout" not in str(two.data)
