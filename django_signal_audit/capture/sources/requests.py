"""Requests as events, for rules that ask for them."""

from __future__ import annotations

from typing import Any

from django.db import router
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from django_signal_audit.context.paths import MAX_PATH, clean_path
from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.changes import Change
from django_signal_audit.events.payloads import cut
from django_signal_audit.models import AuditEvent
from django_signal_audit.recorder import record_changes
from django_signal_audit.rules.registry import get_registry


def watches_requests() -> bool:
    """Return whether any rule asks for requests."""
    return get_registry().watches_event(EventType.REQUEST)


def record_request(request: HttpRequest, response: HttpResponseBase) -> None:
    """Record a request that was answered, if a rule wants it."""
    using = router.db_for_write(AuditEvent)
    data: dict[str, Any] = {
        "method": request.method or "",
        "path": cut(clean_path(request), MAX_PATH),
        "status": response.status_code,
        "view": getattr(request.resolver_match, "view_name", "") or "",
    }
    record_changes([Change(event_type=EventType.REQUEST, source=Source.SIGNAL, using=using, data=data)], using)
