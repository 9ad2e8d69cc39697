"""An event as people read it: its fields by their labels, its values as text. Nothing here is escaped for HTML."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db import models
from django.utils import timezone
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_signal_audit.changes import FieldChange, MembersChange
from django_signal_audit.enums import EventType, Source
from django_signal_audit.models import AuditEvent
from django_signal_audit.values import Digest, Masked, clean_text, decode_tag, safe_str

from .relations import Names, target_of
from .texts import printable, shorten
from .wording import Part, mark_words

SUMMARY_LINES = 3
SUMMARY_WIDTH = 80
# json.dumps breaks lines between values only; a line feed inside a string is written as \\n.
_INDENT = re.compile(r"\n\s*")


@dataclass(frozen=True, slots=True)
class ShownValue:
    """A value as text, and what kind it is: ``text``, ``none``, ``empty``, ``masked``, ``digest`` or ``json``."""

    text: str
    kind: str = "text"

    @property
    def line(self) -> str:
        """Return the text on one line, fit for a terminal."""
        return printable(_INDENT.sub(" ", self.text) if self.kind == "json" else self.text)


NOTHING = ShownValue("—", "none")
# A key that a JSON object has not, which is not the same as one that holds null.
ABSENT = ShownValue("∅", "none")
NO_NAMES: Names = {}
MAX_MEMBERS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownField:
    """One line of a diff: a field with its old and new value, or a m2m field with what it gained and lost."""

    name: str
    label: str
    old: ShownValue = NOTHING
    new: ShownValue = NOTHING
    added: tuple[ShownValue, ...] = ()
    removed: tuple[ShownValue, ...] = ()
    # A text in parts, where some of its words changed.
    old_parts: tuple[Part, ...] = ()
    new_parts: tuple[Part, ...] = ()

    @property
    def is_members(self) -> bool:
        """Tell whether it is a m2m field."""
        return bool(self.added or self.removed)


def show_time(moment: dt.datetime) -> str:
    """Return a moment in the current time zone, exact to what it holds, with its offset."""
    return local(moment).isoformat(sep=" ")


def local(moment: dt.datetime) -> dt.datetime:
    """Return the moment in the current time zone; a naive one, or one at the end of time, as it is."""
    try:
        return timezone.localtime(moment) if timezone.is_aware(moment) else moment
    except OverflowError:
        return moment


def _plain(value: Any) -> ShownValue:
    if value is None:
        return NOTHING
    if value == "":
        return ShownValue(_("empty"), "empty")
    if isinstance(value, bool):
        return ShownValue(_("yes") if value else _("no"))
    if isinstance(value, Masked):
        return ShownValue(_("masked"), "masked")
    if isinstance(value, Digest):
        return ShownValue(str(value), "digest")
    if isinstance(value, (dict, list)):
        return ShownValue(clean_text(json.dumps(value, indent=2, ensure_ascii=False)), "json")
    if isinstance(value, dt.datetime):
        return ShownValue(show_time(value))
    return ShownValue(clean_text(_text(value)))


def _text(value: Any) -> str:
    return format(value, "f") if isinstance(value, Decimal) and value.is_finite() else safe_str(value)


def show_value(field: models.Field[Any, Any] | None, value: Any) -> ShownValue:
    """Return a typed value of a field, which may be gone (None), as text; a choice by its label and value."""
    shown = _plain(value)
    if shown.kind in ("text", "none", "empty") and getattr(field, "choices", None):
        label = dict(field.flatchoices).get(value)  # type: ignore[union-attr]
        if label is not None:
            return ShownValue(f"{label} ({shown.text})" if shown.kind == "text" else str(label))
    return shown


def label_of(field: models.Field[Any, Any] | None, name: str) -> str:
    """Return a field's label, the name it had when it is gone."""
    return capfirst(str(field.verbose_name)) if field is not None else name


def _show_key(field: models.Field[Any, Any] | None, key: Any, names: Names) -> ShownValue:
    """Return the key of another row with the name of that row, where it was looked up."""
    shown = show_value(field, key)
    target = target_of(field)
    known = names.get(target, {}) if target is not None else {}
    if shown.kind != "text" or str(key) not in known:
        return shown
    name = known[str(key)]
    if name is None:
        return ShownValue(_("%(key)s (deleted)") % {"key": shown.text})
    return ShownValue(shown.text if name == shown.text else f"{name} ({shown.text})")


def _show_members(
    field: models.Field[Any, Any] | None, name: str, change: MembersChange, names: Names = NO_NAMES
) -> ShownField:
    def named(keys: tuple[Any, ...]) -> tuple[ShownValue, ...]:
        shown = tuple(_show_key(field, key, names) for key in keys[:MAX_MEMBERS])
        more = len(keys) - len(shown)
        if more <= 0:
            return shown
        return (*shown, ShownValue(ngettext("and %(count)d more", "and %(count)d more", more) % {"count": more}))

    return ShownField(name=name, label=label_of(field, name), added=named(change.added), removed=named(change.removed))


