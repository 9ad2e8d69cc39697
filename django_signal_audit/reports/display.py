"""An event as people read it: its fields by their labels, its values as text. Nothing here is escaped for HTML."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal, DivisionByZero, InvalidOperation, Overflow, localcontext
from difflib import SequenceMatcher
from typing import Any, NamedTuple, TypeAlias

from django.db import models
from django.utils.formats import number_format
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.changes import FieldChange, M2MChange
from django_signal_audit.events.documents import ERASED_TAG, Digest, Masked, clean_text, decode_tag, escape
from django_signal_audit.events.documents import printable as printable
from django_signal_audit.models import AuditEvent
from django_signal_audit.reports.formatter import ANYBODY, Reader
from django_signal_audit.reports.relations import is_members, target_of

_WORD = re.compile(r"\w+|\s+|[^\w\s]")
# Comparing takes the square of this in the worst case; of longer stretches, all words count as changed.
MAX_WORDS = 600
MIN_WORDS = 4
# Two texts that have less than this in common are two texts.
ALIKE = 0.3
# Of what stays the same, this much is shown before and after a change.
AROUND = 120


class Part(NamedTuple):
    """A piece of a text, and whether the other text lacks it."""

    text: str
    is_changed: bool


def mark_words(old: str, new: str) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """Return both texts in parts; none of either if the texts are short, or have little in common."""
    before, after = _WORD.findall(old), _WORD.findall(new)
    if min(len(before), len(after)) < MIN_WORDS:
        return (), ()
    codes = _compare(before, after)
    same = sum(end - start for tag, start, end, _, _ in codes if tag == "equal")
    if 2 * same < ALIKE * (len(before) + len(after)):
        return (), ()
    return (
        tuple(_parts(before, [(tag, start, end) for tag, start, end, _, _ in codes])),
        tuple(_parts(after, [(tag, start, end) for tag, _, _, start, end in codes])),
    )


def _compare(before: list[str], after: list[str]) -> list[tuple[str, int, int, int, int]]:
    """Return what is equal and what is not, as ``SequenceMatcher.get_opcodes`` does."""
    shorter = min(len(before), len(after))
    head = next((at for at in range(shorter) if before[at] != after[at]), shorter)
    rest = shorter - head
    tail = next((at for at in range(rest) if before[-1 - at] != after[-1 - at]), rest)
    middle, other = before[head : len(before) - tail], after[head : len(after) - tail]
    if max(len(middle), len(other)) > MAX_WORDS:
        changed = [("replace", 0, len(middle), 0, len(other))]
    else:
        changed = list(SequenceMatcher(None, middle, other, autojunk=False).get_opcodes())
    return [
        ("equal", 0, head, 0, head),
        *((tag, start + head, end + head, at + head, to + head) for tag, start, end, at, to in changed),
        ("equal", len(before) - tail, len(before), len(after) - tail, len(after)),
    ]


def _parts(words: list[str], codes: list[tuple[str, int, int]]) -> Iterator[Part]:
    for position, (tag, start, end) in enumerate(codes):
        text = "".join(words[start:end])
        if tag == "equal":
            text = _cut(text, is_first=position == 0, is_last=position == len(codes) - 1)
        if text:
            yield Part(text, tag != "equal")


def _cut(text: str, *, is_first: bool, is_last: bool) -> str:
    """Return what stands next to a change; what is far from any is left out."""
    if len(text) <= 2 * AROUND + 20:
        return text
    head = "" if is_first else text[:AROUND]
    tail = "" if is_last else text[-AROUND:]
    return f"{head} … {tail}"


class Run(NamedTuple):
    """A piece of two texts told as one: ``same`` in both, ``old`` or ``new`` in one of them."""

    text: str
    kind: str


# So many words that stay the same are shown on each side of one that changed.
WORDS_AROUND = 10
_SPACED = re.compile(r"\s*\S+")


def merge_words(old: str, new: str) -> tuple[Run, ...]:
    """Return both texts as one, with the words that changed and ten on each side of them."""
    before, after = _WORD.findall(old), _WORD.findall(new)
    runs: list[Run] = []
    codes = _compare(before, after)
    for place, (tag, start, end, at, to) in enumerate(codes):
        if tag == "equal":
            runs.append(Run(_near("".join(before[start:end]), place == 0, place == len(codes) - 1), "same"))
        else:
            runs += [Run("".join(before[start:end]), "old"), Run("".join(after[at:to]), "new")]
    return tuple(run for run in runs if run.text)


def _near(text: str, is_first: bool, is_last: bool) -> str:
    words = _SPACED.findall(text)
    head = [] if is_first else words[:WORDS_AROUND]
    tail = [] if is_last else words[-WORDS_AROUND:]
    if len(words) <= len(head) + len(tail) or (len(words) <= WORDS_AROUND and (is_first or is_last)):
        return text
    return f"{''.join(head)} … {''.join(tail).lstrip()}".lstrip() if not is_first else f"… {''.join(tail).lstrip()}"


# On a page that breaks lines by itself and is read from either side, hints of direction do no harm and breaks are kept.
_UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def spelled_out(text: str) -> str:
    r"""Return the text with what nobody sees, and what turns other text around, written as ``\x1b``."""
    return _UNSEEN.sub(escape, text)


def shorten(text: str, width: int) -> str:
    """Return at most ``width`` characters of the text, the last one an ellipsis if some were left out."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


