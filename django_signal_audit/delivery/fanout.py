"""From the recipient that a rule names to the people who get the message.

A row is written with the recipient as the rule names it (``recipients.py`` says what that may be), so that it costs
the request one row however many are meant. Just before it is sent, the row becomes that of the first of them, and each
other person gets a row, all in one transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

from django.db import connections, transaction
from django.db.models import QuerySet
from django.utils import timezone

from django_signal_audit.channels.base import Channel
from django_signal_audit.conf import on_settings_changed
from django_signal_audit.delivery.order import order_key
from django_signal_audit.delivery.outbox import LeaseLost, hold
from django_signal_audit.delivery.recipients import (
    ACTOR,
    GROUP,
    PREFERRED,
    SUPERUSERS,
    THROTTLED,
    USER,
    Events,
    Named,
    Resolved,
    Target,
    Users,
    ask,
    find_function,
    follow,
    is_field_path,
    members_of,
    permitted,
    reach,
    single_user,
    user_by_key,
    user_target,
)
from django_signal_audit.delivery.subjects import load_subjects, prefetch
from django_signal_audit.events.keys import MAX_LENGTH, object_id
from django_signal_audit.exceptions import GiveUp, Unreachable
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.models.events import utc_now

logger = logging.getLogger("django_signal_audit")

# What the last error of a notification begins with if all that it is for get another.
_TOLD = "Everyone in"

# The rules and channels that this process has warned about.
_warned: set[tuple[str, str]] = set()
on_settings_changed(_warned.clear)


def log_skip(row: Notification) -> None:
    """Log that a notification was skipped: a rule whose recipients are never reached must not go unnoticed.

    A warning comes once per rule and channel. What a throttle or a preference suppresses was asked for, and who is
    named twice gets the message.
    """
    kind = (row.rule, row.channel)
    if kind in _warned or row.last_error.startswith((THROTTLED, PREFERRED, _TOLD)):
        logger.info("Notification %s (%s) was skipped: %s", row.pk, row, row.last_error)
        return
    _warned.add(kind)
    logger.warning(
        'Notification %s (%s) was skipped: %s Later ones of rule "%s" and channel "%s" are logged as info; '
        "audit_rules --explain says who is not notified.",
        row.pk,
        row,
        row.last_error,
        row.rule,
        row.channel,
    )


BATCH_SIZE = 500
# The rows of one call: one for each rule, channel and recipient.
NEAR = 200
# The rows for the people that such a row stands for are new when its sibling is expanded.
RECENT = 5000

Told: TypeAlias = dict[str, set[str]]


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
        fresh = _fresh(targets, _told(notification, targets))
        if not fresh:
            msg = f'{_TOLD} "{spec}" gets another notification of the same event.'
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


def _fresh(targets: Iterable[Target], told: Told) -> list[Target]:
    """Return the targets who are not told yet, each address once, with the events that are news to it."""
    fresh: dict[str, Target] = {}
    for target in targets:
        known = fresh.setdefault(target.recipient, target)
        if known.events is not target.events:
            merged = {event.pk: event for event in (*known.events, *target.events)}
            fresh[target.recipient] = replace(known, events=list(merged.values()))
    return [target for target in map(partial(_without, told), fresh.values()) if target.events]


def _without(told: Told, target: Target) -> Target:
    """Return the target with the events that no other notification tells it of."""
    known = told.get(target.recipient)
    if not known:
        return target
    return replace(target, events=[event for event in target.events if str(event.uid) not in known])


def _first_permitted(targets: Sequence[Target], channel: Channel, using: str) -> tuple[Target, list[Target]]:
    """Return the first target who may be notified, and the others. Those after it have not been checked."""
    refused: list[Target] = []
    for position, target in enumerate(targets):
        asked = permitted(target, channel, using)
        if not asked.obstacle:
            return target, [*targets[position + 1 :], *refused]
        refused.append(asked)
    return refused[0], refused[1:]


def _siblings(notification: Notification) -> QuerySet[Notification]:
    """Return the rows of the same rule and channel, and of the same event or events; the row is one of them."""
    rows = Notification.objects.using(notification._state.db)
    rows = rows.filter(rule=notification.rule, channel=notification.channel)
    if notification.event is not None:
        return rows.filter(event=notification.event)
    # Those of several events are found by their place: the rows of a call are written together.
    near = rows.filter(pk__gt=notification.pk - NEAR, pk__lt=notification.pk + NEAR)
    return rows.filter(pk__in=_about_the_same(notification, near))


def _about_the_same(notification: Notification, rows: QuerySet[Notification]) -> list[int]:
    """Return the keys of the rows about some of the events. Only the first event that a row names is read for that."""
    uids = set(map(str, notification.event_uids))
    first = rows.values_list("pk", "event", "data__events__0")
    return [pk for pk, event, uid in first if uid in uids or str(event) in uids]


def _lock_siblings(notification: Notification) -> None:
    """Let one worker at a time expand the rows of an event, so that who is in two groups is told once."""
    if connections[str(notification._state.db)].features.has_select_for_update:
        list(_siblings(notification).order_by("pk").select_for_update().values_list("pk"))


def _told(notification: Notification, targets: Iterable[Target]) -> Told:
    """Return the uids of the events that other rows tell each of the targets of."""
    told: Told = {}
    candidates = _candidates(notification)
    names = sorted({target.recipient for target in targets})
    for start in range(0, len(names), BATCH_SIZE):
        rows = candidates.filter(recipient__in=names[start : start + BATCH_SIZE])
        for row in rows.exclude(pk=notification.pk).only("recipient", "event", "data"):
            told.setdefault(row.recipient, set()).update(map(str, row.event_uids))
    return told


def _candidates(notification: Notification) -> QuerySet[Notification]:
    """Return the siblings, and the rows that were made for the other people they stand for."""
    siblings = _siblings(notification)
    if notification.event is not None:
        return siblings
    keys = list(siblings.values_list("pk", flat=True))
    if len(keys) < 2:
        return siblings
    rows = Notification.objects.using(siblings.db)
    newest = rows.order_by("-pk").values_list("pk", flat=True)[0]
    made = rows.filter(rule=notification.rule, channel=notification.channel, pk__gt=newest - RECENT).exclude(entry="")
    return rows.filter(pk__in=[*keys, *_about_the_same(notification, made)])


def _portion_of(notification: Notification, target: Target) -> dict[str, Any]:
    """Return the columns of a target's row that say what it describes and to whom."""
    data = notification.data
    uids = [event.uid for event in target.events]
    event = notification.event
    if len(uids) != len(notification.event_uids):
        event = uids[0] if len(uids) == 1 else None
        described = {} if event else {"events": list(map(str, uids)), "count": len(uids)}
        data = {**{name: value for name, value in data.items() if name not in ("events", "count")}, **described}
    return {
        "event": event,
        "data": data,
        "entry": notification.recipient,
        "user": object_id(target.user.pk) if target.user else "",
        "address": target.address if target.user else "",
        **_order_of(notification, target),
    }


