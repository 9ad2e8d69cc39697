"""Code as users write it. Nobody runs it: mypy --strict must accept it, and every type it asserts."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, TextIO, assert_type

from django.contrib.auth.models import User
from django.dispatch import receiver

from django_signal_audit import (
    FieldChange,
    M2MChange,
    Rule,
    ahistory_of,
    arecord,
    audit_context,
    history_of,
    record,
    record_view,
    suspend_auditing,
)
from django_signal_audit.channels.base import Channel, Message
from django_signal_audit.exceptions import GiveUp, RetryLater
from django_signal_audit.history import History, Version
from django_signal_audit.models import AuditEvent, AuditEventQuerySet, Notification
from django_signal_audit.reports.base import Report
from django_signal_audit.reports.formats.base import ReportFormat
from django_signal_audit.signals import event_recorded, notification_failed
from testproject.shop.models import Product

SIGNAL_AUDIT = {
    "RULES": [
        Rule(name="catalogue", model="shop.*"),
        Rule(name="several", model=["shop.Product", "shop.Category"], events=["create", "delete"], exclude=("views",)),
        Rule(
            name="price-drop",
            model="shop.Product",
            events=["update"],
            fields=["price"],
            when={"price": {"decreased_by_percent": 10}},
            notify=["team-mail", {"channel": "inbox", "to": ["1"], "digest": "1h"}],
            level="warning",
            retention="365d",
            include=["category"],
        ),
        Rule(name="looked", model="shop.Product", events=["view"], window="1d", retention={"last": 50}),
        Rule(name="viewed", signal="testproject.shop.signals.product_viewed", event="product_viewed"),
        {"name": "break-in", "events": ["login_failed"], "level": "critical"},
    ],
}


def look(product: Product) -> None:
    assert_type(record_view(product), bool)


def reprice(product: Product, user: User) -> str:
    with audit_context(actor=user, reason="Market prices", month="2003-01") as context:
        assert_type(context, audit_context)
        product.save()
    return product.name


@audit_context(reason="Nightly import")
def import_prices(rows: Sequence[str], *, dry_run: bool = False) -> int:
    with suspend_auditing(Product, reason="They come with a trail of their own"):
        return 0 if dry_run else len(rows)


@audit_context(reason="Nightly import")
async def import_prices_async(rows: Sequence[str]) -> int:
    async with audit_context(actor="importer"), suspend_auditing(reason="All of it"):
        return len(rows)


async def nightly() -> None:
    assert_type(import_prices(["1"], dry_run=True), int)
    assert_type(await import_prices_async(["1"]), int)


def export(user: User, product: Product) -> None:
    assert_type(record("report_exported", data={"rows": 3}, actor=user), AuditEvent | None)
    record("price_questioned", product, level="critical")


def history(product: Product, user: User, day: dt.datetime) -> list[str]:
    events = AuditEvent.objects.for_object(product).by_actor(user).of_type("update", "delete")
    assert_type(events, AuditEventQuerySet)
    assert_type(AuditEvent.objects.state_of(Product, product.pk, at=day), dict[str, Any] | None)
    latest = events.between(day, day + dt.timedelta(days=1)).filter(level="warning").first()
    if latest is None:
        return []
    assert_type(latest.recorded_at, dt.datetime)
    assert_type(latest.old, dict[str, Any])
    return [f"{name}: {change.old} → {change.new}" for name, change in latest.field_changes.items()]


def versions(product: Product) -> list[Version]:
    found = history_of(product)
    assert_type(found, History)
    assert_type(found[0].values, dict[str, Any] | None)
    assert_type(found.diff(found[0], -1), dict[str, FieldChange | M2MChange])
    assert_type(len(history_of(Product, 3, using="default")), int)
    return found[1:]


async def versions_async(product: Product) -> None:
    assert_type(await ahistory_of(product), History)
    assert_type(await arecord("report_exported", product), AuditEvent | None)
    assert_type(await AuditEvent.objects.astate_of(Product, product.pk), dict[str, Any] | None)
    async for version in history_of(product):
        assert_type(version, Version)


def failures() -> list[str]:
    dead = Notification.objects.of_status("dead", "failed")
    assert_type(dead.retry(), int)
    return [notification.last_error for notification in dead]


class PagerChannel(Channel):
    def send(self, message: Message) -> None:
        if message.attempt > 3:
            raise GiveUp("Nobody answers.")
        if not message.recipient:
            raise RetryLater("Nobody is on duty.", seconds=60)


class CountFormat(ReportFormat):
    def write(self, report: Report, stream: TextIO) -> None:
        stream.write(f"{len(report.rows)}\n")


@receiver(event_recorded)
def on_event(event: AuditEvent, **kwargs: Any) -> None:
    event.rules.append(event.event_type)


@receiver(notification_failed)
def on_failure(notification: Notification, error: Exception, final: bool, **kwargs: Any) -> None:
    if final:
        raise error
