"""django-allauth: signing up, logging in and out by its views."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import include, path

from tests.conftest import events

pytestmark = pytest.mark.django_db

urlpatterns = [path("accounts/", include("allauth.urls"))]
RULES = [
    {"name": "accounts", "events": ["login", "logout", "login_failed"]},
    {"name": "users", "model": ["auth.User", "account.*"], "exclude": ["last_login"]},
]


def test_accounts_are_recorded(client: Client, settings: Any) -> None:
    settings.SIGNAL_AUDIT = {"RULES": RULES}
    form = {"username": "ada", "email": "ada@example.com", "password1": "green tea 1842", "password2": "green tea 1842"}
    assert client.post("/accounts/signup/", form).status_code == 302
    assert client.post("/accounts/logout/").status_code == 302
    client.post("/accounts/login/", {"login": "ada", "password": "wrong"})
    client.post("/accounts/login/", {"login": "ada", "password": "green tea 1842"})
    ada = User.objects.get()
    found = [(event.event_type, event.model, event.actor_id) for event in events()]
    assert ("create", "auth.user", "") in found
    assert [event_type for event_type, _, _ in found if event_type.startswith("log")] == [
        "login",
        "logout",
        "login_failed",
        "login",
    ]
    assert all(actor == str(ada.pk) for event_type, _, actor in found if event_type in ("login", "logout"))
    assert "green tea 1842" not in str([vars(event) for event in events()])
