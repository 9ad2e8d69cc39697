"""Keeping an order: messages about one object to one recipient go out one after another, as their events came.

A row that has to wait for others of the same key has ``order_key``, and its event's primary key as ``order_no``; events
of one object have ascending ones. The key is taken away when the row is sent, skipped or dead, so a message that is
given up holds up nothing.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Concat, Left

from django_signal_audit.channels import get_channel
from django_signal_audit.conf import get_settings
from django_signal_audit.exceptions import InvalidSettings
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.models.events import utc_now

# A key is half of whom it goes to, half of what it is about; of several objects the second half is this.
_HALF = 32
_MANY = "0" * _HALF
_LAST = "f" * _HALF
# A message that waits for a worker whose settings know it for longer than a deploy takes is waited for no more.
DEPLOY = dt.timedelta(hours=1)
_CHUNK = 500
_STATUS = Notification.STATUS
_UNFINISHED = (_STATUS.pending, _STATUS.failed, _STATUS.claimed)


def is_ordered(alias: str) -> bool:
    """Return whether a channel keeps an order."""
    try:
        return get_channel(alias).is_ordered
    except InvalidSettings:
        return False


def is_any_ordered() -> bool:
    """Return whether any of the channels does."""
    return any(map(is_ordered, get_settings().channels))


def order_key(channel: str, recipient: str, subjects: Iterable[tuple[str, str]]) -> str:
    """Return the key of a message: about these objects, each by its model and primary key."""
    different = {_half(*subject) for subject in subjects}
    return _half(channel, recipient) + (different.pop() if len(different) == 1 else _MANY)


def _half(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_HALF]


def number(rows: Sequence[Notification], using: str) -> None:
    """Give new rows of channels that keep an order the places of their events."""
    ordered = [row for row in rows if row.order_key]
    for start in range(0, len(ordered), _CHUNK):
        firsts = {str(row.event_uids[0]): row for row in ordered[start : start + _CHUNK]}
        places = AuditEvent.of_all_tenants.using(using).filter(uid__in=list(firsts)).values_list("uid", "pk")
        known = {str(uid): pk for uid, pk in places}
        for row in ordered[start : start + _CHUNK]:
            row.order_no = known.get(str(row.event_uids[0]), 0)


def free(rows: QuerySet[Notification]) -> QuerySet[Notification]:
    """Return those of the rows that have to wait for no other."""
    earlier = Notification.objects.using(rows.db).filter(
        Q(unknown_since=None) | Q(unknown_since__gt=utc_now() - DEPLOY),
        status__in=_UNFINISHED,
        order_no__lt=OuterRef("order_no"),
    )
    of_all = Concat(Left(OuterRef("order_key"), _HALF), Value(_MANY))
    last = Concat(Left(OuterRef("order_key"), _HALF), Value(_LAST))
    is_of_many = Q(order_key__endswith=_MANY)
    return rows.filter(
        Q(order_key="")
        # One about several objects waits for all of its recipient's, and these for it.
        | (is_of_many & ~Exists(earlier.filter(order_key__range=(of_all, last))))
        | (~is_of_many & ~Exists(earlier.filter(order_key__in=[OuterRef("order_key"), of_all])))
    )


def must_wait(row: Notification) -> bool:
    """Return whether a row that is claimed has to wait for another all the same: its key is a new one."""
    if not row.order_key:
        return False
    rows: Any = Notification.objects.using(row._state.db).filter(pk=row.pk)
    return not free(rows).exists()
