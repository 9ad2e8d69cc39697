"""Template tags of the audit log: an object's history on any page, and what the admin's pages need."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from django import template
from django.apps import apps
from django.db.models import Model
from django.template import RequestContext, TemplateSyntaxError
from django.template.loader import render_to_string
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

from django_signal_audit.context.actors import unwrapped
from django_signal_audit.problems import shown
from django_signal_audit.reports.base import WrongArgument
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
def audit_history_url(context: RequestContext, instance: object) -> str:
    """Return the address of an object's audit history, ``""`` if it has none or the user may not see it."""
    request = context.get("request")
    if request is None or not isinstance(instance, Model) or not apps.is_installed("django.contrib.admin"):
        return ""
    # Django imports every tag library, also in projects without Django's own apps, which can't import the admin.
    from django_signal_audit.admin.links import history_url_of

    return history_url_of(request, getattr(request, "current_app", "admin"), instance)


def _instance(value: object) -> Model | None:
    """Return the object, None for nobody, None itself, and a variable that the template doesn't have."""
    found = unwrapped(value)
    if isinstance(found, Model):
        return found
    if found in (None, "") or getattr(found, "is_anonymous", False) is True:
        return None
    msg = f"{{% audit_history %}} takes a model instance, not {shown(found)}."
    raise TemplateSyntaxError(msg)


def _limit(value: Any) -> int:
    """Return how many changes to show."""
    if value in (None, ""):
        return LIMIT
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = 0
    if number < 1 or isinstance(value, bool) or not (isinstance(value, str) or number == value):
        msg = f"{{% audit_history %}}: limit must be a whole number of 1 or more, not {shown(value)}."
        raise TemplateSyntaxError(msg)
    return number


def _names(value: object) -> list[str]:
    """Return the names in a text or a list; none are all."""
    found: list[str] = []
    for name in value if isinstance(value, (list, tuple, set, frozenset)) else [value or ""]:
        if not isinstance(name, str):
            msg = f"{{% audit_history %}}: fields must be the names of fields, not {shown(name)}."
            raise TemplateSyntaxError(msg)
        found += [part.strip() for part in name.split(",") if part.strip()]
    return found


@register.simple_tag(takes_context=True)
def audit_history(context: RequestContext, instance: object, limit: object = LIMIT, fields: object = "") -> SafeString:
    """Show the latest changes of an object to users who may view its history, and nothing to others.

    Args:
        context: The context of the template, with the request.
        instance: The object; nothing is shown for None and for a variable that the template doesn't have.
        limit: How many changes to show, 100 at most.
        fields: The names of the fields to show, separated by commas or as a list; all by default.

    Raises:
        TemplateSyntaxError: An argument means nothing, such as a misspelled field.

    """
    found, most, names = _instance(instance), _limit(limit), _names(fields)
    if found is None:
        return SafeString()
    from django_signal_audit.web.panel import known_fields, panel_of

    try:
        wanted = known_fields(found, names)
    except WrongArgument as wrong:
        msg = f"{{% audit_history %}}: {wrong}"
        raise TemplateSyntaxError(msg) from None
    request = context.get("request")
    panel = None if request is None else panel_of(request, found, most, wanted)
    if panel is None:
        return SafeString()
    return mark_safe(spelled_out(render_to_string(PANEL, {"panel": panel}, request)))  # noqa: S308  # rendered
