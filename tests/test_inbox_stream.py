"""The inbox says at once what is new, under ASGI."""

from __future__ import annotations

import asyncio
import json

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import close_old_connections, connections
from django.test import AsyncClient
from django.urls import reverse

from django_signal_audit.inbox import stream
from django_signal_audit.models import Notification

from .conftest import run_async
from .notices import INBOX, audit_settings, make_notification

pytestmark = pytest.mark.django_db(transaction=True)
STREAM = reverse("signal_audit:inbox-stream")


@pytest.fixture(autouse=True)
def rules(settings, monkeypatch):
    settings.SIGNAL_AUDIT = audit_settings({"inbox": {"BACKEND": INBOX}})
    monkeypatch.setattr(stream, "LOOK_SECONDS", 0.02)
    # The threads of a test share the connection of a database in memory.
    if connections["default"].vendor == "sqlite":
        monkeypatch.setattr(stream, "close_old_connections", lambda: None)


@pytest.fixture
def ada():
    return User.objects.create_user("ada")


def message(user, **values):
    return make_notification(channel="inbox", recipient=str(user.pk), status="sent", **values)


async def connect(user):
    client = AsyncClient()
    await client.aforce_login(user)
    response = await client.get(STREAM)
    assert response.status_code == 200
    assert response["Content-Type"] == "text/event-stream"
    return aiter(response.streaming_content)


async def read(events):
    """Return the kind and the data of the next event."""
    text = (await asyncio.wait_for(anext(events), 5)).decode()
    if text.startswith(":"):
        return "comment", None
    kind, data = text.strip().split("\n")
    return kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def test_it_pushes_the_number_of_unread_messages_whenever_that_changes(ada):
    async def work():
        events = await connect(ada)
        assert await read(events) == ("inbox", {"newest": 0, "unread": 0})
        first = await sync_to_async(message)(ada)
        assert await read(events) == ("inbox", {"newest": first.pk, "unread": 1})
        await sync_to_async(Notification.objects.filter(pk=first.pk).mark_read)()
        assert await read(events) == ("inbox", {"newest": first.pk, "unread": 0})
        await events.aclose()

    run_async(work())


def test_nobody_hears_of_anothers_messages_nor_of_what_is_not_in_the_inbox(ada):
    bob = User.objects.create_user("bob")
    message(bob)
    make_notification(channel="take", recipient=str(ada.pk), status="sent")
    make_notification(channel="inbox", recipient=str(ada.pk))

    async def work():
        events = await connect(ada)
        assert await read(events) == ("inbox", {"newest": 0, "unread": 0})
        await events.aclose()

    run_async(work())


def test_a_newer_connection_of_the_user_ends_the_older(ada):
    async def work():
        older = await connect(ada)
        await read(older)
        newer = await connect(ada)
        await read(newer)
        assert await read(older) == ("replaced", {})
        with pytest.raises(StopAsyncIteration):
            await anext(older)
        await sync_to_async(message)(ada)
        assert (await read(newer))[1]["unread"] == 1
        await newer.aclose()

    run_async(work())


def test_one_query_serves_all_who_are_connected(django_assert_num_queries):
    users = [User.objects.create_user(f"user{number}") for number in range(20)]
    for user in users:
        message(user)
    with django_assert_num_queries(1):
        found = stream.states_of(("", str(user.pk)) for user in users)
    assert {unread for _, unread in found.values()} == {1}


def test_something_is_sent_while_nothing_happens(ada, monkeypatch):
    monkeypatch.setattr(stream, "SILENT_SECONDS", 0.05)

    async def work():
        events = await connect(ada)
        # Where the database takes its time, the state may be told twice.
        found = [await read(events) for _ in range(3)]
        assert found[-1] == ("comment", None)
        await events.aclose()

    run_async(work())


def test_a_connection_ends_after_a_while_so_that_the_login_is_asked_again(ada, monkeypatch):
    monkeypatch.setattr(stream, "LONGEST_SECONDS", 0.05)
    monkeypatch.setattr(stream, "SILENT_SECONDS", 0.05)

    async def work():
        events = await connect(ada)
        return [part async for part in events]

    assert len(run_async(work())) <= 3


def test_under_wsgi_there_is_none_and_it_needs_a_login(client, ada):
    assert client.get(STREAM).status_code == 401
    client.force_login(ada)
    assert client.get(STREAM).status_code == 204


def test_the_page_names_where_to_connect_and_what_to_ask_instead(client, ada):
    client.force_login(ada)
    page = client.get(reverse("signal_audit:inbox")).content.decode()
    assert f'data-audit-stream="{STREAM}"' in page
    assert f'data-audit-unread="{reverse("signal_audit:inbox-unread")}"' in page
    close_old_connections()
