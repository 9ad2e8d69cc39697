"""Each page, in light and dark, wide and narrow: accessible, inside the window, and without a complaint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.urls import reverse

from django_signal_audit.admin.links import (
    event_url,
    history_url,
    notification_url,
    restore_url,
    revert_request_url,
    revert_url,
)
from django_signal_audit.models import AuditEvent, AuditEventQuerySet

from .chromium import IN_A_BUILD, TURNED, TWO, Tab
from .keyboard import walk
from .life import Life

SITE = "admin"
LIST = reverse("admin:django_signal_audit_auditevent_changelist")
OUTBOX = reverse("admin:django_signal_audit_notification_changelist")


def last_update(life: Life) -> int:
    """Return the event by which the product changed last."""
    return updates(life).latest("id").pk


def first_update(life: Life) -> int:
    """Return an event whose values have changed since."""
    return updates(life).earliest("id").pk


def first_event(life: Life) -> int:
    """Return the event that created the product."""
    found = AuditEvent.objects.filter(model="shop.product", object_id=str(life.product.pk), event_type="create")
    return found.get().pk


def deletion(life: Life) -> int:
    """Return the event by which a product came to its end."""
    return AuditEvent.objects.of_type("delete").get(model="shop.product", object_id=life.deleted_key).pk


def updates(life: Life) -> AuditEventQuerySet:
    return AuditEvent.objects.filter(model="shop.product", object_id=str(life.product.pk), event_type="update")


PAGES: dict[str, Callable[[Life], str]] = {
    "log": lambda life: LIST,
    "log-filtered": lambda life: f"{LIST}?event_type=update&model=shop.product&actor=ada&since=7d",
    "log-wrong-filter": lambda life: f"{LIST}?since=soon",
    "event": lambda life: event_url(SITE, last_update(life)),
    "history": lambda life: history_url(SITE, "shop.product", str(life.product.pk)),
    "history-field": lambda life: f"{PAGES['history'](life)}?field=price",
    "history-related": lambda life: f"{PAGES['history'](life)}?tab=related",
    "history-log": lambda life: f"{PAGES['history'](life)}?tab=log",
    "history-state": lambda life: f"{PAGES['history'](life)}?at=36h",
    "history-compare": lambda life: f"{PAGES['history'](life)}?older={first_event(life)}&newer=current",
    "history-of-deleted": lambda life: history_url(SITE, "shop.product", life.deleted_key),
    "history-of-odd-key": lambda life: history_url(SITE, "app.country", life.country.pk),
    "revert": lambda life: revert_url(SITE, last_update(life)),
    "revert-refused": lambda life: revert_url(SITE, first_update(life)),
    "revert-deletion": lambda life: revert_url(SITE, deletion(life)),
    "revert-request": lambda life: revert_request_url(
        SITE, AuditEvent.objects.get(pk=last_update(life)).correlation_id
    ),
    "restore": lambda life: restore_url(SITE, "shop.product", str(life.product.pk), str(first_event(life))),
    "restore-deleted": lambda life: restore_url(SITE, "shop.product", life.deleted_key, str(deletion(life))),
    "event-refused": lambda life: event_url(SITE, first_update(life)),
    "prune": lambda life: reverse("admin:django_signal_audit_auditevent_prune"),
    "dashboard": lambda life: reverse("admin:django_signal_audit_auditevent_dashboard"),
    "notifications": lambda life: OUTBOX,
    "notification": lambda life: notification_url(SITE, life.notification.pk),
    "send-again": lambda life: f"{reverse('admin:django_signal_audit_notification_retry_matching')}?status=failed",
    "channels": lambda life: reverse("admin:django_signal_audit_notification_channels"),
    "inbox": lambda life: reverse("signal_audit:inbox"),
    "preferences": lambda life: reverse("signal_audit:preferences"),
    "panel": lambda life: f"/products/{life.product.pk}/",
    "change-form": lambda life: reverse("admin:shop_product_change", args=(life.product.pk,)),
}


# The same templates as another page's: looked at in two ways only. The long list has what the filtered one has as well.
VARIANTS = {
    "log",
    "log-wrong-filter",
    "history-of-deleted",
    "history-of-odd-key",
    "revert-refused",
    "event-refused",
    "restore-deleted",
}
# A form of the shop's, of which the link alone is ours.
NOT_WALKED = {*VARIANTS, "change-form"}


@pytest.mark.parametrize(
    "name", ["log-filtered", "history", "history-state", "revert", "restore", "dashboard", "notifications"]
)
def test_longer_words_have_room(tab: Tab, life: Life, settings: Any, name: str) -> None:
    settings.LANGUAGE_CODE = "de"
    address = PAGES[name](life)
    tab.do(lambda page: page.goto(address))
    faults = tab.look(f"{name}-de", views=TWO)
    assert not faults, "\n".join(faults)
    assert tab.do(lambda page: page.get_attribute("html", "lang")) == "de"


@pytest.mark.parametrize("name", PAGES)
def test_from_right_to_left(tab: Tab, life: Life, settings: Any, name: str) -> None:
    settings.LANGUAGE_CODE = "ar"
    address = PAGES[name](life)
    tab.do(lambda page: page.goto(address))
    faults = tab.look(f"{name}-ar", views=TURNED)
    assert not faults, "\n".join(faults)
    assert tab.do(lambda page: page.get_attribute("html", "dir")) == "rtl"


@pytest.mark.parametrize("name", PAGES)
def test_looks(tab: Tab, life: Life, name: str) -> None:
    address = PAGES[name](life)
    response = tab.do(lambda page: page.goto(address))
    assert response.status == 200
    faults = tab.look(name, views=TWO if name in VARIANTS else IN_A_BUILD)
    if name not in NOT_WALKED:
        faults += tab.do(walk)
    assert not faults, "\n".join(faults)
