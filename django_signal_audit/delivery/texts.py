"""What messages say where the rule has no text: in a sentence what happened, and the change with names and labels."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from copy import copy
from itertools import groupby
from typing import Any

from django.apps import apps
from django.db.models import Model
from django.utils.formats import number_format
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_signal_audit.channels.content import Content, Group, Line, Told
from django_signal_audit.delivery.links import address
from django_signal_audit.delivery.recipients import GROUP, SUPERUSERS
from django_signal_audit.enums import MODEL_EVENTS, EventType, Source
from django_signal_audit.events.keys import object_id
from django_signal_audit.events.secret_fields import has_secret_key
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.models.renames import current_name, former_labels
from django_signal_audit.reports.display import (
    ShownField,
    ShownValue,
    shorten,
    show_actor,
    show_actors,
    show_fields,
    show_payload,
    show_reason,
)
from django_signal_audit.reports.formatter import Reader, local, show_date, show_day
from django_signal_audit.reports.relations import related_names
from django_signal_audit.reports.sentences import sentence_of
from django_signal_audit.rules.schema import Rule
from django_signal_audit.rules.visibility import is_left_to_project, knows_permissions, may_view_model, narrowed

# What one message spells out. A bulk call may make a digest of any number of events.
MAX_EVENTS = 50
# Of one event, that many lines, and of one in a digest.
MAX_LINES = 50
MAX_DIGEST_LINES = 5
# Longer texts are cut: a mail is no place for them, and the event has them.
WIDTH = 500
# In a subject, values are short.
SUBJECT_WIDTH = 40
MAX_NAMED = 3


def content_of(events: Sequence[AuditEvent], rule: Rule, reader: Reader, *, has_links: bool) -> Content:
    """Return what a message says, in the active language and time zone.

    Args:
        events: What it is about.
        rule: The rule.
        reader: Who reads it, and which rows they may know by name.
        has_links: Whether the reader may open pages of the admin.

    """
    # The newest day comes first, and in a day the events are in order.
    shown = sorted(events[-MAX_EVENTS:], key=lambda event: local(event.recorded_at).date(), reverse=True)
    most = MAX_LINES if len(events) == 1 else MAX_DIGEST_LINES
    told = [(event, _told(_of_rule(event, rule), reader, most, has_links=has_links)) for event in shown]
    if len(events) == 1:
        return Content(title=_title(events), groups=[Group(day="", by="", told=[one for _event, one in told])])
    groups = [_group(list(together)) for _key, together in groupby(told, lambda pair: _group_key(pair[0]))]
    more = len(events) - len(shown)
    return Content(
        title=_title(events),
        span=_span(events),
        groups=groups,
        more=more_events(more) if more else "",
        url=_list_url(rule.name) if has_links else "",
    )


def more_events(count: int) -> str:
    """Return how many events there are besides those that are told of."""
    return ngettext("and %(count)d more event", "and %(count)d more events", count) % {"count": count}


def _of_rule(event: AuditEvent, rule: Rule) -> AuditEvent:
    """Return the event with the fields of one rule: those that only other rules record weren't asked for."""
    fields, changes = set(rule.fields), event.changes
    if not (fields or rule.exclude) or not isinstance(changes, dict):
        return event
    present = {name: current_name(event.model, name) for name in changes}
    kept = {name for name, now in present.items() if now not in rule.exclude and (not fields or now in fields)}
    # None are left where the settings changed since.
    if not kept or len(kept) == len(changes):
        return event
    shown = copy(event)
    shown.changes = {name: value for name, value in changes.items() if name in kept}
    return shown


def reader_of(events: Sequence[AuditEvent], user: Model | None, *, checks_permission: bool) -> Reader:
    """Return how somebody reads the events: keys have the names of those rows that they may view.

    Args:
        events: The events.
        user: The user, None for an address that is nobody's.
        checks_permission: Whether the channel asks what users may view.

    """
    is_asked = checks_permission and user is not None and knows_permissions(user)

    def may_name(model: type[Model]) -> bool:
        return not has_secret_key(model) and (not is_asked or may_view_model(user, model._meta.label_lower))

    def readable(rows: Sequence[Model]) -> Sequence[Model]:
        return _visible(user, rows) if is_asked else rows

    return Reader(related_names(events, may_name, readable), is_localised=True)


