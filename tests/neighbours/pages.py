"""Our pages of the admin, under whichever theme."""

from __future__ import annotations

from django.test import Client
from django.urls import reverse

from django_signal_audit.models import Notification
from tests.conftest import events, last

from .shop.models import Label, Product


def assert_pages_work(client: Client) -> None:
    """Open each page, with something on it."""
    label, product = Label.objects.create(name="hot"), Product.objects.create(name="Tea")
    product.labels.add(label)
    product.price = 2
    product.save()
    notification = Notification.objects.create(event=last().uid, rule="shop", channel="log", recipient="ada")
    list_page = reverse("admin:django_signal_audit_auditevent_changelist")
    addresses = [
        reverse("admin:index"),
        list_page,
        f"{list_page}?q=Tea",
        f"{list_page}?event_type=update",
        reverse("admin:django_signal_audit_auditevent_dashboard"),
        reverse("admin:django_signal_audit_auditevent_object_history", args=("shop.product", product.pk)),
        reverse("admin:django_signal_audit_notification_changelist"),
        reverse("admin:django_signal_audit_notification_change", args=(notification.pk,)),
        reverse("admin:shop_product_changelist"),
        reverse("admin:shop_product_change", args=(product.pk,)),
        *(reverse("admin:django_signal_audit_auditevent_change", args=(event.pk,)) for event in events()),
        reverse("admin:django_signal_audit_auditevent_revert", args=(last().pk,)),
    ]
    for address in addresses:
        assert client.get(address).status_code == 200, address
    assert "Tea" in client.get(list_page).content.decode()
