"""How the outbox is doing: how many rows are in which state, and how late the oldest is."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.db.models import Min

from django_signal_audit.delivery.recipients import THROTTLED
from django_signal_audit.models import Notification
from django_signal_audit.models.events import utc_now

from . import outbox

STATUS = Notification.STATUS


@dataclass(frozen=True, slots=True)
class Statistics:
    """The state of an outbox.

    Attributes:
        by_status: How many rows are in each status, all of them named.
        oldest: For how long the oldest pending row has been due, None if none is.
        lapsed: How many claims have lapsed: their workers died, or take longer than their lease.
        collecting: How many pending rows wait for the end of a digest's window.
        throttled: How many of the skipped ones were too much for a throttle.

    """

    by_status: dict[str, int]
    oldest: dt.timedelta | None
    lapsed: int
    collecting: int
    throttled: int


def collect_statistics(using: str) -> Statistics:
    """Return the state of the outbox of a database."""
    rows = Notification.objects.using(using).order_by()
    return Statistics(
        by_status=outbox.count_by_status(using),
        oldest=outbox.oldest_pending_age(using),
        lapsed=outbox.due(using, STATUS.claimed).count(),
        collecting=rows.filter(status=STATUS.pending).exclude(digest_key="").count(),
        throttled=rows.filter(status=STATUS.skipped, last_error__startswith=THROTTLED).count(),
    )


def lateness(using: str) -> dt.timedelta:
    """Return for how long the oldest row that is due, in whatever status, has been waiting; zero if none is."""
    waiting = (STATUS.pending, STATUS.failed, STATUS.claimed)
    moments = [outbox.due(using, status).aggregate(oldest=Min("available_at"))["oldest"] for status in waiting]
    now = utc_now()
    return max((now - moment for moment in moments if moment), default=dt.timedelta())