def _visible(user: object, rows: Sequence[Model]) -> Sequence[Model]:
    """Return those of the rows of one model that the project's VISIBILITY shows the user events of."""
    label = rows[0]._meta.label_lower if rows else ""
    if not label or not is_left_to_project(label):
        return rows
    of_model = AuditEvent.of_all_tenants.using(rows[0]._state.db).filter(model__in=[label, *former_labels(label)])
    keyed = {object_id(row.pk): row for row in rows}
    seen = set(narrowed(user, of_model.filter(object_id__in=keyed)).values_list("object_id", flat=True))
    return [row for key, row in keyed.items() if key in seen]


def subject_of(events: Sequence[AuditEvent], rule: Rule, reader: Reader) -> str:
    """Return in a sentence what happened; of several events, how many there are, to what, and its names."""
    if len(events) == 1:
        event = _of_rule(events[0], rule)
        return sentence(event, show_fields(event, reader) if event.event_type in _CHANGES else ())
    names = list(dict.fromkeys(event.object_repr for event in events if event.object_repr))
    return f"{rule.name}: {_title(events)} ({_named(names)})" if names else f"{rule.name}: {_title(events)}"


def _named(names: Sequence[str]) -> str:
    shown = [shorten(name, SUBJECT_WIDTH) for name in names[: MAX_NAMED if len(names) == MAX_NAMED else 2]]
    more = len(names) - len(shown)
    if more:
        text = ngettext("%(names)s and %(count)s other", "%(names)s and %(count)s others", more)
        return text % {"names": ", ".join(shown), "count": number_format(more)}
    *first, last = shown
    return _("%(first)s and %(last)s") % {"first": ", ".join(first), "last": last} if first else last


def sentence(event: AuditEvent, shown: Sequence[ShownField]) -> str:
    """Return what happened, in a sentence.

    Args:
        event: The event.
        shown: Its fields; only the sentence about a change names them.

    """
    own = sentence_of(event)
    if own:
        return own
    if event.event_type in _OF_ROWS:
        return _OF_ROWS[event.event_type](event, shown)
    if event.event_type in _OF_ACCOUNTS:
        return _OF_ACCOUNTS[event.event_type](event)
    name = {"event": EventType.label_of(event.event_type), "object": _thing(event)}
    return _("%(event)s: %(object)s") % name if name["object"] else _("The event “%(event)s” was recorded") % name


def _thing(event: AuditEvent) -> str:
    """Return the object with its model: ``Product “Oil”``."""
    name = event.object_repr or event.object_id
    model = _model_name(event)
    return _("%(model)s “%(object)s”") % {"model": model, "object": name} if name and model else name or model


def _model_name(event: AuditEvent) -> str:
    model = event.model_class
    return str(capfirst(str(model._meta.verbose_name))) if model else event.model


def _created(event: AuditEvent, shown: Sequence[ShownField]) -> str:
    return _("%(object)s was created") % {"object": _thing(event)}


def _deleted(event: AuditEvent, shown: Sequence[ShownField]) -> str:
    return _("%(object)s was deleted") % {"object": _thing(event)}


def _changed(event: AuditEvent, shown: Sequence[ShownField]) -> str:
    thing = _thing(event)
    one = shown[0] if len(shown) == 1 else None
    if one is not None and not one.is_members and max(len(one.old.text), len(one.new.text)) <= SUBJECT_WIDTH:
        text = _("%(object)s: %(field)s changed from %(old)s to %(new)s")
        return text % {"object": thing, "field": one.label, "old": one.old.text, "new": one.new.text}
    fields = [shorten(_field_in_words(one), 2 * SUBJECT_WIDTH) for one in shown]
    if not fields:
        return _("%(object)s was changed") % {"object": thing}
    return _("%(object)s was changed: %(fields)s") % {"object": thing, "fields": _list(fields)}


def _field_in_words(shown: ShownField) -> str:
    return f"{shown.label} ({_members(shown)})" if shown.is_members else shown.label


