"""The hook at Django's query compilers, through which every write of the ORM passes: the one place that knows how.

``execute_sql`` of the INSERT, UPDATE and DELETE compilers is wrapped at class level, once per process. Subclasses of
queries and compilers, of backends and packages alike, pass through it, and what others have put around ``execute_sql``
runs as well: a statement that returns rows is run through the original too. SELECTs are not touched, and a table that
nobody watches costs two look-ups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from itertools import chain
from typing import Any, Protocol, TypeAlias

from django.core.exceptions import EmptyResultSet
from django.db import models
from django.db.models.constants import OnConflict
from django.db.models.sql import Query
from django.db.models.sql.compiler import SQLDeleteCompiler, SQLInsertCompiler, SQLUpdateCompiler
from django.db.models.sql.constants import CURSOR, GET_ITERATOR_CHUNK_SIZE

from django_signal_audit.capture.hooks import patch_once
from django_signal_audit.capture.rows import has_server_side_cursors, is_one_of
from django_signal_audit.capture.tables import is_lockable, stored_converters

Field: TypeAlias = "models.Field[Any, Any]"
Rows: TypeAlias = list[tuple[Any, ...]]
# Marks a compiler whose statement is running, and the query of a statement that another one runs as its part.
_IS_PART = "audit_is_part"


class TableWatcher(Protocol):
    """What is told of the statements on one watched table. Each method runs the statement by calling ``execute``."""

    def on_insert(self, statement: InsertStatement) -> Any:
        """Run and record an INSERT."""

    def on_update(self, statement: UpdateStatement) -> Any:
        """Run and record an UPDATE."""

    def on_delete(self, statement: DeleteStatement) -> Any:
        """Run and record a DELETE."""


@contextmanager
def _altered(altered: object, **attributes: object) -> Iterator[None]:
    """Give a compiler or a query other attributes for a block."""
    own = vars(altered)
    before = {name: own[name] for name in attributes if name in own}
    own.update(attributes)
    try:
        yield
    finally:
        for name in attributes:
            del own[name]
        own.update(before)


class _Statement:
    """A write statement that is about to run: a compiler, and the call of its ``execute_sql``."""

    def __init__(self, compiler: Any, original: Callable[..., Any], args: Any, kwargs: Any) -> None:
        self.compiler = compiler
        self.query = compiler.query
        self.model: type[models.Model] = compiler.query.model
        self.using: str = compiler.connection.alias
        self._original = original
        self._args, self._kwargs = args, kwargs

    def execute(self) -> Any:
        """Run the statement as Django would, and return what Django would."""
        return self._run(*self._args, **self._kwargs)

    def _run(self, *args: object, **kwargs: object) -> Any:
        with _altered(self.compiler, **{_IS_PART: True}):
            return self._original(self.compiler, *args, **kwargs)

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
        """Return whether the condition is about its own table alone, so that it can be a locked read too."""
        query = self.query
        query.get_initial_alias()
        return bool(query.count_active_tables() == 1 and not query.distinct and query.group_by is None)

    def reading(self, names: Sequence[str], *, deleting: bool = False) -> Query:
        """Return the query for columns of the rows a simple statement concerns, under the lock that it takes."""
        query = self._select(names)
        features = self.compiler.connection.features
        if features.has_select_for_update and is_lockable(self.model, self.using):
            query.select_for_update = True
            query.select_for_no_key_update = not deleting and features.has_select_for_no_key_update
            # In one order, so that two writes do not wait for each other.
            query.add_ordering("pk")
        return query

    def read(self, names: Sequence[str], *, deleting: bool = False) -> Iterator[tuple[Any, ...]]:
        """Return these columns."""
        compiler = self.reading(names, deleting=deleting).get_compiler(self.using)
        rows = compiler.results_iter(chunked_fetch=has_server_side_cursors(self.using))
        return map(tuple, rows)

    def _converted(self, rows: Rows, fields: Sequence[Field]) -> Rows:
        """Return rows that begin with these columns as a SELECT of them would give them."""
        if not rows:
            return rows
        table = self.query.get_meta().db_table
        converters = stored_converters(self.compiler, [field.get_col(table) for field in fields])
        if not converters:
            return rows
        tails = [row[len(fields) :] for row in rows]
        heads = self.compiler.apply_converters([row[: len(fields)] for row in rows], converters)
        return [(*head, *tail) for head, tail in zip(heads, tails, strict=True)]

    def restrict(self, pks: Sequence[object]) -> None:
        """Keep the statement from rows that were not looked at, such as others have inserted meanwhile."""
        self.query.add_q(is_one_of(self.model, pks, self.using))


class DeleteStatement(_Statement):
    """A DELETE that is about to run."""

    def can_return(self) -> bool:
        """Return whether the statement itself gives the rows it deletes: exactly those, under no other locks."""
        return bool(self.compiler.connection.features.can_return_rows_from_bulk_insert and self.is_simple())

    def execute_returning_raw(self, fields: Sequence[Field]) -> Iterator[tuple[Any, ...]]:
        """Run a simple statement and return columns of the rows it deleted, as the driver gives them."""
        quote = self.compiler.connection.ops.quote_name
        # Qualified: SQLite takes a quoted name that is no column for a text.
        table = quote(self.query.get_meta().db_table)
        names = ", ".join(f"{table}.{quote(field.column)}" for field in fields)
        try:
            sql, params = self.compiler.as_sql()
        except EmptyResultSet:
            return
        with _altered(self.compiler, as_sql=lambda: (f"{sql} RETURNING {names}", params)):
            cursor = self._run(CURSOR)
        with cursor:
            while rows := cursor.fetchmany(GET_ITERATOR_CHUNK_SIZE):
                yield from map(tuple, rows)

    def execute_returning(self, fields: Sequence[Field]) -> Rows:
        """Return them as a SELECT would give them."""
        return self._converted(list(self.execute_returning_raw(fields)), fields)


class UpdateStatement(_Statement):
    """An UPDATE that is about to run, with those of the parents' tables that belong to it."""

    def _run(self, *args: object, **kwargs: object) -> object:
        if not self.query.related_updates:
            return super()._run(*args, **kwargs)
        with _altered(self.query, get_related_updates=self._parts):
            return super()._run(*args, **kwargs)

    def _parts(self) -> list[object]:
        """Return the UPDATEs of the parents' tables, which are recorded with this one."""
        parts: list[Any] = type(self.query).get_related_updates(self.query)
        for part in parts:
            vars(part)[_IS_PART] = True
        return parts

    def values(self) -> list[tuple[Field, Any]]:
        """Return the fields it sets, and to what: a value or an expression."""
        own = [(field, value) for field, _, value in self.query.values]
        inherited = chain.from_iterable(self.query.related_updates.values())
        return own + [(field, value) for field, _, value in inherited]


