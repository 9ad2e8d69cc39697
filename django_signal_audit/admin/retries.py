"""Sending again what failed, was given up or was skipped: some of it, or all that a filter matches."""

from __future__ import annotations

from django.db import transaction

from django_signal_audit.dispatchers.registry import get_dispatcher
from django_signal_audit.models import Notification, NotificationQuerySet

# Waking is for what a dispatcher sends at once; it leaves the rest to a worker anyway.
WOKEN = 100
# What one request may change. A page that says so can be confirmed again.
MOST = 10_000
# SQLite limits the parameters of a statement, and a lock should not be held for long.
CHUNK = 500

STATUS = Notification.STATUS


def unsent(queryset: NotificationQuerySet) -> NotificationQuerySet:
    """Return those that can be sent again."""
    return queryset.of_status(STATUS.failed, STATUS.dead, STATUS.skipped)


def count_unsent(queryset: NotificationQuerySet) -> int:
    """Return how many can be sent again, one more than may be at once for that many and more."""
    return unsent(queryset).order_by().values("pk")[: MOST + 1].count()


def retry(queryset: NotificationQuerySet) -> int:
    """Make them due now, the oldest first and no more than 10,000, wake the delivery, and return how many they were."""
    using = queryset.db
    keys = list(unsent(queryset).order_by("pk").values_list("pk", flat=True)[:MOST])
    count = 0
    for start in range(0, len(keys), CHUNK):
        with transaction.atomic(using=using):
            chunk = keys[start : start + CHUNK]
            count += Notification.objects.using(using).filter(pk__in=chunk).retry()
            if start == 0:
                get_dispatcher().wake(using, chunk[:WOKEN])
    return count
