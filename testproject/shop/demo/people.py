"""Who acts in the demo: buyers set prices, visitors look at products, and one login sees the admin."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.models import User
from django.test import Client

LOGIN = PASSWORD = "demo"
BUYERS = ("bruno", "carla")
VISITORS = ("vera", "viktor")
# The visitors stay logged in for the twenty years of the demo.
A_CENTURY = 100 * 365 * 24 * 60 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """The buyers, and one browser per visitor, the last of them logged in by nobody."""

    buyers: list[User]
    browsers: list[Client]


def make_people() -> People:
    """Create the users of the demo and open the visitors' browsers."""
    make_login()
    buyers = [User.objects.create_user(name, is_staff=True) for name in BUYERS]
    browsers = [_browser(User.objects.create_user(name)) for name in VISITORS]
    return People(buyers=buyers, browsers=[*browsers, _browser(None)])


def make_login() -> None:
    """Create the superuser of the demo, or give it back its password."""
    user, _ = User.objects.get_or_create(username=LOGIN)
    user.is_staff = user.is_superuser = True
    user.set_password(PASSWORD)
    user.save()


def _browser(user: User | None) -> Client:
    browser = Client(SERVER_NAME="localhost")
    if user:
        browser.force_login(user)
        session = browser.session
        session.set_expiry(A_CENTURY)
        session.save()
    return browser
