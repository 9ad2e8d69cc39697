"""From a notification to the message its channel sends."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from django.conf import settings
from django.db.models import Model
from django.template import TemplateDoesNotExist
from django.utils import timezone, translation
from django.utils.functional import SimpleLazyObject

from django_signal_audit.channels.base import Channel, Message, Text
from django_signal_audit.channels.content import Content
from django_signal_audit.channels.preferences import default_zone
from django_signal_audit.delivery.links import unsubscribe_address
from django_signal_audit.delivery.texts import content_of, how_to_stop, more_events, reader_of, subject_of, why
from django_signal_audit.events.masking import with_stars
from django_signal_audit.events.payloads import cut
from django_signal_audit.events.values import clean_text, safe_str
from django_signal_audit.exceptions import GiveUp
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.reports.formatter import Reader
from django_signal_audit.rules.registry import get_registry
from django_signal_audit.rules.schema import NotifyEntry, Rule
from django_signal_audit.rules.templates import render_template, tells_of_one


class NotKnownHere(Exception):
    """A template is missing in this process; other workers may have it."""


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
    rule, entry = rule_of(notification), entry_of(notification)
    zone = channel.time_zone(user) if channel else None
    language = channel.language(user) if channel else settings.LANGUAGE_CODE

    def write() -> Text:
        with translation.override(language), timezone.override(zone or dt.UTC):
            return _text(notification, subject, body, events, recipient, user, reader)

    with translation.override(language), timezone.override(zone or default_zone()):
        # What may ask the database, or fail by a template, is done now.
        subject, body = (_render(rule, entry, key, events) for key in ("subject", "message"))
        with timezone.override(zone or dt.UTC):
            reader = None if subject and body else _reader(events, channel, user)
        text = write() if _needs_text(channel) else cast("Text", SimpleLazyObject(write))
        return _with_html(_message(notification, events, recipient, text), channel)


def _needs_text(channel: Channel | None) -> bool:
    """Return whether our own text is written now: it is half of the work, and some channels read only the events."""
    return channel is None or channel.keeps_message or type(channel).html is not Channel.html


def _message(notification: Notification, events: Sequence[AuditEvent], recipient: str, text: Text) -> Message:
    return Message(
        id=notification.message_id,
        event=events[0],
        events=events,
        rule=notification.rule,
        channel=notification.channel,
        recipient=recipient,
        attempt=notification.attempts,
        text=text,
    )


def _with_html(message: Message, channel: Channel | None) -> Message:
    html = _html(channel, message) if channel else ""
    return replace(message, html=html) if html else message


def _reader(events: Sequence[AuditEvent], channel: Channel | None, user: Model | None) -> Reader:
    return reader_of(events, user, checks_permission=channel is None or channel.checks_permission)


def _text(
    notification: Notification,
    subject: str,
    body: str,
    events: Sequence[AuditEvent],
    recipient: str,
    user: Model | None,
    reader: Reader | None,
) -> Text:
    """Return what a message says: what the rule's own texts say, and ours where it has none."""
    rule, content = rule_of(notification), None
    if reader is not None:
        subject, content = _defaults(subject, body, events, rule, user, reader)
    url = unsubscribe_address(notification, user) if user is not None and not rule.locked else ""
    return Text(
        subject=_line(subject),
        body=cut(clean_text(body or (content.text if content else ""))),
        why=why(notification, rule, recipient, user),
        how_to_stop=how_to_stop(rule, user, url),
        unsubscribe_url=url,
        content=content,
    )


def reason_of(notification: Notification, user: Any) -> str:
    """Return why a user gets a message that they read on a page, and how to get no more, in the active language."""
    rule = rule_of(notification)
    return f"{why(notification, rule, notification.recipient, user)} {how_to_stop(rule, user, '')}"


def subject_line(notification: Notification, events: Sequence[AuditEvent], reader: Reader) -> str:
    """Return the subject as somebody reads it in a list, in their own language; nothing is asked of the channel.

    Raises:
        GiveUp: The rule's template cannot be rendered.

    """
    subject = _render(rule_of(notification), entry_of(notification), "subject", events)
    return _line(subject or subject_of(events, rule_of(notification), reader))


def _defaults(
    subject: str, body: str, events: Sequence[AuditEvent], rule: Rule, user: Model | None, reader: Reader
) -> tuple[str, Content | None]:
    """Return our subject and our body where the rule has none; its own subject, and None for its own body."""
    if body:
        return subject or subject_of(events, rule, reader), None
    has_links = user is None or bool(getattr(user, "is_staff", False))
    content = content_of(events, rule, reader, has_links=has_links)
    # Of one event, it is the sentence that the body has anyway.
    single = content.single
    return subject or (single.sentence if single else subject_of(events, rule, reader)), content


def _line(text: str) -> str:
    return cut(" ".join(clean_text(text).split()), MAX_SUBJECT)


def _html(channel: Channel, message: Message) -> str:
    try:
        return clean_text(channel.html(message))
    except TemplateDoesNotExist as error:
        msg = f'the template "{error}" of the channel "{channel.alias}"'
        raise NotKnownHere(msg) from error
    except Exception as error:
        msg = f'The HTML of channel "{channel.alias}" cannot be rendered: {type(error).__name__}: {safe_str(error)}'
        raise GiveUp(msg) from error


def rule_of(notification: Notification) -> Rule:
    """Return the rule that made the row; one that knows its name only if it is gone from the settings."""
    return get_registry().rule(notification.rule) or Rule(name=notification.rule)


def entry_of(notification: Notification) -> NotifyEntry:
    """Return the ``notify`` entry that made the row: of this channel, and best one that names its recipient."""
    notify = map(NotifyEntry.of, rule_of(notification).notify)
    entries = [entry for entry in notify if entry.channel == notification.channel]
    asked_for = notification.entry or notification.recipient
    named = [entry for entry in entries if entry.to is not None and asked_for in entry.to]
    unnamed = [entry for entry in entries if entry.to is None]
    return next(iter([*named, *unnamed, *entries]), NotifyEntry(channel=notification.channel))


def _render(rule: Rule, entry: NotifyEntry, key: str, events: Sequence[AuditEvent]) -> str:
    source: str = getattr(entry, key) or getattr(rule, key)
    if not source:
        return ""
    event = events[0]
    changes = event.field_changes
    context = {
        "object": event.object_repr,
        "old": {name: with_stars(change.old) for name, change in changes.items()},
        "new": {name: with_stars(change.new) for name, change in changes.items()},
        "event": event,
        "events": events,
        "rule": rule,
        "actor": event.actor_repr,
    }
    try:
        text = render_template(source, context)
        more = len(events) - 1 if tells_of_one(source) else 0
    except Exception as error:
        msg = f'The {key} of rule "{rule.name}" cannot be rendered: {type(error).__name__}: {safe_str(error)}'
        raise GiveUp(msg) from error
    if more:
        # The rule's author had one event in mind, and the reader must not believe that there was only one.
        return f"{text} ({more_events(more)})" if key == "subject" else f"{text}\n\n{more_events(more)}"
    return text
