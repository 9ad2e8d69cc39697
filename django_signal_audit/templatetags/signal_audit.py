"""Template tags of the audit log: an object's history on any page, and what the admin's pages need."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from django import template
from django.apps import apps
from django.db.models import Model
from django.template import RequestContext
from django.template.loader import render_to_string
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

from django_signal_audit.context.actors import unwrapped
from django_signal_audit.reports.display import spelled_out
from django_signal_audit.reports.formatter import show_moment

register = template.Library()
PANEL = "django_signal_audit/panel.html"
# So many changes a panel has by default.
LIMIT = 5


@register.filter
def audit_moment(moment: dt.datetime) -> SafeString:
    """Return a moment to the second as the page of one event has it."""
    return format_html('<time datetime="{}">{}</time>', moment.isoformat(), show_moment(moment))


# The button of a change form that leads to the history, whichever app or theme drew it.
_HISTORY_LINK = re.compile(r'<a\b(?=[^>]*\bclass="[^"]*\bhistorylink\b)[^>]*>')
_HREF = re.compile(r'\bhref="[^"]*"')


@register.filter
def audit_history_link(tools: str, url: str) -> SafeString:
    """Return the buttons of a change form with the one for the history leading to the URL; one is added if need be."""
    href = format_html('href="{}"', url)
    found, count = _HISTORY_LINK.subn(lambda link: _HREF.sub(lambda _old: href, link[0]), tools)
    if not count:
        return format_html('<li><a {} class="historylink">{}</a></li>{}', href, _("History"), mark_safe(tools))  # noqa: S308  # rendered
    return mark_safe(found)  # noqa: S308  # rendered


@register.simple_tag(takes_context=True)
def audit_history_url(context: RequestContext, instance: Any) -> str:
    """Return the address of an object's audit history, ``""`` if it has none or the user may not see it."""
    request = context.get("request")
    if request is None or not isinstance(instance, Model) or not apps.is_installed("django.contrib.admin"):
        return ""
    # Django imports every tag library, also in projects without Django's own apps, which can't import the admin.
    from django_signal_audit.admin.links import history_url_of

    return history_url_of(request, getattr(request, "current_app", "admin"), instance)


def _limit(value: Any) -> int:
    """Return how many changes to show: a variable that the template doesn't have is no reason to fail the page."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return LIMIT


def _names(value: Any) -> set[str]:
    names = value if isinstance(value, (list, tuple, set, frozenset)) else str(value or "").split(",")
    return {str(name).strip() for name in names} - {""}


@register.simple_tag(takes_context=True)
def audit_history(context: RequestContext, instance: Any, limit: Any = LIMIT, fields: Any = "") -> SafeString:
    """Show the latest changes of an object to users who may view its history, and nothing to others.

    Args:
        context: The context of the template, with the request.
        instance: The object.
        limit: How many changes to show, 100 at most; 5 if it is no number.
        fields: The names of the fields to show, separated by commas or as a list; all by default.

    """
    request, found = context.get("request"), unwrapped(instance)
    if request is None or not isinstance(found, Model):
        return SafeString()
    from django_signal_audit.web.panel import panel_of

    panel = panel_of(request, found, _limit(limit), _names(fields))
    if panel is None:
        return SafeString()
    return mark_safe(spelled_out(render_to_string(PANEL, {"panel": panel}, request)))  # noqa: S308  # rendered
