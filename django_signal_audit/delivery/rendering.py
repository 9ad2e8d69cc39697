"""From a notification to the message its channel sends."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TypeAlias

from django.conf import settings
from django.db.models import Model, prefetch_related_objects
from django.utils import timezone, translation
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_signal_audit.channels.base import Channel, Message
from django_signal_audit.channels.preferences import default_zone
from django_signal_audit.enums import EventType
from django_signal_audit.events.changes import FieldChange, M2MChange
from django_signal_audit.events.keys import parse_id, row_name
from django_signal_audit.events.masking import with_stars
from django_signal_audit.events.payloads import cut
from django_signal_audit.events.values import Digest, Masked, as_utc, clean_text, decode_tag, safe_str
from django_signal_audit.exceptions import GiveUp
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.rules.patterns import Field
from django_signal_audit.rules.registry import get_registry
from django_signal_audit.rules.schema import NotifyEntry, Rule
from django_signal_audit.rules.templates import render_template

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


def _named(field: Field | None, value: object) -> str:
    """Return the text of a field's value, of a choice its label."""
    choices = dict(getattr(field, "flatchoices", None) or ())
    is_choice = isinstance(value, (str, int)) and value in choices
    return str(choices[value]) if is_choice else _text(value)


def _members(members: M2MChange) -> str:
    signed = [f"+{key}" for key in islice(members.added, MAX_EVENTS)]
    signed += [f"-{key}" for key in islice(members.removed, MAX_EVENTS)]
    hidden = len(members.added) + len(members.removed) - len(signed)
    return ", ".join([*signed, "…"] if hidden else signed)


