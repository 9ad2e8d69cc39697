"""JSON lines: each event with all its columns, as the archive of ``audit_prune`` has them."""

from __future__ import annotations

from django_signal_audit.models import AuditEvent
from django_signal_audit.reports.exports.base import record_of

from .base import JsonLinesExport


class JsonLinesFormat(JsonLinesExport):
    """One object per event and line, its keys the names of the columns."""

    def record(self, event: AuditEvent) -> dict[str, object]:
        """Return the columns of an event."""
        return record_of(event)
