"""Who gets a message: a user or an address, and what may be in the way at the moment it is sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet

from django_signal_audit.channels.base import Channel
from django_signal_audit.events.keys import MAX_LENGTH, object_id
from django_signal_audit.exceptions import Unreachable
from django_signal_audit.models import AuditEvent, Notification

from .permissions import visible_events
from .specs import USER

# What the reason of a notification that a throttle suppressed begins with.
THROTTLED = "Throttled: "

Users: TypeAlias = dict[str, Model]
Events: TypeAlias = Sequence[AuditEvent]


@dataclass(frozen=True, slots=True)
class Target:
    """One who is meant by a recipient: his address, the events he is told of, and why he cannot be, if so."""

    recipient: str
    events: Events
    user: Model | None = None
    address: str = ""
    obstacle: str = ""


@dataclass(frozen=True, slots=True)
class Resolved:
    """Where a row goes, what it tells of, to which user, and the ids of the rows that were made for the others."""

    recipient: str
    events: Events
    user: Model | None = None
    new_ids: Sequence[int] = ()


def load_users(notifications: Iterable[Notification]) -> Users:
    """Return the users that rows name by key, in one query for all."""
    keys = {str(row.data["user"]) for row in notifications if row.data.get("user")}
    known = {key: pk for key in keys if (pk := _to_pk(key)) is not None}
    if not known:
        return {}
    return {object_id(user.pk): user for user in all_users().filter(pk__in=list(known.values()))}


def all_users() -> QuerySet[Model]:
    """Return the users of the project, whatever its user model is."""
    return get_user_model()._default_manager.all()


def _to_pk(key: str) -> Any:
    try:
        return get_user_model()._meta.pk.to_python(key)
    except ValidationError:
        return None


def is_key(text: str) -> bool:
    """Return whether a user can have the text as primary key."""
    return _to_pk(text) is not None


def user_by_key(key: str) -> Model | None:
    """Return the user with that primary key, None if there is none."""
    pk = _to_pk(key)
    return None if pk is None else all_users().filter(pk=pk).first()


def is_active(user: Model) -> bool:
    """Return whether the user's account is open."""
    # Not a column of every user model, so no query can ask for it.
    return bool(getattr(user, "is_active", True))


def _username(user: Model) -> str:
    return str(getattr(user, get_user_model().USERNAME_FIELD))


def user_target(user: Model | None, channel: Channel, events: Events, name: str = "", address: str = "") -> Target:
    """Return the target that a user is, with what is in the way but for his permissions, which cost queries."""
    if user is None:
        return Target(name.strip('"'), events, obstacle=f"There is no user {name}.")
    obstacle = ""
    recipient = address or channel.address(user)
    if not is_active(user):
        obstacle = f"The user {_username(user)} is not active."
    elif not recipient:
        obstacle = f'The user {_username(user)} has no address for the channel "{channel.alias}".'
    if obstacle:
        recipient = f"{USER}{_username(user)}"
    return Target(recipient[:MAX_LENGTH], events, user, address, obstacle)


def permitted(target: Target, channel: Channel, using: str) -> Target:
    """Return the target with the events it may be told of, or with what is in the way if it may be told of none."""
    if target.obstacle or target.user is None or not channel.checks_permission:
        return target
    events = visible_events(target.user, target.events, using)
    if events:
        return replace(target, events=events)
    label = target.events[0].model
    return replace(target, obstacle=f"The user {_username(target.user)} may not view {label}.")


def reach(target: Target, channel: Channel, notification: Notification) -> Resolved:
    """Return where the row of a target goes now; raise Unreachable if something is in the way."""
    target = permitted(target, channel, str(notification._state.db))
    if target.obstacle:
        raise Unreachable(target.obstacle)
    return Resolved(target.recipient, target.events, target.user)
