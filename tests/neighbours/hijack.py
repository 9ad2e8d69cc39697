"""django-hijack: a user works as another one."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import include, path
from hijack.views import AcquireUserView

from tests.conftest import events, last

from .shop.models import Product

pytestmark = pytest.mark.django_db


def create(request: HttpRequest) -> HttpResponse:
    Product.objects.create(name="Tea")
    return HttpResponse()


class OwnView(AcquireUserView):
    """A project's own view, which extends the package's."""


urlpatterns = [
    path("hijack/", include("hijack.urls")),
    path("own/", OwnView.as_view()),
    path("create/", create),
]


@pytest.fixture
def ada() -> User:
    return User.objects.create_superuser("ada")


@pytest.fixture
def bob() -> User:
    return User.objects.create_user("bob")


def test_both_are_named(client: Client, ada: User, bob: User) -> None:
    client.force_login(ada)
    assert client.post("/hijack/acquire/", {"user_pk": bob.pk}).status_code == 302
    client.get("/create/")
    event = last()
    assert (event.actor_id, event.actor_repr) == (str(bob.pk), "bob")
    assert event.context["impersonator"] == {"id": str(ada.pk), "repr": "ada"}


def test_nobody_impersonates_before_and_after(client: Client, ada: User, bob: User) -> None:
    client.force_login(ada)
    client.get("/create/")
    client.post("/hijack/acquire/", {"user_pk": bob.pk})
    client.post("/hijack/release/", {"user_pk": bob.pk})
    client.get("/create/")
    assert [(event.actor_repr, event.context.get("impersonator")) for event in events()] == [("ada", None)] * 2


def test_the_first_of_several_is_the_real_one(client: Client, ada: User, bob: User) -> None:
    eve = User.objects.create_superuser("eve")
    client.force_login(ada)
    client.post("/hijack/acquire/", {"user_pk": eve.pk})
    client.post("/hijack/acquire/", {"user_pk": bob.pk})
    client.get("/create/")
    assert (last().actor_repr, last().context["impersonator"]["repr"]) == ("bob", "ada")


def test_the_login_that_impersonates_names_both(client: Client, settings: Any, ada: User, bob: User) -> None:
    settings.SIGNAL_AUDIT = {"RULES": [{"name": "logins", "events": ["login"]}]}
    client.force_login(ada)
    client.post("/hijack/acquire/", {"user_pk": bob.pk})
    client.post("/hijack/release/", {"user_pk": bob.pk})
    shown = [(event.actor_repr, event.context.get("impersonator", {}).get("repr")) for event in events()]
    assert shown == [("ada", None), ("bob", "ada"), ("ada", None)]


def test_so_does_that_of_a_projects_own_view(client: Client, settings: Any, ada: User, bob: User) -> None:
    settings.SIGNAL_AUDIT = {"RULES": [{"name": "logins", "events": ["login"]}]}
    client.force_login(ada)
    client.post("/own/", {"user_pk": bob.pk})
    assert (last().actor_repr, last().context["impersonator"]["repr"]) == ("bob", "ada")


def test_each_login_of_a_chain_names_the_first(client: Client, settings: Any, ada: User, bob: User) -> None:
    settings.SIGNAL_AUDIT = {"RULES": [{"name": "logins", "events": ["login"]}]}
    eve = User.objects.create_superuser("eve")
    client.force_login(ada)
    client.post("/own/", {"user_pk": eve.pk})
    client.post("/own/", {"user_pk": bob.pk})
    shown = [(event.actor_repr, event.context.get("impersonator", {}).get("repr")) for event in events()]
    assert shown == [("ada", None), ("eve", "ada"), ("bob", "ada")]


def test_the_pages_and_the_exports_name_both(client: Client, ada: User, bob: User) -> None:
    client.force_login(ada)
    client.post("/hijack/acquire/", {"user_pk": bob.pk})
    client.get("/create/")
    event = last()
    client.post("/hijack/release/", {"user_pk": bob.pk})
    pages = [
        "/admin/django_signal_audit/auditevent/",
        f"/admin/django_signal_audit/auditevent/{event.pk}/change/",
    ]
    for page in pages:
        text = client.get(page).content.decode()
        assert "bob" in text
        assert "mpersonated by" in text
