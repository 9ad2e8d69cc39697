"""Blocks around the project's own code: a failing query ends no transaction, and objects stay as they were."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, NamedTuple

import django
from django.db import Error, connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.functional import LazyObject, cached_property


class OwnQueries:
    """Keeps a query that fails inside from ending the transactions around it; a context manager.

    A savepoint does that. It costs two round trips, so it is set before the first query, and most blocks have none.
    Texts of objects are asked for in such blocks, and a generator would cost more than most texts do.
    """

    __slots__ = ("_blocks", "_connections")

    def __init__(self, among: Iterable[BaseDatabaseWrapper]) -> None:
        self._connections = [connection for connection in among if _can_be_lost(connection)]
        self._blocks: list[_Block] = []

    def __enter__(self) -> None:
        self._blocks = [_Block(connection) for connection in self._connections]
        for block in self._blocks:
            block.connection.execute_wrappers.append(block)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for block in self._blocks:
            block.connection.execute_wrappers.pop()
        for block in self._blocks:
            if error is None:
                block.end()
            elif isinstance(error, Exception):
                block.roll_back()


def own_queries_anywhere() -> OwnQueries:
    """Return the block for every database that has a transaction open here."""
    return OwnQueries(connections.all(initialized_only=True))


def own_queries(using: str) -> OwnQueries:
    """Return the block for one database."""
    return OwnQueries([connections[using]])


class _Block:
    """Sets a savepoint before the first query of a connection (a wrapper of its queries)."""

    __slots__ = ("connection", "has_begun", "savepoint")

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection, self.savepoint, self.has_begun = connection, "", False

    def __call__(self, execute: Callable[..., object], sql: str, params: object, many: bool, context: object) -> object:
        if not self.has_begun:
            self.has_begun = True
            # Django 6.1 gave it a new name and warns of the old one.
            create: Callable[..., str] = getattr(transaction, "savepoint_create", None) or transaction.savepoint
            self.savepoint = create(using=self.connection.alias)
        return execute(sql, params, many, context)

    def end(self) -> None:
        if self.connection.needs_rollback:
            self.roll_back()
        elif self.savepoint:
            try:
                transaction.savepoint_commit(self.savepoint, using=self.connection.alias)
            except Error:
                # The block has passed over an error that PostgreSQL ends a transaction for.
                self.roll_back()

    def roll_back(self) -> None:
        self.connection.needs_rollback = False
        if self.savepoint:
            transaction.savepoint_rollback(self.savepoint, using=self.connection.alias)


def _can_be_lost(connection: BaseDatabaseWrapper) -> bool:
    """Return whether a transaction is open that a failing query would end, and that hasn't ended already."""
    if connection.needs_rollback:
        return False
    return connection.in_atomic_block or (connection.connection is not None and not connection.get_autocommit())


_RELATED, _PREFETCHED = "fields_cache", "_prefetched_objects_cache"


class _Before(NamedTuple):
    """What an object held: the names of its attributes, its related objects, and the results of its prefetches."""

    instance: models.Model
    names: frozenset[str]
    related: dict[str, Any]
    prefetched: dict[str, object]
    fetch_mode: object


def _is_loaded(instance: models.Model, name: str) -> bool:
    """Return whether an attribute is one that asking for it sets; another thread may have set others meanwhile."""
    kind = getattr(type(instance), name, None)
    if name == _PREFETCHED or isinstance(kind, (cached_property, functools.cached_property)):
        return True
    return any(field.attname == name for field in instance._meta.concrete_fields)


def _models_in(values: Iterable[Any]) -> Iterator[models.Model]:
    """Yield the objects among values, in lists of them, in results of prefetches and behind lazy objects."""
    for value in values:
        kind = type(value)  # asked about its class, a lazy object would be loaded
        if issubclass(kind, models.Model):
            yield value
        elif issubclass(kind, LazyObject):
            yield from _models_in([value.__dict__.get("_wrapped")])
        else:
            is_rows = issubclass(kind, models.QuerySet)
            items: Any = value._result_cache if is_rows else value if kind is list else None  # noqa: SLF001  # a prefetch's
            yield from (item for item in items or () if issubclass(type(item), models.Model))


class Untouched:
    """A block after which objects, and the related ones that they had loaded, hold what they held before.

    What their ``__str__`` loads would stay: a column that was deferred would be written by the next ``save()``, over
    what others have written meanwhile, and a related object would be the one of then.
    """

    def __init__(self, objects: Iterable[models.Model]) -> None:
        self._objects = objects
        self._before: list[_Before] = []

    def __enter__(self) -> None:
        """Note what the objects hold, and have each load its columns for itself alone."""
        waiting, known = [*self._objects], set()
        while waiting:
            one = waiting.pop()
            if id(one) in known:
                continue
            known.add(id(one))
            related = dict(one._state.__dict__.get(_RELATED) or {})
            prefetched = dict(one.__dict__.get(_PREFETCHED) or {})
            mode = one._state.__dict__.get("fetch_mode")
            self._before.append(_Before(one, frozenset(one.__dict__), related, prefetched, mode))
            if django.VERSION >= (6, 1) and mode is models.FETCH_PEERS:
                one._state.fetch_mode = models.FETCH_ONE
            waiting += _models_in((*related.values(), *prefetched.values(), *one.__dict__.values()))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Take away what was loaded."""
        for before in self._before:
            own, state = before.instance.__dict__, before.instance._state.__dict__
            for name in own.keys() - before.names:
                if _is_loaded(before.instance, name):
                    del own[name]
            for key, holder, held in ((_RELATED, state, before.related), (_PREFETCHED, own, before.prefetched)):
                if key in holder and holder[key] != held:
                    holder[key] = held
            if before.fetch_mode is not None:
                state["fetch_mode"] = before.fetch_mode
