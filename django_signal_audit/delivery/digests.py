"""Digests: the messages of one rule, channel and recipient over a window, sent as one.

Each event writes a row of its own, so that no change ever waits for another's transaction. Those with the same key
are folded into one, the events of all listed on it, when the first of them is due: that is the end of the window.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from django_signal_audit.models import Notification
from django_signal_audit.models.events import utc_now
from django_signal_audit.rules.durations import parse_duration

from . import outbox
from .fanout import LeaseLost
from .recipients import depends_on_event

# A digest names this many of its events; how many they are in all stands beside them.
MAX_NAMED = 100_000
_CHUNK = 500


def key_of(*parts: str) -> str:
    """Return a short text that is the same for the same parts only."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def collect(row: Notification, window: str) -> None:
    """Make a new row wait for the others of its window.

    One whose recipient is known only from its event is due now: its worker finds out who it is for, and parks it.
    """
    if depends_on_event(row.recipient):
        row.data = {**row.data, "digest": window}
        return
    row.digest_key = key_of(row.rule, row.channel, row.recipient)
    row.available_at = _end(window)


def park(row: Notification, recipient: str) -> bool:
    """Make a claimed row wait for the others to the same recipient; False if it is not held any more."""
    data = {name: value for name, value in row.data.items() if name != "digest"}
    end, key = _end(row.data["digest"]), key_of(row.rule, row.channel, recipient)
    return outbox.postpone(row, end, digest_key=key, data=data)


def _end(window: str) -> dt.datetime:
    return utc_now() + (parse_duration(window) or dt.timedelta())


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
        if not outbox.hold(row, digest_key="", **_merged(row, list(rows.values()))):
            raise LeaseLost
        for chunk in _chunks([pk for pk in rows if pk != row.pk]):
            Notification.objects.using(using).filter(pk__in=chunk).delete()
    return True


def _lock(using: str, key: str) -> Iterator[Notification]:
    """Yield the rows of a window. Of two workers that close it, one has them all and the other finds his own gone.

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
    """Return the columns of a row that tells of the events of all, which are in the order they were written in."""
    if len(rows) == 1:
        return {}
    uids: list[str] = []
    for mate in rows:
        uids += [str(uid) for uid in mate.event_uids[: MAX_NAMED - len(uids)]]
    count = sum(mate.data.get("count", 1) for mate in rows)
    return {"event": None, "data": {**row.data, "events": uids, "count": count}}
