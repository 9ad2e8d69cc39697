"""The hook at Django's query compilers, through which every write of the ORM passes: the one place that knows how.

``execute_sql`` of the INSERT, UPDATE and DELETE compilers is wrapped at class level, once per process. Subclasses of
queries and compilers, of backends and packages alike, pass through it, and what others have put around ``execute_sql``
runs as well: a statement that returns rows is run through the original too. SELECTs are not touched, and a table that
no rule audits costs two look-ups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial, wraps
from itertools import chain
from typing import Any, NamedTuple, Protocol, TypeAlias

from django.core.exceptions import EmptyResultSet, FullResultSet
from django.db import models
from django.db.models.constants import OnConflict
from django.db.models.lookups import Exact
from django.db.models.sql import Query
from django.db.models.sql.compiler import SQLDeleteCompiler, SQLInsertCompiler, SQLUpdateCompiler
from django.db.models.sql.constants import CURSOR, GET_ITERATOR_CHUNK_SIZE, ROW_COUNT
from django.db.models.sql.where import AND

from django_signal_audit.capture.hooks import patch_once
from django_signal_audit.capture.rows import has_server_side_cursors, is_one_of, unique_fields
from django_signal_audit.capture.tables import is_formatted, is_lockable, stored_converters, table_of
from django_signal_audit.capture.unreadable import ERRORS, rest_of

Field: TypeAlias = "models.Field[Any, Any]"
Rows: TypeAlias = list[tuple[Any, ...]]
# Marks a compiler whose statement is running, and the query of a statement that another one runs as its part.
_IS_PART = "audit_is_part"


class TableHandler(Protocol):
    """What runs and records the statements on one audited table. Each method runs the statement by ``execute``."""

    def on_insert(self, statement: InsertStatement) -> object:
        """Run and record an INSERT."""

    def on_update(self, statement: UpdateStatement) -> object:
        """Run and record an UPDATE."""

    def on_delete(self, statement: DeleteStatement) -> object:
        """Run and record a DELETE."""


@contextmanager
def altered(altered: object, **attributes: object) -> Iterator[None]:
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
        own = vars(self.compiler)
        before = own.get(_IS_PART)
        own[_IS_PART] = True
        try:
            return self._original(self.compiler, *args, **kwargs)
        finally:
            if before is None:
                del own[_IS_PART]

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

    def names_its_rows(self) -> bool:
        """Return whether the database looks at no other rows than it concerns: it has their keys, or concerns all."""
        where = self.query.where
        if where.connector != AND or where.negated:
            return False
        return not where.children or any(
            getattr(condition, "lookup_name", "") in ("exact", "in")
            and getattr(getattr(condition.lhs, "target", None), "primary_key", False)
            and condition.lhs.target.model._meta.concrete_model is self.model._meta.concrete_model
            and not hasattr(condition.rhs, "resolve_expression")
            for condition in where.children
        )

    def changes_keys(self) -> bool:
        """Return whether it may change what others refer to its rows by, and takes the lock of a deletion for that."""
        return False

    def concerns_one_row(self) -> bool:
        """Return whether the condition asks for one value of a unique column."""
        where = self.query.where
        exact = (one for one in where.children if isinstance(one, Exact))
        is_unique = any(getattr(getattr(one.lhs, "target", None), "unique", False) for one in exact)
        return is_unique and where.connector == AND and not where.negated

    def reading(self, names: Sequence[str], *, deleting: bool = False) -> Query:
        """Return the query for columns of the rows a simple statement concerns, under the lock that it takes."""
        query = self._select(names)
        features = self.compiler.connection.features
        if features.has_select_for_update and is_lockable(self.model, self.using):
            query.select_for_update = True
            has_weak_lock = not (deleting or self.changes_keys()) and features.has_select_for_no_key_update
            query.select_for_no_key_update = has_weak_lock
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


def _raw_columns(compiler: Any, model: type[models.Model], fields: Sequence[Field]) -> str:
    """Return what RETURNING names for columns that are to be as the driver gives them."""
    quote = compiler.connection.ops.quote_name
    # Qualified: SQLite takes a quoted name that is no column for a text.
    table = quote(model._meta.db_table)
    # SQLite converts what is a column and no expression at once, and a row that it can't convert is lost.
    plus = "+" if compiler.connection.vendor == "sqlite" else ""
    return ", ".join(f"{plus}{table}.{quote(field.column)}" for field in fields)


class DeleteStatement(_Statement):
    """A DELETE that is about to run."""

    def can_return(self) -> bool:
        """Return whether the statement itself gives the rows it deletes: exactly those, under no other locks."""
        connection = self.compiler.connection
        if is_formatted(self.model) or not table_of(self.model, self.using).can_return:
            return False
        # Hours beyond a day and years beyond 9999 can't be read, and these drivers read at once.
        is_psycopg2 = connection.Database.__name__ == "psycopg2"
        unsure = models.TimeField if connection.vendor == "mysql" else models.DateField if is_psycopg2 else ()
        if any(isinstance(field, unsure) for field in self.query.get_meta().fields):
            return False
        return bool(connection.features.can_return_rows_from_bulk_insert and self.is_simple())

    def execute_returning_raw(self, fields: Sequence[Field]) -> Iterator[tuple[Any, ...]]:
        """Run a simple statement and return columns of the rows it deleted, as the driver gives them."""
        names = _raw_columns(self.compiler, self.model, fields)
        try:
            sql, params = self.compiler.as_sql()
        except EmptyResultSet:
            return
        with altered(self.compiler, as_sql=lambda: (f"{sql} RETURNING {names}", params)):
            cursor = self._run(CURSOR)
        with cursor:
            try:
                while rows := cursor.fetchmany(GET_ITERATOR_CHUNK_SIZE):
                    yield from map(tuple, rows)
            except ERRORS:
                # The rows are gone from the table, and can't be read there again.
                if not hasattr(cursor.cursor, "pgresult"):
                    raise
                yield from rest_of(cursor)

    def execute_returning(self, fields: Sequence[Field]) -> Rows:
        """Return them as a SELECT would give them."""
        return self._converted(list(self.execute_returning_raw(fields)), fields)


class UpdateParts(NamedTuple):
    """An UPDATE without its condition, and the condition, which begins with WHERE; it is empty if there is none."""

    change: str
    change_params: Sequence[Any]
    condition: str
    condition_params: Sequence[Any]


class UpdateStatement(_Statement):
    """An UPDATE that is about to run, with those of the parents' tables that belong to it."""

    # The rows that it left, as the driver gives these columns of them; None if it does not return any.
    rows: Rows | None = None
    _columns: Sequence[Field] = ()

    def return_columns(self, fields: Sequence[Field]) -> None:
        """Have the statement return columns of the rows that it leaves, if Django wants no more than their number."""
        connection = self.compiler.connection
        can_return = connection.vendor != "mysql" and connection.features.can_return_rows_from_bulk_insert
        can_return = can_return and table_of(self.model, self.using).can_return
        if can_return and self._args and self._args[0] == ROW_COUNT and not is_formatted(self.model):
            self._columns = fields

    def _run_returning(self) -> int:
        names = _raw_columns(self.compiler, self.model, self._columns)
        as_sql = self.compiler.as_sql

        def extended() -> tuple[str, Any]:
            sql, params = as_sql()
            # An UPDATE that sets nothing is no statement, and Django runs none.
            return (f"{sql} RETURNING {names}" if sql else sql), params

        with altered(self.compiler, as_sql=extended):
            cursor = super()._run(CURSOR)
        if not cursor:
            self.rows = []
            return 0
        with cursor:
            count = cursor.rowcount
            try:
                self.rows = list(map(tuple, cursor.fetchall()))
            except ERRORS:
                return int(count)  # a SELECT of them tells what nobody can read
        return len(self.rows)

    def _run(self, *args: object, **kwargs: object) -> object:
        if self._columns:
            return self._run_returning()
        if not self.query.related_updates:
            return super()._run(*args, **kwargs)
        with altered(self.query, get_related_updates=self._parts):
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

    def changes_keys(self) -> bool:
        """Return whether it sets a column that is unique."""
        return not unique_fields(self.model).isdisjoint(field for field, _ in self.values())

    def compiled(self) -> tuple[str, Sequence[Any]]:
        """Return the statement and its parameters."""
        sql, params = self.compiler.as_sql()
        return sql, params

    def condition(self) -> tuple[str, Sequence[Any]] | None:
        """Return the condition and its parameters, an empty one for all rows; None if no row can meet it."""
        try:
            condition, params = self.compiler.compile(self.query.where)
        except FullResultSet:
            return "", ()
        except EmptyResultSet:
            return None
        return condition, params

    def parts(self) -> UpdateParts | None:
        """Return the statement in two parts, None if there is nothing to do or more to it than these."""
        try:
            sql, params = self.compiled()
        except EmptyResultSet:
            return None
        found = self.condition()
        if found is None:
            return None
        condition, condition_params = found
        tail = f" WHERE {condition}" if condition else ""
        # A condition of nothing, in the parts of it, leaves none.
        if not sql.endswith(tail) or (not tail and " WHERE " in sql):
            return None
        own = tuple(params)[: len(params) - len(condition_params)]
        return UpdateParts(sql.removesuffix(tail), own, tail, tuple(condition_params))

    def counts_rows(self) -> bool:
        """Return whether Django wants to know how many rows there were, and nothing else."""
        wanted = self._args[0] if self._args else None
        return wanted == ROW_COUNT or not wanted

    def result_of_count(self, count: int) -> Any:
        """Return what Django wants of so many rows."""
        return count if self._args[0] == ROW_COUNT else [()] * count


