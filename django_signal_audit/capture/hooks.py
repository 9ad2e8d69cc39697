"""How capture hooks into Django, and the one check that Django still works as capture relies on.

Methods of Django's are replaced by ``patch_once`` alone: the steps of a save, ``Collector.delete`` and
``DeleteQuery.delete_batch``, ``bulk_create`` and ``bulk_update``, the methods of m2m managers, ``execute_sql`` of the
query compilers and ``BaseCommand.execute``.
Receivers that have to see a write before the project's own do are connected by ``connect_first``. ``self_check`` covers
all of Django that capture uses and that Django's documentation does not name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, wraps
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from django.core.management.base import BaseCommand
from django.db import DEFAULT_DB_ALIAS, connections, models, transaction
from django.db.models.base import ModelState
from django.db.models.deletion import Collector
from django.db.models.fields.files import FileDescriptor, ImageFileDescriptor
from django.db.models.fields.related_descriptors import ForeignKeyDeferredAttribute, ManyToManyDescriptor
from django.db.models.query_utils import DeferredAttribute
from django.db.models.signals import ModelSignal, post_init, pre_init
from django.db.models.sql import DeleteQuery, InsertQuery, Query, UpdateQuery
from django.db.models.sql.compiler import SQLCompiler, SQLDeleteCompiler, SQLInsertCompiler, SQLUpdateCompiler
from django.dispatch import Signal

from django_signal_audit.events.values import is_djangos
from django_signal_audit.models import AuditEvent
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
    def inherited(self: object, *args: object, **kwargs: object) -> object:
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


def plain_object(model: type[models.Model], using: str, columns: Mapping[str, object]) -> models.Model:
    """Return what ``from_db`` would make of all columns of a row of a plain model, in a fifth of the time."""
    made: Any = model.__new__(model)
    made._state = ModelState()
    made._state.adding = False
    made._state.db = using
    made.__dict__.update(columns)
    return made  # type: ignore[no-any-return]


def self_check(*, queries: bool = True) -> list[Problem]:
    """Return what this version of Django does differently from what capture relies on.

    Args:
        queries: Whether queries are captured, and so whether what that alone relies on counts.

    """
    broken = [what for what, holds in _EXPECTATIONS.items() if not holds()]
    broken += _missing(_USED)
    hint = "Use a Django version this package supports, or a version of this package made for your Django."
    if not broken and queries:
        broken = [f"the parameters of {name}" for name, given in _PARAMETERS.items() if is_changed(*given)]
        broken += _missing(_USED_BY_QUERIES)
        hint = 'Use a Django version this package supports, or set SIGNAL_AUDIT["CAPTURE_QUERIES"] = False.'
    return [Problem("E024", f"Django: {what}", "is not as capture relies on.", hint) for what in broken]


def _receivers_are_ordered() -> bool:
    signal, order = ModelSignal(), []

    def first(**_: object) -> None:
        order.append("first")

    def second(**_: object) -> None:
        order.append("second")

    signal.connect(second, sender=models.Model)
    connect_first(signal, first, models.Model, "self-check")
    signal.send(sender=models.Model)
    return order == ["first", "second"]


def _gives_managers() -> bool:
    return list(inspect.signature(inspect.unwrap(ManyToManyDescriptor.__get__)).parameters)[:2] == ["self", "instance"]


# In later versions of Django, the fields to return are one more.
_OF_UPDATES = {"_do_update": ["self", "base_qs", "using", "pk_val", "values", "update_fields", "forced_update"]}


def _updates_by_key() -> bool:
    return all(
        list(inspect.signature(inspect.unwrap(getattr(models.Model, name))).parameters)[: len(first)] == first
        for name, first in _OF_UPDATES.items()
    )


_STEPS = {
    "save_base": SAVE_BASE_PARAMETERS,
    "_save_table": SAVE_TABLE_PARAMETERS,
    "_save_parents": SAVE_PARENTS_PARAMETERS,
}
_EXPECTATIONS: dict[str, Callable[[], bool]] = {
    "the order of Signal.receivers": _receivers_are_ordered,
    "ManyToManyDescriptor.__get__": _gives_managers,
    "Model._do_update": _updates_by_key,
    "the parameters of the steps of Model.save_base": lambda: (
        not any(is_changed(getattr(models.Model, name), parameters) for name, parameters in _STEPS.items())
    ),
}
_PARAMETERS: dict[str, tuple[Method, list[str]]] = {
    "SQLInsertCompiler.execute_sql": (SQLInsertCompiler.execute_sql, ["self", "returning_fields"]),
    "SQLUpdateCompiler.execute_sql": (SQLUpdateCompiler.execute_sql, ["self", "result_type"]),
    "Collector.delete": (Collector.delete, ["self"]),
    "DeleteQuery.delete_batch": (DeleteQuery.delete_batch, ["self", "pk_list", "using"]),
}

# What is used of Django that its documentation does not name, by the class whose objects have it.
_USED = {
    "BaseCommand": "execute",
    "Model": "_do_insert _do_update _base_manager _default_manager",
    "Options": "pk_fields get_parent_list get_ancestor_link concrete_model concrete_fields local_concrete_fields apps "
    "auto_created private_fields related_objects parents",
    "ModelState": "adding db",
    "Field": "cached_col",
    "QuerySet": "_update _insert _db _for_write _iterable_class _fetch_all",
    "connection": "savepoint_ids in_atomic_block needs_rollback wrap_database_errors execute_wrapper ensure_connection "
    "run_on_commit execute_wrappers _commit make_cursor",
    "transaction": "mark_for_rollback_on_error set_rollback get_rollback savepoint_commit savepoint_rollback",
}
_USED_BY_QUERIES = {
    "QuerySet": "bulk_create bulk_update",
    "Query": "chain clear_ordering clear_select_clause get_initial_alias add_fields count_active_tables distinct "
    "group_by add_q add_ordering get_compiler select_related select_for_update select_for_no_key_update get_meta "
    "default_cols subquery",
    "UpdateQuery": "values related_updates get_related_updates add_related_update",
    "InsertQuery": "objs fields on_conflict unique_fields",
    "DeleteQuery": "delete_batch",
    "SQLCompiler": "results_iter get_converters apply_converters setup_query select has_results",
    "SQLInsertCompiler": "as_sql execute_sql assemble_as_sql field_as_sql prepare_value pre_save_val",
    "SQLUpdateCompiler": "as_sql execute_sql",
    "SQLDeleteCompiler": "as_sql execute_sql",
    "Collector": "data fast_deletes field_updates origin delete",
}


def _samples() -> dict[str, object]:
    """Return an object of each of these classes."""
    connection = connections[DEFAULT_DB_ALIAS]
    queries = [Query(AuditEvent), InsertQuery(AuditEvent), UpdateQuery(AuditEvent), DeleteQuery(AuditEvent)]
    compilers = [query.get_compiler(DEFAULT_DB_ALIAS) for query in queries]
    kinds = (SQLCompiler, SQLInsertCompiler, SQLUpdateCompiler, SQLDeleteCompiler)
    return {
        "BaseCommand": BaseCommand(),
        "Model": AuditEvent,
        "Options": AuditEvent._meta,
        "ModelState": ModelState(),
        "Field": AuditEvent._meta.get_field("uid"),
        "QuerySet": models.QuerySet(AuditEvent),
        "connection": connection,
        "transaction": transaction,
        "Collector": Collector(DEFAULT_DB_ALIAS),
        **{type(query).__name__: query for query in queries},
        **{kind.__name__: compiler for kind, compiler in zip(kinds, compilers, strict=True)},
    }


def _missing(used: Mapping[str, str]) -> list[str]:
    samples = _samples()
    named = [(owner, name) for owner, names in used.items() for name in names.split()]
    return [f"{owner}.{name}" for owner, name in named if not hasattr(samples[owner], name)]
