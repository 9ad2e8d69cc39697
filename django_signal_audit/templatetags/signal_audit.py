"""Template tags of the admin's audit pages."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import template
from django.apps import apps
from django.db.models import Model
from django.template import RequestContext
from django.utils.html import format_html
from django.utils.safestring import SafeString

from django_signal_audit.reports.formatter import show_moment

register = template.Library()


@register.filter
def audit_moment(moment: dt.datetime) -> SafeString:
    """Return a moment to the second as the page of one event has it."""
    return format_html('<time datetime="{}">{}</time>', moment.isoformat(), show_moment(moment))


@register.simple_tag(takes_context=True)
def audit_history_url(context: RequestContext, instance: Any) -> str:
    """Return the address of an object's audit history, ``""`` if it has none or the user may not see it."""
    request = context.get("request")
    if request is None or not isinstance(instance, Model) or not apps.is_installed("django.contrib.admin"):
        return ""
    # Django imports every tag library, also in projects that cannot import the admin.
    from django_signal_audit.admin.links import history_url_of

    return history_url_of(request, getattr(request, "current_app", "admin"), instance)
