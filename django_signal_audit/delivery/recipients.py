"""Recipients: what the settings may name, which users and addresses it stands for, and whether they may be notified.

A recipient is an address, a user, a group of users, a path from the object, or what a function returns.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeAlias
from uuid import UUID

from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist, FieldError, ObjectDoesNotExist, ValidationError
from django.db.models import (
    BooleanField,
    DateField,
    DecimalField,
    DurationField,
    FloatField,
    IntegerField,
    Manager,
    Model,
    QuerySet,
    TimeField,
)
from django.utils.functional import cached_property

from django_signal_audit.channels.base import Channel
from django_signal_audit.delivery.subjects import load_subjects
from django_signal_audit.events.keys import MAX_LENGTH, object_id
from django_signal_audit.events.masking import is_secret
from django_signal_audit.events.values import safe_str
from django_signal_audit.exceptions import GiveUp, Unreachable
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.plugins import PluginError, load
from django_signal_audit.problems import did_you_mean
from django_signal_audit.rules.registry import get_registry
from django_signal_audit.rules.visibility import (
    is_left_to_project,
    knows_permissions,
    may_view_model,
    may_view_object,
    narrowed,
)

ACTOR = "actor"
SUPERUSERS = "superusers"
USER = "user:"
GROUP = "group:"


@dataclass(frozen=True, slots=True)
class Named:
    """Somebody who was found: a user, an address, or an address that is a user's."""

    user: Model | None = None
    address: str = ""


def is_path(spec: str) -> bool:
    """Return whether a recipient may be a path: names with dots between them, and no word with a meaning of its own."""
    names = spec.split(".")
    return spec not in (ACTOR, SUPERUSERS) and all(
        name.isidentifier() and not keyword.iskeyword(name) for name in names
    )


def is_field_path(spec: str, model: type[Model] | None) -> bool:
    """Return whether a recipient is a path from an object of the model: it begins with a field or property of it."""
    if model is None or not is_path(spec):
        return False
    first = spec.partition(".")[0]
    try:
        model._meta.get_field(first)
    except FieldDoesNotExist:
        return isinstance(getattr(model, first, None), (property, cached_property))
    return True


@cache
def find_function(spec: str) -> Callable[[AuditEvent], Any] | None:
    """Return the function that a recipient names by its dotted path, None if it names none."""
    if "." not in spec or not is_path(spec):
        return None
    try:
        return load(spec, "a recipient", "a function")  # type: ignore[no-any-return]
    except PluginError:
        return None  # it is a text then; check says what it is


def secret_name(spec: str) -> str:
    """Return the first name of a path that is secret, ``""`` if none is: what it holds goes into no message."""
    return next((name for name in spec.split(".") if is_secret(name) or name.startswith("_")), "")


def path_problem(spec: str, models: Iterable[type[Model]], *, may_be_number: bool = True) -> tuple[str, str] | None:
    """Return what is wrong with a path and the edit to make, None if it may lead to somebody from one of the models.

    Args:
        spec: The path.
        models: The models.
        may_be_number: Whether a number may name somebody, as the primary key of a user does.

    """
    if secret := secret_name(spec):
        return f"passes {secret!r}, which is private", "Name the user it belongs to."
    models = list(models)
    problems = [_walk(model, spec.split("."), may_be_number=may_be_number) for model in models]
    if None in problems:
        return None
    first, _, rest = spec.partition(".")
    if rest and first in ("object", "instance", "obj", "self", "new", "old") and path_problem(rest, models) is None:
        return "begins with a name that isn't needed", f"Paths begin at the object: write {rest!r}."
    return problems[0]


def attribute_names(model: type[Model]) -> set[str]:
    """Return the names of the fields and properties of a model, which a path may go through."""
    properties = {
        name
        for parent in model.__mro__
        for name, value in vars(parent).items()
        if isinstance(value, (property, cached_property)) and not name.startswith("_")
    }
    return {field.name for field in model._meta.get_fields()} | (properties - {"pk"})


def leads_to_users(spec: str, model: type[Model]) -> bool:
    """Return whether a path from an object of the model goes by relations to users, at its end or on its way."""
    if not is_field_path(spec, model):
        return False
    current: Any = model
    for name in spec.split("."):
        fields = {field.name: field for field in current._meta.get_fields()}
        current = fields[name].related_model if name in fields else None
        if not isinstance(current, type):
            return False
        if issubclass(current, get_user_model()):
            return True
    return False


