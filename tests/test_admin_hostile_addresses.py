"""Addresses and methods that no page of ours links to: an answer below 500, and nothing changes."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from django.urls import reverse

from django_signal_audit.models import AuditEvent, Notification
from tests.app.models import Product

from .conftest import last
from .revert_pages import PLAIN, address, page_of, stored
from .samples import make_event

pytestmark = pytest.mark.django_db

LIST = reverse("admin:django_signal_audit_auditevent_changelist")
OUTBOX = reverse("admin:django_signal_audit_notification_changelist")
DASHBOARD = reverse("admin:django_signal_audit_auditevent_dashboard")
DEEP = "[" * 5000
KEYS = [
    "..%2f..%2f", "..", ".", "%2e%2e%2fadd", "%00", "a%00b", "x" * 5000, "9" * 5000, "-" + "9" * 5000, "%ff%fe",
    "%ed%a0%80", quote("🦆" * 300), quote("[1, 2]"), quote('["1", null]'), quote('{"a": 1}'), DEEP, "_2E_2E_2F",
    "_", "_5", "_ZZ", "_0A_0D", "%0d%0aSet-Cookie:%20a=b", "%3Cscript%3E", "1%20OR%201=1", "1e400", "NaN", "None",
]  # fmt: skip
LABELS = ["app.product", "app.line", "app.country", "auth.user", "App.Product", "app.no_such", "product", "a.b.c"]
OLD = [
    "all=", "o=-1.2", "e=1", "p=5", "p=older-" + "9" * 5000 + "-1", "p=newer-1-" + "9" * 5000, "days=" + "9" * 5000,
    "recorded_at__gte=x", "actor_id__exact=7", "page=last", "_popup=1&_to_field=uid", "q=%00", "q=" + "9" * 5000,
    "q=" + DEEP, "at=" + "9" * 5000, "since=%00&until=%ff", "model=app.product&model=auth.user",
]  # fmt: skip


@pytest.fixture
def event(audit):
    audit(PLAIN)
    product = Product.objects.create(name="Diesel", price="1.00")
    product.name = "Petrol"
    product.save()
    return last()


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key[:20])
def test_keys_in_addresses(admin_client, event, key):
    paths = [f"{LIST}history/{label}/{key}/" for label in LABELS]
    paths += [
        f"{prefix}{key}/{page}/" for prefix in (LIST, OUTBOX) for page in ("change", "revert", "retry", "put-back")
    ]
    for path in paths:
        assert admin_client.get(path).status_code < 500, path[:80]
        assert admin_client.get(f"{path}?at=1h").status_code < 500, path[:80]
        assert admin_client.post(path).status_code < 500, path[:80]


@pytest.mark.parametrize("key", ["x" * 255, DEEP[:200], "a\\u0000b", "🦆" * 60, "..", "[1, 2]", "[[[]]]"])
@pytest.mark.parametrize("label", ["app.product", "app.line", "app.country"])
def test_keys_that_events_have(admin_client, event, label, key):
    odd = make_event(model=label, object_id=key, event_type="delete", changes={})
    for path in (
        page_of(odd),
        address(odd),
        LIST,
        reverse("admin:django_signal_audit_auditevent_object_history", args=(label, quote(key, safe=""))),
    ):
        assert admin_client.get(path).status_code < 500, path[:80]
    assert admin_client.post(address(odd)).status_code in (403, 404, 409)


@pytest.mark.parametrize("query", OLD, ids=lambda query: query[:20])
def test_bookmarks_with_parameters_that_are_no_more(admin_client, event, query):
    for path in (LIST, OUTBOX, DASHBOARD, f"{OUTBOX}retry/", address(event), page_of(event)):
        assert admin_client.get(f"{path}?{query}").status_code < 500, path


@pytest.mark.parametrize("method", ["head", "options", "put", "patch", "delete", "trace"])
def test_other_methods_change_nothing(admin_client, event, method):
    failed = Notification.objects.create(event=event.uid, rule="all", channel="log", status="dead")
    before, count = stored(Product.objects.get()), AuditEvent.objects.count()
    paths = [LIST, OUTBOX, DASHBOARD, address(event), page_of(event), f"{OUTBOX}retry/", f"{OUTBOX}{failed.pk}/retry/"]
    for path in paths:
        assert getattr(admin_client, method)(path).status_code < 500, path
    failed.refresh_from_db()
    assert failed.status == "dead"
    assert stored(Product.objects.get()) == before
    assert AuditEvent.objects.count() == count


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "javascript:alert(1)"])
def test_no_page_redirects_to_where_an_address_says(admin_client, event, target):
    for path in (address(event), f"{OUTBOX}retry/", address(event).replace("/revert/", "/put-back/")):
        for name in ("next", "redirect", "_changelist_filters"):
            response = admin_client.post(f"{path}?{name}={quote(target)}", {name: target})
            assert "evil" not in response.headers.get("Location", "")
            assert "alert" not in response.headers.get("Location", "")
