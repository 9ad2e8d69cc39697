"""The package's URLs below a prefix that captures arguments: pages take them, and their links keep them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.test import AsyncClient, Client
from django.urls import include, path, re_path
from django.utils import timezone

from django_signal_audit.delivery.links import unsubscribe_address
from django_signal_audit.models import Notification

from .app.models import Product
from .conftest import Audit, last
from .notices import INBOX
from .urls import urlpatterns as pages

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

OURS = "django_signal_audit.urls"
nested = ([path("<int:year>/audit/", include(OURS))], "company")
urlpatterns = [
    path("<slug:tenant>/audit/", include(OURS, namespace="slug")),
    path("<str:key>/<uuid:uid>/keys/", include(OURS, namespace="keys")),
    re_path(r"^unnamed/([a-z]+)/(\d+)/", include(OURS, namespace="unnamed")),
    path("company/<slug:label>/", include(nested)),
    *[one for one in pages if str(one.pattern) != "inbox/"],
]
UUID = "6a1f6f8e-8b5b-4e43-9a5a-6f1c7b1f3a55"
PREFIXES = ["/north/audit/", f"/a%20b/{UUID}/keys/", "/unnamed/north/7/", "/company/acme/2026/audit/"]
prefixes = pytest.mark.parametrize("prefix", PREFIXES)


@pytest.fixture
def message(audit: Audit, admin_user: User) -> Notification:
    rule = {"name": "products", "model": "app.Product", "notify": ["inbox"]}
    audit(rule, CHANNELS={"inbox": {"BACKEND": INBOX, "OPTIONS": {"to": ["superusers"]}}})
    Product.objects.create(name="Tea")
    message = Notification.objects.get(rule="products")
    Notification.objects.update(status="sent", sent_at=timezone.now(), recipient=str(admin_user.pk))
    return message


@prefixes
def test_all_links_of_the_inbox_stay_below_it(admin_client: Client, message: Notification, prefix: str) -> None:
    text = admin_client.get(prefix).content.decode()
    found = re.findall(r'(?:href|action|data-audit-[a-z]+)="(/[^"]*)"', text)
    ours = {address for address in found if not address.startswith(("/static/", "/admin/")) and address != "/"}
    assert ours == {
        f"{prefix}{rest}" for rest in ("", "?show=unread", "preferences/", "read/", "stream/", "api/unread/")
    }
    assert admin_client.get(f"{prefix}preferences/").status_code == 200
    assert f'href="{prefix}"' in admin_client.get(f"{prefix}preferences/").content.decode()


@prefixes
def test_forms_lead_back_below_it(admin_client: Client, message: Notification, prefix: str) -> None:
    response = admin_client.post(f"{prefix}read/?show=unread", {"ids": [message.pk]})
    assert response.headers["Location"] == f"{prefix}?show=unread"
    response = admin_client.post(f"{prefix}preferences/", {"mute": message.pk})
    assert response.headers["Location"] == prefix
    quiet = {"quiet": "on", "begin": "22:00", "end": "07:00", "time_zone": "UTC"}
    assert admin_client.post(f"{prefix}preferences/", quiet).headers["Location"] == f"{prefix}preferences/"


@prefixes
def test_json_is_answered_below_it(admin_client: Client, message: Notification, prefix: str) -> None:
    for rest in ("messages/", "unread/", "preferences/", "events/?limit=1", f"events/{last().uid}/"):
        assert admin_client.get(f"{prefix}api/{rest}").status_code == 200, rest
    pk = last().object_id
    Product.objects.update(name="Green tea")
    page = admin_client.get(f"{prefix}api/objects/app.product/{pk}/events/?limit=1").json()
    assert page["older"].startswith(f"{prefix}api/objects/app.product/{pk}/events/?")
    assert len(admin_client.get(page["older"]).json()["events"]) == 1


@prefixes
def test_unsubscribing_works_below_it(
    client: Client, message: Notification, admin_user: User, prefix: str, settings: Any
) -> None:
    settings.SIGNAL_AUDIT = {**settings.SIGNAL_AUDIT, "SITE_URL": "https://shop.example.com"}
    assert unsubscribe_address(message, admin_user) == ""
    settings.ROOT_URLCONF = "tests.urls"
    token = unsubscribe_address(message, admin_user).rstrip("/").rpartition("/")[2]
    settings.ROOT_URLCONF = __name__
    text = client.get(f"{prefix}unsubscribe/{token}/").content.decode()
    # Django drops arguments without a name where others have one, so no link can be made of them.
    assert (f'href="{prefix}preferences/"' in text) == (not prefix.startswith("/unnamed/"))
    assert "You get no more messages" in client.post(f"{prefix}unsubscribe/{token}/").content.decode()


@prefixes
def test_the_stream_is_answered_below_it(prefix: str) -> None:
    response: Any = async_to_sync(AsyncClient().get)(f"{prefix}stream/")
    assert response.status_code == 401
