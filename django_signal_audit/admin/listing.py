"""The list of events as people read it: by day, and by who did what for which reason."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from django.contrib.admin import AdminSite
from django.utils.formats import date_format
from django.utils.text import Truncator, capfirst
from django.utils.translation import gettext as _

from django_signal_audit.enums import EventType, Level
from django_signal_audit.models import AuditEvent
from django_signal_audit.reports.display import (
    LONG_TEXT,
    Run,
    ShownField,
    ShownValue,
    merge_words,
    printable,
    shorten,
    show_actor,
    show_actors,
    show_fields,
    show_impersonator,
    show_payload,
    show_reason,
)
from django_signal_audit.reports.formatter import ANYBODY, Reader, local, show_day, show_moment, show_short
from django_signal_audit.reports.sentences import sentence_of
from django_signal_audit.rules.registry import get_registry

from .links import actor_url, event_url, events_url, history_url

# So many fields of a change are shown, and so many of one that has all fields anyway.
MAX_LINES, MAX_LINES_OF_ALL = 3, 2
# A group of more than MAX_ROWS shows as many as SHOWN_ROWS, and the others on demand.
MAX_ROWS, SHOWN_ROWS = 6, 5
# Types of events are texts, and so are the members of EventType.
ICONS: dict[str, str] = {
    EventType.CREATE: "create",
    EventType.UPDATE: "update",
    EventType.DELETE: "delete",
    EventType.M2M: "m2m",
    EventType.BASELINE: "create",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One field of a change."""

    field: ShownField
    # Both texts as one, where words of a long text changed.
    runs: tuple[Run, ...] = ()
    # Whether the value before, or the one after, says nothing: it was created, or deleted.
    has_old: bool = True
    has_new: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One event."""

    event: AuditEvent
    icon: str
    kind: str
    name: str
    model: str
    history_url: str
    url: str
    time: str
    clock: str
    lines: Sequence[Line]
    more: int
    code: str
    sentence: str
    data: Sequence[tuple[str, ShownValue]]
    notifying: Sequence[str]
    level: str
    is_cut: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Events of one actor, request and reason that follow each other."""

    actor: str
    actors: str
    actor_url: str
    impersonator: str
    time: str
    clock: str
    moment: dt.datetime
    reason: str
    path: str
    origin: str
    together_url: str
    rows: Sequence[Row]
    others: Sequence[Row] = ()

    @property
    def span(self) -> int:
        """Return how many rows of a table the group takes."""
        return len(self.rows) + bool(self.others)


@dataclass(frozen=True, slots=True)
class Day:
    """The groups of one day."""

    title: str
    groups: list[Group] = field(default_factory=list)


def by_day(site: AdminSite, events: Iterable[AuditEvent]) -> list[Day]:
    """Return the events of a page by day and group, in their order."""
    notifying = notifying_rules()
    days: list[Day] = []
    for (day, *_rest), together in groupby(events, lambda one: (local(one.recorded_at).date(), *group_key(one))):
        title = show_day(day)
        if not days or days[-1].title != title:
            days.append(Day(title))
        days[-1].groups.append(group_of(site, list(together), notifying))
    return days


def group_key(event: AuditEvent) -> tuple[Any, ...]:
    """Return what events of one group have in common."""
    return event.correlation_id or event.pk, event.actor_id, event.actor_repr, show_reason(event)


def notifying_rules() -> set[str]:
    """Return the names of the rules that notify anybody."""
    return {rule.name for rule in get_registry().rules if rule.notify}


def group_of(
    site: AdminSite, events: Sequence[AuditEvent], notifying: set[str], reader: Reader | None = None, only: str = ""
) -> Group:
    """Return events of one actor, request and reason ready for a template; of one field only, where that is named."""
    first = events[0]
    rows = [row_of(site.name, event, notifying, reader, only) for event in events]
    cut = SHOWN_ROWS if len(rows) > MAX_ROWS else len(rows)
    path, origin = origin_of(first)
    return Group(
        actor=show_actor(first),
        actors=show_actors(first),
        actor_url=actor_url(site.name, first.actor_id, first.actor_repr),
        impersonator=show_impersonator(first),
        time=show_moment(first.recorded_at),
        clock=show_hour(first.recorded_at),
        moment=first.recorded_at,
        reason=shorten(show_reason(first), LONG_TEXT),
        path=shorten(path, LONG_TEXT),
        origin=origin,
        together_url=events_url(site.name, request=first.correlation_id) if first.correlation_id else "",
        rows=rows[:cut],
        others=rows[cut:],
    )


def show_hour(moment: dt.datetime) -> str:
    """Return the hour and minute of a moment in the current time zone."""
    return date_format(local(moment), "H:i")


