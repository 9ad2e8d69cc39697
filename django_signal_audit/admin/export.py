"""Exporting what the list of events shows, as far as the user may see it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from tempfile import TemporaryFile

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header
from django.utils.translation import gettext_lazy as _

from django_signal_audit.admin.base import ReadOnlyAdmin
from django_signal_audit.api import record
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.events import utc_now
from django_signal_audit.reports.display import ShownField, show_actor, show_fields, show_payload, show_reason
from django_signal_audit.reports.exports.base import json_line, record_of, utc
from django_signal_audit.reports.formats.csv import harmless
from django_signal_audit.reports.formatter import Reader
from django_signal_audit.reports.spreadsheets import can_write, write_xlsx

from .access import EXPORTED, Access
from .changelist import EventChangeList
from .keyset import Cursor, Found
from .search.interpretation import Interpretation

# audit_export has no limit.
MAX_EVENTS = 10_000
PER_STEP = 500
# Where no index answers, each step reads up to 5,000 events, and an export so many of these.
MAX_STEPS = 200
CHUNK = 64 * 1024
HEAD = (
    "time", "actor", "actor_id", "event", "model", "object_id", "object", "field", "before", "after", "reason",
    "request", "level", "rules", "uid",
)  # fmt: skip


def may_export(request: HttpRequest) -> bool:
    """Return whether the user may export events."""
    return request.user.has_perm("django_signal_audit.export_auditevent")


def formats() -> Mapping[str, object]:
    """Return the formats there are, with their names."""
    found = {"csv": _("CSV"), "jsonl": _("JSON Lines")}
    return {**found, "xlsx": _("Excel (xlsx)")} if can_write() else found


def export_page(model_admin: ReadOnlyAdmin, request: HttpRequest) -> HttpResponseBase:
    """Return the events that the filters in the address find, the newest first, in the format that was posted."""
    if not (model_admin.has_view_permission(request) and may_export(request)):
        raise PermissionDenied
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    name = request.POST.get("format", "")
    if name not in formats():
        return HttpResponse(f"There is no format {name[:20]!r}.", status=400, content_type="text/plain")
    changelist = model_admin.get_changelist_instance(request)
    if not isinstance(changelist, EventChangeList):
        raise PermissionDenied
    query = changelist.search_query
    # Before it is recorded, so that it's none of them.
    first = changelist.interpretation.find(Cursor(), min(PER_STEP, MAX_EVENTS)).found
    # Before anything is sent: what is cut off in the middle was exported as well.
    filters = {"filters": [list(pair) for pair in query.pairs], "search": query.text}
    record(EXPORTED, data={"format": name, "most": MAX_EVENTS, **filters}, actor=request.user)
    events = _events(changelist.interpretation, changelist.access, first)
    response = StreamingHttpResponse(_WRITERS[name](events), content_type=_TYPES[name])
    file_name = f"audit-events-{utc_now():%Y-%m-%d}.{name}"
    response["Content-Disposition"] = content_disposition_header(as_attachment=True, filename=file_name)
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "no-store"
    return response


def _events(interpretation: Interpretation, access: Access, first: Found) -> Iterator[tuple[AuditEvent, Reader]]:
    """Yield the events, and how the user reads each."""
    found, count = first, 0
    for _step in range(MAX_STEPS):
        shown = access.redact(found.events)
        reader = access.reader_of(shown)
        yield from ((event, reader) for event in shown)
        count += len(shown)
        is_more = bool(found.page.has_older and found.events)
        cursor = found.further or (Cursor.from_event(found.events[-1], is_older=True) if is_more else None)
        if cursor is None or count >= MAX_EVENTS:
            return
        found = interpretation.find(cursor, min(PER_STEP, MAX_EVENTS - count)).found


def _rows(events: Iterable[tuple[AuditEvent, Reader]]) -> Iterator[Sequence[str]]:
    """Yield a row per changed field, and one for an event without any."""
    yield HEAD
    for event, reader in events:
        first, last = _before_fields(event), _after_fields(event)
        fields = [_field_cells(shown) for shown in show_fields(event, replace(reader, is_localised=False))]
        payload = [(name, "", value.line) for name, value in show_payload(event.data)] if not fields else []
        for cells in fields or payload or [("", "", "")]:
            yield (*first, *cells, *last)


def _before_fields(event: AuditEvent) -> tuple[str, ...]:
    moment = utc(event.recorded_at).isoformat()
    named = event.event_type, event.model, event.object_id, event.object_repr
    return moment, show_actor(event), event.actor_id, *named


def _after_fields(event: AuditEvent) -> tuple[str, ...]:
    together = event.correlation_id, event.level, ", ".join(event.rules), str(event.uid)
    return show_reason(event), *together


def _field_cells(shown: ShownField) -> tuple[str, str, str]:
    if shown.is_members:
        removed, added = (", ".join(value.line for value in part) for part in (shown.removed, shown.added))
        return shown.label, removed, added
    before, after = (value.line if value.kind not in ("none", "absent") else "" for value in (shown.old, shown.new))
    return shown.label, before, after


class _Echo:
    """What csv writes to: it returns each line."""

    def write(self, text: str) -> str:
        return text


def _csv(events: Iterable[tuple[AuditEvent, Reader]]) -> Iterator[str]:
    writer = csv.writer(_Echo(), lineterminator="\r\n")
    # Spreadsheets take the file for UTF-8 by this mark.
    yield "\ufeff"
    for row in _rows(events):
        yield writer.writerow(map(harmless, row))


def _jsonl(events: Iterable[tuple[AuditEvent, Reader]]) -> Iterator[str]:
    for event, _reader in events:
        yield json_line(json.loads(json.dumps(record_of(event), default=str)))


def _xlsx(events: Iterable[tuple[AuditEvent, Reader]]) -> Iterator[bytes]:
    with TemporaryFile() as file:
        write_xlsx(_rows(events), file)
        file.seek(0)
        while part := file.read(CHUNK):
            yield part


_WRITERS: dict[str, Callable[[Iterable[tuple[AuditEvent, Reader]]], Iterator[object]]] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "xlsx": _xlsx,
}
_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/x-ndjson",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
