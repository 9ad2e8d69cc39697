"""A project without the admin: an API, or pages of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.template.backends.django import get_installed_libraries
from django.test import Client
from django.urls import include, path

from tests.conftest import last, trail

from .commands import assert_commands_work
from .shop.models import Product

pytestmark = pytest.mark.django_db


def create(request: HttpRequest) -> HttpResponse:
    product = Product.objects.create(name="Tea")
    libraries = " ".join(name for name in get_installed_libraries() if "audit" in name)
    source = (
        f"{{% load {libraries} %}}{{% audit_history_url product as url %}}[{{{{ url }}}}] {{% audit_unread_count %}}"
        "{% audit_history product %}"
    )
    return HttpResponse(engines["django"].from_string(source).render({"product": product}, request))


urlpatterns = [path("create/", create), path("inbox/", include("django_signal_audit.urls"))]


def test_check_finds_nothing() -> None:
    call_command("check", fail_level="WARNING", databases=["default"])


def test_templates_can_load_our_tags(client: Client) -> None:
    answer = client.get("/create/")
    assert answer.content.decode().split() == ["[]", "0"]


def test_the_user_is_the_actor(client: Client) -> None:
    client.force_login(User.objects.create_user("ada"))
    client.get("/create/")
    assert (last().actor_repr, last().context["request"]["path"]) == ("ada", "/create/")


def test_the_inbox_works(client: Client, settings: Any) -> None:
    ada = User.objects.create_superuser("ada")
    inbox = {"BACKEND": "django_signal_audit.channels.inbox.InboxChannel", "OPTIONS": {"to": ["superusers"]}}
    rule = {"name": "shop", "model": "shop.*", "notify": ["inbox"]}
    settings.SIGNAL_AUDIT = {"RULES": [rule], "CHANNELS": {"inbox": inbox}}
    Product.objects.create(name="Tea")
    call_command("audit_deliver", once=True)
    client.force_login(ada)
    assert "Tea" in client.get("/inbox/").content.decode()
    assert client.get("/inbox/api/unread/").status_code == 200


def test_the_panel_and_the_json_views_go_by_permissions(client: Client) -> None:
    client.force_login(User.objects.create_superuser("ada"))
    page = client.get("/create/").content.decode()
    assert "Tea" in page
    assert "Full history" not in page
    [event] = client.get("/inbox/api/events/?q=Tea").json()["events"]
    product = Product.objects.get()
    assert client.get(f"/inbox/api/objects/shop.product/{product.pk}/events/").json()["events"] == [event]
    client.force_login(User.objects.create_user("bob"))
    assert "Tea" not in client.get("/create/").content.decode()
    assert client.get("/inbox/api/events/").status_code == 403


def test_commands_work(tmp_path: Path) -> None:
    assert_commands_work(tmp_path)


def test_changes_are_recorded() -> None:
    product = Product.objects.create(name="Tea")
    product.delete()
    assert [event_type for event_type, _ in trail()] == ["create", "delete"]