def _walk(model: type[Model], names: list[str], *, may_be_number: bool) -> tuple[str, str] | None:
    for name in names:
        if name in _masked(model):
            return f"passes {name!r}, which is private", "Name the user it belongs to."
        fields = {field.name: field for field in model._meta.get_fields()}
        if name not in fields:
            if hasattr(model, name):
                return None  # a property may hold anything
            hint = did_you_mean(name, attribute_names(model))
            return f"is neither a path from {model._meta.label} nor a function", hint
        target = fields[name].related_model
        if not isinstance(target, type):
            return _value_problem(fields[name], may_be_number=may_be_number)
        model = target
    if issubclass(model, get_user_model()):
        return None
    return f"leads to {model._meta.label}, which is neither a user nor an address", "Go on to a user or an address."


# What their columns hold is nobody's address, whatever the channel.
_NO_ADDRESSES = (BooleanField, DateField, DecimalField, DurationField, FloatField, TimeField)


def _value_problem(field: Any, *, may_be_number: bool) -> tuple[str, str] | None:
    if not isinstance(field, _NO_ADDRESSES) and (may_be_number or not isinstance(field, IntegerField)):
        return None
    return f"leads to a {type(field).__name__}, which is neither a user nor an address", "Name a user or an address."


def ask(spec: str, function: Callable[[AuditEvent], Any], event: AuditEvent) -> list[Named]:
    """Return whom the function names for the event: a user, an address, None, or any number of these."""
    answer = function(event)
    if answer is None or isinstance(answer, (str, Model)):
        answer = [answer]
    return [named for item in answer for named in _named(item, None, spec)]


def follow(spec: str, subject: Model) -> list[Named]:
    """Return whom a path from an object leads to.

    Raises:
        GiveUp: The path leads to no user and no text, or through a secret.

    """
    if secret := secret_name(spec):
        raise GiveUp(_private(spec, secret))
    reached: list[tuple[Any, Model | None]] = [(subject, None)]
    for name in spec.split("."):
        reached = [step for item, user in reached for step in _step(item, name, user, spec)]
    return [named for item, user in reached for named in _named(item, user, spec)]


def _private(spec: str, name: str) -> str:
    return f'The recipient "{spec}" passes "{name}", which is private.'


def _masked(model: type[Any]) -> Collection[str]:
    """Return the fields of a model whose values the rules keep out of the audit log, and so out of its messages."""
    plan = get_registry().plans.get(model)
    return plan.secret if plan else ()


def _step(item: object, name: str, user: Model | None, spec: str) -> Iterator[tuple[object, Model | None]]:
    """Yield what an attribute holds, with the user it belongs to."""
    if item is None:
        return
    if name in _masked(type(item)):
        raise GiveUp(_private(spec, name))
    owner = item if isinstance(item, get_user_model()) else user
    try:
        value = getattr(item, name)
    except ObjectDoesNotExist:
        return
    except (AttributeError, ValueError) as error:
        msg = f'The recipient "{spec}" cannot be followed: {safe_str(error)}'
        raise GiveUp(msg) from error
    values: Iterable[Any] = value.all() if isinstance(value, (Manager, QuerySet)) else [value]
    yield from ((found, owner) for found in values)


def _named(item: object, user: Model | None, spec: str) -> Iterator[Named]:
    if item is None or item == "":
        return
    if isinstance(item, get_user_model()):
        yield Named(user=item)
    elif isinstance(item, (str, int, UUID)):
        yield Named(user=user, address=str(item))
    else:
        msg = f'The recipient "{spec}" leads to a {type(item).__name__}, which is neither a user nor an address.'
        raise GiveUp(msg)


def visible_events(user: Model, events: Sequence[AuditEvent], using: str) -> Sequence[AuditEvent]:
    """Return the events that the user may see, by permissions and by the project's VISIBILITY.

    A permission for this one object is enough. A user model that knows no permissions, an event about no object, and a
    model that nobody can be permitted to view (``default_permissions``) keep nothing from anybody.
    """
    if not knows_permissions(user):
        return events
    return _by_project(user, _by_permission(user, events, using), using)


def _by_permission(user: Model, events: Sequence[AuditEvent], using: str) -> Sequence[AuditEvent]:
    labels = {event.model: event for event in events}
    open_models = {label for label, event in labels.items() if _is_open(event) or may_view_model(user, label)}
    refused = [event for event in events if event.model not in open_models]
    if not refused:
        return events
    subjects = load_subjects(refused, using)
    seen = {name for name, subject in subjects.items() if may_view_object(user, subject)}
    return [event for event in events if event.model in open_models or (event.model, event.object_id) in seen]


