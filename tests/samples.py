"""Events made by hand, for what reads the trail."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django_signal_audit.models import AuditEvent

NOON = dt.datetime(2026, 3, 10, 12, 0, tzinfo=dt.UTC)

# Whatever somebody may have typed into a name: markup, a quote, a terminal escape, a reversed text.
HOSTILE = "<script>alert('x')</script>\"|`\x1b[31m\u202e"


def make_event(**values: Any) -> AuditEvent:
    """Write one event: an update of user 3, unless said otherwise."""
    defaults = {
        "event_type": "update",
        "source": "orm",
        "model": "auth.user",
        "object_id": "3",
        "object_repr": "ada",
        "recorded_at": NOON,
    }
    return AuditEvent.objects.create(**{**defaults, **values})
