"""django-ninja: who authenticates in an operation is the actor, whatever the session says."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.test import AsyncClient, Client
from django.urls import path
from ninja import NinjaAPI
from ninja.security import APIKeyHeader, HttpBasicAuth, HttpBearer, django_auth

from tests.conftest import events, last, run_async

from .shop.models import Product

pytestmark = pytest.mark.django_db(transaction=True)


class Token:
    """What some projects return: not the user, but what leads to one. Its text is a secret."""

    def __init__(self, user: User) -> None:
        self.user = user

    def __str__(self) -> str:
        return "hunter2"


class Bearer(HttpBearer):
    def authenticate(self, request: HttpRequest, token: str) -> Any:
        return User.objects.filter(username=token).first()


class AsyncBearer(HttpBearer):
    async def authenticate(self, request: HttpRequest, token: str) -> Any:
        return await User.objects.filter(username=token).afirst()


class Key(APIKeyHeader):
    param_name = "X-Key"

    def authenticate(self, request: HttpRequest, key: str | None) -> Any:
        user = User.objects.filter(username=key).first()
        return Token(user) if user else None


class Basic(HttpBasicAuth):
    def authenticate(self, request: HttpRequest, username: str, password: str) -> Any:
        return User.objects.filter(username=username).first()


class OnlyText(APIKeyHeader):
    param_name = "X-Text"

    def authenticate(self, request: HttpRequest, key: str | None) -> Any:
        return key


api = NinjaAPI()


@api.post("/bearer", auth=Bearer())
@api.post("/key", auth=Key())
@api.post("/basic", auth=Basic())
@api.post("/several", auth=[Key(), Bearer()])
@api.post("/text", auth=OnlyText())
@api.post("/session", auth=django_auth)
@api.post("/open")
def create(request: HttpRequest) -> None:
    Product.objects.create(name="Tea")


@api.post("/async/bearer", auth=AsyncBearer())
@api.post("/async/mixed", auth=Bearer())
@api.post("/async/open")
async def acreate(request: HttpRequest) -> None:
    await Product.objects.acreate(name="Tea")


urlpatterns = [path("api/", api.urls)]


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada")


@pytest.fixture
def bob() -> User:
    return User.objects.create_user("bob")


HEADERS = {
    "bearer": {"Authorization": "Bearer ada"},
    "key": {"X-Key": "ada"},
    "basic": {"Authorization": "Basic YWRhOng="},
    "several": {"Authorization": "Bearer ada"},
}


@pytest.mark.parametrize("operation", sorted(HEADERS))
@pytest.mark.parametrize("is_logged_in", [False, True])
def test_the_authenticated_user_is_the_actor(
    client: Client, ada: User, bob: User, operation: str, is_logged_in: bool
) -> None:
    if is_logged_in:
        client.force_login(bob)
    assert client.post(f"/api/{operation}", headers=HEADERS[operation]).status_code == 200
    assert (last().actor_id, last().actor_repr) == (str(ada.pk), "ada")


@pytest.mark.parametrize("operation", ["async/bearer", "async/mixed"])
@pytest.mark.parametrize("is_logged_in", [False, True])
def test_async_operations_do_so_too(ada: User, bob: User, operation: str, is_logged_in: bool) -> None:
    client = AsyncClient()
    if is_logged_in:
        client.force_login(bob)
    assert run_async(client.post(f"/api/{operation}", headers={"Authorization": "Bearer ada"})).status_code == 200
    assert last().actor_repr == "ada"


@pytest.mark.parametrize("operation", ["session", "open", "async/open"])
def test_else_it_is_the_user_of_the_session(client: Client, bob: User, operation: str) -> None:
    client.force_login(bob)
    assert client.post(f"/api/{operation}").status_code == 200
    assert last().actor_repr == "bob"


def test_a_key_that_leads_to_nobody_is_not_shown(client: Client) -> None:
    assert client.post("/api/text", headers={"X-Text": "hunter2"}).status_code == 200
    assert (last().actor_id, last().actor_repr) == ("", "")
    assert "hunter2" not in str(vars(last()))


def test_requests_do_not_mix(client: Client, ada: User, bob: User) -> None:
    for name in ("ada", "bob", "ada"):
        client.post("/api/bearer", headers={"Authorization": f"Bearer {name}"})
    client.post("/api/open")
    assert [event.actor_repr for event in events()] == ["ada", "bob", "ada", ""]
