"""Notification: the outbox, one row per event (or digest), rule, channel and recipient."""

from __future__ import annotations

import builtins
from typing import Self
from uuid import UUID

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from model_utils import Choices
from model_utils.fields import MonitorField, StatusField
from model_utils.models import TimeStampedModel

from django_signal_audit.enums import Level
from django_signal_audit.events.keys import MAX_LENGTH, new_uid, object_id
from django_signal_audit.models.fields import AnyCharField, AnyTextField, NameField, Text
from django_signal_audit.models.tenants import tenant_of_tables

from .events import AuditEvent, utc_now
from .fields import Moment, OptionalMoment, UtcDateTimeField

# What goes first.
PRIORITIES = {Level.CRITICAL: 0, Level.WARNING: 1, Level.INFO: 2}
LEAST = PRIORITIES[Level.INFO]
# Those that others come before, least urgent first.
LEAST_PRIORITIES = (LEAST, PRIORITIES[Level.WARNING])


def new_message_id() -> str:
    """Return the text of a new UUIDv7: what a receiver recognises a repeated message by."""
    return str(new_uid())


class NotificationQuerySet(models.QuerySet["Notification"]):
    """Questions to the outbox."""

    def of_status(self, *statuses: str) -> Self:
        """Return the notifications in one of these states."""
        return self.filter(status__in=statuses)

    def for_recipient(self, user: models.Model) -> Self:
        """Return what is addressed to a user by primary key, as the inbox does."""
        return self.filter(recipient=object_id(user.pk))

    def of_current_tenant(self) -> Self:
        """Return those of the current tenant, where the setting TENANT names a function; otherwise all of them."""
        tenant = tenant_of_tables()
        return self.filter(tenant=tenant) if tenant else self

    def unread(self) -> Self:
        """Return what nobody has marked as read."""
        return self.filter(read_at=None)

    def mark_read(self) -> int:
        """Mark the unread ones as read now and return how many they were."""
        return self.unread().update(read_at=utc_now())

    def mark_unread(self) -> int:
        """Mark those that are read as unread again and return how many they were."""
        return self.exclude(read_at=None).update(read_at=None)

    def retry(self) -> int:
        """Make failed, dead and skipped notifications due now, with all their attempts ahead of them."""
        now = timezone.now()
        return self.of_status(Notification.STATUS.failed, Notification.STATUS.dead, Notification.STATUS.skipped).update(
            status=Notification.STATUS.pending,
            status_changed=now,
            modified=now,
            available_at=utc_now(),
            attempts=0,
            unknown_since=None,
        )


class Notification(TimeStampedModel):
    """A message to somebody, and how far it has come.

    ``available_at`` is when the row is due: for a claimed one, when the claim lapses. ``lease_no`` counts the claims;
    only the holder of the newest may finish the row.
    """

    STATUS = Choices(
        ("pending", _("pending")),
        ("claimed", _("claimed")),
        ("sent", _("sent")),
        ("failed", _("failed")),
        ("dead", _("dead")),
        ("skipped", _("skipped")),
    )

    id = models.BigAutoField(primary_key=True)
    # The uid of the event without a constraint: events may be pruned, and live their own life. Null for a digest.
    event = models.UUIDField(_("event"), null=True, blank=True)
    # Whose its events are, where the setting TENANT names a function: rows of two tenants may have one key.
    tenant: Text = NameField(_("tenant"), max_length=MAX_LENGTH, blank=True, default="", db_default="", editable=False)
    rule: Text = AnyCharField(_("rule"), max_length=100)
    channel: Text = AnyCharField(_("channel"), max_length=100)
    # Who gets the message: as the rule names it while "entry" is empty, then an address or a user's key.
    recipient: Text = NameField(_("recipient"), max_length=MAX_LENGTH, blank=True)
    # The recipient as the rule names it, once the row is that of one person.
    entry: Text = NameField(_("entry"), max_length=MAX_LENGTH, blank=True, default="", editable=False)
    # The user's primary key. The user is looked up by it again at every attempt.
    user: Text = NameField(_("user"), max_length=MAX_LENGTH, blank=True, default="", editable=False)
    # An address that was found for the user, if it isn't the account's.
    address: Text = NameField(_("address"), max_length=MAX_LENGTH, blank=True, default="", editable=False)
    level = models.CharField(_("level"), max_length=10, choices=Level.choices, default=Level.INFO, editable=False)
    # The level as a number, so that an index has the critical ones first.
    priority = models.PositiveSmallIntegerField(
        default=PRIORITIES[Level.INFO], db_default=PRIORITIES[Level.INFO], editable=False
    )
    status = StatusField(_("status"), max_length=10)
    status_changed = MonitorField(_("status changed"), monitor="status")
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    available_at: Moment = UtcDateTimeField(_("available at"), default=utc_now)
    sent_at: OptionalMoment = UtcDateTimeField(_("sent at"), null=True, blank=True)
    # When it was first shown in a list, and when it was opened: what is new, and what is unread.
    seen_at: OptionalMoment = UtcDateTimeField(_("seen at"), null=True, blank=True)
    read_at: OptionalMoment = UtcDateTimeField(_("read at"), null=True, blank=True)
    last_error: models.TextField[str, str] = AnyTextField(_("last error"), blank=True)
    message_id = models.CharField(_("message id"), max_length=64, default=new_message_id)
    lease_no = models.PositiveIntegerField(default=0, editable=False)
    # The rule's limit, "20 per hour", and whether this row has been counted against it: its retries pass.
    throttle: Text = AnyCharField(_("throttle"), max_length=100, blank=True, default="", editable=False)
    is_admitted = models.BooleanField(default=False, editable=False)
    # The window of a digest whose recipient isn't known before delivery finds it.
    digest_window: Text = AnyCharField(_("digest window"), max_length=100, blank=True, default="", editable=False)
    # How many deliveries, one after another, led to this one.
    generation = models.PositiveIntegerField(default=0, editable=False)
    # Set while the row waits for the end of a digest's window: those with the same key become one message.
    digest_key = models.CharField(max_length=64, blank=True, default="", editable=False)
    # Its user wanted a digest, and the window of that is over.
    is_collected = models.BooleanField(default=False, db_default=False, editable=False)
    # In a channel that keeps an order: what must not be sent before what, until it is sent, and the event's place.
    order_key = models.CharField(max_length=64, blank=True, default="", db_default="", editable=False)
    order_no = models.BigIntegerField(default=0, db_default=0, editable=False)
    # Since when it is left to workers whose settings know its rule: those of one worker did not.
    unknown_since: OptionalMoment = UtcDateTimeField(null=True, editable=False)
    # What the message describes and what was sent: the uids of a digest's events and their count, a subject, a body.
    data = models.JSONField(_("data"), default=dict, blank=True)

    objects = NotificationQuerySet.as_manager()

    class Meta:
        verbose_name = _("notification")
        verbose_name_plural = _("notifications")
        ordering = ["-id"]
        # To view them, and to have them sent again, which is a change.
        default_permissions = ("view", "change")
        indexes = [
            # The claim reads this one alone; it must begin with exactly these columns (MySQL locks what it scans).
            models.Index(fields=["status", "channel", "priority", "available_at", "id"], name="dsa_notification_lane"),
            models.Index(fields=["recipient", "channel", "id"], name="dsa_notification_recipient"),
            models.Index(fields=["event"], name="dsa_notification_event"),
            models.Index(fields=["digest_key"], name="dsa_notification_digest"),
            models.Index(fields=["order_key", "order_no"], name="dsa_notification_order"),
        ]

    def __str__(self) -> str:
        return f"{self.rule} → {self.channel} {self.recipient}".rstrip()

    @property
    def _document(self) -> dict[str, object]:
        # SQL can store any JSON.
        return self.data if isinstance(self.data, dict) else {}

    @property
    def subject(self) -> str:
        """Return the subject of a message that stays here to be read, ``""`` for one that went elsewhere."""
        return str(self._document.get("subject", ""))

    @property
    def body(self) -> str:
        """Return the text of a message that stays here to be read, ``""`` for one that went elsewhere."""
        return str(self._document.get("body", ""))

    @property
    def event_uids(self) -> list[UUID | str]:
        """Return the uids of the events it describes: one, or a digest's several."""
        uids = self._document.get("events", ())
        return [self.event] if self.event else list(uids) if isinstance(uids, (list, tuple)) else []

    def audit_events(self) -> list[AuditEvent]:
        """Return the events it describes, oldest first; pruned ones are missing."""
        events = AuditEvent.of_all_tenants.using(self._state.db).filter(uid__in=self.event_uids)
        return list(events.order_by("id"))


