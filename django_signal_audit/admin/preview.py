"""What a notification says: as it was sent where that was kept, else as it would be sent now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.utils.translation import ngettext

from django_signal_audit.capture.images import chunks
from django_signal_audit.channels.base import Channel
from django_signal_audit.channels.registry import get_channel
from django_signal_audit.delivery.recipients import load_users
from django_signal_audit.delivery.redaction import describe
from django_signal_audit.delivery.rendering import render
from django_signal_audit.enums import EventType
from django_signal_audit.models import AuditEvent, Notification

from .access import Access

# A bulk call may make a digest of any number of events, and a page is no place for them all.
MOST_EVENTS = 100
# Of more events nobody is asked whether the user may see them all: the message is not shown.
MOST_ASKED = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """Texts for a template, which escapes them; ``error`` says why there are none."""

    subject: str = ""
    body: str = ""
    html: str = ""
    error: str = ""
    is_kept: bool = False


def first_events(notification: Notification) -> list[AuditEvent]:
    """Return the first of the events that it tells of; pruned ones are missing."""
    uids = known_uids(notification)[:MOST_EVENTS]
    return list(AuditEvent.objects.using(notification._state.db).filter(uid__in=uids).order_by("id"))


def sees_message(access: Access, notification: Notification) -> bool:
    """Return whether the user may see all that a notification tells of, down to the fields."""
    uids = known_uids(notification)
    if len(uids) > MOST_ASKED:
        return False
    for part in chunks(uids, MOST_EVENTS):
        events = list(AuditEvent.objects.using(notification._state.db).filter(uid__in=part))
        shown = access.redact(access.filter(events))
        if len(shown) < len(events) or any(getattr(event, "is_cut", False) for event in shown):
            return False
    return True


def known_uids(notification: Notification) -> list[UUID]:
    """Return the uids of the events that it tells of, those that are uids."""
    found = notification.event_uids
    return [uid for text in found if (uid := _uid(text)) is not None] if isinstance(found, list) else []


def _uid(text: Any) -> UUID | None:
    try:
        return text if isinstance(text, UUID) else UUID(text)
    except (ValueError, TypeError, AttributeError):
        return None


def subjects_of(rows: Sequence[Notification], access: Access) -> dict[Any, str]:
    """Return, by primary key, the event that each of the notifications tells of, ``""`` if the user may not view it.

    A digest has the first of its events and how many there are; pruned events are missing.
    """
    using = rows[0]._state.db if rows else None
    firsts = {row.pk: uids[0] for row in rows if (uids := known_uids(row))}
    found = AuditEvent.objects.using(using).filter(uid__in=[*firsts.values()])
    events = {str(event.uid): event for event in access.filter(found)}
    return {row.pk: _subject(events.get(str(firsts.get(row.pk))), len(known_uids(row))) for row in rows}


def _subject(event: AuditEvent | None, count: int) -> str:
    if event is None:
        return ""
    text = f"{EventType.label_of(event.event_type)} {event.object_repr or event.object_id or event.model}".rstrip()
    more = ngettext("and %(count)d more event", "and %(count)d more events", count - 1) % {"count": count - 1}
    return f"{text} {more}" if count > 1 else text


def preview(notification: Notification, events: list[AuditEvent]) -> Preview:
    """Return what it says, made of these of its events; nothing is sent or asked of the channel but how it writes."""
    if notification.status == Notification.STATUS.sent and notification.data.get("subject"):
        return Preview(subject=notification.subject, body=notification.body, is_kept=True)
    if not events:
        return Preview(error="Its events are no longer in the audit log.")
    user = load_users([notification]).get(notification.user)
    channel: Channel | None = None
    try:
        channel = get_channel(notification.channel)
        message = render(notification, events, notification.recipient, channel, user)
    except Exception as error:  # noqa: BLE001  # templates and channels are the project's, and the page is to be shown
        return Preview(error=describe(error, channel))
    return Preview(subject=message.subject, body=message.body, html=message.html)
