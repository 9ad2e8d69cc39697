"""The texts of a message whose rule has none of its own."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_signal_audit.enums import EventType
from django_signal_audit.events.changes import FieldChange, M2MChange
from django_signal_audit.events.masking import with_stars
from django_signal_audit.events.values import as_utc, decode_tag
from django_signal_audit.models import AuditEvent
from django_signal_audit.rules.patterns import Field

# What one message spells out. A bulk call may make a digest of any number of events.
MAX_EVENTS = 50


def default_subject(events: Sequence[AuditEvent], rule: str) -> str:
    """Return such as ``update Product: Oil``, or for a digest ``update Product: 3 events``."""
    first = events[0]
    if len(events) == 1:
        return _headline(first)
    count = ngettext("%(count)d event", "%(count)d events", len(events)) % {"count": len(events)}
    if all((event.event_type, event.model) == (first.event_type, first.model) for event in events):
        return f"{_kind(first)}: {count}"
    return f"{rule}: {count}"


def default_body(events: Sequence[AuditEvent], zone: dt.tzinfo = dt.UTC) -> str:
    """Return who did it, when, and old and new of each field; the same for each event of a digest."""
    if len(events) == 1:
        return "\n".join(_lines(events[0], zone))
    blocks = ["\n".join([_headline(event), *_lines(event, zone)]) for event in events[:MAX_EVENTS]]
    if len(events) > MAX_EVENTS:
        more = len(events) - MAX_EVENTS
        blocks.append(ngettext("and %(count)d more event", "and %(count)d more events", more) % {"count": more})
    return "\n\n".join(blocks)


def _kind(event: AuditEvent) -> str:
    label = EventType.label_of(event.event_type)
    model = event.model_class
    name = capfirst(str(model._meta.verbose_name)) if model else event.model
    return f"{label} {name}".rstrip()


def _headline(event: AuditEvent) -> str:
    name = event.object_repr or event.object_id
    return f"{_kind(event)}: {name}" if name else _kind(event)


def _lines(event: AuditEvent, zone: dt.tzinfo) -> Iterator[str]:
    for name, change in event.field_changes.items():
        yield f"{_label(event.field(name), name)}: {_change(event, event.field(name), change)}"
    for name, members in event.m2m_changes.items():
        yield f"{_label(event.field(name), name)}: {_members(members)}"
    data = decode_tag(event.data)
    for key, value in data.items() if isinstance(data, dict) else ():
        yield f"{key}: {_text(with_stars({key: value})[key])}"
    if event.actor_repr:
        yield _("by %(actor)s") % {"actor": event.actor_repr}
    yield _("at %(time)s") % {"time": f"{as_utc(event.recorded_at).astimezone(zone):%Y-%m-%d %H:%M:%S %Z}"}


def _label(field: Field | None, name: str) -> str:
    return capfirst(str(field.verbose_name)) if field is not None else name


def _change(event: AuditEvent, field: Field | None, change: FieldChange) -> str:
    old, new = (_named(field, value) for value in change)
    if event.event_type == EventType.CREATE:
        return new
    return old if event.event_type == EventType.DELETE else f"{old} → {new}"


def _named(field: Field | None, value: Any) -> str:
    """Return the text of a field's value, of a choice its label."""
    choices = dict(getattr(field, "flatchoices", None) or ())
    is_choice = isinstance(value, (str, int)) and value in choices
    return str(choices[value]) if is_choice else _text(value)


def _members(members: M2MChange) -> str:
    signed = [f"+{key}" for key in islice(members.added, MAX_EVENTS)]
    signed += [f"-{key}" for key in islice(members.removed, MAX_EVENTS)]
    hidden = len(members.added) + len(members.removed) - len(signed)
    return ", ".join([*signed, "…"] if hidden else signed)


def _text(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    shown = with_stars(value)
    return json.dumps(shown, ensure_ascii=False, default=str) if isinstance(shown, (dict, list)) else str(shown)
