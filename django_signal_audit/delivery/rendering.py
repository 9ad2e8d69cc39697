"""From a notification to the message its channel sends."""

from __future__ import annotations

from collections.abc import Sequence

from django.conf import settings
from django.utils import timezone, translation

from django_signal_audit.channels.base import Message
from django_signal_audit.exceptions import GiveUp
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.rules.registry import get_registry
from django_signal_audit.rules.schema import NotifyEntry, Rule
from django_signal_audit.rules.templates import render_template
from django_signal_audit.values import clean_text, safe_str

from .defaults import default_body, default_subject


def render(notification: Notification, events: Sequence[AuditEvent], recipient: str) -> Message:
    """Return the message.

    The language and time zone are the project's, not those of the request that happens to do the sending.

    Raises:
        GiveUp: A template cannot be rendered, and no retry will mend that.

    """
    rule = get_registry().rule(notification.rule) or Rule(name=notification.rule)
    entry = _entry(rule, notification)
    zone = timezone.get_default_timezone() if settings.USE_TZ else None
    with translation.override(settings.LANGUAGE_CODE), timezone.override(zone):
        subject = _render(rule, entry, "subject", events) or default_subject(events, rule.name)
        body = _render(rule, entry, "message", events) or default_body(events)
    return Message(
        id=notification.message_id,
        event=events[0],
        events=events,
        rule=notification.rule,
        channel=notification.channel,
        recipient=recipient,
        subject=" ".join(clean_text(subject).split()),
        body=clean_text(body),
        attempt=notification.attempts,
    )


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
        "old": event.old,
        "new": event.new,
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