SUMMARY_LINES = 3
SUMMARY_WIDTH = 80
DIGEST_WIDTH = 20
# More than a quarter of a page, be it a phone's.
LONG_TEXT, LONG_LINES = 600, 12
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

    @property
    def brief(self) -> ShownValue:
        """Return the value for a list, which shows three lines of it; the page of the event has all of it."""
        return self if len(self.text) <= LONG_TEXT else ShownValue(shorten(self.text, LONG_TEXT), self.kind)

    @property
    def is_long(self) -> bool:
        """Return whether a page should show it in a box that scrolls."""
        return len(self.text) > LONG_TEXT or self.text.count("\n") > LONG_LINES


NOTHING = ShownValue("—", "none")
# A key that a JSON object has not, which is not the same as one that holds null.
ABSENT = ShownValue("∅", "absent")
MAX_MEMBERS = 100
MOST_PERCENT = 100_000
_TENTH = Decimal("0.1")
# A project's context may raise for what is rounded.
_ROUNDED = Context(prec=28, traps=[InvalidOperation, DivisionByZero, Overflow])


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
    # The keys that lead to the value inside a JSON object; the label names these too.
    path: str = ""
    # By how much a number changed, in percent.
    percent: str = ""

    @property
    def field_label(self) -> str:
        """Return the label of the field alone."""
        return self.label.removesuffix(f".{self.path}") if self.path else self.label

    @property
    def is_members(self) -> bool:
        """Return whether it is a m2m field."""
        return bool(self.added or self.removed)


def _plain(value: object, column: models.Field[object, object] | None = None, reader: Reader = ANYBODY) -> ShownValue:
    if value is None:
        return NOTHING
    if value == "":
        return ShownValue(_("empty"), "empty")
    if isinstance(value, bool):
        return ShownValue(_("yes") if value else _("no"))
    if isinstance(value, Masked):
        return ShownValue(_("erased") if value.tag == ERASED_TAG else _("masked"), "masked")
    if isinstance(value, Digest):
        return ShownValue(_digest(value) if reader.is_localised else str(value), "digest")
    if isinstance(value, (dict, list)):
        return ShownValue(clean_text(json.dumps(value, indent=2, ensure_ascii=False, default=str)), "json")
    return ShownValue(clean_text(reader.write(column, value)))


def _digest(value: Digest) -> str:
    text = ngettext("%(digest)s (%(count)s byte)", "%(digest)s (%(count)s bytes)", value.length)
    return text % {"digest": shorten(value.digest, DIGEST_WIDTH), "count": number_format(value.length)}


def show_value(field: models.Field[object, object] | None, value: object, reader: Reader = ANYBODY) -> ShownValue:
    """Return a typed value of a field, which may be gone (None), as text; a choice by its label and value."""
    if getattr(field, "choices", None) and (shown := _plain(value)).kind in ("text", "none", "empty"):
        label = dict(field.flatchoices).get(value)  # type: ignore[union-attr]
        if label is not None:
            return ShownValue(f"{label} ({shown.text})" if shown.kind == "text" else str(label))
    return _plain(value, field, reader)


def label_of(field: models.Field[object, object] | None, name: str) -> str:
    """Return a field's label, the name it had when it is gone."""
    return capfirst(str(field.verbose_name)) if field is not None else name