class InsertStatement(_Statement):
    """An INSERT that is about to run."""

    def __init__(self, compiler: Any, original: Callable[..., object], args: Any, kwargs: Any) -> None:
        super().__init__(compiler, original, args, kwargs)
        self.returning: Sequence[Field] = (args[0] if args else kwargs.get("returning_fields")) or ()
        self.objs: list[models.Model] = list(compiler.query.objs)
        # The statement without RETURNING, where it was made already.
        self.text: tuple[str, Sequence[Any]] | None = None

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

    def compiled(self) -> tuple[str, Sequence[Any]]:
        """Return the statement without RETURNING, and its parameters; fields make their values only once for it."""
        if self.text is None:
            ((sql, params),) = self.compiler.as_sql()
            self.text = sql, tuple(params)
        return self.text

    def _run(self, *args: object, **kwargs: object) -> Any:
        if self.text is None:
            return super()._run(*args, **kwargs)
        with altered(self.compiler, as_sql=partial(self._compiled_again, *self.text)):
            return super()._run(*args, **kwargs)

    def _compiled_again(self, sql: str, params: Sequence[Any]) -> list[tuple[str, Any]]:
        compiler = self.compiler
        if not compiler.returning_fields or not compiler.connection.features.can_return_columns_from_insert:
            return [(sql, params)]
        ops = compiler.connection.ops
        # Django 5.2 has another name for it.
        columns = getattr(ops, "returning_columns", None) or ops.return_insert_columns
        returning, compiler.returning_params = columns(compiler.returning_fields)
        return [(f"{sql} {returning}", (*params, *compiler.returning_params))]

    def result_of(self, row: tuple[object, ...]) -> Rows:
        """Return what Django wants of the columns that it asked for, of the one row that was written."""
        return self._converted([row], self.returning) if self.returning else []

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
        with altered(self.compiler, as_sql=extended, get_converters=lambda _: {}):
            rows = self._run(list(fields))
        return self._converted([tuple(row) for row in rows if row is not None], fields)


