"""What the shop does when it hears of an event: the targets of its callable channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models import F

from .models import Product

if TYPE_CHECKING:
    from django_signal_audit.channels.base import Message


def count_view(message: Message) -> None:
    """Add one to the views of the product; a product deleted meanwhile has nothing to count."""
    Product.objects.filter(pk=message.event.object_id).update(views=F("views") + 1)