def _order_of(notification: Notification, target: Target) -> dict[str, Any]:
    """Return what a target's row has to wait for, if it waits at all: messages to this person, not to all of them."""
    if not notification.order_key:
        return {}
    subjects = [(event.model, event.object_id) for event in target.events]
    key = order_key(notification.channel, target.recipient, subjects)
    return {"order_key": key, "order_no": notification.order_no}


def _row(notification: Notification, target: Target) -> Notification:
    """Return the row of one more target: the message of the first one's rule, with an id of its own."""
    return Notification(
        tenant=notification.tenant,
        rule=notification.rule,
        channel=notification.channel,
        recipient=target.recipient,
        level=notification.level,
        priority=notification.priority,
        throttle=notification.throttle,
        digest_window=notification.digest_window,
        generation=notification.generation,
        status=Notification.STATUS.skipped if target.obstacle else Notification.STATUS.pending,
        status_changed=timezone.now(),
        available_at=utc_now(),
        last_error=target.obstacle,
        **_portion_of(notification, target),
    )


def resolve(notification: Notification, channel: Channel, events: Events, users: Users) -> Resolved:
    """Return where the row goes, after making rows for the others if it stands for several.

    Args:
        notification: A row that is claimed.
        channel: Its channel.
        events: What it describes.
        users: Those that rows name by key, as ``load_users`` returns them.

    Raises:
        Unreachable: Nobody is to get it, and why.
        GiveUp: It says no recipient, or one that this project cannot have.
        LeaseLost: The row was claimed by another worker meanwhile.

    """
    key, spec = notification.user, notification.recipient
    if key:
        target = user_target(users.get(key), channel, events, f"with the key {key}", notification.address)
        return reach(target, channel, notification)
    if notification.entry:
        # An address that was found before. Whatever it reads like, it is no recipient of the settings.
        return Resolved(spec, events)
    if not spec:
        return _nameless(notification, channel, events, users)
    targets = _targets(notification, channel, events)
    return Resolved(spec, events) if targets is None else expand(notification, channel, targets)