class InsertStatement(_Statement):
    """An INSERT that is about to run."""

    def __init__(self, compiler: Any, original: Callable[..., object], args: Any, kwargs: Any) -> None:
        super().__init__(compiler, original, args, kwargs)
        self.returning: Sequence[Field] = (args[0] if args else kwargs.get("returning_fields")) or ()
        self.objs: list[models.Model] = list(compiler.query.objs)

    @property
    def ignores_conflicts(self) -> bool:
        """Return whether rows that exist are left as they are."""
        return bool(self.query.on_conflict == OnConflict.IGNORE)

    @property
    def updates_conflicts(self) -> bool:
        """Return whether rows that exist are updated."""
        return bool(self.query.on_conflict == OnConflict.UPDATE)

    @property
    def unique_fields(self) -> Sequence[Field]:
        """Return the fields whose values decide which rows exist; none where the database decides."""
        return list(self.query.unique_fields)

    @property
    def can_return(self) -> bool:
        """Return whether the database gives back the rows it inserted."""
        return bool(self.compiler.connection.features.can_return_rows_from_bulk_insert)

    def execute_returning(self, fields: Sequence[Field], extra_sql: str = "") -> Rows:
        """Run the statement and return, of each row really written, the values of the fields.

        Args:
            fields: The columns to return, converted as a SELECT's are.
            extra_sql: One more expression to return, unconverted, as the last value of each row.

        """
        as_sql = self.compiler.as_sql

        def extended() -> list[tuple[str, Any]]:
            ((sql, params),) = as_sql()
            return [(f"{sql}, {extra_sql}" if extra_sql else sql, params)]

        # Converted here: a single row that was not written comes as None on Django 5.2.
        with _altered(self.compiler, as_sql=extended, get_converters=lambda _: {}):
            rows = self._run(list(fields))
        return self._converted([tuple(row) for row in rows if row is not None], fields)


WatcherOf: TypeAlias = Callable[[type[models.Model]], TableWatcher | None]
Statement: TypeAlias = InsertStatement | UpdateStatement | DeleteStatement
Guard: TypeAlias = Callable[[Statement], None]

_guards: dict[str, Guard] = {}


def guard(model: type[models.Model], callback: Guard) -> None:
    """Have every write of the ORM to one table asked for: always, without any rules and with auditing suspended too.

    The table is what counts: proxies, the models of data migrations and other managers are asked about as well. A raw
    save tries an UPDATE first, which for an unknown key concerns no row: see ``statement.matching()``.

    Args:
        model: The model whose table it is.
        callback: What is called with each statement before it runs, and raises to refuse it; the last one counts.

    """
    _guards[model._meta.db_table] = callback


def install(watcher_of: WatcherOf) -> None:
    """Wrap the compilers, once per process.

    Args:
        watcher_of: Returns what is to be told of a model's statements, None for most models. It is asked each time.

    """
    for compiler, kind in _KINDS.items():
        for name in _EXECUTES:
            if hasattr(compiler, name):
                patch_once(compiler, name, partial(_wrap_execute, kind, watcher_of))


def _wrap_execute(
    kind: type[Statement], watcher_of: WatcherOf, original: Callable[..., object]
) -> Callable[..., object]:
    @wraps(original)
    def execute(self: Any, *args: object, **kwargs: object) -> Any:
        model = self.query.model
        watcher, asked = watcher_of(model), _guards.get(model._meta.db_table)
        if watcher is None and asked is None:
            return original(self, *args, **kwargs)
        statement = kind(self, original, args, kwargs)
        if asked is not None:
            asked(statement)  # of a part too: a child's UPDATE may concern the table
        if watcher is None or _IS_PART in vars(self) or _IS_PART in vars(self.query):
            return original(self, *args, **kwargs)
        return _tell(watcher, statement)

    return execute


def _tell(watcher: TableWatcher, statement: Statement) -> object:
    if isinstance(statement, InsertStatement):
        return watcher.on_insert(statement)
    if isinstance(statement, UpdateStatement):
        return watcher.on_update(statement)
    return watcher.on_delete(statement)


# The latter came with Django 6.1, and falls back on the former where the database returns nothing.
_EXECUTES = ("execute_sql", "execute_returning_sql")
_KINDS: dict[type, type[Statement]] = {
    SQLInsertCompiler: InsertStatement,
    SQLUpdateCompiler: UpdateStatement,
    SQLDeleteCompiler: DeleteStatement,
}
