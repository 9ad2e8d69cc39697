"""An event as one JSON object: what the JSON lines of exports and archives hold."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from django_signal_audit.models import AuditEvent


def utc(moment: dt.datetime) -> dt.datetime:
    """Return a moment of the trail as aware UTC, also where the project keeps naive times."""
    return moment.astimezone(dt.UTC) if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def record_of(event: AuditEvent) -> dict[str, Any]:
    """Return the columns of an event by name, as JSON has them."""
    record = {field.attname: getattr(event, field.attname) for field in AuditEvent._meta.concrete_fields}
    return {**record, "uid": str(event.uid), "recorded_at": utc(event.recorded_at).isoformat()}


def json_line(record: dict[str, Any]) -> str:
    """Return a record as one line; ASCII only, so that no terminal obeys any of it."""
    return f"{json.dumps(record)}\n"
