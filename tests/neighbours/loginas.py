"""django-loginas: a user logs in as another one."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import include, path

from tests.conftest import events, last

from .shop.models import Product

pytestmark = pytest.mark.django_db


def create(request: HttpRequest) -> HttpResponse:
    Product.objects.create(name="Tea")
    return HttpResponse()


urlpatterns = [path("admin/", include("loginas.urls")), path("create/", create)]


def test_both_are_named_until_the_end(client: Client) -> None:
    ada, bob = User.objects.create_superuser("ada"), User.objects.create_user("bob")
    client.force_login(ada)
    client.get("/create/")
    client.post(f"/admin/login/user/{bob.pk}/")
    client.get("/create/")
    assert (last().actor_id, last().actor_repr) == (str(bob.pk), "bob")
    assert last().context["impersonator"] == {"id": str(ada.pk), "repr": "ada"}
    client.post("/admin/logout/")
    client.get("/create/")
    assert [event.context.get("impersonator", {}).get("repr") for event in events()] == [None, "ada", None]


def test_the_login_that_impersonates_names_both(client: Client, settings: object) -> None:
    settings.SIGNAL_AUDIT = {"RULES": [{"name": "logins", "events": ["login"]}]}  # type: ignore[attr-defined]
    ada, bob = User.objects.create_superuser("ada"), User.objects.create_user("bob")
    client.force_login(ada)
    client.post(f"/admin/login/user/{bob.pk}/")
    shown = [(event.actor_repr, event.context.get("impersonator", {}).get("repr")) for event in events()]
    assert shown == [("ada", None), ("bob", "ada")]
