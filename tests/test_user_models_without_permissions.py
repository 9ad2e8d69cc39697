"""A user model of AbstractBaseUser alone: it has no has_perm(), no is_superuser and no groups, and may do without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from .fresh_process import OURS, run_project

MODELS = """
from django.contrib.auth.models import AbstractBaseUser, BaseUserManager
from django.db import models

class Person(AbstractBaseUser):
    email = models.EmailField(unique=True)
    USERNAME_FIELD = EMAIL_FIELD = "email"
    objects = BaseUserManager()

class Thing(models.Model):
    name = models.CharField(max_length=20)
    owner = models.ForeignKey(Person, on_delete=models.CASCADE)
"""
URLS = """
from django.urls import include, path
urlpatterns = [path("audit/", include("django_signal_audit.urls"))]
"""
SETTINGS = """
AUTH_USER_MODEL = "shop.Person"
ROOT_URLCONF = "urls"
ALLOWED_HOSTS = ["*"]
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_signal_audit.middleware.AuditMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
"""
PEOPLE = """
from shop.models import Person, Thing
from django_signal_audit.models import Notification

ann = Person.objects.create(email="ann@example.com")
"""
INBOX = {"BACKEND": "django_signal_audit.channels.inbox.InboxChannel"}


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    def run(script: str, *to: str) -> str:
        rule = {"name": "things", "model": "shop.Thing", "notify": [{"channel": "inbox", "to": list(to)}]}
        audit = {"RULES": [rule], "CHANNELS": {"inbox": INBOX}}
        files = {"shop/models.py": MODELS, "urls.py": URLS}
        apps = (*OURS, "django.contrib.sessions", "shop")
        return run_project(tmp_path, files, PEOPLE + script, apps=apps, audit=audit, settings=SETTINGS)

    return run


CHECK = """
from django.core.checks import run_checks
for message in sorted(run_checks(databases=["default"]), key=lambda message: (message.id, message.msg)):
    if message.id[-4:] in ("E027", "W034", "W044"):
        print(message.id[-4:], message.msg.partition("names ")[2])
        print(message.hint)
"""


def test_check_says_which_recipients_it_lacks_and_goes_on_with_the_others(run: Callable[..., str]) -> None:
    lines = run(CHECK, "owner", "superusers", "group:staff", "user:gone@example.com").splitlines()
    add = "Add PermissionsMixin to the user model, or name a function that finds the users."
    assert lines == [
        "E027 'group:staff', which needs users with the field \"groups\", and shop.Person has none.",
        add,
        "E027 'superusers', which needs users with the field \"is_superuser\", and shop.Person has none.",
        add,
        'W044 "user:gone@example.com", and nobody would be notified: There is no user "user:gone@example.com".',
        "Correct the recipient or the account. audit_rules --explain lists who is skipped.",
    ]


def test_they_get_messages_and_what_cannot_be_resolved_says_what_it_needs(run: Callable[..., str]) -> None:
    script = """
    Thing.objects.create(name="a", owner=ann)
    for row in Notification.objects.order_by("pk"):
        print(row.recipient, row.status, row.last_error)
    """
    assert run(dedent(script), "owner", "superusers", "group:staff").splitlines()[-3:] == [
        "1 sent ",
        'superusers dead "superusers" needs users with the field "is_superuser", and the user model has none.',
        'group:staff dead "group:staff" needs users with the field "groups", and the user model has none.',
    ]


def test_their_pages_are_there_and_the_audit_log_is_for_others(run: Callable[..., str]) -> None:
    script = """
    from django.template import Context, Template
    from django.test import Client, RequestFactory
    thing = Thing.objects.create(name="a", owner=ann)
    client = Client()
    client.force_login(ann, backend="django.contrib.auth.backends.ModelBackend")
    for name in ("", "preferences/", "api/messages/", "api/events/", f"api/objects/shop.thing/{thing.pk}/events/"):
        print(client.get(f"/audit/{name}").status_code)
    chosen = {"rule": "things", "channel": "inbox", "choice": "off"}
    print(client.post("/audit/api/preferences/", chosen, content_type="application/json").status_code)
    Thing.objects.create(name="b", owner=ann)
    print(Notification.objects.latest("pk").last_error)
    request = RequestFactory().get("/")
    request.user = ann
    page = Template("{% load signal_audit %}{% audit_history thing %}")
    print(repr(page.render(Context({"request": request, "thing": thing})).strip()))
    """
    *statuses, chosen, suppressed, history = run(dedent(script), "owner").splitlines()
    assert [*statuses, chosen] == ["200", "200", "200", "403", "403", "200"]
    assert suppressed.startswith("Preference: the user ann@example.com has switched off")
    assert history == "''"
