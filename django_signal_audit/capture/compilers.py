"""The hook at Django's query compilers, through which every write of the ORM passes: the one place that knows how.

``get_compiler`` of the INSERT, UPDATE and DELETE queries gives a watched table's compiler an ``execute_sql`` of ours;
SELECTs and unwatched tables are not touched. ``Collector.delete`` and the bulk methods of QuerySet say where a call
begins and ends, ``_do_insert`` and ``_do_update`` which statements are a save's own, which its receivers record.
``self_check`` says at start-up if Django has changed any of this.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from functools import partial, wraps
from itertools import chain
from typing import Any, Protocol, TypeAlias

from django.core.exceptions import EmptyResultSet
from django.db import models
from django.db.models.constants import OnConflict
from django.db.models.deletion import Collector
from django.db.models.sql import DeleteQuery, InsertQuery, Query, UpdateQuery
from django.db.models.sql.compiler import SQLDeleteCompiler, SQLInsertCompiler, SQLUpdateCompiler
from django.db.models.sql.constants import GET_ITERATOR_CHUNK_SIZE

from django_signal_audit.problems import Problem

from .selects import is_one_of

Field: TypeAlias = "models.Field[Any, Any]"
Rows: TypeAlias = list[tuple[Any, ...]]

# Set while a statement runs that is recorded already, or by somebody else.
_passing: ContextVar[bool] = ContextVar("django_signal_audit_passing", default=False)


class unwatched:  # noqa: N801  # reads as the statement it is: with unwatched()
    """Lets the statements of a block pass unseen."""

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        """Begin the block."""
        self._token = _passing.set(True)

    def __exit__(self, *_: object) -> None:
        """End the block."""
        _passing.reset(self._token)


class TableWatcher(Protocol):
    """What is told of the statements on one watched table. Each method runs the statement by calling ``execute``."""

    def on_insert(self, statement: InsertStatement) -> Any:
        """Run and record an INSERT."""

    def on_update(self, statement: UpdateStatement) -> Any:
        """Run and record an UPDATE."""

    def on_delete(self, statement: DeleteStatement) -> Any:
        """Run and record a DELETE."""


class _Statement:
    """A write statement that is about to run."""

    def __init__(self, compiler: Any, execute: Callable[[], Any]) -> None:
        self.compiler = compiler
        self.query = compiler.query
        self.model: type[models.Model] = compiler.query.model
        self.using: str = compiler.connection.alias
        self._execute = execute

    def execute(self) -> Any:
        """Run the statement as Django would, and return what Django would."""
        with unwatched():
            return self._execute()

    def matching(self, name: str = "pk") -> Query:
        """Return the statement's condition as a query for one field of the rows it concerns."""
        return self._select([name])

    def _select(self, names: Sequence[str]) -> Query:
        query = self.query.chain(klass=Query)
        query.clear_ordering(force=True)
        query.select_related = False
        query.clear_select_clause()
        query.get_initial_alias()
        query.add_fields(list(names))
        return query  # type: ignore[no-any-return]

    def is_simple(self) -> bool:
        """Tell whether the statement's condition is about its own table alone, so that it can be a locked read too."""
        query = self.query
        query.get_initial_alias()
        return bool(query.count_active_tables() == 1 and not query.distinct and query.group_by is None)

    def reading(self, names: Sequence[str], *, deleting: bool = False) -> Query:
        """Return the query for columns of the rows a simple statement concerns, under the lock that it takes."""
        query = self._select(names)
        features = self.compiler.connection.features
        if features.has_select_for_update:
            query.select_for_update = True
            query.select_for_no_key_update = not deleting and features.has_select_for_no_key_update
            # In one order, so that two writes do not wait for each other.
            query.add_ordering("pk")
        return query

    def read(self, names: Sequence[str], *, deleting: bool = False) -> Iterator[tuple[Any, ...]]:
        """Return these columns."""
        rows = self.reading(names, deleting=deleting).get_compiler(self.using).results_iter(chunked_fetch=True)
        return map(tuple, rows)

    def _converted(self, rows: Rows, fields: Sequence[Field]) -> Rows:
        """Return rows that begin with these columns as a SELECT of them would give them."""
        if not rows:
            return rows
        columns = [field.get_col(self.query.get_meta().db_table) for field in fields]
        converters = self.compiler.get_converters(columns)
        if not converters:
            return rows
        tails = [row[len(fields) :] for row in rows]
        heads = self.compiler.apply_converters([row[: len(fields)] for row in rows], converters)
        return [(*head, *tail) for head, tail in zip(heads, tails, strict=True)]

    def restrict(self, pks: Sequence[Any]) -> None:
        """Keep the statement from rows that were not looked at, such as others have inserted meanwhile."""
        self.query.add_q(is_one_of(self.model, pks, self.using))


class DeleteStatement(_Statement):
    """A DELETE that is about to run."""

    def can_return(self) -> bool:
        """Tell whether the statement itself gives the rows it deletes: exactly those, under no other locks."""
        return bool(self.compiler.connection.features.can_return_rows_from_bulk_insert and self.is_simple())

    def execute_returning_raw(self, fields: Sequence[Field]) -> Iterator[tuple[Any, ...]]:
        """Run a simple statement and return columns of the rows it deleted, as the driver gives them."""
        connection = self.compiler.connection
        names = ", ".join(connection.ops.quote_name(field.column) for field in fields)
        try:
            sql, params = self.compiler.as_sql()
        except EmptyResultSet:
            return
        with connection.cursor() as cursor:
            cursor.execute(f"{sql} RETURNING {names}", params)
            while rows := cursor.fetchmany(GET_ITERATOR_CHUNK_SIZE):
                yield from map(tuple, rows)

    def execute_returning(self, fields: Sequence[Field]) -> Rows:
        """Return them as a SELECT would give them."""
        return self._converted(list(self.execute_returning_raw(fields)), fields)


