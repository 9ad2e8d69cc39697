"""The panel: the latest changes of one object, on any page of a project."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import models
from django.db.models import Q
from django.http import HttpRequest, QueryDict
from django.utils import timezone
from django.utils.formats import date_format

from django_signal_audit.admin.access import Access
from django_signal_audit.admin.links import history_url
from django_signal_audit.admin.listing import Line, kind_of, lines_of, show_hour
from django_signal_audit.admin.search.conditions import Condition
from django_signal_audit.enums import MODEL_EVENTS, EventType
from django_signal_audit.events.keys import row_name
from django_signal_audit.models import AuditEvent, AuditEventQuerySet
from django_signal_audit.models.fields import in_project_time
from django_signal_audit.models.inheritance import mti_children
from django_signal_audit.models.renames import current_name
from django_signal_audit.problems import did_you_mean, shown
from django_signal_audit.reports.base import WrongArgument
from django_signal_audit.reports.display import LONG_TEXT, shorten, show_actors, show_reason
from django_signal_audit.reports.formatter import Reader, local, show_date, show_moment
from django_signal_audit.rules.registry import get_registry

from .reading import LIMIT, MOST_PER_PAGE, access_for, audit_site, may_view_log, object_events

# Of a created or deleted object, so many fields are shown, and of a change so many.
MAX_LINES, MAX_LINES_OF_ALL = 5, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One event of the panel."""

    kind: str
    lines: Sequence[Line]
    more: int
    actor: str
    reason: str
    moment: dt.datetime
    time: str
    brief: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """What the panel of one object shows; ``url`` is the page with its full history, ``""`` if they can't open it."""

    entries: Sequence[Entry]
    url: str


def panel_of(request: HttpRequest, instance: models.Model, limit: int, fields: Collection[str]) -> Panel | None:
    """Return the panel of an object, None if the user may not view its history.

    Args:
        request: The request.
        instance: The object.
        limit: How many changes are shown at most.
        fields: The fields that are shown; all if empty.

    """
    model, key = _place(instance)
    # A middleware may have answered before the request got a user.
    if not key or not may_view_log(request):
        return None
    parameters = QueryDict(mutable=True)
    parameters[LIMIT] = str(min(max(limit, 1), MOST_PER_PAGE))
    label, access = model._meta.label_lower, access_for(request)
    using = instance._state.db or ""
    page = object_events(request, label, key, parameters, using=using, conditions=[_is_change(access, fields)])
    if page is None:
        return None
    reader = access.reader_of(page.events)
    entries = [entry_of(event, reader, fields) for event in page.events]
    return Panel(entries=entries, url=_full_history(request, label, key))


def known_fields(instance: models.Model, names: Iterable[str]) -> set[str]:
    """Return the fields of an object by the names of today.

    Args:
        instance: The object.
        names: What the fields are called, or were called before they were renamed.

    Raises:
        WrongArgument: There is no such field.

    """
    model, _key = _place(instance)
    own = type(instance)._meta.concrete_model or type(instance)
    kinds = dict.fromkeys((own, model, *mti_children(model)))
    known = {field.name for kind in kinds for field in (*kind._meta.concrete_fields, *kind._meta.many_to_many)}
    current = [current_name(model._meta.label_lower, name) for name in names]
    for name in current:
        if name not in known:
            msg = f"{shown(name)} isn't a field of {own._meta.label}. {did_you_mean(name, known)}"
            raise WrongArgument(msg)
    return set(current)


def _place(instance: models.Model) -> tuple[type[models.Model], str]:
    """Return the model and the name of the row whose events are the object's.

    A multi-table child without a rule of its own has the history of its nearest parent with one.
    """
    registry = get_registry()
    plan = registry.plan_for(type(instance)) or next(iter(registry.senders.get(type(instance), ())), None)
    model = plan.model if plan is not None else type(instance)._meta.concrete_model or type(instance)
    key: Any = model._meta.pk
    pk = instance.pk if plan is None or isinstance(instance.pk, tuple) else getattr(instance, key.attname)
    return model, "" if pk is None else row_name(model, pk)


def _is_change(access: Access, fields: Collection[str]) -> Condition:
    """Return the condition that an event changed the object, in a field that is shown and that the user may see."""

    def check(events: AuditEventQuerySet) -> set[int]:
        shown = access.redact(events.order_by())
        return {event.pk for event in shown if _shows_anything(event, fields)}

    return Condition(Q(event_type__in=MODEL_EVENTS), check=check)


def _shows_anything(event: AuditEvent, fields: Collection[str]) -> bool:
    # An object that was created without a value says nothing of that field.
    named = {name for name, change in event.changes.items() if change != [None, None]}
    if fields:
        return not named.isdisjoint(fields)
    return bool(named) or event.event_type in (EventType.CREATE, EventType.DELETE)


def _lines(event: AuditEvent, reader: Reader, fields: Collection[str]) -> list[Line]:
    shown = [line for line in lines_of(event, reader) if not fields or line.field.name in fields]
    return [line for line in shown if line.field.is_members or {line.field.old.kind, line.field.new.kind} != {"none"}]


def entry_of(event: AuditEvent, reader: Reader, fields: Collection[str] = ()) -> Entry:
    """Return what is shown of an event.

    Args:
        event: The event, without the fields that the user may not see.
        reader: How values are shown to the user.
        fields: The fields that are shown; all if empty.

    """
    lines, moment = _lines(event, reader, fields), in_project_time(event.recorded_at)
    is_whole = event.event_type in (EventType.CREATE, EventType.DELETE)
    most = MAX_LINES_OF_ALL if is_whole else MAX_LINES
    return Entry(
        kind=kind_of(event) if is_whole else "",
        lines=lines[:most],
        more=max(len(lines) - most, 0),
        actor=show_actors(event),
        reason=shorten(show_reason(event), LONG_TEXT),
        moment=moment,
        time=show_moment(event.recorded_at),
        brief=_brief(moment),
    )


def _brief(moment: dt.datetime) -> str:
    """Return day, hour and minute of a moment, with the year if it isn't this one."""
    here = local(moment)
    day = date_format(here, "MONTH_DAY_FORMAT") if here.year == local(timezone.now()).year else show_date(here)
    return f"{day}, {show_hour(moment)}"


def _full_history(request: HttpRequest, label: str, key: str) -> str:
    """Return the address of the object's history in the admin for users who may log in there, ``""`` for others."""
    site = audit_site()
    if site is None or not site.has_permission(request):
        return ""
    return history_url(site.name, label, key)
