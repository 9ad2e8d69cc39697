"""Template tags of the admin's audit pages."""

from __future__ import annotations

from typing import Any

from django import template
from django.db.models import Model
from django.template import RequestContext

from django_signal_audit.admin.links import history_url_of

register = template.Library()


@register.simple_tag(takes_context=True)
def audit_history_url(context: RequestContext, instance: Any) -> str:
    """Return the address of an object's audit history, ``""`` if it has none or the user may not see it."""
    request = context.get("request")
    if request is None or not isinstance(instance, Model):
        return ""
    if not request.user.has_perm("django_signal_audit.view_auditevent"):
        return ""
    return history_url_of(getattr(request, "current_app", "admin"), instance)
