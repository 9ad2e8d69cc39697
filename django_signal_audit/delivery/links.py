"""Addresses in messages. A worker has no request, so the setting SITE_URL says where the site is."""

from __future__ import annotations

from urllib.parse import urlencode

from django.core import signing
from django.db.models import Model
from django.urls import reverse

from django_signal_audit.conf import get_settings
from django_signal_audit.events.keys import object_id
from django_signal_audit.models import Notification

_SALT = "django_signal_audit.unsubscribe"


def address(name: str, *args: str, **query: str) -> str:
    """Return the address of a page, ``""`` if SITE_URL is not set or the project has no such page."""
    site = get_settings().site_url.rstrip("/")
    if not site:
        return ""
    try:
        path = reverse(name, args=args)
    except Exception:  # noqa: BLE001  # a project may have no URLs, or some that don't import; its messages are sent
        return ""
    return f"{site}{path}?{urlencode(query)}" if query else f"{site}{path}"


def unsubscribe_address(row: Notification, user: Model) -> str:
    """Return the address at which a user switches off a rule's messages by a channel, without logging in."""
    token = signing.dumps([object_id(user.pk), row.rule, row.channel], salt=_SALT)
    return address("signal_audit:unsubscribe", token)


def read_token(token: str) -> tuple[str, str, str] | None:
    """Return the user's primary key as text, the rule and the channel; None if we have not signed this."""
    try:
        user, rule, channel = signing.loads(token, salt=_SALT)
    except (signing.BadSignature, ValueError, TypeError):
        return None
    return str(user), str(rule), str(channel)
