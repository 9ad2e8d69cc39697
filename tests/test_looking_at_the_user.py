"""The audit log looks at the user of a request as if nobody had looked, and names the one who was loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connection
from django.forms import modelform_factory
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path
from django.utils.functional import SimpleLazyObject

from django_signal_audit import audit_context, record

from .app.models import Tag
from .conftest import Audit, events, run_async

pytestmark = pytest.mark.django_db

RULES = [{"name": "tags", "model": "app.Tag"}, {"name": "requests", "events": ["request"]}]


def write(request: HttpRequest) -> HttpResponse:
    Tag.objects.create(name="x")
    return HttpResponse("ok")


def write_and_greet(request: HttpRequest) -> HttpResponse:
    Tag.objects.create(name="x")
    return HttpResponse(f"hello {request.user}")


def read(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


def greet(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"hello {request.user}")


def rename_by_a_refused_form(request: HttpRequest) -> HttpResponse:
    form = modelform_factory(User, fields=["username"])({"username": "root"}, instance=request.user)
    assert not form.is_valid()
    Tag.objects.create(name="x")
    return HttpResponse("ok")


def leave(request: HttpRequest) -> HttpResponse:
    Tag.objects.create(name="before")
    request.user.delete()  # type: ignore[union-attr]
    record("account_closed")
    return HttpResponse("ok")


def logging_in(get_response: Callable[..., Any]) -> Callable[..., Any]:
    """Log a user in as soon as somebody asks for one (a middleware)."""

    def answer(request: Any) -> Any:
        def load() -> User:
            user = User.objects.get(username="ann")
            login(request, user, backend="django.contrib.auth.backends.ModelBackend")
            return user

        request.user = SimpleLazyObject(load)
        return get_response(request)

    return answer


async def rename_awaited(request: Any) -> HttpResponse:
    user = await request.auser()
    user.username = "root"
    await Tag.objects.acreate(name="x")
    return HttpResponse("ok")


VIEWS = [write, write_and_greet, read, greet, rename_by_a_refused_form, rename_awaited, leave]
urlpatterns = [path(f"{view.__name__}/", view) for view in VIEWS]


def visit(view: Callable[..., Any], kind: str) -> tuple[Any, ...]:
    """Return what of a response, and of the session, a look at the user may change."""
    Session.objects.all().delete()
    User.objects.all().delete()
    client, user = Client(), User.objects.create_user("ann", password="x")
    if kind in ("a session", "a session that no longer holds"):
        client.force_login(user)
    if kind == "a session that no longer holds":
        user.set_password("y")
        user.save()
    if kind == "a session that is gone":
        client.cookies["sessionid"] = "a" * 32
    with override_settings(ROOT_URLCONF=__name__):
        response = client.get(f"/{view.__name__}/")
    cookies = {name: cookie["max-age"] for name, cookie in response.cookies.items()}
    return response.content, response.headers.get("Vary"), cookies, Session.objects.count()


KINDS = ["nobody", "a session", "a session that no longer holds", "a session that is gone"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("view", [write, write_and_greet, read, greet])
def test_responses_and_sessions_are_what_they_are_without_the_audit(audit: Audit, view: Any, kind: str) -> None:
    audit({"name": "none", "events": ["nothing"]})
    expected = visit(view, kind)
    audit(*RULES)
    assert visit(view, kind) == expected
    by_ann = [event.actor_repr for event in events(event_type="request")]
    assert by_ann == (["ann"] if kind == "a session" else [""])


@pytest.mark.parametrize("view", [write, write_and_greet, greet])
def test_a_session_of_an_old_secret_key_goes_on(audit: Audit, settings: Any, view: Any) -> None:
    audit(*RULES)
    client = Client()
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "old", []
    client.force_login(User.objects.create_user("ann"))
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", ["old"]
    with override_settings(ROOT_URLCONF=__name__):
        for _ in range(3):
            client.get(f"/{view.__name__}/")
        assert client.get("/greet/").content == b"hello ann"
    assert {event.actor_repr for event in events(event_type="request")} == {"ann"}
    assert Session.objects.count() == 1


def test_a_project_whose_lazy_user_logs_in(audit: Audit, settings: Any) -> None:
    audit(*RULES)
    User.objects.create_user("ann")
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.test_looking_at_the_user.logging_in"]
    client = Client()
    with override_settings(ROOT_URLCONF=__name__):
        response = client.get("/write_and_greet/")
        assert response.content == b"hello ann"
        assert "sessionid" in response.cookies
        assert client.get("/greet/").content == b"hello ann"
    assert {event.actor_repr for event in events()} == {"ann"}


def test_a_session_is_loaded_once(audit: Audit, django_assert_max_num_queries: Any) -> None:
    audit({"name": "tags", "model": "app.Tag"})
    client = Client()
    client.force_login(User.objects.create_user("ann"))
    with override_settings(ROOT_URLCONF=__name__):
        client.get("/write/")
        with django_assert_max_num_queries(2):
            client.get("/greet/")
        with django_assert_max_num_queries(2 + 2):  # the session, the user, the tag and its event
            client.get("/write_and_greet/")


ACTOR_MIDDLEWARE = "django_signal_audit.middleware.AuditMiddleware"


@pytest.mark.parametrize("is_first", [True, False])
def test_a_form_that_is_refused_does_not_rename_the_actor(audit: Audit, settings: Any, is_first: bool) -> None:
    if is_first:
        rest = [one for one in settings.MIDDLEWARE if one != ACTOR_MIDDLEWARE]
        settings.MIDDLEWARE = [ACTOR_MIDDLEWARE, *rest]
    audit(*RULES)
    User.objects.create_user("root")
    client = Client()
    client.force_login(User.objects.create_user("ann"))
    with override_settings(ROOT_URLCONF=__name__):
        client.get("/rename_by_a_refused_form/")
    assert [event.actor_repr for event in events()] == ["ann", "ann"]


@pytest.mark.django_db(transaction=True)
def test_neither_where_the_user_was_awaited(audit: Audit) -> None:
    audit(*RULES)
    User.objects.create_user("root")
    user = User.objects.create_user("ann")

    async def visit() -> None:
        client = AsyncClient()
        await client.aforce_login(user)
        await client.get("/rename_awaited/")

    with override_settings(ROOT_URLCONF=__name__):
        run_async(visit())
    assert [event.actor_repr for event in events()] == ["ann", "ann"]


def test_an_actor_keeps_their_name_for_a_block(audit: Audit, django_assert_max_num_queries: Any) -> None:
    audit({"name": "tags", "model": "app.Tag"})
    User.objects.create_user("ann")
    user = User.objects.only("id").get()
    with audit_context(actor=user):
        Tag.objects.create(name="x")
        with CaptureQueriesContext(connection) as queries:
            for number in range(5):
                Tag.objects.create(name=f"{number}")
    assert not [query for query in queries if "auth_user" in query["sql"]]
    assert {event.actor_repr for event in events()} == {"ann"}


def test_who_deletes_their_own_account_is_named(audit: Audit) -> None:
    audit(*RULES)
    user = User.objects.create_user("ann")
    client = Client()
    client.force_login(user)
    with override_settings(ROOT_URLCONF=__name__):
        client.get("/leave/")
    assert {(event.actor_id, event.actor_repr) for event in events()} == {(str(user.pk), "ann")}
    assert [event.event_type for event in events()] == ["create", "account_closed", "request"]