def _show_change(
    field: models.Field[Any, Any] | None, name: str, change: FieldChange, names: Names
) -> Iterator[ShownField]:
    """Yield the line of a field, or a line per changed key of a JSON object."""
    label, (old, new) = label_of(field, name), change
    if isinstance(old, dict) and isinstance(new, dict) and old and new:
        yield from _show_document(name, label, old, new)
        return
    shown = _show_key(field, old, names), _show_key(field, new, names)
    is_text = isinstance(old, str) and isinstance(new, str) and target_of(field) is None
    parts = mark_words(shown[0].text, shown[1].text) if is_text else ((), ())
    yield ShownField(name=name, label=label, old=shown[0], new=shown[1], old_parts=parts[0], new_parts=parts[1])


def _show_document(name: str, label: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[ShownField]:
    for key in dict.fromkeys((*old, *new)):
        before, after = old.get(key), new.get(key)
        if key in old and key in new and before == after and isinstance(before, type(after)):
            continue
        path = f"{label}.{clean_text(key)}"
        if isinstance(before, dict) and isinstance(after, dict) and before and after:
            yield from _show_document(name, path, before, after)
        else:
            was, now = _plain(before) if key in old else ABSENT, _plain(after) if key in new else ABSENT
            yield ShownField(name=name, label=path, old=was, new=now)


def show_fields(event: AuditEvent, names: Names = NO_NAMES) -> list[ShownField]:
    """Return the lines of an event's diff in the order they were recorded, m2m fields last.

    Args:
        event: The event.
        names: What the keys of other rows are called (``related_names``); those left out are shown as keys.

    """
    lines: list[ShownField] = []
    for name, change in event.field_changes.items():
        lines += _show_change(event.field(name), name, change, names)
    members = event.member_changes.items()
    return lines + [_show_members(event.field(name), name, change, names) for name, change in members]


def show_state(event: AuditEvent, state: dict[str, Any]) -> list[tuple[str, ShownValue]]:
    """Return label and value of each field of a recorded state; ``event`` is any event of the same model."""
    return [(label_of(event.field(name), name), show_value(event.field(name), value)) for name, value in state.items()]


def show_payload(payload: dict[str, Any], prefix: str = "") -> list[tuple[str, ShownValue]]:
    """Return a JSON object as pairs of dotted key and value."""
    pairs: list[tuple[str, ShownValue]] = []
    for key, value in payload.items():
        decoded = decode_tag(value)
        if isinstance(decoded, dict) and decoded:
            pairs += show_payload(decoded, f"{prefix}{key}.")
        else:
            pairs.append((f"{prefix}{key}", _plain(decoded)))
    return pairs


def _value_line(event: AuditEvent, old: ShownValue, new: ShownValue) -> str:
    if event.event_type == EventType.DELETE:
        return old.line
    # A create has no old values, and neither has a baseline: an arrow from nothing would say nothing.
    is_first = event.event_type == EventType.CREATE or event.source == Source.BASELINE
    return new.line if is_first else f"{old.line} → {new.line}"


def _members_line(shown: ShownField) -> str:
    added = [f"+{member.line}" for member in shown.added]
    return ", ".join(added + [f"−{member.line}" for member in shown.removed])  # noqa: RUF001  # a minus, not a hyphen


def change_lines(event: AuditEvent, names: Names = NO_NAMES) -> list[str]:
    """Return an event's changes, or its payload where it has none, as one line each, fit for a terminal."""
    if not event.changes:
        return [f"{printable(key)}: {value.line}" for key, value in show_payload(event.data)]
    return [
        f"{printable(shown.label)}: "
        + (_members_line(shown) if shown.is_members else _value_line(event, shown.old, shown.new))
        for shown in show_fields(event, names)
    ]


def summarise(event: AuditEvent, names: Names = NO_NAMES) -> list[str]:
    """Return the first few of the event's lines, shortened, and how many more there are."""
    lines = change_lines(event, names)
    more = len(lines) - SUMMARY_LINES
    shown = [shorten(line, SUMMARY_WIDTH) for line in lines[:SUMMARY_LINES]]
    if more > 0:
        shown.append(ngettext("and %(count)d more", "and %(count)d more", more) % {"count": more})
    return shown


def show_actor(event: AuditEvent) -> str:
    """Return the actor's name at the time, the key where there was none, ``""`` for nobody."""
    return event.actor_repr or event.actor_id


def show_reason(event: AuditEvent) -> str:
    """Return why it was done, as ``audit_context`` was told."""
    return str(event.context.get("reason", ""))
