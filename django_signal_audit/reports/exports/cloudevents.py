"""CloudEvents 1.0 in the JSON format, one per line."""

from __future__ import annotations

from django_signal_audit.models import AuditEvent
from django_signal_audit.reports.exports.base import record_of, utc

from .base import JsonLinesExport


class CloudEventsFormat(JsonLinesExport):
    """One CloudEvent per event, with the event's columns as its data.

    Subclass it to name your project: ``source`` is a URI reference, which together with ``id`` is unique in the world,
    and ``prefix`` begins every type, best with your domain's name backwards.
    """

    source = "urn:django-signal-audit"
    prefix = "django_signal_audit"

    def record(self, event: AuditEvent) -> dict[str, object]:
        """Return the CloudEvent. What describes people stands in its data alone, as attributes end up in headers."""
        record: dict[str, object] = {
            "specversion": "1.0",
            "id": str(event.uid),
            "source": self.source,
            "type": ".".join(filter(None, (self.prefix, event.model, event.event_type))),
            "time": utc(event.recorded_at).isoformat(),
            "datacontenttype": "application/json",
            "data": record_of(event),
        }
        if event.model:
            record["subject"] = "/".join(filter(None, (event.model, event.object_id)))
        return record
