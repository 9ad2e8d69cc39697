"""The SELECT of one row by its key, compiled once per model and column set.

Building and compiling that query is most of what it costs. This is the second place that relies on Django's query
compiler; where the compiled form cannot be trusted, the query is built anew each time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from django.db import connections, models

Key: TypeAlias = tuple[type[models.Model], tuple[str, ...], bool]
Fetch: TypeAlias = Callable[[Any], "tuple[Any, ...] | None"]

# By connection, because what converts a row is bound to it.
_compiled: WeakKeyDictionary[Any, dict[Key, Fetch]] = WeakKeyDictionary()


def fetch_row(
    model: type[models.Model],
    pk: Any,
    columns: tuple[str, ...],
    using: str,
    *,
    lock: Callable[[models.QuerySet[Any]], models.QuerySet[Any]],
    deleting: bool,
) -> tuple[Any, ...] | None:
    """Return the columns of the row with this key, None if there is none.

    Args:
        model: The model whose row it is.
        pk: The primary key, a tuple for a composite one.
        columns: The attribute names of the columns.
        using: The database.
        lock: What puts the lock on a queryset under which the row is to be read.
        deleting: Whether that lock is a deletion's.

    """
    fetches = _compiled.setdefault(connections[using], {})
    key = (model, columns, deleting)
    fetch = fetches.get(key)
    if fetch is None:
        rows = lock(models.QuerySet(model, using=using))
        fetch = fetches[key] = _compile(rows, pk, columns) or _uncompiled(rows, columns)
    return fetch(pk)


def _query(rows: models.QuerySet[Any], pk: Any, columns: Sequence[str]) -> models.QuerySet[Any, tuple[Any, ...]]:
    return rows.filter(pk=pk).order_by().values_list(*columns)


def _uncompiled(rows: models.QuerySet[Any], columns: Sequence[str]) -> Fetch:
    return lambda pk: next(iter(_query(rows, pk, columns)), None)


def _compile(rows: models.QuerySet[Any], pk: Any, columns: Sequence[str]) -> Fetch | None:
    """Return a function that runs the compiled query, None if its parameters are not just those of the key."""
    connection = connections[rows.db]
    fields: tuple[Any, ...] = rows.model._meta.pk_fields
    compiler = _query(rows, pk, columns).query.get_compiler(rows.db)
    sql, params = compiler.as_sql()
    if tuple(params) != _parameters(fields, pk, connection):
        return None
    converters = [
        (position, functions, expression)
        for position, (functions, expression) in compiler.get_converters(
            [selected[0] for selected in compiler.select or ()]
        ).items()
    ]

    def fetch(wanted: Any) -> tuple[Any, ...] | None:
        with connection.cursor() as cursor:
            cursor.execute(sql, _parameters(fields, wanted, connection))
            found = cursor.fetchone()
        if found is None:
            return None
        values = list(found)
        for position, functions, expression in converters:
            for function in functions:
                values[position] = function(values[position], expression, connection)
        return tuple(values)

    return fetch


def _parameters(fields: Sequence[Any], pk: Any, connection: Any) -> tuple[Any, ...]:
    values = pk if len(fields) > 1 else (pk,)
    return tuple(
        field.get_db_prep_value(field.get_prep_value(value), connection, prepared=True)
        for field, value in zip(fields, values, strict=True)
    )