def _list(texts: Sequence[str]) -> str:
    more = len(texts) - MAX_NAMED
    listed = ", ".join(texts[:MAX_NAMED])
    if more <= 0:
        return listed
    text = ngettext("%(fields)s and %(count)d more", "%(fields)s and %(count)d more", more)
    return text % {"fields": listed, "count": more}


def _logged_in(event: AuditEvent) -> str:
    return _("%(user)s logged in") % {"user": _who(event)}


def _logged_out(event: AuditEvent) -> str:
    return _("%(user)s logged out") % {"user": _who(event)}


def _login_failed(event: AuditEvent) -> str:
    data: Any = event.data if isinstance(event.data, dict) else {}
    found = data.get("credentials")
    texts = [value for value in found.values() if isinstance(value, str)] if isinstance(found, dict) else []
    return _("A login failed: %(user)s") % {"user": texts[0]} if texts else _("A login failed")


def _requested(event: AuditEvent) -> str:
    data: Any = event.data if isinstance(event.data, dict) else {}
    text = _("%(method)s %(path)s was answered with %(status)s")
    return text % {name: data.get(name, "") for name in ("method", "path", "status")}


def _who(event: AuditEvent) -> str:
    return show_actors(event) or event.object_repr or _("Somebody")


_CHANGES = (EventType.UPDATE, EventType.M2M)
_OF_ROWS = {"create": _created, "update": _changed, "delete": _deleted, "m2m": _changed}
_OF_ACCOUNTS = {"login": _logged_in, "logout": _logged_out, "login_failed": _login_failed, "request": _requested}


def _told(event: AuditEvent, reader: Reader, most: int, *, has_links: bool) -> Told:
    shown = show_fields(event, reader)
    lines = list(_lines(event, shown))
    more = len(lines) - most
    is_there = event.event_type != EventType.DELETE
    name = " ".join((event.object_repr or event.object_id).split())
    model, said = _model_name(event), sentence(event, shown)
    says_rest = event.event_type in _CHANGES and name and model and lines
    return Told(
        sentence=said,
        head=f"{name} ({model})" if says_rest else said,
        name=name,
        model=model,
        lines=lines[:most],
        more=ngettext("and %(count)d more", "and %(count)d more", more) % {"count": more} if more > 0 else "",
        by=_by(event),
        actor=show_actor(event),
        reason=_reason(event),
        url=_event_url(event) if has_links else "",
        object_url=_object_url(event) if has_links and is_there else "",
    )


def _lines(event: AuditEvent, fields: Sequence[ShownField]) -> Iterator[Line]:
    """Yield the fields that have something to say, and what a custom event brings along."""
    has_old = event.event_type != EventType.CREATE and event.source != Source.BASELINE
    has_new = event.event_type != EventType.DELETE
    for shown in fields:
        if shown.is_members:
            yield Line(label=shown.label, members=_members(shown))
        elif (has_old and has_new) or _says_something(shown.new if has_new else shown.old):
            old, new = _cut(shown.old) if has_old else "", _cut(shown.new) if has_new else ""
            yield Line(label=shown.label, old=old, new=new, percent=shown.percent if has_old and has_new else "")
    if not sentence_of(event):
        for label, value in show_payload(event.data):
            yield Line(label=label, value=_cut(value))


def _says_something(value: ShownValue) -> bool:
    return value.kind not in ("none", "empty", "absent")


def _members(shown: ShownField) -> str:
    signed = [f"+{member.line}" for member in shown.added] + [f"−{member.line}" for member in shown.removed]  # noqa: RUF001
    return shorten(", ".join(signed), WIDTH)


def _cut(value: ShownValue) -> str:
    return shorten(value.text, WIDTH)


_BY = {
    EventType.CREATE: gettext_lazy("%(actor)s created it on %(time)s."),
    EventType.UPDATE: gettext_lazy("%(actor)s changed it on %(time)s."),
    EventType.M2M: gettext_lazy("%(actor)s changed it on %(time)s."),
    EventType.DELETE: gettext_lazy("%(actor)s deleted it on %(time)s."),
}


def _by(event: AuditEvent) -> str:
    """Return who did it and when."""
    actor, time = show_actors(event), show_time(event.recorded_at)
    if not actor:
        return _("On %(time)s.") % {"time": time}
    text = _BY[EventType(event.event_type)] if event.event_type in _BY else _("By %(actor)s on %(time)s.")
    return str(text) % {"actor": actor, "time": time}


