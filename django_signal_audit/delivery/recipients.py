"""From what a rule says about recipients to addresses.

A row is written with the recipient as the rule names it: an address or any other plain text, ``actor``,
``superusers``, ``user:<username>`` or ``group:<name>``. Just before it is sent, the row becomes the first of the
users meant, and each other one gets a row of his own. ``data`` then has the user's key (``user``), by which he is
looked up again on every attempt, and what the rule said (``to``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from django.contrib.auth import get_user_model
from django.core.exceptions import FieldError, ValidationError
from django.db import connections, transaction
from django.db.models import Model, QuerySet
from django.utils import timezone

from django_signal_audit.channels.base import Channel
from django_signal_audit.exceptions import GiveUp, Unreachable
from django_signal_audit.keys import MAX_LENGTH, object_id
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.models.events import utc_now

from .outbox import hold

Users: TypeAlias = dict[str, Model]

ACTOR = "actor"
SUPERUSERS = "superusers"
USER = "user:"
GROUP = "group:"
BATCH_SIZE = 500


class LeaseLost(Exception):
    """Another worker holds the row by now; whatever was to be done with it is his."""


@dataclass(frozen=True, slots=True)
class Target:
    """One user meant by a recipient: his address, his key, and why he cannot be told, if so."""

    recipient: str
    key: str
    obstacle: str = ""


@dataclass(frozen=True, slots=True)
class Resolved:
    """Where a row goes, and the ids of the rows that were made for the other users."""

    recipient: str
    new_ids: Sequence[int] = ()


def resolve(notification: Notification, channel: Channel, events: Sequence[AuditEvent], users: Users) -> Resolved:
    """Return where the row goes, after making rows for the others if it stands for several users.

    Args:
        notification: A row that is claimed.
        channel: Its channel.
        events: What it tells of.
        users: Those that rows name by key, as ``load_users`` returns them.

    Raises:
        Unreachable: Nobody is to get it, and why.
        GiveUp: It says no recipient, or one that this project cannot have.
        LeaseLost: The row was claimed by another worker meanwhile.

    """
    key = str(notification.data.get("user", ""))
    if key:
        return Resolved(_address(users.get(key), channel, f"with the key {key}"))
    spec = notification.recipient
    if not spec:
        return _nameless(notification, channel, events, users)
    if spec == SUPERUSERS or spec.startswith(GROUP):
        return _expand(notification, channel, [_target(user, channel) for user in _members(spec)])
    if spec == ACTOR or spec.startswith(USER) or channel.recipients_are_users:
        user = _single(spec, events)
        return _expand(notification, channel, [Target(_address(user, channel, f'"{spec}"'), object_id(_pk(user)))])
    return Resolved(spec)


def _nameless(notification: Notification, channel: Channel, events: Sequence[AuditEvent], users: Users) -> Resolved:
    named = [spec for spec in channel.recipients() if spec]
    if named:
        # The channel could not be made when the row was written, so nobody could be asked whom it sends to.
        expanded = _expand(notification, channel, [Target(spec, "") for spec in named])
        first = resolve(notification, channel, events, users)
        return Resolved(first.recipient, [*expanded.new_ids, *first.new_ids])
    if channel.needs_recipient:
        msg = (
            f'Nobody is named to send it to. Add "to" to the rule, or to the OPTIONS of the channel "{channel.alias}".'
        )
        raise GiveUp(msg)
    return Resolved("")


def depends_on_event(spec: str) -> bool:
    """Tell whether whom a recipient stands for can be known only from the event."""
    return spec == ACTOR


def load_users(notifications: Iterable[Notification]) -> Users:
    """Return the users that rows name by key, in one query for all."""
    keys = {str(row.data["user"]) for row in notifications if row.data.get("user")}
    known = {key: pk for key in keys if (pk := _to_pk(key)) is not None}
    if not known:
        return {}
    return {object_id(user.pk): user for user in _users().filter(pk__in=list(known.values()))}


def _users() -> QuerySet[Model]:
    return get_user_model()._default_manager.all()


def _to_pk(key: str) -> Any:
    try:
        return get_user_model()._meta.pk.to_python(key)
    except ValidationError:
        return None


def _pk(user: Model | None) -> Any:
    return None if user is None else user.pk


def _single(spec: str, events: Sequence[AuditEvent]) -> Model | None:
    if spec.startswith(USER):
        return _users().filter(**{get_user_model().USERNAME_FIELD: spec.removeprefix(USER)}).first()
    if spec != ACTOR:
        return _by_key(spec)
    key = events[0].actor_id
    if not key:
        msg = 'The event has no actor, and "actor" is who was to be told.'
        raise Unreachable(msg)
    return _by_key(key)


def _by_key(key: str) -> Model | None:
    pk = _to_pk(key)
    return None if pk is None else _users().filter(pk=pk).first()


def _members(spec: str) -> Iterable[Model]:
    """Return the active users meant by ``superusers`` or ``group:<name>``; a group has no use for its former ones."""
    named = {"is_superuser": True} if spec == SUPERUSERS else {"groups__name": spec.removeprefix(GROUP)}
    try:
        found = _users().filter(**named).order_by("pk")
    except FieldError as error:
        msg = f'"{spec}" needs a user model with permissions: {error}'
        raise GiveUp(msg) from error
    users = [user for user in found.iterator(chunk_size=BATCH_SIZE) if _is_active(user)]
    if not users:
        msg = f'"{spec}" stands for no active user.'
        raise Unreachable(msg)
    return users


def _is_active(user: Model) -> bool:
    # Not a column of every user model, so no query can ask for it.
    return bool(getattr(user, "is_active", True))


def _username(user: Model) -> str:
    return str(getattr(user, get_user_model().USERNAME_FIELD))


def _obstacle(user: Model | None, channel: Channel, name: str) -> str:
    if user is None:
        return f"There is no user {name}."
    if not _is_active(user):
        return f"The user {_username(user)} is not active."
    if not channel.address(user):
        return f'The user {_username(user)} has no address for the channel "{channel.alias}".'
    return ""


def _address(user: Model | None, channel: Channel, name: str) -> str:
    obstacle = _obstacle(user, channel, name)
    if user is None or obstacle:
        raise Unreachable(obstacle)
    return channel.address(user)


def _target(user: Model, channel: Channel) -> Target:
    obstacle = _obstacle(user, channel, "")
    recipient = f"{USER}{_username(user)}"[:MAX_LENGTH] if obstacle else channel.address(user)
    return Target(recipient, object_id(user.pk), obstacle)


def _expand(notification: Notification, channel: Channel, targets: list[Target]) -> Resolved:
    """Make the row that of the first target who can be told, and a row for each other target, or nothing at all."""
    spec, using = notification.recipient, notification._state.db
    with transaction.atomic(using=using):
        _lock_siblings(notification)
        # The first write: it proves the claim, and on SQLite takes the lock before anything is read.
        if not hold(notification):
            raise LeaseLost
        told = _told(notification)
        fresh = {target.recipient: target for target in targets if target.recipient not in told}
        if not fresh:
            msg = f'Everybody "{spec}" stands for is told by another notification of the same event.'
            raise Unreachable(msg)
        first, *others = sorted(fresh.values(), key=lambda target: bool(target.obstacle))
        rows = [_row(notification, target) for target in others]
        Notification.objects.using(using).bulk_create(rows, batch_size=BATCH_SIZE)
        hold(notification, recipient=first.recipient, data=_data(notification, first))
    if first.obstacle:
        raise Unreachable(first.obstacle)
    return Resolved(first.recipient, [row.pk for row in rows if row.pk is not None and row.status == "pending"])


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


def _data(notification: Notification, target: Target) -> dict[str, Any]:
    return {**notification.data, "user": target.key, "to": notification.recipient}


def _row(notification: Notification, target: Target) -> Notification:
    """Return the row of one more user: the same message as the first one's, with an id of its own."""
    now = timezone.now()
    return Notification(
        event=notification.event,
        rule=notification.rule,
        channel=notification.channel,
        recipient=target.recipient,
        status=Notification.STATUS.skipped if target.obstacle else Notification.STATUS.pending,
        status_changed=now,
        available_at=utc_now(),
        last_error=target.obstacle,
        data=_data(notification, target),
    )
