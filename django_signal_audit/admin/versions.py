"""An object at the points of its history, and what differs between two of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.db import models
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from django_signal_audit.enums import EventType
from django_signal_audit.events.documents import JSONValue
from django_signal_audit.events.keys import parse_id
from django_signal_audit.events.values import canonical_json, decode
from django_signal_audit.models import AuditEvent, AuditEventQuerySet
from django_signal_audit.models.events import recorded_state, utc_now
from django_signal_audit.models.state import Recorded, in_order, own_fields, typed
from django_signal_audit.replay.comparison import is_same
from django_signal_audit.reports.arguments import parse_moment
from django_signal_audit.reports.base import WrongArgument
from django_signal_audit.reports.display import (
    ShownField,
    ShownValue,
    show_actors,
    show_fields,
    show_reason,
    show_state,
)
from django_signal_audit.reports.formatter import Reader, show_brief
from django_signal_audit.rules.patterns import Field

from .reverting.m2m import present_values
from .subjects import Subject

# How an address names the object as it is now.
CURRENT = "current"
# The key of an event, and no date: those have other characters as well.
_DIGITS = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """An object at one point of its history.

    Attributes:
        point: What an address has to say to mean the same point again.
        values: What is recorded, as JSON; None if the object did not exist, or nothing is recorded.
        event: The last change up to there, None where there was none.
        moment: The time that was asked for, None where it was a change or the present.

    """

    point: str
    values: Recorded | None
    event: AuditEvent | None
    moment: dt.datetime | None = None

    @property
    def is_current(self) -> bool:
        """Return whether it is what the object is now."""
        return self.point == CURRENT

    @property
    def event_id(self) -> int:
        """Return the event at whose time things are called as the version has them; 0 for now."""
        return 0 if self.is_current or self.event is None else self.event.pk

    @property
    def title(self) -> str:
        """Return when it was."""
        if self.is_current:
            return pgettext("version", "Current")
        moment = self.moment or (self.event.recorded_at if self.event else None)
        return show_brief(moment) if moment else self.point

    @property
    def at(self) -> str | None:
        """Return when it was, for machines; None for now."""
        moment = self.moment or (self.event.recorded_at if self.event else None)
        return None if self.is_current or moment is None else moment.isoformat()

    @property
    def changed(self) -> str:
        """Return when the last change up to there was made."""
        return show_brief(self.event.recorded_at) if self.event else ""

    @property
    def is_deleted(self) -> bool:
        """Return whether the object had been deleted by then."""
        return self.values is None and self.event is not None and self.event.event_type == EventType.DELETE

    @property
    def by(self) -> str:
        """Return who made it what it was, and why."""
        if self.event is None:
            return ""
        return ", ".join(filter(None, [show_actors(self.event) or _("no actor"), show_reason(self.event)]))


def version_of(subject: Subject, point: str) -> Version:
    """Return an object at a point.

    Args:
        subject: The object.
        point: ``"current"``, the key of an event, or a time as ``parse_moment`` takes it.

    Raises:
        WrongArgument: It is none of these.

    """
    point = point.strip()
    if point.lower() in ("", CURRENT, pgettext("version", "Current").lower()):
        return Version(point=CURRENT, values=_present(subject), event=subject.last)
    if is_key(point):
        return _after(subject, int(point))
    moment = parse_moment(point, utc_now())
    values = _recorded(subject, subject.events, moment)
    event = subject.last_of(subject.row_events.filter(recorded_at__lte=moment))
    return Version(point=moment.isoformat(), values=values, event=event, moment=moment)


def is_key(point: str) -> bool:
    """Return whether a point is the key of an event; those of imported events are negative."""
    digits = point.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS


def _after(subject: Subject, pk: int) -> Version:
    event = subject.event(pk)
    if event is None:
        raise WrongArgument(_("This object has no such version."))
    return Version(point=str(pk), values=_recorded(subject, subject.events.filter(pk__lte=pk)), event=event)


def _recorded(subject: Subject, events: AuditEventQuerySet, at: dt.datetime | None = None) -> Recorded | None:
    if subject.model is None:
        raise WrongArgument(_("The model “%(model)s” no longer exists.") % {"model": subject.label})
    pk = parse_id(subject.model, subject.key)
    try:
        state = recorded_state(events, subject.model, subject.key if pk is None else pk, at)
    except (AttributeError, KeyError, TypeError, ValueError):
        # SQL can store any JSON.
        raise WrongArgument(_("The history of this object can't be read.")) from None
    if state.values is None:
        return None
    until = events if at is None else events.filter(recorded_at__lte=at)
    values = subject.visible_state(state.values, until)
    if values is None or subject.plan is None or not state.has_start:
        return values
    # No event says of an object that it has had no members yet.
    members = {name for name in subject.plan.members.keys() & subject.plan.covered if name in own_fields(subject.model)}
    return {**{name: [] for name in members if name not in state.values}, **values}


def _present(subject: Subject) -> Recorded | None:
    """Return what the row holds now of what the rules audit, as an event would have it."""
    # Of whose events the project hides some, the row would tell what they say.
    if subject.instance is not None and subject.plan is not None and not subject.is_left_to_project:
        return present_values(subject.instance, subject.plan, subject.using)
    if subject.last is not None and subject.last.event_type == EventType.DELETE:
        return None
    return _recorded(subject, subject.events)


def changes_between(subject: Subject, older: Recorded, newer: Recorded, *, is_whole: bool = False) -> Recorded:
    """Return what differs, as the ``changes`` of an event that leads from one state to the other.

    Args:
        subject: The object.
        older: What it was.
        newer: What it came to be; a field that either of them lacks is not known to differ.
        is_whole: Whether what is lacking is null, as before an object is created and after it is deleted.

    """
    found: Recorded = {}
    for name in in_order(subject.model, {**older, **newer}):
        field = subject.change({}).field(name)
        if not is_whole and not (name in older and name in newer):
            continue
        old, new = older.get(name), newer.get(name)
        if isinstance(field, models.ManyToManyField):
            if change := _exchange(old or [], new or []):
                found[name] = change
        elif is_whole or _differ(field, old, new):
            found[name] = [old, new]
    return found


def _exchange(old: Sequence[object], new: Sequence[object]) -> Recorded:
    before, after = set(old), set(new)
    added, removed = [key for key in new if key not in before], [key for key in old if key not in after]
    return {"added": added, "removed": removed} if added or removed else {}


def _differ(field: Field | None, old: JSONValue, new: JSONValue) -> bool:
    if canonical_json(old) == canonical_json(new):
        return False
    # What was recorded before its column was altered may be spelled otherwise.
    return field is None or not is_same(field, old, decode(field, new))


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRow:
    """A field in two versions: a line, or one for each part of it that differs."""

    name: str
    lines: Sequence[ShownField]
    differs: bool = True


def rows_between(subject: Subject, older: Version, newer: Version, *, shows_members: bool = False) -> list[FieldRow]:
    """Return the fields of two versions that the user may see, in the order of the model.

    Args:
        subject: The object.
        older: What it was.
        newer: What it came to be.
        shows_members: Whether all members of m2m fields are shown, and not only those that came or went.

    """
    is_whole = older.values is None or newer.values is None
    old, new = (
        {name: one for name, one in (side.values or {}).items() if subject.shows(name)} for side in (older, newer)
    )
    event = subject.change(changes_between(subject, old, new, is_whole=is_whole))
    # Once more with all values, for the names of what they refer to: at the time of each version.
    reader = subject.access.reader_of([_naming(subject, old, older), _naming(subject, new, newer)])
    before, after = reader.as_of(older.event_id), reader.as_of(newer.event_id)
    lines: dict[str, list[ShownField]] = {}
    for line in show_fields(event, after, before):
        lines.setdefault(line.name, []).append(line)
    if subject.model is not None:
        sides = [dict(_shown(subject.model, event, side, read)) for side, read in ((old, before), (new, after))]
        members = {name for name, change in event.changes.items() if isinstance(change, dict) and shows_members}
        for name in {**old, **new}.keys() - (lines.keys() - members):
            lines[name] = [_unchanged(name, *(side.get(name) for side in sides))]
    return [
        FieldRow(name=name, lines=lines[name], differs=name in event.changes) for name in in_order(subject.model, lines)
    ]


def _naming(subject: Subject, values: Recorded, version: Version) -> AuditEvent:
    """Return an event that names what a version refers to."""
    event = subject.change({})
    event.pk = version.event_id
    for name, value in values.items():
        is_m2m = isinstance(event.field(name), models.ManyToManyField)
        event.changes[name] = {"added": value or [], "removed": []} if is_m2m else [value, None]
    return event


def _shown(
    model: type[models.Model], event: AuditEvent, values: Recorded, reader: Reader
) -> Iterable[tuple[str, tuple[str, ShownValue]]]:
    state = typed(model, values)
    return zip(state, show_state(event, state, reader), strict=True)


def _unchanged(name: str, old: tuple[str, ShownValue] | None, new: tuple[str, ShownValue] | None) -> ShownField:
    unknown = ShownValue(_("not recorded"), "none")
    label = (old or new or (name, unknown))[0]
    return ShownField(name=name, label=label, old=old[1] if old else unknown, new=new[1] if new else unknown)