def _by_project(user: Model, events: Sequence[AuditEvent], using: str) -> Sequence[AuditEvent]:
    """Return the events without those of models that no ModelAdmin shows and that VISIBILITY keeps from the user."""
    asked = {event.pk for event in events if is_left_to_project(event.model)}
    if not asked:
        return events
    left = narrowed(user, AuditEvent.of_all_tenants.using(using).filter(pk__in=asked))
    seen = set(left.values_list("pk", flat=True))
    return [event for event in events if event.pk not in asked or event.pk in seen]


def _is_open(event: AuditEvent) -> bool:
    model = event.model_class
    return model is not None and {"view", "change"}.isdisjoint(model._meta.default_permissions)


# What the reason of a notification that a throttle suppressed begins with.
THROTTLED = "Throttled: "
# The same of one that its user does not want.
PREFERRED = "Preference: "

Users: TypeAlias = dict[str, Model]
Events: TypeAlias = Sequence[AuditEvent]


@dataclass(frozen=True, slots=True)
class Target:
    """One who is meant by a recipient: the address, the events to describe, and why it gets no message, if so."""

    recipient: str
    events: Events
    user: Model | None = None
    address: str = ""
    obstacle: str = ""


@dataclass(frozen=True, slots=True)
class Resolved:
    """Where a row goes, what it describes, to which user, and the ids of the rows that were made for the others."""

    recipient: str
    events: Events
    user: Model | None = None
    new_ids: Sequence[int] = ()


def load_users(notifications: Iterable[Notification]) -> Users:
    """Return the users that rows name by key, in one query for all."""
    return users_by_key({row.user for row in notifications if row.user})


def users_by_key(keys: Iterable[str]) -> Users:
    """Return the users with these primary keys as texts, in one query for all."""
    known = {key: pk for key in keys if (pk := _to_pk(key)) is not None}
    if not known:
        return {}
    return {object_id(user.pk): user for user in all_users().filter(pk__in=list(known.values()))}


def all_users() -> QuerySet[Model]:
    """Return the users of the project, whatever its user model is."""
    return get_user_model()._default_manager.all()


def _to_pk(key: str) -> object:
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


def username(user: Model) -> str:
    """Return what a user logs in with."""
    return str(getattr(user, get_user_model().USERNAME_FIELD))


def user_target(user: Model | None, channel: Channel, events: Events, name: str = "", address: str = "") -> Target:
    """Return the target that a user is, with what is in the way but for their permissions, which cost queries."""
    if user is None:
        return Target(name.strip('"'), events, obstacle=f"There is no user {name}.")
    obstacle = ""
    recipient = address or channel.address(user)
    if not is_active(user):
        obstacle = f"The user {username(user)} is not active."
    elif not recipient:
        obstacle = f'The user {username(user)} has no address for the channel "{channel.alias}".'
    if obstacle:
        recipient = f"{USER}{username(user)}"
    return Target(recipient[:MAX_LENGTH], events, user, address, obstacle)


def permitted(target: Target, channel: Channel, using: str) -> Target:
    """Return the target with the events it may be notified of, or with the reason if there are none."""
    if target.obstacle or target.user is None or not channel.checks_permission:
        return target
    events = visible_events(target.user, target.events, using)
    if events:
        return replace(target, events=events)
    label = target.events[0].model
    return replace(target, obstacle=f"The user {username(target.user)} may not view {label}.")


def reach(target: Target, channel: Channel, notification: Notification) -> Resolved:
    """Return where the row of a target goes now; raise Unreachable if something is in the way."""
    target = permitted(target, channel, str(notification._state.db))
    if target.obstacle:
        raise Unreachable(target.obstacle)
    return Resolved(target.recipient, target.events, target.user)


CHUNK = 500


def depends_on_event(spec: str) -> bool:
    """Return whether a recipient is somebody else for each event, and cannot be notified of several at once."""
    return spec == ACTOR


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
        (name, _value), *_ = named.items()
        msg = f'"{spec}" needs users with the field "{name.partition("__")[0]}", and the user model has none.'
        raise GiveUp(msg) from error
    users = [user for user in found.iterator(chunk_size=CHUNK) if is_active(user)]
    if not users:
        msg = f'"{spec}" matches no active user.'
        raise Unreachable(msg)
    return users
