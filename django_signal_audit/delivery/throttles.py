"""Throttles: at most so many messages of one rule, channel and recipient within any stretch of time."""

from __future__ import annotations

import time

from django.db import transaction

from django_signal_audit.exceptions import Unreachable
from django_signal_audit.models import Notification, Throttle
from django_signal_audit.rules.durations import parse_rate

from .digests import key_of
from .fanout import LeaseLost
from .outbox import hold
from .targets import THROTTLED

# The statistics count them by it.
REASON = THROTTLED


def admit(row: Notification, recipient: str) -> None:
    """Let a claimed row pass if its throttle does; once it has, its retries pass too.

    Raises:
        Unreachable: There have been as many messages as may be, and how many that is.
        LeaseLost: Another worker has the row by now.

    """
    text = str(row.data.get("throttle", ""))
    rate = parse_rate(text)
    if rate is None or row.data.get("admitted"):
        return
    using = row._state.db
    key = key_of(row.rule, row.channel, recipient)
    throttles = Throttle.objects.using(using)
    # Outside of the transaction: on MySQL two that insert the same key and then lock it would deadlock.
    if not throttles.filter(pk=key).exists():
        throttles.bulk_create([Throttle(key=key)], ignore_conflicts=True)
    now = time.time()
    with transaction.atomic(using=using):
        if not hold(row, data={**row.data, "admitted": True}):
            raise LeaseLost
        throttle = throttles.select_for_update().get(pk=key)
        recent = [moment for moment in throttle.moments if moment > now - rate.window.total_seconds()]
        if len(recent) >= rate.limit:
            _refuse(row, text)
        throttles.filter(pk=key).update(moments=[*recent, now])


def _refuse(row: Notification, text: str) -> None:
    # The row forgets what the transaction undoes.
    row.data = {name: value for name, value in row.data.items() if name != "admitted"}
    msg = f'{REASON}rule "{row.rule}" sends this recipient at most {text} by channel "{row.channel}".'
    raise Unreachable(msg)
