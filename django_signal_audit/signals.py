"""Signals other code may listen to.

``event_recorded(sender=AuditEvent, event)``
    sent inside the transaction of the change, right after its event row was written.
``notification_sent(sender=Notification, notification)``
    sent after a channel took the message and the row says so.
``notification_failed(sender=Notification, notification, error, final)``
    sent after an attempt failed; ``final`` tells that no other will follow.
``channel_failing(sender=ChannelState, state, using)``
    sent when a channel begins to be suspended because it fails.
``channel_recovered(sender=ChannelState, state, using)``
    sent when it has sent a message again; ``state`` is what it was before.
"""

from __future__ import annotations

from django.dispatch import Signal

event_recorded = Signal()
notification_sent = Signal()
notification_failed = Signal()
channel_failing = Signal()
channel_recovered = Signal()