# Of the old values, and of the new ones.
Readers: TypeAlias = "tuple[Reader, Reader]"


def _show_key(field: models.Field[object, object] | None, key: object, reader: Reader) -> ShownValue:
    """Return the key of another row with the name of that row, where it was looked up."""
    shown = show_value(field, key, reader)
    target = target_of(field)
    found = reader.name_of(target, str(key)) if target is not None and shown.kind == "text" else None
    if found is None:
        return shown
    name, is_there = found
    if name is None:
        return ShownValue(_("%(key)s (deleted)") % {"key": shown.text})
    if not is_there:
        return ShownValue(_("%(name)s (%(key)s, deleted)") % {"name": name, "key": shown.text})
    return ShownValue(shown.text if name == shown.text else f"{name} ({shown.text})")


def _show_members(
    field: models.Field[object, object] | None, name: str, change: M2MChange, readers: Readers
) -> ShownField:
    removed, added = _show_keys(field, change.removed, readers[0]), _show_keys(field, change.added, readers[1])
    return ShownField(name=name, label=label_of(field, name), added=added, removed=removed)


def _show_keys(
    field: models.Field[object, object] | None, keys: Sequence[object], reader: Reader
) -> tuple[ShownValue, ...]:
    shown = tuple(_show_key(field, key, reader) for key in keys[:MAX_MEMBERS])
    more = len(keys) - len(shown)
    if more <= 0:
        return shown
    return (*shown, ShownValue(ngettext("and %(count)d more", "and %(count)d more", more) % {"count": more}))


def _show_change(
    field: models.Field[object, object] | None, name: str, change: FieldChange, readers: Readers
) -> Iterator[ShownField]:
    """Yield the line of a field, or a line per changed key of a JSON object."""
    label, (old, new) = label_of(field, name), change
    if isinstance(old, dict) and isinstance(new, dict) and (old or new):
        yield from _show_document(name, label, old, new)
        return
    shown = _show_key(field, old, readers[0]), _show_key(field, new, readers[1])
    is_text = isinstance(old, str) and isinstance(new, str) and target_of(field) is None
    parts = mark_words(shown[0].text, shown[1].text) if is_text else ((), ())
    percent = "" if target_of(field) or getattr(field, "choices", None) else show_percent(old, new)
    yield ShownField(
        name=name, label=label, old=shown[0], new=shown[1], old_parts=parts[0], new_parts=parts[1], percent=percent
    )


def show_percent(old: object, new: object) -> str:
    """Return by how much a number changed, ``""`` for what is no number or has no ratio."""
    if not (_is_number(old) and _is_number(new)) or not old:
        return ""
    try:
        with localcontext(_ROUNDED):
            change = (Decimal(str(new)) - Decimal(str(old))) / abs(Decimal(str(old))) * 100
            # Django's number_format cuts digits off, and doesn't round.
            change = change.quantize(_TENTH, ROUND_HALF_UP)
    except ArithmeticError:
        return ""  # of a size that no column holds; an import or SQL wrote it
    # More says nothing that the two numbers don't, and less is none.
    if not 0 < abs(change) < MOST_PERCENT:
        return ""
    sign = "+" if change > 0 else "−"  # noqa: RUF001  # a minus, not a hyphen
    return f"{sign}{number_format(abs(change), 1)} %"


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool) and Decimal(str(value)).is_finite()


def _show_document(
    name: str, label: str, old: dict[str, object], new: dict[str, object], within: tuple[str, ...] = ()
) -> Iterator[ShownField]:
    for key in dict.fromkeys((*old, *new)):
        before, after = old.get(key), new.get(key)
        if key in old and key in new and before == after and isinstance(before, type(after)):
            continue
        keys = (*within, clean_text(key))
        if isinstance(before, dict) and isinstance(after, dict) and before and after:
            yield from _show_document(name, label, before, after, keys)
        else:
            was, now = _plain(before) if key in old else ABSENT, _plain(after) if key in new else ABSENT
            path, percent = ".".join(keys), show_percent(before, after)
            yield ShownField(name=name, label=f"{label}.{path}", old=was, new=now, path=path, percent=percent)


