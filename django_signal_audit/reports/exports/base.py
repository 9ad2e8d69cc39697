"""What an export format is: a class that writes events to a stream, one by one."""

from __future__ import annotations

import datetime as dt
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TextIO

from django_signal_audit.models import AuditEvent


class ExportFormat(ABC):
    """Base class of export formats.

    Subclass it, write ``write``, and name the subclass in ``SIGNAL_AUDIT["EXPORT_FORMATS"]``: alias to dotted path.
    """

    @abstractmethod
    def write(self, events: Iterable[AuditEvent], stream: TextIO) -> None:
        """Write the events as they come; there may be more of them than memory holds."""


class JsonLinesExport(ExportFormat):
    """Base class of formats that have one JSON object per event and line. Subclasses write ``record``."""

    @abstractmethod
    def record(self, event: AuditEvent) -> dict[str, object]:
        """Return what stands for an event, ready for JSON."""

    def write(self, events: Iterable[AuditEvent], stream: TextIO) -> None:
        """Write a line per event; ASCII only, so that no terminal obeys any of it."""
        for event in events:
            stream.write(f"{json.dumps(self.record(event))}\n")


def utc(moment: dt.datetime) -> dt.datetime:
    """Return a moment of the audit log as aware UTC, also where the project keeps naive times."""
    return moment.astimezone(dt.UTC) if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def record_of(event: AuditEvent) -> dict[str, object]:
    """Return the columns of an event by name, as JSON has them."""
    record = {field.attname: getattr(event, field.attname) for field in AuditEvent._meta.concrete_fields}
    return {**record, "uid": str(event.uid), "recorded_at": utc(event.recorded_at).isoformat()}


def json_line(record: dict[str, object]) -> str:
    """Return a record as one line; ASCII only, so that no terminal obeys any of it."""
    return f"{json.dumps(record)}\n"