def show_time(moment: dt.datetime) -> str:
    """Return a moment to the minute, with the name of the time zone."""
    here = local(moment)
    return f"{show_date(here)}, {here:%H:%M} {here:%Z}".rstrip()


def _reason(event: AuditEvent) -> str:
    reason = show_reason(event)
    return _("Reason: %(reason)s") % {"reason": reason} if reason else ""


def _event_url(event: AuditEvent) -> str:
    return address("admin:django_signal_audit_auditevent_permalink", str(event.uid))


def _object_url(event: AuditEvent) -> str:
    model = event.model_class
    if model is None or not event.object_id or not apps.is_installed("django.contrib.admin"):
        return ""
    # A project without the admin can't import this.
    from django.contrib.admin.utils import quote

    return address(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", quote(event.object_id))


def _list_url(rule: str) -> str:
    return address("admin:django_signal_audit_auditevent_changelist", rule=rule)


def _title(events: Sequence[AuditEvent]) -> str:
    """Return such as ``10 changes to 7 products``."""
    counts = {"count": number_format(len(events))}
    if not all(map(_is_change, events)):
        return ngettext("%(count)s event", "%(count)s events", len(events)) % counts
    changes = ngettext("%(count)s change", "%(count)s changes", len(events)) % counts
    things = len({(event.model, event.object_id) for event in events})
    models = {event.model_class for event in events}
    model = models.pop() if len(models) == 1 else None
    given = {"changes": changes, "count": number_format(things)}
    if model is None:
        return ngettext("%(changes)s to %(count)s object", "%(changes)s to %(count)s objects", things) % given
    name = model._meta.verbose_name if things == 1 else model._meta.verbose_name_plural
    return _("%(changes)s to %(count)s %(things)s") % {**given, "things": name}


def _span(events: Sequence[AuditEvent]) -> str:
    """Return the days of the events, and who made them."""
    days = [local(event.recorded_at).date() for event in events]
    first, last = show_date(min(days)), show_date(max(days))
    when = first if first == last else _("%(first)s to %(last)s") % {"first": first, "last": last}
    actors = list(dict.fromkeys(filter(None, map(show_actor, events))))
    return _("%(days)s, by %(actors)s.") % {"days": when, "actors": _named(actors)} if actors else f"{when}."


def _is_change(event: AuditEvent) -> bool:
    return bool(event.model) and event.event_type in MODEL_EVENTS


def _group_key(event: AuditEvent) -> tuple[object, ...]:
    return local(event.recorded_at).date(), show_actors(event), show_reason(event)


def _group(pairs: Sequence[tuple[AuditEvent, Told]]) -> Group:
    first = pairs[0][0]
    here = local(first.recorded_at)
    return Group(
        day=show_day(here),
        by=", ".join(filter(None, (show_actors(first), show_reason(first)))),
        told=[told for _event, told in pairs],
    )


def why(notification: Notification, rule: Rule, recipient: str, user: Model | None) -> str:
    """Return why somebody gets a message."""
    names = {"rule": rule.name, "whom": recipient}
    named = notification.entry or notification.recipient
    if named == SUPERUSERS:
        return _("You're receiving this because the rule %(rule)s notifies all superusers.") % names
    if named.startswith(GROUP):
        text = _("You're receiving this because the rule %(rule)s notifies the group %(group)s.")
        return text % {**names, "group": named.removeprefix(GROUP)}
    if user is not None:
        return _("You're receiving this because the rule %(rule)s notifies you.") % names
    if recipient:
        return _("You're receiving this because the rule %(rule)s notifies %(whom)s.") % names
    return _("You're receiving this because of the rule %(rule)s.") % names


def how_to_stop(rule: Rule, user: Model | None, unsubscribe_url: str) -> str:
    """Return how somebody gets no more of these messages."""
    if rule.locked:
        return _("These messages can't be switched off.")
    if unsubscribe_url:
        return _("Unsubscribe: %(url)s") % {"url": unsubscribe_url}
    if user is not None:
        return _("To stop these messages, change your notification preferences.")
    return _("To stop these messages, ask an administrator.")
