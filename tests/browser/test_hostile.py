"""Whatever somebody typed is seen as text: nothing of it runs, loads, or pushes the page out of the window."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.urls import reverse

from django_signal_audit.admin.links import event_url, history_url, notification_url, revert_url
from django_signal_audit.models import AuditEvent, Notification
from testproject.shop.models import Product

from .chromium import TWO, Chromium, Tab
from .hostile import VALUES, change_product, make_event, make_notification, shop_rules
from .test_pages import LIST, OUTBOX, SITE

# What a page must not do with such values, and what may not stand in its addresses.
HARM = """() => [
    ...(window.hacked === undefined ? [] : ["a script ran"]),
    ...[...document.querySelectorAll("[href], [src], [action], [formaction]")]
        .flatMap(element => ["href", "src", "action", "formAction"].map(name => element[name]))
        .map(address => address && address.baseVal !== undefined ? address.baseVal : address)
        .filter(address => typeof address === "string" && /^(javascript|data|vbscript):/i.test(address)),
    ...[...document.querySelectorAll("*")].flatMap(element => [...element.attributes])
        .filter(attribute => /^on/i.test(attribute.name)).map(attribute => attribute.name + " is an attribute"),
    ...(/[\\u202a-\\u202e\\u2066-\\u2069\\u0007\\u0008\\u001b]/.test(document.body.innerText)
        ? ["a character that turns the text around or is none"] : []),
]"""


class Rows(NamedTuple):
    """What the pages are about."""

    events: dict[str, AuditEvent]
    failed: Notification
    product: Product
    change: AuditEvent


@pytest.fixture
def rows(admin: User, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Rows:
    settings.SIGNAL_AUDIT = shop_rules()
    for holder in (Product._meta, *Product._meta.get_fields()):
        if hasattr(holder, "verbose_name"):
            monkeypatch.setattr(holder, "verbose_name", VALUES["script"])
    monkeypatch.setattr(Product._meta, "verbose_name_plural", VALUES["image"])
    product, change = change_product(admin)
    events = {name: make_event(value) for name, value in VALUES.items()}
    failed = [make_notification(event, VALUES[name], admin.pk) for name, event in events.items()]
    return Rows(events, failed[1], product, change)


PAGES = {
    "log": lambda rows: LIST,
    "log-searched": lambda rows: f"{LIST}?q={quote(VALUES['script'])}&actor={quote(VALUES['image'])}&since=<b>",
    "log-filtered": lambda rows: f"{LIST}?rule={quote(VALUES['image'])}&event_type={quote(VALUES['script'])}",
    "history": lambda rows: history_url(SITE, "shop.product", str(rows.product.pk)),
    "history-of-key": lambda rows: history_url(SITE, "shop.product", VALUES["image"]) + f"?at={quote(VALUES['end'])}",
    "revert": lambda rows: revert_url(SITE, rows.change.pk),
    "dashboard": lambda rows: reverse("admin:django_signal_audit_auditevent_dashboard"),
    "notifications": lambda rows: OUTBOX,
    "notification": lambda rows: notification_url(SITE, rows.failed.pk),
    "inbox": lambda rows: reverse("signal_audit:inbox"),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page(tab: Tab, rows: Rows, name: str) -> None:
    address = PAGES[name](rows)
    response = tab.do(lambda page: page.goto(address))
    assert response.status == 200
    assert_harmless(tab, f"hostile-{name}")
    assert "window.hacked=1" in tab.do(lambda page: page.inner_text("body"))


def test_the_page_of_an_event(tab: Tab, rows: Rows) -> None:
    for name, event in rows.events.items():
        address = event_url(SITE, event.pk)
        assert tab.do(lambda page, address=address: page.goto(address)).status == 200
        assert_harmless(tab, f"hostile-event-{name}", in_all_ways=name in ("image", "long"))
        shown = tab.do(lambda page: page.inner_text("#content"))
        if name not in ("reversed", "control"):
            assert shown.count(VALUES[name]) >= 10, name


def test_the_report(chromium: Chromium, rows: Rows, tmp_path: Path) -> None:
    out = io.StringIO()
    by = [argument for name in ("rule", "actor", "object", "event", "model") for argument in ("--by", name)]
    call_command("audit_report", "--format", "html", *by, stdout=out, stderr=io.StringIO())
    report = tmp_path / "report.html"
    report.write_text(out.getvalue(), encoding="utf-8")
    tab = chromium.open()
    tab.do(lambda page: page.goto(report.as_uri()))
    assert_harmless(tab, "hostile-report")
    assert tab.requests == [report.as_uri()]


def assert_harmless(tab: Tab, name: str, *, in_all_ways: bool = True) -> None:
    faults = tab.do(lambda page: page.evaluate(HARM)) + (tab.look(name, views=TWO) if in_all_ways else tab.complaints)
    assert not faults, "\n".join(faults)
