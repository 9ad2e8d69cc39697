"""The life of one object, and what it was at a moment, as reports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_signal_audit.events.values import Digest, JSONValue, Masked, to_json
from django_signal_audit.models import AuditEvent, AuditEventQuerySet
from django_signal_audit.models.events import BEFORE_ALL
from django_signal_audit.models.state import shaped
from django_signal_audit.reports.formatter import local
from django_signal_audit.rules.registry import get_registry

from .base import BATCH, Cell, Column, Detail, Report, StreamedRows
from .display import ShownValue, change_lines, show_actors, show_reason, show_state

LIFE = (
    Column("time", gettext_lazy("Time")),
    Column("event", gettext_lazy("Event")),
    Column("actor", gettext_lazy("Actor")),
    Column("reason", gettext_lazy("Reason")),
    Column("changes", gettext_lazy("Changes")),
)
STATE = (
    Column("field", gettext_lazy("Field")),
    Column("label", gettext_lazy("Label")),
    Column("value", gettext_lazy("Value")),
)


def life(title: str, events: AuditEventQuerySet) -> Report:
    """Return the events of one object as they came, each with what it changed; they are read while it is written."""
    rows = StreamedRows(lambda: map(_row, _in_order(events)), events.count)
    return Report(title=title, columns=LIFE, rows=rows, empty=_("No events are recorded."))


def _row(event: AuditEvent) -> Sequence[Cell]:
    return (
        local(event.recorded_at),
        event.event_type,
        show_actors(event),
        show_reason(event),
        Detail(lines=tuple(change_lines(event)), data=event.changes or event.data),
    )


def _in_order(events: AuditEventQuerySet) -> Iterator[AuditEvent]:
    """Yield the events of one object, read a page at a time: a cursor would hold all rows on some databases."""
    last: int | None = BEFORE_ALL
    while last is not None:
        page = list(events.filter(pk__gt=last).order_by("pk")[:BATCH])
        last = page[-1].pk if len(page) == BATCH else None
        yield from map(shaped, page)


def state(title: str, event: AuditEvent, values: dict[str, object], empty: str = "") -> Report:
    """Return one recorded state, a row per field; ``event`` is any event of the same model."""
    doubtful = uncertain(event, values)
    rows = [
        (
            name,
            _("%(field)s (not every change recorded)") % {"field": label} if name in doubtful else label,
            Detail(lines=(shown.line,), data=_data(values[name], shown)),
        )
        for name, (label, shown) in zip(values, show_state(event, values), strict=True)
    ]
    return Report(title=title, columns=STATE, rows=rows, empty=empty or _("No fields are recorded."))


def uncertain(event: AuditEvent, names: Iterable[str]) -> list[str]:
    """Return the fields of an object whose changes the rules don't all record: their state is not certain.

    Args:
        event: Any event of the object.
        names: The names of the fields.

    """
    model = event.model_class
    plan = get_registry().plan_for(model) if model is not None else None
    covered = plan.covered if plan is not None else frozenset()
    return [name for name in names if name not in covered]


def _data(value: object, shown: ShownValue) -> JSONValue:
    """Return the value for machines; a masked or digested one has nothing but its text."""
    return shown.text if isinstance(value, (Masked, Digest)) else to_json(value)
