"""A shop's life of some weeks: what the pages show."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import time_machine
from django.utils import timezone

from django_signal_audit.context.scopes import audit_context
from django_signal_audit.models import AuditEvent, Notification
from testproject.shop.models import Category, Product, Tag
from tests.app.models import Country

ODD_KEY = 'a/b "ü" <b>?x=1#y%2F'
ERROR = "ConnectionRefusedError: [Errno 111] Connection refused by mail.example.com:587 while sending the message"
DESCRIPTION = "Light crude oil of the North Sea, delivered at Sullom Voe. Sold by the barrel, and in barrels only."

RULES = [
    {"name": "shop", "model": ["shop.*", "app.Country"], "exclude": ["modified", "views"]},
    {"name": "watch", "events": ["thing_happened"], "notify": ["team-mail", "inbox"]},
]
CHANNELS = {
    "team-mail": {
        "BACKEND": "django_signal_audit.channels.email.EmailChannel",
        "OPTIONS": {"to": ["team@example.com"]},
    },
    "inbox": {"BACKEND": "django_signal_audit.channels.inbox.InboxChannel", "OPTIONS": {"to": ["superusers"]}},
}
SETTINGS = {"RULES": RULES, "CHANNELS": CHANNELS}


class Life:
    """The rows that the pages are about."""

    def __init__(self, actor: object) -> None:
        self.now = timezone.now()
        self.actor = actor
        self.fill_log()
        self.product = self.change_product()
        self.deleted_key = self.delete_product()
        self.country = self.change_country()
        self.notification = self.fail_to_deliver()

    def at(self, days: float) -> time_machine.travel:
        """Return the time so many days ago, as a context."""
        return time_machine.travel(self.now - dt.timedelta(days=days), tick=False)

    def fill_log(self) -> None:
        """Write two pages of older events."""
        kinds = ["create", "update", "delete", "login", "login_failed"]
        AuditEvent.objects.bulk_create(
            AuditEvent(
                event_type=kinds[number % 5],
                source="orm",
                level="warning" if number % 5 == 4 else "info",
                model="shop.product" if number % 5 < 3 else "auth.user",
                object_id=str(900 + number),
                object_repr=f"Product {number}" if number % 5 < 3 else "bob",
                actor_id=str(number % 4),
                actor_repr=("import", "bob", "carol", "night job")[number % 4],
                rules=["shop"],
                changes={"price": ["10.00", f"{number}.00"]} if number % 5 == 1 else {},
                recorded_at=self.now - dt.timedelta(days=4, hours=number * 7),
            )
            for number in range(80)
        )

    def change_product(self) -> Product:
        """Create a product and change it in every way."""
        with self.at(3), audit_context(actor=self.actor):
            oil, fuel = Category.objects.create(name="Oil"), Category.objects.create(name="Fuel")
            tags = [Tag.objects.create(name=name) for name in ("North Sea", "light", "sweet")]
            product = Product.objects.create(
                sku="brent", name="Brent crude", price="71.2500", category=oil, description=DESCRIPTION
            )
            product.tags.set(tags)
        with self.at(2), audit_context(actor=self.actor, reason="Prices of Tuesday, as the exchange sent them"):
            product.price = Decimal("74.9000")
            product.attributes = {"sulphur": 0.37, "terminal": {"name": "Sullom Voe", "berths": [1, 2]}}
            product.category = fuel
            product.save()
        with self.at(1), audit_context(actor=self.actor, reason="Corrected by hand"):
            product.description = DESCRIPTION.replace("North Sea", "Norwegian Sea").replace("only", "alone")
            product.is_active = False
            product.price = Decimal("73.1000")
            product.save()
            product.tags.remove(tags[2])
            oil.delete()
        return product

    def delete_product(self) -> str:
        """Return the key of a product that is gone."""
        with self.at(0.5), audit_context(actor=self.actor, reason="Not sold any more"):
            product = Product.objects.create(sku="coal", name="Coal", price=9, category=self.product.category)
            key = str(product.pk)
            product.delete()
        return key

    def change_country(self) -> Country:
        """Return an object whose key is hard to write in an address."""
        with self.at(0.2), audit_context(actor=self.actor):
            country = Country.objects.create(code=ODD_KEY, name="Atlantis")
            country.name = "Utopia"
            country.save()
        return country

    def fail_to_deliver(self) -> Notification:
        """Return a message that was not sent, beside others in other states, some of them in an inbox."""
        event = AuditEvent.objects.filter(model="shop.product", event_type="update").latest("id")
        made = {"event": event.uid, "rule": "watch"}
        for number, status in enumerate(("sent", "pending", "dead")):
            Notification.objects.create(
                channel="team-mail",
                status=status,
                recipient=f"team{number}@example.com",
                attempts=number * 3,
                last_error=ERROR if status == "dead" else "",
                sent_at=self.now if status == "sent" else None,
                **made,
            )
        for number in range(3):
            Notification.objects.create(
                channel="inbox",
                status="sent",
                recipient=str(getattr(self.actor, "pk", "")),
                sent_at=self.now - dt.timedelta(hours=number),
                read_at=self.now if number == 2 else None,
                data={"subject": "Brent crude dropped from 74.90 to 73.10", "body": "By ada.\nCorrected by hand"},
                **made,
            )
        return Notification.objects.create(
            channel="team-mail", status="failed", recipient="team@example.com", attempts=2, last_error=ERROR, **made
        )