class Throttle(models.Model):
    """The latest messages of one rule, channel and recipient, kept where ``throttle`` limits how many there may be."""

    # A hash of the three: together they are longer than what MySQL can index.
    key = models.CharField(max_length=64, primary_key=True)
    # The moments, in seconds since 1970, oldest first, and no more of them than the limit.
    moments = models.JSONField(default=list)

    class Meta:
        verbose_name = _("throttle")
        verbose_name_plural = _("throttles")
        # Nobody edits it, so nobody needs to be allowed to.
        default_permissions = ()

    def __str__(self) -> str:
        return self.key


class ChannelState(models.Model):
    """What all workers know of a channel that has failed, or that somebody has paused; others have no row.

    From ``since`` on it is suspended. Once ``until`` is over, one worker tries one message.
    """

    channel: Text = AnyCharField(_("channel"), max_length=100, primary_key=True)
    # Failures in a row, and the notification of the last: its own retries do not count again.
    failures = models.PositiveIntegerField(_("failures"), default=0)
    last_failed = models.BigIntegerField(null=True)
    last_error: models.TextField[str, str] = AnyTextField(_("last error"), blank=True)
    # How often in a row it was suspended: each time for longer.
    openings = models.PositiveIntegerField(default=0)
    since: OptionalMoment = UtcDateTimeField(_("suspended since"), null=True)
    until: OptionalMoment = UtcDateTimeField(_("suspended until"), null=True)
    paused_at: OptionalMoment = UtcDateTimeField(_("paused since"), null=True)

    class Meta:
        verbose_name = _("state of a channel")
        verbose_name_plural = _("states of channels")
        # Nobody edits it.
        default_permissions = ()

    def __str__(self) -> str:
        return self.channel

    @property
    def error_kind(self) -> str:
        """Return the class of the last error, and its text if that quotes nothing of the message that failed."""
        kind = str(self.last_error).partition(":")[0]
        found = getattr(builtins, kind, None)
        if isinstance(found, type) and issubclass(found, (ConnectionError, TimeoutError)):
            return str(self.last_error)
        return kind if kind.isidentifier() else ""


class ConfirmedDatabase(models.Model):
    """A database that messages are sent from. A copy brings the row along, and is another database."""

    # A hash of the name, which may be long.
    key = models.CharField(max_length=64, primary_key=True)
    name: models.TextField[str, str] = AnyTextField(_("database"))
    confirmed_at: Moment = UtcDateTimeField(_("confirmed at"), default=utc_now)

    class Meta:
        verbose_name = _("confirmed database")
        verbose_name_plural = _("confirmed databases")
        # Nobody edits it.
        default_permissions = ()

    def __str__(self) -> str:
        return self.name
