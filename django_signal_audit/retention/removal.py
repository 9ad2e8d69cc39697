"""What ``AuditEvent.objects.filter(...).prune()`` does: delete, take the finished notifications along, and say so."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import router, transaction
from django.db.models import Count, Max, Min

from django_signal_audit.capture.transactions import lock_database
from django_signal_audit.models import AuditEvent, AuditEventQuerySet, Notification
from django_signal_audit.models.events import delete_pruned
from django_signal_audit.models.fields import in_project_time
from django_signal_audit.reports.exports.records import utc

from .pruning import FINISHED, prune_digests, record_pruned


def prune(events: AuditEventQuerySet) -> int:
    """Delete the events of a queryset in one transaction and return how many they were.

    Raises:
        EventNotWritten: The event that says so could not be written, so nothing is deleted.

    """
    using = getattr(events, "_db", None) or router.db_for_write(AuditEvent)
    events = events.using(using)
    with transaction.atomic(using=using):
        lock_database(using)
        data, since = _describe(events)
        about = Notification.objects.using(using).filter(event__in=events.order_by().values("uid"))
        about.filter(status__in=FINISHED).delete()
        pruned = delete_pruned(events)
        if pruned and since:
            # A digest is younger than the first of its events.
            prune_digests(using, created__gte=in_project_time(since))
            record_pruned(using, {**data, "count": pruned})
    return pruned


def _describe(events: AuditEventQuerySet) -> tuple[dict[str, Any], dt.datetime | None]:
    """Return of which models and times the events are, and the time of the first."""
    if events.query.is_sliced:
        msg = "Cannot use 'limit' or 'offset' with prune()."
        raise TypeError(msg)
    groups = list(
        events.order_by()
        .values_list("model")
        .annotate(count=Count("pk"), first=Min("recorded_at"), last=Max("recorded_at"))
        .order_by("model")
    )
    first: dt.datetime | None = min((group[2] for group in groups), default=None)
    last: dt.datetime | None = max((group[3] for group in groups), default=None)
    data = {
        "first": None if first is None else utc(first),
        "last": None if last is None else utc(last),
        "models": {model: count for model, count, *_ in groups if model},
    }
    return data, first