def _nameless(notification: Notification, channel: Channel, events: Events, users: Users) -> Resolved:
    named = [spec for spec in channel.recipients() if spec]
    if named:
        # The channel could not be made when the row was written, so nobody could be asked whom it sends to.
        expanded = expand(notification, channel, [Target(spec, events) for spec in named])
        first = resolve(notification, channel, events, users)
        return replace(first, new_ids=[*expanded.new_ids, *first.new_ids])
    if channel.needs_recipient:
        msg = f'It has no recipient. Add "to" to the rule, or to the OPTIONS of the channel "{channel.alias}".'
        raise GiveUp(msg)
    return Resolved("", events)


def _targets(notification: Notification, channel: Channel, events: Events) -> list[Target] | None:
    """Return who is meant by the row's recipient, None if it is an address as it stands."""
    spec = notification.recipient
    if spec == SUPERUSERS or spec.startswith(GROUP):
        return [user_target(user, channel, events) for user in members_of(spec)]
    if spec == ACTOR or spec.startswith(USER):
        return [user_target(single_user(spec, events), channel, events, f'"{spec}"')]
    found = _led_to(notification, events)
    if found is not None:
        return _portions(found, channel, spec)
    if channel.recipients_are_users:
        return [user_target(user_by_key(spec), channel, events, f'"{spec}"')]
    return None


def _led_to(notification: Notification, events: Events) -> list[tuple[Named, AuditEvent]] | None:
    """Return whom a path or a function names for each event, None if the recipient is neither."""
    spec = notification.recipient
    if any(is_field_path(spec, event.model_class) for event in events):
        subjects = load_subjects(events, str(notification._state.db))
        prefetch(subjects.values(), spec)
        pairs = ((event, subjects.get((event.model, event.object_id))) for event in events)
        return [(named, event) for event, subject in pairs if subject for named in follow(spec, subject)]
    function = find_function(spec)
    if function is None:
        return None
    return [(named, event) for event in events for named in ask(spec, function, event)]


def _portions(found: Iterable[tuple[Named, AuditEvent]], channel: Channel, spec: str) -> list[Target]:
    """Return a target for each person named, with the events that name them; others may concern other people."""
    everybody: dict[tuple[str, str], tuple[Named, list[AuditEvent]]] = {}
    for named, event in found:
        key = (object_id(named.user.pk) if named.user else "", named.address)
        events = everybody.setdefault(key, (named, []))[1]
        if event not in events[-1:]:
            events.append(event)
    if not everybody:
        msg = f'"{spec}" resolves to nobody.'
        raise Unreachable(msg)
    return [_portion(named, channel, events) for named, events in everybody.values()]


def _portion(named: Named, channel: Channel, events: Events) -> Target:
    if channel.recipients_are_users:
        user = named.user or user_by_key(named.address)
        return user_target(user, channel, events, f'"{named.address}"')
    if named.user is not None:
        return user_target(named.user, channel, events, address=named.address)
    return Target(named.address[:MAX_LENGTH], events)
