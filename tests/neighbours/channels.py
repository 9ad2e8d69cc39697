"""Django Channels: consumers act for the user in their scope."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.auth import AuthMiddlewareStack, login, logout
from channels.db import database_sync_to_async
from channels.generic.http import AsyncHttpConsumer
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from channels.routing import URLRouter
from channels.testing import HttpCommunicator, WebsocketCommunicator
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.test import Client
from django.urls import path

from tests.conftest import events, last, run_async

from .shop.models import Product

pytestmark = pytest.mark.django_db(transaction=True)


class Sync(WebsocketConsumer):
    def receive(self, text_data: str = "", bytes_data: Any = None) -> None:
        Product.objects.create(name=text_data)
        self.send("done")


class Async(AsyncWebsocketConsumer):
    async def receive(self, text_data: str = "", bytes_data: Any = None) -> None:
        await Product.objects.acreate(name=text_data)
        await self.send("done")


class Account(AsyncWebsocketConsumer):
    """Logs users in and out by their names, and then saves."""

    async def receive(self, text_data: str = "", bytes_data: Any = None) -> None:
        if text_data != "logout":
            await login(self.scope, await User.objects.aget(username=text_data))
        else:
            await logout(self.scope)
        await database_sync_to_async(Product.objects.create)(name=text_data)
        await self.send("done")


class Plain(AsyncHttpConsumer):
    async def handle(self, body: bytes) -> None:
        await Product.objects.acreate(name="by HTTP")
        await self.send_response(200, b"done")


async def talk(application: Any, *messages: str, headers: Any = (), **scope: Any) -> None:
    communicator = WebsocketCommunicator(application, "/ws/", headers=list(headers))
    communicator.scope.update(scope)
    assert (await communicator.connect())[0]
    for message in messages:
        await communicator.send_to(message)
        assert await communicator.receive_from(timeout=10) == "done"
    await communicator.disconnect()


def cookie_of(user: User) -> list[tuple[bytes, bytes]]:
    client = Client()
    client.force_login(user)
    value = client.cookies[django_settings.SESSION_COOKIE_NAME].value
    return [(b"cookie", f"{django_settings.SESSION_COOKIE_NAME}={value}".encode())]


@pytest.mark.parametrize("consumer", [Sync, Async])
def test_the_user_in_the_scope_is_the_actor(consumer: Any) -> None:
    ada = User.objects.create_user("ada")
    run_async(talk(consumer.as_asgi(), "Tea", user=ada, client=["192.0.2.1", 4000]))
    event = last()
    assert (event.actor_id, event.actor_repr) == (str(ada.pk), "ada")
    assert event.context["request"] == {"method": "WEBSOCKET", "path": "/ws/", "ip": "192.0.2.1"}


@pytest.mark.parametrize("consumer", [Sync, Async])
def test_the_user_of_the_session_is_the_actor(consumer: Any) -> None:
    ada = User.objects.create_user("ada")
    application = AuthMiddlewareStack(URLRouter([path("ws/", consumer.as_asgi())]))
    run_async(talk(application, "Tea", headers=cookie_of(ada)))
    assert last().actor_repr == "ada"
    run_async(talk(application, "Coffee"))
    assert (last().object_repr, last().actor_repr) == ("Coffee", "")


def test_a_login_in_the_consumer_counts() -> None:
    User.objects.create_user("ada")
    User.objects.create_user("bob")
    application = AuthMiddlewareStack(URLRouter([path("ws/", Account.as_asgi())]))
    run_async(talk(application, "ada", "bob", "logout"))
    assert [event.actor_repr for event in events()] == ["ada", "bob", ""]


def test_connections_do_not_mix() -> None:
    users = [User.objects.create_user(f"user {number}") for number in range(5)]

    async def talk_all() -> None:
        names = [[f"{user.username}/{number}" for number in range(4)] for user in users]
        pairs = zip(users, names, strict=True)
        work = (talk(consumer.as_asgi(), *name, user=user) for user, name in pairs for consumer in (Sync, Async))
        await asyncio.gather(*work)

    run_async(talk_all())
    assert len(events()) == 40
    assert all(event.object_repr.startswith(f"{event.actor_repr}/") for event in events())
    assert len({event.correlation_id for event in events()}) == 10


def test_a_consumer_of_http_acts_for_its_user_too() -> None:
    ada = User.objects.create_user("ada")

    async def ask() -> None:
        communicator = HttpCommunicator(Plain.as_asgi(), "POST", "/plain/")
        communicator.scope["user"] = ada
        assert (await communicator.get_response())["status"] == 200

    run_async(ask())
    assert last().actor_repr == "ada"
    assert last().context["request"] == {"method": "POST", "path": "/plain/"}


def test_nothing_is_left_behind() -> None:
    ada = User.objects.create_user("ada")

    async def talk_and_save() -> None:
        await talk(Async.as_asgi(), "Tea", user=ada)
        await sync_to_async(Product.objects.create)(name="by hand")

    run_async(talk_and_save())
    assert [event.actor_repr for event in events()] == ["ada", ""]


def test_the_project_can_say_who_acts(settings: Any) -> None:
    settings.SIGNAL_AUDIT = {**settings.SIGNAL_AUDIT, "ACTOR": "tests.neighbours.channels.device"}
    run_async(talk(Sync.as_asgi(), "Tea", device="scanner 7"))
    assert last().actor_repr == "scanner 7"


def device(request: Any) -> Any:
    return request.scope.get("device")