def show_fields(event: AuditEvent, reader: Reader = ANYBODY, before: Reader | None = None) -> list[ShownField]:
    """Return the lines of an event's diff in the order of the model's fields, m2m fields last.

    Args:
        event: The event.
        reader: Who reads them.
        before: Who reads the old values, where these are of another time.

    """
    lines: list[ShownField] = []
    reader = reader.as_of(event.pk)
    readers = before or reader, reader
    for name, change in event.field_changes.items():
        lines += _show_change(event.field(name), name, change, readers)
    members = event.m2m_changes.items()
    return lines + [_show_members(event.field(name), name, change, readers) for name, change in members]


def show_state(event: AuditEvent, state: dict[str, object], reader: Reader = ANYBODY) -> list[tuple[str, ShownValue]]:
    """Return label and value of each field of a recorded state; ``event`` is any event of the same model."""
    fields = {name: event.field(name) for name in state}
    return [(label_of(fields[name], name), _show_held(fields[name], value, reader)) for name, value in state.items()]


def _show_held(field: models.Field[object, object] | None, value: Any, reader: Reader) -> ShownValue:
    """Return a value of a state; the members of a m2m field one below the other where somebody reads their names."""
    if not (is_members(field) and reader.is_localised):
        return _show_key(field, value, reader)
    return ShownValue("\n".join(key.text for key in _show_keys(field, value, reader))) if value else NOTHING


def show_payload(payload: dict[str, Any]) -> list[tuple[str, ShownValue]]:
    """Return a JSON object as pairs of dotted key and value."""
    decoded = decode_tag(payload)
    return list(_pairs(decoded, "")) if isinstance(decoded, dict) else [(_("value"), _plain(decoded))]


def _pairs(values: dict[str, object], prefix: str) -> Iterator[tuple[str, ShownValue]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _pairs(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _plain(value)


def _value_line(event: AuditEvent, old: ShownValue, new: ShownValue) -> str:
    if event.event_type == EventType.DELETE:
        return old.line
    # A create has no old values, and neither has a baseline: an arrow from nothing would say nothing.
    is_first = event.event_type == EventType.CREATE or event.source == Source.BASELINE
    return new.line if is_first else f"{old.line} → {new.line}"


def _members_line(shown: ShownField) -> str:
    added = [f"+{member.line}" for member in shown.added]
    return ", ".join(added + [f"−{member.line}" for member in shown.removed])  # noqa: RUF001  # a minus, not a hyphen


def change_lines(event: AuditEvent, reader: Reader = ANYBODY) -> list[str]:
    """Return an event's changes, or its payload where it has none, as one line each, fit for a terminal."""
    if not event.changes:
        return [f"{printable(key)}: {value.line}" for key, value in show_payload(event.data)]
    return [
        f"{printable(shown.label)}: "
        + (_members_line(shown) if shown.is_members else _value_line(event, shown.old, shown.new))
        for shown in show_fields(event, reader)
    ]


def summarise(event: AuditEvent, reader: Reader = ANYBODY) -> list[str]:
    """Return the first few of the event's lines, shortened, and how many more there are."""
    lines = change_lines(event, reader)
    more = len(lines) - SUMMARY_LINES
    shown = [shorten(line, SUMMARY_WIDTH) for line in lines[:SUMMARY_LINES]]
    if more > 0:
        shown.append(ngettext("and %(count)d more", "and %(count)d more", more) % {"count": more})
    return shown


def show_actor(event: AuditEvent) -> str:
    """Return the actor's name at the time, the key where there was none, ``""`` for nobody."""
    return event.actor_repr or event.actor_id


def show_impersonator(event: AuditEvent) -> str:
    """Return the name of the user who impersonated the actor, the key where there was none, ``""`` for nobody."""
    found = event.context.get("impersonator") if isinstance(event.context, dict) else None
    return str(found.get("repr") or found.get("id") or "") if isinstance(found, dict) else ""


def show_actors(event: AuditEvent) -> str:
    """Return the actor's name, with that of the user who impersonated them."""
    actor, impersonator = show_actor(event), show_impersonator(event)
    if not impersonator:
        return actor
    return _("%(actor)s (impersonated by %(impersonator)s)") % {"actor": actor, "impersonator": impersonator}


def show_reason(event: AuditEvent) -> str:
    """Return why it was done, as ``audit_context`` was told."""
    return str(event.context.get("reason", "")) if isinstance(event.context, dict) else ""
