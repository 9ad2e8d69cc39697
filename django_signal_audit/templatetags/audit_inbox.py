"""Template tags of the inbox, for any page of a project."""

from __future__ import annotations

from django import template
from django.template import RequestContext
from django.urls import NoReverseMatch

from django_signal_audit.inbox.mailbox import Mailbox
from django_signal_audit.web.addresses import address_of

register = template.Library()


@register.simple_tag(takes_context=True)
def audit_unread_count(context: RequestContext) -> int:
    """Return how many messages of the user are unread, at most 1,000; 0 for somebody who is not logged in."""
    user = getattr(context.get("request"), "user", None)
    return Mailbox(user).count_unread() if user is not None and user.is_authenticated else 0


@register.simple_tag(takes_context=True)
def audit_url(context: RequestContext, name: str) -> str:
    """Return the address of another page of the package, ``""`` if it can't be told from that of the request."""
    try:
        return address_of(context.request, name)
    except NoReverseMatch:
        return ""
