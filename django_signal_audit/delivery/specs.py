"""What a recipient in the settings stands for: an address, users, a path from the object, or what a function says."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist, ObjectDoesNotExist
from django.db.models import Manager, Model, QuerySet
from django.utils.functional import cached_property
from django.utils.module_loading import import_string

from django_signal_audit.events.masking import is_secret
from django_signal_audit.events.values import safe_str
from django_signal_audit.exceptions import GiveUp
from django_signal_audit.models import AuditEvent
from django_signal_audit.problems import did_you_mean
from django_signal_audit.rules.registry import get_registry

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
        found = import_string(spec)
    except Exception:  # noqa: BLE001  # whatever the import runs into, it is a text then; check says what it is
        return None
    return found if callable(found) else None


def secret_name(spec: str) -> str:
    """Return the first name of a path that is secret, ``""`` if none is: what it holds goes into no message."""
    return next((name for name in spec.split(".") if is_secret(name) or name.startswith("_")), "")


def path_problem(spec: str, models: Iterable[type[Model]]) -> tuple[str, str] | None:
    """Return what is wrong with a path and the edit to make, None if it may lead to somebody from one of the models."""
    if secret := secret_name(spec):
        return f"passes {secret!r}, which is private", "Name the user it belongs to."
    problems = [_walk(model, spec.split(".")) for model in models]
    return None if None in problems else problems[0]


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


def _walk(model: type[Model], names: list[str]) -> tuple[str, str] | None:
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
            return None
        model = target
    if issubclass(model, get_user_model()):
        return None
    return f"leads to {model._meta.label}, which is neither a user nor an address", "Go on to a user or an address."


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
    """Return the fields of a model whose values the rules keep out of the trail, and so out of its messages."""
    plan = get_registry().plans.get(model)
    return plan.secret if plan else ()


def _step(item: Any, name: str, user: Model | None, spec: str) -> Iterator[tuple[Any, Model | None]]:
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


def _named(item: Any, user: Model | None, spec: str) -> Iterator[Named]:
    if item is None or item == "":
        return
    if isinstance(item, get_user_model()):
        yield Named(user=item)
    elif isinstance(item, (str, int, UUID)):
        yield Named(user=user, address=str(item))
    else:
        msg = f'The recipient "{spec}" leads to a {type(item).__name__}, which is neither a user nor an address.'
        raise GiveUp(msg)
