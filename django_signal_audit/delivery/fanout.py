"""One row that stands for several becomes a row for each, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from django.db import connections, transaction
from django.db.models import QuerySet
from django.utils import timezone

from django_signal_audit.channels.base import Channel
from django_signal_audit.events.keys import object_id
from django_signal_audit.exceptions import Unreachable
from django_signal_audit.models import Notification
from django_signal_audit.models.events import utc_now

from .outbox import hold
from .skips import log_skip
from .targets import Resolved, Target, permitted, reach

BATCH_SIZE = 500


class LeaseLost(Exception):
    """Another worker holds the row by now; whatever was to be done with it is his."""


def expand(notification: Notification, channel: Channel, targets: Sequence[Target]) -> Resolved:
    """Make the row that of the first target who can be told, and a row for each other target, or nothing at all."""
    spec, using = notification.recipient, str(notification._state.db)
    if len(targets) == 1 and (obstacle := permitted(targets[0], channel, using).obstacle):
        raise Unreachable(obstacle)
    with transaction.atomic(using=using):
        _lock_siblings(notification)
        # The first write: it proves the claim, and on SQLite takes the lock before anything is read.
        if not hold(notification):
            raise LeaseLost
        fresh = _fresh(targets, _told(notification))
        if not fresh:
            msg = f'Everyone in "{spec}" gets another notification of the same event.'
            raise Unreachable(msg)
        first, others = _first_permitted(fresh, channel, using)
        rows = [_row(notification, target) for target in others]
        Notification.objects.using(using).bulk_create(rows, batch_size=BATCH_SIZE)
        hold(notification, recipient=first.recipient, **_portion_of(notification, first))
    for row in rows:
        if row.status == Notification.STATUS.skipped:
            log_skip(row)
    resolved = reach(first, channel, notification)
    new_ids = [row.pk for row in rows if row.pk is not None and row.status == Notification.STATUS.pending]
    return replace(resolved, new_ids=new_ids)


def _fresh(targets: Iterable[Target], told: set[str]) -> list[Target]:
    """Return the targets who are not told yet, each address once, with all the events it was named for."""
    fresh: dict[str, Target] = {}
    for target in targets:
        known = fresh.setdefault(target.recipient, target)
        if known.events is not target.events:
            merged = {event.pk: event for event in (*known.events, *target.events)}
            fresh[target.recipient] = replace(known, events=list(merged.values()))
    return [target for recipient, target in fresh.items() if recipient not in told]


def _first_permitted(targets: Sequence[Target], channel: Channel, using: str) -> tuple[Target, list[Target]]:
    """Return the first target who may be told, and the others; of these only those before him have been asked for."""
    refused: list[Target] = []
    for position, target in enumerate(targets):
        asked = permitted(target, channel, using)
        if not asked.obstacle:
            return target, [*targets[position + 1 :], *refused]
        refused.append(asked)
    return refused[0], refused[1:]


def _siblings(notification: Notification) -> QuerySet[Notification]:
    """Return the rows of the same event, rule and channel. Those of a digest have no event to be found by."""
    rows = Notification.objects.using(notification._state.db)
    if notification.event is None:
        return rows.none()
    return rows.filter(event=notification.event, rule=notification.rule, channel=notification.channel)


def _lock_siblings(notification: Notification) -> None:
    """Let one worker at a time expand the rows of an event, so that who is in two groups is told once."""
    if connections[_siblings(notification).db].features.has_select_for_update:
        list(_siblings(notification).order_by("pk").select_for_update().values_list("pk"))


def _told(notification: Notification) -> set[str]:
    return set(_siblings(notification).exclude(pk=notification.pk).values_list("recipient", flat=True))


def _portion_of(notification: Notification, target: Target) -> dict[str, Any]:
    """Return the columns of a target's row that say what it tells of and to whom."""
    data: dict[str, Any] = {**notification.data, "to": notification.recipient}
    data["user"] = object_id(target.user.pk) if target.user else ""
    if target.address and target.user:
        data["address"] = target.address
    uids = [event.uid for event in target.events]
    if len(uids) == len(notification.event_uids):
        return {"event": notification.event, "data": data}
    if len(uids) > 1:
        return {"event": None, "data": {**data, "events": list(map(str, uids)), "count": len(uids)}}
    return {"event": uids[0], "data": {name: value for name, value in data.items() if name not in ("events", "count")}}


def _row(notification: Notification, target: Target) -> Notification:
    """Return the row of one more target: the message of the first one's rule, with an id of its own."""
    return Notification(
        rule=notification.rule,
        channel=notification.channel,
        recipient=target.recipient,
        status=Notification.STATUS.skipped if target.obstacle else Notification.STATUS.pending,
        status_changed=timezone.now(),
        available_at=utc_now(),
        last_error=target.obstacle,
        **_portion_of(notification, target),
    )
