"""The models: events, notifications and their state, preferences, and evidence."""

from __future__ import annotations

from .events import AuditEvent, AuditEventQuerySet
from .evidence import AuditCheckpoint, AuditLeaf, AuditPrune, AuditReceipt
from .notifications import ChannelState, ConfirmedDatabase, Notification, NotificationQuerySet, Throttle
from .preferences import Mute, Preference, QuietHours
from .rollups import Rollup

__all__ = [
    "AuditCheckpoint",
    "AuditEvent",
    "AuditEventQuerySet",
    "AuditLeaf",
    "AuditPrune",
    "AuditReceipt",
    "ChannelState",
    "ConfirmedDatabase",
    "Mute",
    "Notification",
    "NotificationQuerySet",
    "Preference",
    "QuietHours",
    "Rollup",
    "Throttle",
]
