"""The statements of a save of one row: for the same columns, Django would make the same text every time.

Making it takes longer than SQLite takes to run it. Where somebody else has a say in it, a manager, a patch of a
compiler or a field that writes SQL, the save goes Django's own way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Any

from django.db import connections, models
from django.db.models.sql import Query, UpdateQuery

from django_signal_audit.capture.compilers import InsertStatement, UpdateStatement, altered, is_guarded
from django_signal_audit.capture.rows import compiled_for, key_parameters
from django_signal_audit.capture.scope import SaveScope

# Rows with many columns that may be NULL have many texts: a connection keeps no more than these.
_MOST_KEPT = 1000
# The field, nothing, and the value, as Django has them.
Values = Sequence[tuple[Any, Any, Any]]


class RowUpdate(UpdateStatement):
    """An UPDATE of one row by its key. Its query is made only for those who ask for it."""

    def __init__(self, rows: models.QuerySet[Any], pk: object, values: Values) -> None:
        self.model, self.using = rows.model, rows.db
        self._rows, self._pk, self._values = rows, pk, values
        self.text: tuple[str, Sequence[Any]] | None = None

    @cached_property
    def compiler(self) -> Any:
        """Return the compiler that Django would run."""
        query: Any = self._rows.filter(pk=self._pk).query.chain(UpdateQuery)
        query.add_update_fields(self._values)
        return query.get_compiler(self.using)

    @property
    def query(self) -> Any:
        """Return its query."""
        return self.compiler.query

    def values(self) -> list[tuple[Any, Any]]:
        """Return the fields it sets, and to what."""
        return [(field, value) for field, _, value in self._values]

    def compiled(self) -> tuple[str, Sequence[Any]]:
        """Return the statement and its parameters."""
        if self.text is None:
            self.text = self.compiler.as_sql()
        return self.text

    def counts_rows(self) -> bool:
        """Return whether Django wants to know how many rows there were, and nothing else."""
        return True

    def result_of_count(self, count: int) -> Any:
        """Return what Django wants of so many rows."""
        return [()] * count

    def execute(self) -> Any:
        """Run the statement as Django would, and return what Django would."""
        with connections[self.using].cursor() as cursor:
            cursor.execute(*self.compiled())
            return self.result_of_count(cursor.rowcount)


def row_update(save: SaveScope, rows: models.QuerySet[Any], pk: object, values: Values) -> RowUpdate | None:
    """Return the UPDATE of a save; None if Django has to make it.

    Args:
        save: The save.
        rows: The rows of the model, of its base manager.
        pk: The primary key of the row.
        values: What is set.

    """
    connection = connections[save.using]
    if save.raw or save.writes_more or not values or not _is_djangos_own(rows, connection):
        return None
    if any(map(_is_expression, (pk, *(value for _, _, value in values)))):
        return None
    statement = RowUpdate(rows, pk, values)
    given = tuple(field.get_db_prep_save(value, connection) for field, _, value in values)
    given += key_parameters(rows.model._meta.pk_fields, pk, connection)
    key = ("update", rows.model, rows.model._meta.db_table, *(field for field, _, _ in values))
    statement.text = _known(key, given, connection, statement.compiled)
    return None if statement.text is None else statement


def compile_insert(statement: InsertStatement) -> None:
    """Have the INSERT of a save use the text that is known; the fields make their values once."""
    compiler, connection = statement.compiler, statement.compiler.connection
    fields, [instance] = tuple(statement.query.fields), statement.objs
    if statement.query.on_conflict or not fields or not _are_bare(type(compiler), _INSERTING):
        return
    values = {field: compiler.pre_save_val(field, instance) for field in fields}

    def compiled() -> tuple[str, Sequence[Any]]:
        with altered(compiler, pre_save_val=lambda field, _: values[field]):
            return statement.compiled()

    if any(map(_is_expression, values.values())):
        compiled()
        return
    given = tuple(field.get_db_prep_save(value, connection) for field, value in values.items())
    key = ("insert", statement.model, statement.model._meta.db_table, *fields)
    statement.text = _known(key, given, connection, compiled) or compiled()


def _is_expression(value: object) -> bool:
    return hasattr(value, "resolve_expression") or hasattr(value, "prepare_database_save")


def _known(
    key: tuple[Any, ...], given: tuple[Any, ...], connection: object, compiled: Callable[[], tuple[str, Sequence[Any]]]
) -> tuple[str, Sequence[Any]] | None:
    """Return a statement with its parameters, compiled if it is not known yet; None if it is another for each value.

    Args:
        key: What makes the text.
        given: The parameters, as the fields prepare them.
        connection: The database's connection, which keeps the text.
        compiled: Has Django make the statement.

    """
    # Before Django 6.1, an UPDATE has NULL in its text.
    key = (*key, *(one is None for one in given))
    kept = compiled_for(connection)
    if key not in kept:
        if len(kept) >= _MOST_KEPT:
            kept.clear()
        sql, params = compiled()
        kept[key] = sql, len(params) == len(given)
        expected = given if kept[key][1] else [one for one in given if one is not None]
        writes_sql = any(hasattr(field, name) for field in key for name in ("get_placeholder", "get_placeholder_sql"))
        if writes_sql or list(map(type, expected)) != list(map(type, params)):
            kept[key] = None
    text = kept[key]
    if text is None or any(hasattr(one, "as_sql") for one in given):
        return None
    return text[0], given if text[1] else tuple(one for one in given if one is not None)


_UPDATING = ("as_sql", "execute_sql", "execute_returning_sql")
_INSERTING = ("as_sql", "assemble_as_sql", "field_as_sql", "prepare_value", "pre_save_val")


def _is_djangos_own(rows: models.QuerySet[Any], connection: Any) -> bool:
    """Return whether nobody but Django has a say in the UPDATE."""
    options = rows.model._meta
    if options.select_on_save or options.parents or len(options.pk_fields) != 1:
        return False
    if type(rows) is not models.QuerySet or type(rows.query) is not Query or rows.query.where:
        return False
    return (
        _are_bare(connection.ops.compiler("SQLUpdateCompiler"), _UPDATING)
        and _are_bare(models.QuerySet, ("filter", "_update"))
        and not is_guarded(rows.model, connection)
    )


def _are_bare(owner: type, names: Sequence[str]) -> bool:
    # Those of the bases too: what a backend has of its own calls them.
    return all(_is_bare(base.__dict__[name]) for base in owner.__mro__ for name in names if name in base.__dict__)


@lru_cache(64)
def _is_bare(method: Callable[..., object]) -> bool:
    """Return whether a method is Django's with no wrappers but ours."""
    inner: Any = method
    while _module(inner).startswith("django_signal_audit."):
        inner = inner.__wrapped__
    return _module(inner).startswith("django.")


def _module(function: object) -> str:
    """Return where a function is from: a wrapper gives itself out for what it wraps."""
    return str(getattr(function, "__globals__", {}).get("__name__", ""))
