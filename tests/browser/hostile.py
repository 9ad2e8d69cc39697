"""What somebody may type who means harm, in every place that holds what somebody typed."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from django_signal_audit.context.scopes import audit_context
from django_signal_audit.models import AuditEvent, Notification
from testproject.shop.models import Category, Product, Tag

from .life import CHANNELS

VALUES = {
    "script": "<script>window.hacked=1</script>",
    "image": '"><img src=x onerror=window.hacked=1>',
    "attribute": "' autofocus onfocus='window.hacked=1' x='",
    "address": "javascript:window.hacked=1//",
    "end": "</title></style></textarea></svg><svg onload=window.hacked=1>--><!--",
    "template": "{{ 7|add:'7' }}{% now 'Y' %}",
    "reversed": "bill\u202egnp.exe\u2066",
    "control": "\x1b[31mred\x07\x08\x7f\x85",
    "long": "W" * 90,
    "wide": "数据导入程序" * 8,
}


def shop_rules() -> dict[str, Any]:
    """Return settings whose rules and channels have such names."""
    rules = [{"name": value[:60], "model": "shop.*", "exclude": ["modified"]} for value in VALUES.values()]
    return {"RULES": rules, "CHANNELS": CHANNELS}


def make_event(value: str) -> AuditEvent:
    """Write an event that has the value wherever there is room for it."""
    nested = {value: [value, {value: value}], "known": value}
    return AuditEvent.objects.create(
        event_type=value[:50],
        source="orm",
        model="shop.product",
        object_id=value,
        object_repr=value,
        actor_id=value,
        actor_repr=value,
        rules=[value],
        changes={
            value: [value, f"{value} {value}"],
            "name": [f"before {value} text", f"after {value} text"],
            "attributes": [{}, nested],
            "tags": {"added": [value], "removed": [value]},
            "category": [value, value],
        },
        data=nested,
        context={"reason": value, value: value, "path": value},
        correlation_id=value[:64],
    )


def make_notification(event: AuditEvent, value: str, recipient: object) -> Notification:
    """Write a message to an inbox and one that failed, and return the latter."""
    told = {"subject": value, "body": f"{value}\n{value}"}
    inbox = {"channel": "inbox", "recipient": str(recipient), "status": "sent", "sent_at": timezone.now()}
    Notification.objects.create(event=event.uid, rule=value[:100], data=told, **inbox)
    failed = {"channel": value[:100], "recipient": value, "status": "dead", "last_error": value}
    return Notification.objects.create(event=event.uid, rule=value[:100], data=told, **failed)


def change_product(actor: object) -> tuple[Product, AuditEvent]:
    """Change a product whose fields, tags and category are such, and return it and the event."""
    image = VALUES["image"]
    with audit_context(actor=actor, reason=image, correlation_id=image):
        product = Product.objects.create(
            sku="x", name="plain", description="plain", price=1, category=Category.objects.create(name=image)
        )
        product.tags.add(*(Tag.objects.create(name=value[:50]) for value in VALUES.values()))
        product.name, product.description = image, " ".join(VALUES.values())
        product.attributes = {value: value for value in VALUES.values()}
        product.save()
    return product, AuditEvent.objects.filter(event_type="update").latest("id")
