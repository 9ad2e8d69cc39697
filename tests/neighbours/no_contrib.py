"""A project without any of Django's own apps: no users, no sessions, no content types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.test import Client
from django.urls import path

from tests.conftest import last

from .commands import assert_commands_work
from .shop.models import Product

pytestmark = pytest.mark.django_db


def create(request: HttpRequest) -> HttpResponse:
    Product.objects.create(name="Tea")
    return HttpResponse(engines["django"].from_string("{{ 1 }}").render())


urlpatterns = [path("create/", create)]


def test_check_finds_nothing() -> None:
    call_command("check", fail_level="WARNING", databases=["default"])


def test_requests_and_templates_work(client: Client) -> None:
    assert client.get("/create/").content == b"1"
    assert (last().actor_repr, last().context["request"]["path"]) == ("", "/create/")


def test_commands_work(tmp_path: Path) -> None:
    assert_commands_work(tmp_path)


def test_messages_are_delivered(settings: Any, mailoutbox: list[Any]) -> None:
    mail = {"BACKEND": "django_signal_audit.channels.email.EmailChannel", "OPTIONS": {"to": ["ada@example.com"]}}
    rule = {"name": "shop", "model": "shop.*", "notify": ["mail"]}
    settings.SIGNAL_AUDIT = {"RULES": [rule], "CHANNELS": {"mail": mail}}
    Product.objects.create(name="Tea")
    call_command("audit_deliver", once=True)
    assert [message.to for message in mailoutbox] == [["ada@example.com"]]
