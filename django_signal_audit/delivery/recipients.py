"""From what a rule says about recipients to addresses.

A row is written with the recipient as the rule names it (``specs.py`` says what that may be), so that it costs the
request one row however many are meant. Just before it is sent, the row becomes the first of them, and each other one
gets a row of his own. ``data`` then has what the rule said (``to``), the user's key (``user``), by which he is looked
up again on every attempt, and the address (``address``) if it is not the one his account has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from django.contrib.auth import get_user_model
from django.core.exceptions import FieldError
from django.db.models import Model

from django_signal_audit.channels.base import Channel
from django_signal_audit.events.keys import MAX_LENGTH, object_id
from django_signal_audit.exceptions import GiveUp, Unreachable
from django_signal_audit.models import AuditEvent, Notification

from .fanout import expand
from .specs import (
    ACTOR,
    GROUP,
    SUPERUSERS,
    USER,
    Named,
    ask,
    find_function,
    follow,
    is_field_path,
    is_path,
    path_problem,
)
from .subjects import load_subjects, prefetch
from .targets import Events, Resolved, Target, Users, all_users, is_active, is_key, reach, user_by_key, user_target

CHUNK = 500


def resolve(notification: Notification, channel: Channel, events: Events, users: Users) -> Resolved:
    """Return where the row goes, after making rows for the others if it stands for several.

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
    key, spec = str(notification.data.get("user", "")), notification.recipient
    if key:
        address = str(notification.data.get("address", ""))
        target = user_target(users.get(key), channel, events, f"with the key {key}", address)
        return reach(target, channel, notification)
    if notification.data.get("to"):
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


def depends_on_event(spec: str) -> bool:
    """Return whether a recipient is somebody else for each event, and cannot be told of several at once."""
    return spec == ACTOR


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
    """Return a target for each one named, with the events he was named for: others may be of other people's objects."""
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


def single_user(spec: str, events: Events) -> Model | None:
    """Return the user meant by ``actor`` or ``user:<name>``, None if there is none."""
    if spec.startswith(USER):
        return all_users().filter(**{get_user_model().USERNAME_FIELD: spec.removeprefix(USER)}).first()
    key = events[0].actor_id
    if not key:
        msg = 'The recipient is "actor", but the event has no actor.'
        raise Unreachable(msg)
    return user_by_key(key)


def members_of(spec: str) -> Iterable[Model]:
    """Return the active users meant by ``superusers`` or ``group:<name>``; a group has no use for its former ones."""
    named = {"is_superuser": True} if spec == SUPERUSERS else {"groups__name": spec.removeprefix(GROUP)}
    try:
        found = all_users().filter(**named).order_by("pk")
    except FieldError as error:
        msg = f'"{spec}" needs a user model with permissions: {error}'
        raise GiveUp(msg) from error
    users = [user for user in found.iterator(chunk_size=CHUNK) if is_active(user)]
    if not users:
        msg = f'"{spec}" matches no active user.'
        raise Unreachable(msg)
    return users


def spec_problem(spec: str, channel: Channel, models: Sequence[type[Model]]) -> tuple[str, str | None] | None:
    """Return what is wrong with a recipient in the settings and the edit to make, None if it may be right.

    Args:
        spec: The recipient.
        channel: The channel it is for.
        models: The models whose objects the rule is about; none if that cannot be known.

    """
    if spec in (ACTOR, SUPERUSERS) or spec.startswith((USER, GROUP)):
        return None
    meant = [model for model in models if is_field_path(spec, model)]
    if meant:
        return path_problem(spec, meant)
    dotted = "." in spec and is_path(spec)
    if dotted and channel.needs_recipient and models and find_function(spec) is None:
        return path_problem(spec, models)
    if channel.recipients_are_users and not dotted and not is_key(spec):
        return "isn't the primary key of a user", f'Write "{USER}{spec}" for the user of that name.'
    return channel.recipient_problem(spec) if find_function(spec) is None else None
