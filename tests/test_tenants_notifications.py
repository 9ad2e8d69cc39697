"""Messages of tenants whose rows may have the same keys: they don't mix, and nobody is shown those of another."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from django_signal_audit.channels.base import Message
from django_signal_audit.delivery.worker import deliver
from django_signal_audit.inbox import stream
from django_signal_audit.inbox.choices import mute
from django_signal_audit.inbox.mailbox import Mailbox
from django_signal_audit.models import Mute, Notification

from .app.models import Product
from .current_tenant import FUNCTION, here
from .notices import INBOX, audit_settings, calling, receiving

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nowhere() -> None:
    here("")


@pytest.fixture
def messages() -> Iterator[list[Message]]:
    with receiving() as received:
        yield received


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC), tick=False) as traveller:
        yield traveller


@pytest.fixture
def ada() -> User:
    return User.objects.create_superuser("ada", password="secret")


def notify(settings: Any, tenants: object, **entry: Any) -> None:
    """Have every change of a product told, by the rules of a project with tenants."""
    base = audit_settings({"take": calling("take"), "inbox": {"BACKEND": INBOX}})
    rule = {"name": "products", "model": "app.Product", "notify": [{"channel": "take", "to": "a@example.com", **entry}]}
    worker = "django_signal_audit.dispatchers.WorkerDispatcher"
    settings.SIGNAL_AUDIT = {**base, "RULES": [rule], "DISPATCHER": worker, "TENANT": tenants}


def change_in(*names: str) -> None:
    """Write a product in the tables of each tenant."""
    for name in names:
        here(name)
        Product.objects.create(name=f"tea of {name}")
    here("")


def texts(messages: list[Message]) -> list[list[str]]:
    return sorted([event.object_repr for event in message.events] for message in messages)


class TestMessages:
    def test_a_digest_has_the_events_of_one_tenant(
        self, settings: Any, messages: list[Message], clock: time_machine.Traveller
    ) -> None:
        notify(settings, FUNCTION, digest="10m")
        change_in("north", "south", "north")
        clock.shift(601)
        deliver()
        assert texts(messages) == [["tea of north", "tea of north"], ["tea of south"]]

    def test_a_digest_whose_recipients_are_found_later_too(
        self, settings: Any, messages: list[Message], clock: time_machine.Traveller, ada: User
    ) -> None:
        notify(settings, FUNCTION, to="superusers", digest="10m")
        change_in("north", "south", "north")
        deliver()
        clock.shift(601)
        deliver()
        assert texts(messages) == [["tea of north", "tea of north"], ["tea of south"]]

    def test_a_throttle_counts_the_messages_of_one_tenant(self, settings: Any, messages: list[Message]) -> None:
        notify(settings, FUNCTION, throttle="1h")
        change_in("north", "south", "north")
        deliver()
        assert texts(messages) == [["tea of north"], ["tea of south"]]

    def test_rows_of_tenants_in_the_same_tables_are_told_together(
        self, settings: Any, messages: list[Message], clock: time_machine.Traveller
    ) -> None:
        notify(settings, {"app.Product": "name"}, digest="10m")
        change_in("north", "south")
        clock.shift(601)
        deliver()
        assert texts(messages) == [["tea of north", "tea of south"]]
        assert set(Notification.objects.values_list("tenant", flat=True)) == {""}


class TestReading:
    @pytest.fixture
    def told(self, settings: Any, ada: User) -> User:
        """Return a user who was told of a change in each of two tenants."""
        notify(settings, FUNCTION, channel="inbox", to="user:ada")
        change_in("north", "south", "south")
        deliver()
        return ada

    @pytest.mark.parametrize(("name", "count"), [("north", 1), ("south", 2), ("east", 0), ("", 3)])
    def test_an_inbox_has_the_messages_of_the_tenant_that_is_current(self, told: User, name: str, count: int) -> None:
        here(name)
        mailbox = Mailbox(told)
        assert len(mailbox.page().messages) == mailbox.count_unread() == count
        assert mailbox.read_up_to(10**9) == count
        here("")
        assert Mailbox(told).count_unread() == 3 - count

    def test_what_is_pushed_counts_those_of_each_tenant(self, told: User) -> None:
        owners = [(name, str(told.pk)) for name in ("north", "south", "east", "")]
        found = stream.states_of(owners)
        assert [found.get(owner, (0, 0))[1] for owner in owners] == [1, 2, 0, 3]

    def test_the_list_of_messages_has_those_of_the_tenant(self, told: User, client: Client) -> None:
        client.force_login(told)
        url = reverse("admin:django_signal_audit_notification_changelist")
        for name, count in [("north", 1), ("south", 2), ("", 3)]:
            here(name)
            response: Any = client.get(url)
            assert response.context["cl"].result_count == count
        here("north")
        foreign = Notification.objects.filter(tenant="south").latest("pk")
        page = client.get(reverse("admin:django_signal_audit_notification_change", args=[foreign.pk]))
        assert page.status_code == 302

    def test_an_object_is_muted_in_its_tenant_only(self, settings: Any, told: User) -> None:
        here("north")
        tea = Product.objects.get(name="tea of north")
        mute(told, Mailbox(told).page().messages[0])
        assert Mute.objects.of(told).count() == 1
        for name in ("north", "south"):
            here(name)
            Product.objects.filter(pk=tea.pk).update(stock=len(name))
            tea.stock += 1
            tea.save()
        here("")
        deliver()
        found = Notification.objects.filter(pk__gt=Notification.objects.filter(status="sent").earliest("pk").pk + 2)
        assert {(row.tenant, row.status) for row in found} == {("north", "skipped"), ("south", "sent")}
        here("south")
        assert not Mute.objects.of(told).exists()