HandlerOf: TypeAlias = Callable[[type[models.Model]], TableHandler | None]
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
    _guards[_plain_name(model._meta.db_table)] = callback


@lru_cache(maxsize=10_000)
def _plain_name(table: str) -> str:
    """Return a table's name without its schema and quotes: ``'"public"."shop_product"'`` names one, too."""
    return table.rpartition(".")[2].strip('"`')


def _guard_of(model: type[models.Model], connection: Any) -> Guard | None:
    name = _plain_name(model._meta.db_table)
    found = _guards.get(name)
    if found is None and connection.vendor == "sqlite":
        found = _guards.get(name.lower())  # the names of its tables have no case
    return found


def is_guarded(model: type[models.Model], connection: object) -> bool:
    """Return whether somebody is to be asked before each write to the table of a model."""
    return _guard_of(model, connection) is not None


def install(handler_of: HandlerOf) -> None:
    """Wrap the compilers, once per process.

    Args:
        handler_of: Returns what records the statements on a model's table, None for most. It is called each time.

    """
    for compiler, kind in _KINDS.items():
        for name in _EXECUTES:
            if hasattr(compiler, name):
                patch_once(compiler, name, partial(_wrap_execute, kind, handler_of))


def _wrap_execute(
    kind: type[Statement], handler_of: HandlerOf, original: Callable[..., object]
) -> Callable[..., object]:
    @wraps(original)
    def execute(self: Any, *args: object, **kwargs: object) -> Any:
        model = self.query.model
        handler, asked = handler_of(model), _guard_of(model, self.connection)
        if handler is None and asked is None:
            return original(self, *args, **kwargs)
        statement = kind(self, original, args, kwargs)
        if asked is not None:
            asked(statement)  # of a part too: a child's UPDATE may concern the table
        if handler is None or _IS_PART in vars(self) or _IS_PART in vars(self.query):
            return original(self, *args, **kwargs)
        return _hand_over(handler, statement)

    return execute


def _hand_over(handler: TableHandler, statement: Statement) -> object:
    if isinstance(statement, InsertStatement):
        return handler.on_insert(statement)
    if isinstance(statement, UpdateStatement):
        return handler.on_update(statement)
    return handler.on_delete(statement)


# The latter came with Django 6.1, and falls back on the former where the database returns nothing.
_EXECUTES = ("execute_sql", "execute_returning_sql")
_KINDS: dict[type, type[Statement]] = {
    SQLInsertCompiler: InsertStatement,
    SQLUpdateCompiler: UpdateStatement,
    SQLDeleteCompiler: DeleteStatement,
}
