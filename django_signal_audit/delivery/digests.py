"""Digests and throttles: the messages of one rule, channel and recipient sent as one, and how many there may be.

Each event writes a row of its own, so that no change ever waits for another's transaction. Those with the same key
are folded into one, the events of all listed on it, when the first of them is due: that is the end of the window.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator, Sequence
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.models import Model

from django_signal_audit.delivery import outbox
from django_signal_audit.delivery.outbox import LeaseLost, hold
from django_signal_audit.delivery.pending import MAX_NAMED, end_of_window, key_of
from django_signal_audit.delivery.recipients import THROTTLED
from django_signal_audit.events.keys import object_id
from django_signal_audit.exceptions import Unreachable
from django_signal_audit.models import Notification, Throttle
from django_signal_audit.rules.durations import parse_rate

_CHUNK = 500


def park(row: Notification, recipient: str) -> bool:
    """Make a claimed row wait for the others to the same recipient; False if it is not held any more."""
    end, key = end_of_window(row.digest_window), key_of(row, recipient)
    return outbox.postpone(row, end, digest_key=key, digest_window="")


# What the keys of windows begin with that users have chosen.
_OWN = "own:"


def park_for(row: Notification, user: Model, end: dt.datetime) -> bool:
    """Make a claimed row wait for others of its rule and channel to a user; False if it is not held any more."""
    key = _OWN + key_of(row, object_id(user.pk))[: -len(_OWN)]
    # The others need not wait for it: they are part of the same message.
    return outbox.postpone(row, end, digest_key=key, order_key="")


def close(row: Notification) -> bool:
    """Fold all rows of a claimed row's window into it, and end the window; False if it is part of another by now.

    Raises:
        LeaseLost: Another worker has the row.

    """
    using, key = row._state.db or DEFAULT_DB_ALIAS, row.digest_key
    with transaction.atomic(using=using):
        if not connections[using].features.has_select_for_update:
            outbox.hold(row)  # the first statement is a write, and takes SQLite's lock
        rows = {mate.pk: mate for mate in _lock(using, key)}
        if row.pk not in rows:
            return False
        is_collected = row.is_collected or key.startswith(_OWN)
        if not outbox.hold(row, digest_key="", is_collected=is_collected, **_merged(row, list(rows.values()))):
            raise LeaseLost
        for chunk in _chunks([pk for pk in rows if pk != row.pk]):
            Notification.objects.using(using).filter(pk__in=chunk).delete()
    return True


def _lock(using: str, key: str) -> Iterator[Notification]:
    """Yield the rows of a window. Of two workers that close it, one has them all and the other finds its own gone.

    They are locked by primary key in its order: workers do not deadlock, and nobody waits for a row that is being
    inserted, as MySQL would if it looked for the key under lock.
    """
    rows = Notification.objects.using(using)
    waiting = rows.of_status("pending", "claimed", "failed").filter(digest_key=key)
    for chunk in _chunks(list(waiting.order_by("pk").values_list("pk", flat=True))):
        locked = rows.filter(pk__in=chunk, digest_key=key).order_by("pk")
        yield from locked.select_for_update() if connections[using].features.has_select_for_update else locked


def _chunks(keys: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(keys), _CHUNK):
        yield keys[start : start + _CHUNK]


def _merged(row: Notification, rows: Sequence[Notification]) -> dict[str, Any]:
    """Return the columns of a row that describes the events of all, which are in the order they were written in."""
    if len(rows) == 1:
        return {}
    uids: list[str] = []
    for mate in rows:
        uids += [str(uid) for uid in mate.event_uids[: MAX_NAMED - len(uids)]]
    count = sum(mate.data.get("count", 1) for mate in rows)
    return {"event": None, "data": {**row.data, "events": uids, "count": count}}


# The statistics count them by it.
REASON = THROTTLED


def admit(row: Notification, recipient: str) -> None:
    """Let a claimed row pass if its throttle does; once it has, its retries pass too.

    Raises:
        Unreachable: There have been as many messages as may be, and how many that is.
        LeaseLost: Another worker has the row by now.

    """
    rate = parse_rate(row.throttle)
    if rate is None or row.is_admitted:
        return
    using = row._state.db
    key = key_of(row, recipient)
    throttles = Throttle.objects.using(using)
    # Outside of the transaction: on MySQL two that insert the same key and then lock it would deadlock.
    if not throttles.filter(pk=key).exists():
        throttles.bulk_create([Throttle(key=key)], ignore_conflicts=True)
    now = time.time()
    with transaction.atomic(using=using):
        if not hold(row, is_admitted=True):
            raise LeaseLost
        throttle = throttles.select_for_update().get(pk=key)
        recent = [moment for moment in throttle.moments if moment > now - rate.window.total_seconds()]
        if len(recent) >= rate.limit:
            _refuse(row)
        throttles.filter(pk=key).update(moments=[*recent, now])


def _refuse(row: Notification) -> None:
    row.is_admitted = False  # the transaction undoes it
    msg = f'{THROTTLED}rule "{row.rule}" sends this recipient at most {row.throttle} by channel "{row.channel}".'
    raise Unreachable(msg)
