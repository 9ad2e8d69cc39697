"""What the page of the inbox shows of each message: what changed, who did it, and the way to the object."""

from __future__ import annotations

import datetime as dt
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from urllib.parse import urlsplit

from django.db.models import Model
from django.http import HttpRequest

from django_signal_audit.admin.links import object_url
from django_signal_audit.delivery.rendering import reason_of
from django_signal_audit.events.keys import parse_id
from django_signal_audit.events.project_code import own_queries_anywhere
from django_signal_audit.inbox.choices import events_of, objects_to_mute
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.models.fields import in_project_time
from django_signal_audit.reports.formatter import local, show_day
from django_signal_audit.viewing import record_view, watches_views
from django_signal_audit.web.panel import Entry, entry_of
from django_signal_audit.web.reading import access_for, audit_site, may_view_log

logger = logging.getLogger("django_signal_audit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One message.

    Attributes:
        message: The message.
        moment: When it was sent.
        name: What its object is called, ``""`` if it is about none or several, or its user may not see it.
        url: Where the object is opened, ``""`` if it is gone or there is no such page.
        change: What changed, None if the user may not view events.
        mutes: What the object is called that can be muted, ``""`` if none can.
        reason: Why the user gets the message, and how to get no more.

    """

    message: Notification
    moment: dt.datetime | None = None
    name: str = ""
    url: str = ""
    change: Entry | None = None
    mutes: str = ""
    reason: str = ""


@dataclass(slots=True)
class Day:
    """The messages of one day."""

    title: str
    messages: list[Shown] = field(default_factory=list)


def days_of(request: HttpRequest, messages: Sequence[Notification]) -> list[Day]:
    """Return messages by day, in their order; that their objects are shown is recorded where a rule asks for it."""
    events = events_of(messages)
    visible = _visible(request, [events[uid] for uid in dict.fromkeys(row.event for row in messages) if uid in events])
    rows = _rows_of(visible.values())
    mutable = objects_to_mute(messages, events)
    reader = access_for(request).reader_of(list(visible.values()))
    shown = []
    for message in messages:
        event = visible.get(message.event)
        row = rows.get((event.model, event.object_id)) if event is not None else None
        muted = mutable.get(message.pk)
        shown.append(
            Shown(
                message=message,
                moment=in_project_time(message.sent_at) if message.sent_at is not None else None,
                name=event.object_repr if event is not None and event.model else "",
                url=_url_of(request, event, row) if event is not None and row is not None else "",
                change=entry_of(event, reader) if event is not None else None,
                mutes=(muted.object_repr or muted.object_id) if muted is not None else "",
                reason=reason_of(message, request.user),
            )
        )
    if watches_views():
        for row in rows.values():
            record_view(row)
    return [Day(title, list(together)) for title, together in groupby(shown, lambda one: _title(one.moment))]


_SCHEMES = ("", "http", "https")


def _title(moment: dt.datetime | None) -> str:
    return "" if moment is None else show_day(local(moment))


def _visible(request: HttpRequest, events: Sequence[AuditEvent]) -> dict[object, AuditEvent]:
    """Return the events that the user may see, by uid, without the fields that they may not see."""
    if not events or not may_view_log(request):
        return {}
    access = access_for(request)
    return {event.uid: event for event in access.redact(access.filter(events))}


def _rows_of(events: Iterable[AuditEvent]) -> Mapping[tuple[str, str], Model]:
    """Return the objects of events, as far as they are still there: one query for each model."""
    keys: dict[type[Model], dict[object, tuple[str, str]]] = defaultdict(dict)
    for event in events:
        model = event.model_class
        pk = parse_id(model, event.object_id) if model is not None and event.object_id else None
        if model is not None and pk is not None:
            keys[model][pk] = event.model, event.object_id
    found = {}
    for model, names in keys.items():
        try:
            with own_queries_anywhere():
                rows = model._default_manager.in_bulk(list(names))
        except Exception:
            logger.exception("The %s of messages could not be loaded; they are shown without links.", model.__name__)
            continue
        found.update({name: rows[pk] for pk, name in names.items() if pk in rows})
    return found


def _url_of(request: HttpRequest, event: AuditEvent, row: Model) -> str:
    """Return the page of an object: the project's, else the form of the admin for those who may log in there."""
    absolute = getattr(row, "get_absolute_url", None)
    if callable(absolute):
        try:
            with own_queries_anywhere():
                if url := _safe(str(absolute())):
                    return url
        except Exception:
            logger.exception("get_absolute_url() of %s failed.", event.model)
    site = audit_site()
    return object_url(site.name, event) if site is not None and site.has_permission(request) else ""


def _safe(url: str) -> str:
    """Return the address, ``""`` if it leads elsewhere than to a page: people may have typed it."""
    url = url.strip()
    if not url.isprintable():
        return ""  # browsers leave out what can't be seen
    try:
        return url if urlsplit(url).scheme in _SCHEMES else ""
    except ValueError:
        return ""