def _text(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    shown = with_stars(value)
    return json.dumps(shown, ensure_ascii=False, default=str) if isinstance(shown, (dict, list)) else str(shown)


# A longer subject is shown by no program, and is refused by some servers.
MAX_SUBJECT = 900


def render(
    notification: Notification,
    events: Sequence[AuditEvent],
    recipient: str,
    channel: Channel | None = None,
    user: Model | None = None,
) -> Message:
    """Return the message.

    Its language and time zone are the reader's if the channel knows them, else the project's, and never those of the
    request that happens to do the sending.

    Args:
        notification: The row.
        events: What it describes.
        recipient: The address it goes to.
        channel: The channel it goes by.
        user: Whose address it is, None if that is nobody's.

    Raises:
        GiveUp: A template cannot be rendered, and no retry will mend that.

    """
    rule = get_registry().rule(notification.rule) or Rule(name=notification.rule)
    entry = _entry(rule, notification)
    zone = channel.time_zone(user) if channel else None
    language = channel.language(user) if channel else settings.LANGUAGE_CODE
    with translation.override(language), timezone.override(zone or default_zone()):
        subject = _render(rule, entry, "subject", events) or default_subject(events, rule.name)
        body = _render(rule, entry, "message", events) or default_body(events, zone or dt.UTC)
        message = _message(notification, events, recipient, subject, body)
        return replace(message, html=_html(channel, message)) if channel else message


def _message(
    notification: Notification, events: Sequence[AuditEvent], recipient: str, subject: str, body: str
) -> Message:
    return Message(
        id=notification.message_id,
        event=events[0],
        events=events,
        rule=notification.rule,
        channel=notification.channel,
        recipient=recipient,
        subject=cut(" ".join(clean_text(subject).split()), MAX_SUBJECT),
        body=cut(clean_text(body)),
        attempt=notification.attempts,
    )


def _html(channel: Channel, message: Message) -> str:
    try:
        return clean_text(channel.html(message))
    except Exception as error:
        msg = f'The HTML of channel "{channel.alias}" cannot be rendered: {type(error).__name__}: {safe_str(error)}'
        raise GiveUp(msg) from error


def _entry(rule: Rule, notification: Notification) -> NotifyEntry:
    """Return the ``notify`` entry that made the row: of this channel, and best one that names its recipient."""
    entries = [entry for entry in map(NotifyEntry.of, rule.notify) if entry.channel == notification.channel]
    asked_for = notification.entry or notification.recipient
    named = [entry for entry in entries if entry.to is not None and asked_for in entry.to]
    unnamed = [entry for entry in entries if entry.to is None]
    return next(iter([*named, *unnamed, *entries]), NotifyEntry(channel=notification.channel))


def _render(rule: Rule, entry: NotifyEntry, key: str, events: Sequence[AuditEvent]) -> str:
    source: str = getattr(entry, key) or getattr(rule, key)
    if not source:
        return ""
    event = events[0]
    context = {
        "object": event.object_repr,
        "old": {name: with_stars(value) for name, value in event.old.items()},
        "new": {name: with_stars(value) for name, value in event.new.items()},
        "event": event,
        "events": events,
        "rule": rule,
        "actor": event.actor_repr,
    }
    try:
        return render_template(source, context)
    except Exception as error:
        msg = f'The {key} of rule "{rule.name}" cannot be rendered: {type(error).__name__}: {safe_str(error)}'
        raise GiveUp(msg) from error


# SQLite limits the parameters of a statement, and a key may have several parts.
CHUNK = 200

Name: TypeAlias = tuple[str, str]


def load_subjects(events: Iterable[AuditEvent], using: str) -> dict[Name, Model]:
    """Return the objects of the events by ``(event.model, event.object_id)``; events of no known model have none."""
    wanted: dict[type[Model], dict[Name, AuditEvent]] = {}
    for event in events:
        model = event.model_class
        if model is not None and event.object_id:
            wanted.setdefault(model, {})[event.model, event.object_id] = event
    found: dict[Name, Model] = {}
    for model, named in wanted.items():
        label = model._meta.label_lower
        found.update({(label, row_name(model, item.pk)): item for item in _rows(model, list(named.values()), using)})
        for name, event in named.items():
            if name not in found and parse_id(model, event.object_id) is not None:
                found[name] = _stand_in(model, event, using)
    return found


def prefetch(subjects: Iterable[Model], path: str) -> None:
    """Load what a path leads through, in a query per step and not per object."""
    by_model: dict[type[Model], list[Model]] = {}
    for subject in subjects:
        by_model.setdefault(type(subject), []).append(subject)
    for model, found in by_model.items():
        if relations := _relations(model, path):
            prefetch_related_objects(found, relations)


def _relations(model: type[Model], path: str) -> str:
    """Return the relations that a path begins with, as the lookup they are, ``""`` if it begins with none."""
    names: list[str] = []
    for name in path.split("."):
        fields = {field.name: field for field in (*model._meta.fields, *model._meta.many_to_many)}
        target = fields[name].related_model if name in fields else None
        if not isinstance(target, type):
            break
        names.append(name)
        model = target
    return "__".join(names)


def _rows(model: type[Model], events: Sequence[AuditEvent], using: str) -> Iterator[Model]:
    keys = [key for event in events if (key := parse_id(model, event.object_id)) is not None]
    for start in range(0, len(keys), CHUNK):
        yield from model._base_manager.using(using).filter(pk__in=keys[start : start + CHUNK])


def _stand_in(model: type[Model], event: AuditEvent, using: str) -> Model:
    """Return an instance with what the audit log knows of a row that is gone, to follow its relations from."""
    values = _recorded(model, event, using)
    known = {field.attname: values[field.name] for field in model._meta.concrete_fields if field.name in values}
    instance = model(**{name: value for name, value in known.items() if not isinstance(value, (Digest, Masked))})
    instance.pk = parse_id(model, event.object_id)
    instance._state.db, instance._state.adding = using, False
    return instance


def _recorded(model: type[Model], event: AuditEvent, using: str) -> dict[str, object]:
    if event.event_type == EventType.DELETE:
        return event.old
    named = AuditEvent.objects.using(using).filter(model=model._meta.label_lower, object_id=event.object_id)
    last = named.of_type(EventType.DELETE).order_by("-id").first()
    return {**event.new, **(last.old if last else {})}
