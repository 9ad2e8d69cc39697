"""What the REST API answers with."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.utils import timezone
from rest_framework import serializers

from django_signal_audit.inbox.views import LARGEST_KEY, MOST_KEYS
from django_signal_audit.models.fields import in_project_time
from django_signal_audit.reports.formatter import local

# From version 3.17 on, COERCE_BIGINT_TO_STRING says how a key is written.
KeyField = getattr(serializers, "BigIntegerField", serializers.IntegerField)


class MomentField(serializers.DateTimeField):
    """A time in the current time zone, written as the project's DATETIME_FORMAT says."""

    def enforce_timezone(self, value: dt.datetime) -> dt.datetime:
        """Return the time as other serializers of the project have it: without USE_TZ, it has no time zone."""
        moment = in_project_time(value)
        return local(moment) if timezone.is_aware(moment) else moment


class EventSerializer(serializers.Serializer):
    """An audit event; fields that the user may not view are left out of its changes."""

    uid = serializers.UUIDField(read_only=True)
    recorded_at = MomentField(read_only=True)
    event_type = serializers.CharField(read_only=True)
    source = serializers.CharField(read_only=True)
    level = serializers.CharField(read_only=True)
    rules = serializers.JSONField(read_only=True, help_text="The names of the rules that matched.")
    model = serializers.CharField(read_only=True, help_text="The label of the model, such as shop.product.")
    object_id = serializers.CharField(read_only=True)
    object_repr = serializers.CharField(read_only=True, help_text="The object's name at the time.")
    actor_id = serializers.CharField(read_only=True)
    actor_repr = serializers.CharField(read_only=True, help_text="The actor's name at the time.")
    changes = serializers.JSONField(read_only=True, help_text="Old and new value by field name.")
    data = serializers.JSONField(read_only=True)
    context = serializers.JSONField(read_only=True)
    correlation_id = serializers.CharField(read_only=True)
    tenant = serializers.CharField(read_only=True, help_text="Empty where there is none.")
    is_cut = serializers.BooleanField(
        read_only=True, help_text="Whether the event changed fields that you may not view."
    )


class EventPageSerializer(serializers.Serializer):
    """A page of events, the newest first."""

    next = serializers.URLField(read_only=True, allow_null=True, help_text="The page with older events.")
    previous = serializers.URLField(read_only=True, allow_null=True, help_text="The page with newer events.")
    searched_to = MomentField(
        read_only=True,
        allow_null=True,
        help_text="Where reading ended if no index answers the search and 5,000 events were read; next goes on there.",
    )
    read_as = serializers.CharField(read_only=True, allow_null=True, help_text="How the text in q was read.")
    results = EventSerializer(many=True, read_only=True)


class NotificationSerializer(serializers.Serializer):
    """A message in the user's inbox."""

    id = KeyField(read_only=True, source="pk")
    subject = serializers.CharField(read_only=True)
    body = serializers.CharField(read_only=True)
    rule = serializers.CharField(read_only=True)
    sent_at = MomentField(read_only=True, allow_null=True)
    seen_at = MomentField(read_only=True, allow_null=True)
    read_at = MomentField(read_only=True, allow_null=True)


class NotificationPageSerializer(serializers.Serializer):
    """A page of messages, the newest first."""

    next = serializers.URLField(read_only=True, allow_null=True, help_text="The page with older messages.")
    previous = serializers.URLField(read_only=True, allow_null=True, help_text="The page with newer messages.")
    unread = serializers.IntegerField(read_only=True, help_text="How many messages are unread; 1000 for more.")
    results = NotificationSerializer(many=True, read_only=True)


class MarkSerializer(serializers.Serializer):
    """Which messages to mark: some by ``ids``, as read or unread, or one and all older ones by ``up_to``, as read."""

    ids = serializers.ListField(
        child=serializers.IntegerField(min_value=0, max_value=LARGEST_KEY), required=False, max_length=MOST_KEYS
    )
    up_to = serializers.IntegerField(required=False, min_value=0, max_value=LARGEST_KEY)
    read = serializers.BooleanField(required=False, default=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Require one of both."""
        if not attrs.get("ids") and (attrs.get("up_to") is None or not attrs["read"]):
            msg = 'Say which messages: "ids", or "up_to" to mark one and all older ones as read.'
            raise serializers.ValidationError(msg)
        return attrs


class MarkedSerializer(serializers.Serializer):
    """How many messages were marked as read, and how many are left."""

    marked = serializers.IntegerField(read_only=True)
    unread = serializers.IntegerField(read_only=True)
