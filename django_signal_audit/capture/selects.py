"""SELECTs for less: one row by its key, compiled once per model and column set; many rows, not yet converted.

Building and compiling the query is most of what one row costs, converting all columns most of what many rows do. This
is the second place that relies on Django's query compiler; where the compiled form cannot be trusted, the query is
built anew each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

from django.db import connections, models
from django.db.models import Lookup

from .columns import stored, stored_converters
from .tables import is_lockable

Key: TypeAlias = tuple[type[models.Model], tuple[str, ...], bool, bool]
Fetch: TypeAlias = Callable[[Any], "tuple[Any, ...] | None"]
Convert: TypeAlias = Callable[[Any], Any]


def _compiled(using: str) -> dict[Any, Any]:
    """Return what was compiled for a connection: kept on it, because what converts a row is bound to it."""
    kept: dict[Any, Any] = vars(connections[using]).setdefault("audit_compiled", {})
    return kept


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
    fetches = _compiled(using)
    key: Key = (model, columns, deleting, is_lockable(model, using))
    fetch: Fetch | None = fetches.get(key)
    if fetch is None:
        rows = lock(models.QuerySet(model, using=using))
        fetch = fetches[key] = _compile(rows, pk, columns) or _uncompiled(rows, columns)
    return fetch(pk)


def _query(rows: models.QuerySet[Any], pk: Any, columns: Sequence[str]) -> models.QuerySet[Any, tuple[Any, ...]]:
    return rows.filter(pk=pk).order_by().values_list(*columns)


def _uncompiled(rows: models.QuerySet[Any], columns: Sequence[str]) -> Fetch:
    return lambda pk: next(iter(stored(_query(rows, pk, columns))), None)


def _compile(rows: models.QuerySet[Any], pk: Any, columns: Sequence[str]) -> Fetch | None:
    """Return a function that runs the compiled query, None if its parameters are not just those of the key."""
    connection = connections[rows.db]
    fields: tuple[Any, ...] = rows.model._meta.pk_fields
    compiler = _query(rows, pk, columns).query.get_compiler(rows.db)
    sql, params = compiler.as_sql()
    if tuple(params) != _parameters(fields, pk, connection):
        return None
    converters = _converters(compiler).items()

    def fetch(wanted: Any) -> tuple[Any, ...] | None:
        with connection.cursor() as cursor:
            cursor.execute(sql, _parameters(fields, wanted, connection))
            found = cursor.fetchone()
        if found is None:
            return None
        values = list(found)
        for position, convert in converters:
            values[position] = convert(values[position])
        return tuple(values)

    return fetch


def _converters(compiler: Any) -> dict[int, Convert]:
    """Return what makes the columns' values of what the driver gives, by position; most need nothing."""
    connection = compiler.connection
    selected = [column for column, *_ in compiler.select or ()]

    def converter(functions: Sequence[Callable[..., Any]], expression: Any) -> Convert:
        def convert(value: Any) -> Any:
            for function in functions:
                value = function(value, expression, connection)
            return value

        return convert

    return {position: converter(*found) for position, found in stored_converters(compiler, selected).items()}


def converters_of(model: type[models.Model], columns: Sequence[str], using: str) -> Mapping[int, Convert]:
    """Return what the columns' values that ``raw_rows`` gives have to be converted by, by position in ``columns``."""
    kept, key = _compiled(using), (model, *columns)
    found: Mapping[int, Convert] | None = kept.get(key)
    if found is None:
        compiler = models.QuerySet(model, using=using).values_list(*columns).query.get_compiler(using)
        compiler.setup_query()
        found = kept[key] = _converters(compiler)
    return found


# Rows fetched at a time.
_FETCHED = 2_000


def has_server_side_cursors(using: str) -> bool:
    """Return whether rows may be fetched in chunks; a project behind a pooler of transactions says they may not."""
    return not connections[using].settings_dict.get("DISABLE_SERVER_SIDE_CURSORS")


def raw_rows(query: Any, using: str, *, are_many: bool = True) -> Iterator[tuple[Any, ...]]:
    """Return the rows of a query as the driver gives them; many are fetched in chunks, where the database can."""
    is_chunked = are_many and has_server_side_cursors(using)
    found = query.get_compiler(using).execute_sql(chunked_fetch=is_chunked, chunk_size=_FETCHED)
    return map(tuple, chain.from_iterable(found))


class IsOneOf(Lookup):
    """True for a key that is in a list, which PostgreSQL takes as one parameter: naming each of many takes long."""

    lookup_name = "is_one_of"

    def get_prep_lookup(self) -> Any:
        """Leave the list as it is."""
        return self.rhs

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        """Return the comparison."""
        field = self.lhs.output_field
        left, params = compiler.compile(self.lhs)
        keys = [_parameters([field], key, connection)[0] for key in self.rhs]
        return f"{left} = ANY(%s::{field.rel_db_type(connection)}[])", [*params, keys]


def is_one_of(model: type[models.Model], keys: Sequence[Any], using: str) -> models.Q:
    """Return the condition that a row of the model has one of these primary keys."""
    if connections[using].vendor != "postgresql" or len(model._meta.pk_fields) > 1:
        return models.Q(pk__in=keys)
    return models.Q(IsOneOf(models.F("pk"), keys))


def _parameters(fields: Sequence[Any], pk: Any, connection: Any) -> tuple[Any, ...]:
    values = pk if len(fields) > 1 else (pk,)
    return tuple(
        field.get_db_prep_value(field.get_prep_value(value), connection, prepared=True)
        for field, value in zip(fields, values, strict=True)
    )