class UpdateStatement(_Statement):
    """An UPDATE that is about to run, with those of the parents' tables that belong to it."""

    def values(self) -> list[tuple[Field, Any]]:
        """Return the fields it sets, and to what: a value or an expression."""
        own = [(field, value) for field, _, value in self.query.values]
        inherited = chain.from_iterable(self.query.related_updates.values())
        return own + [(field, value) for field, _, value in inherited]


class InsertStatement(_Statement):
    """An INSERT that is about to run."""

    def __init__(self, compiler: Any, execute: Callable[[], Any], returning: Sequence[Field]) -> None:
        super().__init__(compiler, execute)
        self.returning = returning
        self.objs: list[models.Model] = list(compiler.query.objs)

    @property
    def ignores_conflicts(self) -> bool:
        """Tell whether rows that exist are left as they are."""
        return bool(self.query.on_conflict == OnConflict.IGNORE)

    @property
    def updates_conflicts(self) -> bool:
        """Tell whether rows that exist are updated."""
        return bool(self.query.on_conflict == OnConflict.UPDATE)

    @property
    def unique_fields(self) -> Sequence[Field]:
        """Return the fields whose values decide which rows exist; none where the database decides."""
        return list(self.query.unique_fields)

    @property
    def can_return(self) -> bool:
        """Tell whether the database gives back the rows it inserted."""
        return bool(self.compiler.connection.features.can_return_rows_from_bulk_insert)

    def execute_returning(self, fields: Sequence[Field], extra_sql: str = "") -> Rows:
        """Run the statement and return, of each row really written, the values of the fields.

        Args:
            fields: The columns to return, converted as a SELECT's are.
            extra_sql: One more expression to return, unconverted, as the last value of each row.

        """
        compiler, connection = self.compiler, self.compiler.connection
        compiler.returning_fields = list(fields)
        with unwatched(), connection.cursor() as cursor:
            ((sql, params),) = compiler.as_sql()
            cursor.execute(f"{sql}, {extra_sql}" if extra_sql else sql, params)
            rows = [tuple(row) for row in cursor.fetchall()]
        return self._converted(rows, fields)


WatcherOf: TypeAlias = Callable[[type[models.Model]], TableWatcher | None]


def wrap_get_compiler(watcher_of: WatcherOf) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a wrapper of ``get_compiler`` that has a watched table's statements told to its watcher."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def get_compiler(self: Any, *args: Any, **kwargs: Any) -> Any:
            compiler = original(self, *args, **kwargs)
            watcher = None if _passing.get() else watcher_of(self.model)
            if watcher is not None:
                _attach(compiler, watcher)
            return compiler

        return get_compiler

    return make


def _attach(compiler: Any, watcher: TableWatcher) -> None:
    execute = compiler.execute_sql
    if isinstance(compiler, SQLInsertCompiler):

        def execute_insert(returning_fields: Any = None) -> Any:
            statement = InsertStatement(compiler, partial(execute, returning_fields), returning_fields or ())
            return watcher.on_insert(statement)

        compiler.execute_sql = execute_insert  # type: ignore[method-assign]
    elif isinstance(compiler, SQLDeleteCompiler):
        compiler.execute_sql = lambda *args, **kwargs: watcher.on_delete(  # type: ignore[method-assign]
            DeleteStatement(compiler, partial(execute, *args, **kwargs))
        )
    elif isinstance(compiler, SQLUpdateCompiler):
        for name in ("execute_sql", "execute_returning_sql"):
            if hasattr(compiler, name):
                setattr(compiler, name, partial(_execute_update, compiler, watcher, getattr(compiler, name)))


def _execute_update(
    compiler: Any, watcher: TableWatcher, execute: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    run = partial(execute, *args, **kwargs)
    # execute_returning_sql falls back on execute_sql where the database returns nothing.
    return run() if _passing.get() else watcher.on_update(UpdateStatement(compiler, run))


QUERIES = (InsertQuery, UpdateQuery, DeleteQuery)
_PARAMETERS: dict[str, tuple[Callable[..., Any], list[str]]] = {
    "Query.get_compiler": (Query.get_compiler, ["self", "using", "connection", "elide_empty"]),
    "SQLInsertCompiler.execute_sql": (SQLInsertCompiler.execute_sql, ["self", "returning_fields"]),
    "Collector.delete": (Collector.delete, ["self"]),
}
_METHODS: tuple[tuple[type, str], ...] = (
    (models.Model, "_do_insert"),
    (models.Model, "_do_update"),
    (models.QuerySet, "bulk_create"),
    (models.QuerySet, "bulk_update"),
    (SQLUpdateCompiler, "execute_sql"),
    (SQLDeleteCompiler, "execute_sql"),
    (SQLInsertCompiler, "as_sql"),
    (SQLInsertCompiler, "get_converters"),
    (SQLInsertCompiler, "apply_converters"),
    (UpdateQuery, "add_related_update"),
)


def self_check() -> list[Problem]:
    """Return what this version of Django does differently from what the hook relies on."""
    broken = [
        f"the parameters of {name}"
        for name, (function, expected) in _PARAMETERS.items()
        if list(inspect.signature(inspect.unwrap(function)).parameters) != expected
    ]
    broken += [f"{owner.__name__}.{name}" for owner, name in _METHODS if not callable(getattr(owner, name, None))]
    hint = 'Use a Django version this package supports, or set SIGNAL_AUDIT["CAPTURE_QUERIES"] = False.'
    return [Problem("E024", f"Django: {what}", "is not as capture of queries relies on.", hint) for what in broken]
