"""From a notification to the message its channel sends."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace

from django.conf import settings
from django.db.models import Model
from django.utils import timezone, translation

from django_signal_audit.channels.base import Channel, Message
from django_signal_audit.channels.preferences import default_zone
from django_signal_audit.events.masking import with_stars
from django_signal_audit.events.payloads import cut
from django_signal_audit.events.values import clean_text, safe_str
from django_signal_audit.exceptions import GiveUp
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.rules.registry import get_registry
from django_signal_audit.rules.schema import NotifyEntry, Rule
from django_signal_audit.rules.templates import render_template

from .default_texts import default_body, default_subject

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
        events: What it tells of.
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
        message = Message(
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
        return replace(message, html=_html(channel, message)) if channel else message


def _html(channel: Channel, message: Message) -> str:
    try:
        return clean_text(channel.html(message))
    except Exception as error:
        msg = f'The HTML of channel "{channel.alias}" cannot be rendered: {type(error).__name__}: {safe_str(error)}'
        raise GiveUp(msg) from error


def _entry(rule: Rule, notification: Notification) -> NotifyEntry:
    """Return the ``notify`` entry that made the row: of this channel, and best one that names its recipient."""
    entries = [entry for entry in map(NotifyEntry.of, rule.notify) if entry.channel == notification.channel]
    asked_for = notification.data.get("to", notification.recipient)
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
