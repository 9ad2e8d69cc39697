"""The one place that relies on how Django works inside, with a check that it still does.

- The order of ``Signal.receivers``: ours has to see a write before the project's own receivers react to it.
- ``ManyToManyDescriptor.__get__`` gives the managers: their ``set()`` is one call to its caller and two statements.
- ``Model.__init__`` does nothing with the columns of a plain model but to keep them, and ``refresh_from_db`` gives an
  object what it lacks of them.
- ``Model.save_base`` and its steps are those of a save, ``BaseCommand.execute`` is the entry point of commands.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, wraps
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from django.core.management.base import BaseCommand
from django.db import models
from django.db.models.base import ModelState
from django.db.models.fields.files import FileDescriptor, ImageFileDescriptor
from django.db.models.fields.related_descriptors import ForeignKeyDeferredAttribute, ManyToManyDescriptor
from django.db.models.query_utils import DeferredAttribute
from django.db.models.signals import ModelSignal, post_init, pre_init
from django.dispatch import Signal

from django_signal_audit.events.values import is_djangos
from django_signal_audit.problems import Problem

SAVE_BASE_PARAMETERS = ["self", "raw", "force_insert", "force_update", "using", "update_fields"]
SAVE_TABLE_PARAMETERS = ["self", "raw", "cls", "force_insert", "force_update", "using", "update_fields"]
SAVE_PARENTS_PARAMETERS = ["self", "cls", "using", "update_fields", "force_insert", "updated_parents"]


# What is wrapped already, by class. The wrappers stay for good: others may have put theirs around them meanwhile.
_patched: WeakKeyDictionary[type, set[str]] = WeakKeyDictionary()

Method: TypeAlias = Callable[..., Any]


def patch_once(owner: type, name: str, make: Callable[[Method], Method]) -> None:
    """Replace a method of a class by ``make(original)``, once per process.

    A wrapper is never taken out again, and has to pass on what no rule concerns. An inherited method is looked up anew
    at every call, so that what others replace it by counts.
    """
    names = _patched.setdefault(owner, set())
    # Somebody who had replaced the method before us may have put back what was there before that: nothing of its own.
    if name in names and name in owner.__dict__:
        return
    names.add(name)
    if name in owner.__dict__:
        setattr(owner, name, make(owner.__dict__[name]))
        return

    @wraps(getattr(owner, name))
    def inherited(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(super(owner, self), name)(*args, **kwargs)

    setattr(owner, name, make(inherited))


def is_changed(function: Method, parameters: Sequence[str]) -> bool:
    """Return whether a method of Django has other parameters than it had; a wrapper of somebody else may have any."""
    inner = inspect.unwrap(function)
    is_django = str(getattr(inner, "__module__", "")).startswith("django.")
    return is_django and list(inspect.signature(inner).parameters) != list(parameters)


def connect_first(signal: Signal, receiver: Callable[..., Any], sender: type, dispatch_uid: str) -> None:
    """Connect a receiver ahead of those that are connected already."""
    before = len(signal.receivers)
    signal.connect(receiver, sender=sender, weak=False, dispatch_uid=dispatch_uid)
    if len(signal.receivers) == before:
        return
    with signal.lock:
        signal.receivers.insert(0, signal.receivers.pop())
        signal.sender_receivers_cache.clear()


# What stands on a class for a column, and does nothing but keep the value when an object is made.
_KEEPING = {DeferredAttribute, ForeignKeyDeferredAttribute, FileDescriptor, ImageFileDescriptor}


_OF_OBJECTS = ("__init__", "__new__", "__setattr__", "refresh_from_db")


def keeps_values(model: type[models.Model], field: Any) -> bool:
    """Return whether objects of the model give for a column what is in their ``__dict__``, and nothing else.

    Packages that translate, track or convert put descriptors of their own on the class, and Django writes what these
    give.
    """
    return (
        type(inspect.getattr_static(model, field.attname, None)) in _KEEPING
        and model.__getattribute__ is object.__getattribute__
    )


_WRITING = ("_save_table", "_do_insert", "_do_update")
_WRITING_ROWS = ("_insert", "_update")


@lru_cache(1024)
def writes_as_told(kind: type[models.Model], using: str) -> bool:
    """Return whether a save of objects of a class writes just the columns that it names, and what the objects have.

    A method of the model's own may write more, and so may the queryset of its base manager.
    """
    return all(
        _are_djangos(one, _WRITING) and _are_djangos(type(one._base_manager.using(using)), _WRITING_ROWS)
        for one in (kind, *kind._meta.get_parent_list())
    )


@lru_cache(1024)
def _are_djangos(kind: type, names: Sequence[str]) -> bool:
    found = [base.__dict__[name] for base in kind.__mro__ for name in names if name in base.__dict__]
    methods = [inspect.unwrap(method) for method in found]
    # Our own wrappers pass on what an inherited method is given.
    return all(is_djangos(method) or method.__module__ == __name__ for method in methods)


def is_plain(model: type[models.Model]) -> bool:
    """Return whether nobody has a say in how objects of the model are made from rows."""
    own: Any = model
    return (
        all(getattr(own, name) is getattr(models.Model, name) for name in _OF_OBJECTS)
        and own.from_db.__func__ is models.Model.from_db.__func__  # type: ignore[attr-defined]
        and not pre_init.has_listeners(model)
        and not post_init.has_listeners(model)
        and all(type(getattr(own, field.attname, None)) in _KEEPING for field in model._meta.concrete_fields)
    )


def plain_object(model: type[models.Model], using: str, columns: Mapping[str, Any]) -> models.Model:
    """Return what ``from_db`` would make of all columns of a row of a plain model, in a fifth of the time."""
    made: Any = model.__new__(model)
    made._state = ModelState()
    made._state.adding = False
    made._state.db = using
    made.__dict__.update(columns)
    return made  # type: ignore[no-any-return]


def self_check() -> list[Problem]:
    """Return what this version of Django does differently from what capture relies on."""
    broken = [what for what, holds in _EXPECTATIONS.items() if not holds()]
    hint = "Use a Django version this package supports, or a version of this package made for your Django."
    return [Problem("E024", f"Django: {what}", "is not as capture of changes relies on.", hint) for what in broken]


def _receivers_are_ordered() -> bool:
    signal, order = ModelSignal(), []

    def first(**_: Any) -> None:
        order.append("first")

    def second(**_: Any) -> None:
        order.append("second")

    signal.connect(second, sender=models.Model)
    connect_first(signal, first, models.Model, "self-check")
    signal.send(sender=models.Model)
    return order == ["first", "second"]


def _gives_managers() -> bool:
    return list(inspect.signature(inspect.unwrap(ManyToManyDescriptor.__get__)).parameters)[:2] == ["self", "instance"]


_STEPS = {
    "save_base": SAVE_BASE_PARAMETERS,
    "_save_table": SAVE_TABLE_PARAMETERS,
    "_save_parents": SAVE_PARENTS_PARAMETERS,
}
_EXPECTATIONS: dict[str, Callable[[], bool]] = {
    "the order of Signal.receivers": _receivers_are_ordered,
    "ManyToManyDescriptor.__get__": _gives_managers,
    "the parameters of the steps of Model.save_base": lambda: (
        not any(is_changed(getattr(models.Model, name), parameters) for name, parameters in _STEPS.items())
    ),
    "BaseCommand.execute": lambda: callable(getattr(BaseCommand, "execute", None)),
}
