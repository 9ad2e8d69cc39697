"""Signals of the shop.

``product_viewed(sender=Product, instance, user)``
    sent when somebody, logged in or not, was shown the page of a product.
"""

from __future__ import annotations

from django.dispatch import Signal

product_viewed = Signal()
