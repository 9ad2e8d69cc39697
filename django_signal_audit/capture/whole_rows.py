"""Events of whole rows, which came or went by one statement: described column by column, and written together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from json.encoder import encode_basestring_ascii as quoted
from typing import NamedTuple

from django.db import models

from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.changes import Change, FieldChange
from django_signal_audit.events.insert import EventRow, insert_alike
from django_signal_audit.events.keys import row_name, uids_from
from django_signal_audit.events.payloads import hide
from django_signal_audit.events.secret_fields import masked_fields
from django_signal_audit.models.tables import is_ready
from django_signal_audit.recorder import record_together, shortened
from django_signal_audit.rules.matching import Match
from django_signal_audit.rules.plans import ModelPlan


class WholeRows(NamedTuple):
    """Rows of one model: a sequence for each thing to know of them, all of the same length."""

    # Their primary keys, the texts of their objects, and how they came or went.
    keys: Sequence[object]
    texts: Sequence[str]
    sources: Sequence[Source]
    # What the columns hold, by the names of fields, in the order of the model.
    columns: Mapping[str, Sequence[object]]


def record_whole_rows(plan: ModelPlan, event_type: EventType, rows: WholeRows, using: str) -> None:
    """Write the events of rows that came or went, as ``record_changes`` does.

    Args:
        plan: The plan of their model, for which ``may_record_rows``.
        event_type: The type of the events: their creation or their deletion.
        rows: The rows, in order.
        using: The database that they are on.

    """
    if not rows.keys or not is_ready(using):
        return

    def write(shared: EventRow, match: Match) -> Iterator[tuple[str, str]]:
        uids, names = uids_from(shared.uid, len(rows.keys)), _names(plan.model, rows.keys)
        changes = _changes(plan, rows, match.names, has_come=event_type == EventType.CREATE)
        own = {"uid": uids, "object_id": names, "object_repr": _texts(plan.model, rows), "changes": changes}
        if len(set(rows.sources)) > 1:
            own["source"] = [str.__str__(source) for source in rows.sources]
        insert_alike(shared, own, using)
        return zip(uids, names, strict=True)

    fields = dict.fromkeys(rows.columns, FieldChange(None, None))
    first = Change(
        event_type=event_type,
        source=rows.sources[0],
        using=using,
        model=plan.model,
        pk=rows.keys[0],
        fields=fields,
    )
    record_together(first, write)


def _names(model: type[models.Model], keys: Sequence[object]) -> list[str]:
    return [str(key) if key.__class__ is int else row_name(model, key) for key in keys]


def _texts(model: type[models.Model], rows: WholeRows) -> list[str]:
    masked = [rows.columns[name] for name in masked_fields(model) if name in rows.columns]
    if not masked:
        return list(map(shortened, rows.texts))
    return [shortened(hide(text, values)) for text, *values in zip(rows.texts, *masked, strict=True)]


def _changes(plan: ModelPlan, rows: WholeRows, names: Collection[str], *, has_come: bool) -> list[str]:
    """Return the JSON of what the columns held or hold."""
    columns = {name: column for name, column in rows.columns.items() if name in names}
    if not columns:
        return ["{}"] * len(rows.keys)
    pair = "[null, %s]" if has_come else "[%s, null]"
    pairs = (f"{quoted(name)}: ".replace("%", "%%") + pair for name in columns)
    template = f"{{{', '.join(pairs)}}}"
    written = [plan.column_writers[name](column, rows.keys) for name, column in columns.items()]
    return list(map(template.__mod__, zip(*written, strict=True)))
