from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, override_settings
from pytest_django.live_server_helper import LiveServer

from .chromium import Chromium, Tab, find_chromium
from .life import SETTINGS as AUDIT
from .life import Life

HOST = "127.0.0.1"
MIDDLEWARE = ["tests.browser.policy.strict_policy", "django.middleware.csrf.CsrfViewMiddleware"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test of this directory the database."""
    # The server shares the connection of SQLite in memory, and so the transaction of the test; no other database's.
    is_shared = connection.vendor == "sqlite" and connection.is_in_memory_db()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.django_db(transaction=not is_shared))


@pytest.fixture(scope="package")
def address(django_db_setup: Any) -> Iterator[str]:
    """Serve the project with a strict policy, and return the address."""
    with override_settings(MIDDLEWARE=[*settings.MIDDLEWARE, *MIDDLEWARE], ALLOWED_HOSTS=[HOST]):
        server = LiveServer(HOST)
        yield server.url
        server.stop()


@pytest.fixture(scope="package")
def chromium(address: str) -> Iterator[Chromium]:
    """Return a browser that ends before the server does: it would hold connections of which nobody takes leave."""
    pytest.importorskip("playwright", reason="Playwright is not installed; `tox run -e browser` does that")
    path = find_chromium()
    if path is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    browser = Chromium(path)
    yield browser
    browser.stop()


@pytest.fixture
def admin() -> User:
    return User.objects.create_superuser("ada", email="ada@example.com")


@pytest.fixture
def tab(chromium: Chromium, address: str, admin: User) -> Iterator[Tab]:
    """Return an empty page of a browser in which a superuser is logged in."""
    client = Client()
    client.force_login(admin)
    cookie = {"name": "sessionid", "value": client.cookies["sessionid"].value, "url": address}
    tab = chromium.open(base_url=address)
    tab.do(lambda page: page.context.add_cookies([cookie]))
    yield tab
    tab.do(lambda page: page.close())


@pytest.fixture
def life(admin: User, settings: Any) -> Life:
    settings.SIGNAL_AUDIT = AUDIT
    return Life(admin)