def origin_of(event: AuditEvent) -> tuple[str, str]:
    """Return where an event comes from, and what kind of place that is: request, command, task, or ``""``."""
    request = event.context.get("request")
    if isinstance(request, Mapping):
        return " ".join(str(request.get(part, "")) for part in ("method", "path")).strip(), "request"
    for kind in ("task", "command"):
        if event.context.get(kind):
            return str(event.context[kind]), kind
    return "", ""


def row_of(
    site: str, event: AuditEvent, notifying: Iterable[str] = (), reader: Reader | None = None, only: str = ""
) -> Row:
    """Return one event ready for a template.

    Args:
        site: The name of the admin site.
        event: The event.
        notifying: The rules that notify anybody.
        reader: Who reads it.
        only: The field that is shown; all if empty.

    """
    if reader is None:
        reader = getattr(event, "reader", None) or ANYBODY
    lines = [line for line in lines_of(event, reader) if not only or line.field.name == only]
    most = _most_lines(event)
    is_known = event.event_type in EventType.values
    sentence = sentence_of(event)
    data = [] if sentence or lines else [(name, value.brief) for name, value in show_payload(event.data)]
    has_object = bool(event.object_id and event.model)
    return Row(
        event=event,
        icon=icon_of(event),
        kind=kind_of(event),
        name=event.object_repr or event.object_id,
        model=model_name(event),
        history_url=history_url(site, event.model, event.object_id) if has_object else "",
        url=event_url(site, event.pk),
        time=show_moment(event.recorded_at),
        clock=show_hour(event.recorded_at),
        lines=lines[:most],
        more=max(len(lines) - most, 0) + max(len(data) - MAX_LINES, 0),
        code="" if is_known or sentence else event.event_type,
        sentence=sentence,
        data=data[:MAX_LINES],
        notifying=[name for name in event.rules if name in notifying],
        level="" if event.level == Level.INFO else event.get_level_display(),
        is_cut=getattr(event, "is_cut", False),
    )


def _most_lines(event: AuditEvent) -> int:
    """Return how many lines of an event a list shows: more where they are all that an object has."""
    shows_all = event.event_type in (EventType.CREATE, EventType.DELETE, EventType.BASELINE)
    return MAX_LINES_OF_ALL if shows_all else MAX_LINES


def lines_of(event: AuditEvent, reader: Reader) -> Iterator[Line]:
    """Yield the lines of a change; those of a created or deleted object begin with what it had."""
    has_old = event.event_type not in (EventType.CREATE, EventType.BASELINE)
    has_new = event.event_type != EventType.DELETE
    shown = show_fields(event, reader)
    if not (has_old and has_new):
        shown.sort(key=lambda one: not _says_something(one, has_new=has_new))
    for one in shown:
        is_text = bool(one.old_parts or one.new_parts)
        runs = tuple(_brief_runs(merge_words(one.old.text, one.new.text))) if is_text else ()
        yield Line(replace(one, old=one.old.brief, new=one.new.brief), runs, has_old, has_new)


def _brief_runs(runs: Iterable[Run]) -> Iterator[Run]:
    """Yield as much of a text as a list has room for, with something of both sides of a long change."""
    room = LONG_TEXT
    for run in runs:
        if room <= 0:
            return
        text = shorten(run.text, LONG_TEXT // 3)
        room -= len(text)
        yield Run(text, run.kind)


def _says_something(shown: ShownField, *, has_new: bool) -> bool:
    value = shown.new if has_new else shown.old
    return shown.is_members or value.kind not in ("none", "empty", "absent")


def icon_of(event: AuditEvent) -> str:
    """Return the name of the icon of an event."""
    if event.level != Level.INFO and event.event_type not in ICONS:
        return "warning"
    return ICONS.get(event.event_type, "custom")


def kind_of(event: AuditEvent) -> str:
    """Return in a word what happened."""
    words: dict[str, str] = {
        EventType.CREATE: _("created"),
        EventType.UPDATE: _("changed"),
        EventType.DELETE: _("deleted"),
        EventType.M2M: _("related objects changed"),
    }
    return words.get(event.event_type) or EventType.label_of(event.event_type)


def name_with_time(event: AuditEvent) -> str:
    """Return what an event is called where a page leads to it: its object, or what happened, and when."""
    name = printable(event.object_repr or event.object_id) or kind_of(event)
    return f"{Truncator(name).chars(60)}, {show_short(event.recorded_at)}"


def model_name(event: AuditEvent) -> str:
    """Return what the model of an event is called, its label where it is gone."""
    model = event.model_class
    return str(capfirst(model._meta.verbose_name)) if model else event.model
