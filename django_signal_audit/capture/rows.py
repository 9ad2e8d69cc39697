"""The rows as the database holds them: read under lock, or told from memory where that is certain."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache, partial
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

from django.core.exceptions import ValidationError
from django.db import connections, models
from django.db.models import Lookup

from django_signal_audit.capture.scope import Row
from django_signal_audit.capture.stored_values import NOT_KNOWN, Certainty, certainty
from django_signal_audit.capture.tables import is_lockable, missing_columns, stored, stored_converters
from django_signal_audit.capture.transactions import lock_database
from django_signal_audit.capture.unreadable import ERRORS, Unreadable, or_texts, read_rows
from django_signal_audit.events.changes import FieldChange
from django_signal_audit.events.values import canonical_json, encode, plain_field
from django_signal_audit.rules.patterns import Field
from django_signal_audit.rules.plans import ModelPlan

Key: TypeAlias = tuple[type[models.Model], tuple[str, ...], bool, bool]
Fetch: TypeAlias = "RowQuery | Callable[[Any], tuple[Any, ...] | None]"
Convert: TypeAlias = Callable[[Any], Any]


def compiled_for(connection: Any) -> dict[Any, Any]:
    """Return what was compiled for a connection: kept on it, because what converts a row is bound to it."""
    kept: dict[Any, Any] = vars(connection).setdefault("audit_compiled", {})
    return kept


def fetch_row(
    model: type[models.Model],
    pk: object,
    columns: tuple[str, ...],
    using: str,
    *,
    lock: Callable[[models.QuerySet[Any]], models.QuerySet[Any]],
    deleting: bool,
) -> tuple[object, ...] | None:
    """Return the columns of the row with this key, None if there is none.

    Args:
        model: The model whose row it is.
        pk: The primary key, a tuple for a composite one.
        columns: The attribute names of the columns.
        using: The database.
        lock: What puts the lock on a queryset under which the row is to be read.
        deleting: Whether that lock is a deletion's.

    """
    try:
        return _fetch_of(model, pk, columns, using, lock, deleting=deleting)(pk)
    except ERRORS as error:
        rows = lock(models.QuerySet(model, using=using)).filter(pk=pk).order_by()
        return next(iter(or_texts(error, lambda: read_rows(rows, columns, stored))), None)


def _fetch_of(
    model: type[models.Model],
    pk: object,
    columns: tuple[str, ...],
    using: str,
    lock: Callable[[models.QuerySet[Any]], models.QuerySet[Any]],
    *,
    deleting: bool,
) -> Fetch:
    fetches = compiled_for(connections[using])
    key: Key = (model, columns, deleting, is_lockable(model, using))
    known: Fetch | None = fetches.get(key)
    if known is not None:
        return known
    rows = lock(models.QuerySet(model, using=using))
    fetch: Fetch = _compile(rows, pk, columns) or _uncompiled(rows, columns)
    fetches[key] = fetch
    return fetch


def row_query(model: type[models.Model], pk: object, fields: Iterable[Field], using: str) -> RowQuery | None:
    """Return the query by which ``read_row`` reads columns of a row that is about to be updated; None if it has none.

    Args:
        model: The model whose row it is.
        pk: The primary key, a tuple for a composite one.
        fields: The fields of the columns.
        using: The database.

    """
    columns = tuple(field.attname for field in fields)
    found = _fetch_of(model, pk, columns, using, partial(locked, using=using), deleting=False)
    return found if isinstance(found, RowQuery) else None


def _query(rows: models.QuerySet[Any], pk: object, columns: Sequence[str]) -> models.QuerySet[Any, tuple[object, ...]]:
    return rows.filter(pk=pk).order_by().values_list(*columns)


def _uncompiled(rows: models.QuerySet[Any], columns: Sequence[str]) -> Fetch:
    return lambda pk: next(iter(stored(_query(rows, pk, columns))), None)


class RowQuery(NamedTuple):
    """A compiled query for columns of the row with a primary key."""

    using: str
    key_fields: tuple[object, ...]
    sql: str
    converters: Mapping[int, Convert]

    def params(self, pk: object) -> tuple[Any, ...]:
        """Return the parameters for a primary key."""
        return key_parameters(self.key_fields, pk, connections[self.using])

    def values(self, found: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        """Return the values of the columns in a row that the driver gives."""
        if found is None:
            return None
        values = list(found)
        for position, convert in self.converters.items():
            values[position] = convert(values[position])
        return tuple(values)

    def __call__(self, pk: object) -> tuple[Any, ...] | None:
        """Run it."""
        with connections[self.using].cursor() as cursor:
            cursor.execute(self.sql, self.params(pk))
            return self.values(cursor.fetchone())


def _compile(rows: models.QuerySet[Any], pk: object, columns: Sequence[str]) -> RowQuery | None:
    """Return the compiled query, None if its parameters are not just those of the key."""
    fields: tuple[Any, ...] = rows.model._meta.pk_fields
    compiler = _query(rows, pk, columns).query.get_compiler(rows.db)
    sql, params = compiler.as_sql()
    if tuple(params) != key_parameters(fields, pk, connections[rows.db]):
        return None
    return RowQuery(rows.db, fields, sql, _converters(compiler))


def _converters(compiler: Any) -> dict[int, Convert]:
    """Return what makes the columns' values of what the driver gives, by position; most need nothing."""
    connection = compiler.connection
    selected = [column for column, *_ in compiler.select or ()]

    def converter(functions: Sequence[Callable[..., Any]], expression: object) -> Convert:
        def convert(value: Any) -> Any:
            found = value
            try:
                for function in functions:
                    found = function(found, expression, connection)
            except ERRORS:
                return Unreadable(value)
            return found

        return convert

    return {position: converter(*found) for position, found in stored_converters(compiler, selected).items()}


def converters_of(model: type[models.Model], columns: Sequence[str], using: str) -> Mapping[int, Convert]:
    """Return what the columns' values that ``raw_rows`` gives have to be converted by, by position in ``columns``."""
    kept, key = compiled_for(connections[using]), (model, *columns)
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


# Fields whose numbers the database gets as they are.
_NUMBERS = (models.AutoField, models.BigAutoField, models.IntegerField, models.BigIntegerField)


class IsOneOf(Lookup):
    """True for a key that is in a list, which PostgreSQL takes as one parameter: naming each of many takes long."""

    lookup_name = "is_one_of"

    def get_prep_lookup(self) -> Any:
        """Leave the list as it is."""
        return self.rhs

    def as_sql(self, compiler: Any, connection: object) -> Any:
        """Return the comparison."""
        field = self.lhs.output_field
        left, params = compiler.compile(self.lhs)
        keys: Any
        if type(field) in _NUMBERS and all(type(key) is int for key in self.rhs):
            # As one text: to convert each of many numbers takes longer than to find their rows.
            keys = f"{{{','.join(map(str, self.rhs))}}}"
        else:
            keys = [key_parameters([field], key, connection)[0] for key in self.rhs]
        return f"{left} = ANY(%s::{field.rel_db_type(connection)}[])", [*params, keys]


def is_one_of(model: type[models.Model], keys: Sequence[object], using: str, *, column: str = "pk") -> models.Q:
    """Return the condition that a row of the model has one of these primary keys, or values of another column."""
    if connections[using].vendor != "postgresql" or (column == "pk" and len(model._meta.pk_fields) > 1):
        return models.Q(**{f"{column}__in": keys})
    return models.Q(IsOneOf(models.F(column), keys))


def key_parameters(fields: Sequence[Any], pk: Any, connection: Any) -> tuple[object, ...]:
    """Return a primary key as parameters of a statement that compares it."""
    values = pk if len(fields) > 1 else (pk,)
    return tuple(
        field.get_db_prep_value(field.get_prep_value(value), connection, prepared=True)
        for field, value in zip(fields, values, strict=True)
    )


# Two values of one of these types are the same if they are equal.
_COMPARABLE = frozenset({int, str, bool, Decimal, dt.date, dt.datetime})


def rows_of(model: type[models.Model], using: str) -> models.QuerySet[Any]:
    """Return all rows of a model. Its own managers are not asked: they may hide some."""
    return models.QuerySet(model, using=using)


@lru_cache(1024)
def unique_fields(model: type[models.Model]) -> frozenset[Field]:
    """Return the fields of a model by which others may refer to its rows: an UPDATE of them takes a stronger lock."""
    options = model._meta
    names = {name for group in options.unique_together for name in group}
    names |= {name for one in options.constraints if isinstance(one, models.UniqueConstraint) for name in one.fields}
    return frozenset(field for field in options.concrete_fields if field.unique or field.name in names)


def gives_other_keys(model: type[models.Model], pk: object, values: Mapping[str, object], using: str) -> bool:
    """Return whether a row has other values than these in what others may refer to it by, where locks depend on it.

    Who locks the row for a lesser change and then waits for them would keep them waiting, too.

    Args:
        model: The model whose row it is.
        pk: The primary key, a tuple for a composite one.
        values: What is about to be written, by the attribute names of the columns.
        using: The database.

    """
    if not connections[using].features.has_select_for_no_key_update:
        return False
    fields = [one for one in unique_fields(model) if one.attname in values and not one.primary_key]
    if not fields:
        return False
    row = rows_of(model, using).filter(pk=pk).order_by().values_list(*(one.attname for one in fields)).first()
    return row is not None and row != tuple(_key_value(one, values[one.attname]) for one in fields)


def read_row(
    model: type[models.Model], pk: object, fields: Mapping[str, Field], using: str, *, deleting: bool = False
) -> Row | None:
    """Return the columns of one row by field name, locked until the transaction ends; None if there is no such row.

    Args:
        model: The model whose row it is; a multi-table child's inherited columns come with it.
        pk: The primary key, a tuple for a composite one.
        fields: The fields to read, by name.
        using: The database.
        deleting: Whether the row is about to be deleted, or what others may refer to it by to be changed.

    """
    lock_database(using)
    columns = tuple(field.attname for field in fields.values()) or ("pk",)
    lock = partial(locked, using=using, deleting=deleting)
    values = fetch_row(model, pk, columns, using, lock=lock, deleting=deleting)
    return None if values is None else dict(zip(fields, values, strict=False))


def locked(rows: models.QuerySet[Any], using: str, *, deleting: bool = False) -> models.QuerySet[Any]:
    """Return the queryset with the lock its write takes anyway, and no stronger one: others may refer to the row."""
    features = connections[using].features
    if not features.has_select_for_update or not is_lockable(rows.model, using):
        return rows
    return rows.select_for_update(no_key=not deleting and features.has_select_for_no_key_update)


def current(rows: models.QuerySet[Any], using: str) -> models.QuerySet[Any]:
    """Return the queryset such that it gives what its rows, which are locked already, hold now.

    Repeatable reads of MySQL and MariaDB are of the past, and only locking ones of the present. A row that an UPDATE
    met and had nothing to change in is still read as it was when the transaction began. Such a read may go through the
    whole table, and must not wait for the rows of others that it passes.
    """
    connection = connections[using]
    if connection.vendor != "mysql":
        return rows
    return rows.select_for_update(skip_locked=connection.features.has_select_for_update_skip_locked)


def reads_the_present(using: str) -> bool:
    """Return whether a read without a lock gives what others have committed: not in a repeatable read of MariaDB."""
    connection: Any = connections[using]
    return connection.vendor != "mysql" or getattr(connection, "isolation_level", None) == "read committed"


def values_by_key(
    plan: ModelPlan, pks: Sequence[object], names: Iterable[str], using: str, *, are_locked: bool
) -> dict[object, Row]:
    """Return the named columns of the rows with these keys as they are now; those without a row are left out.

    Args:
        plan: The plan of the model.
        pks: The primary keys.
        names: The names of fields.
        using: The database.
        are_locked: Whether this transaction has the locks of the rows, and so may ask for them again.

    """
    missing = missing_columns(plan.model, using)
    fields = [field for name, field in plan.all_fields.items() if name in names and field not in missing]
    keys = [field.attname for field in plan.model._meta.pk_fields]
    columns = [*keys, *(field.attname for field in fields)]
    rows = rows_of(plan.model, using).filter(pk__in=list(pks)).order_by()
    rows = stored((current(rows, using) if are_locked else rows).values_list(*columns))
    try:
        found = list(rows)
    except ERRORS as error:
        found = or_texts(error, lambda: read_rows(rows, columns, stored))
    width = len(keys)
    return {
        row[0] if width == 1 else row[:width]: {field.name: row[width + at] for at, field in enumerate(fields)}
        for row in found
    }


def written_row(instance: models.Model, plan: ModelPlan, pk: object, fields: Mapping[str, Field], using: str) -> Row:
    """Return what the database holds of the fields after the instance was saved.

    Values that the database returns as they were given are taken from the instance. All others (expressions, defaults
    and generated columns of the database, values it rounds or converts, fields of unknown classes) are read.
    """
    known: Row = {}
    unknown: dict[str, Field] = {}
    held = instance.__dict__
    vendor = connections[using].vendor
    certainties = certainties_of(plan, instance.__class__, using)
    for name, field in fields.items():
        value, (plain, rule) = held.get(field.attname, NOT_KNOWN), certainties[name]
        if rule is None:
            value = NOT_KNOWN
        elif value is not None and value is not NOT_KNOWN:
            value = rule(plain, value, vendor)
        if value is NOT_KNOWN:
            unknown[name] = field
        else:
            known[name] = value
    if unknown and is_key(plan, pk):
        known |= read_row(plan.model, pk, unknown, using) or {}
    elif unknown:
        known |= {name: held[field.attname] for name, field in unknown.items() if field.attname in held}
    return known


def is_key(plan: ModelPlan, pk: Any) -> bool:
    """Return whether a row can be asked for by a key: a field may give one as what it does not take itself."""
    fields = plan.model._meta.pk_fields
    try:
        for field, value in zip(fields, pk if len(fields) > 1 else (pk,), strict=True):
            field.get_prep_value(value)
    except (TypeError, ValueError):
        return False
    return True


def certainties_of(plan: ModelPlan, kind: type[models.Model], using: str) -> dict[str, Certainty]:
    """Return, by field name, how to tell from objects of a class what the columns of their rows hold."""
    found: dict[str, Certainty] | None = plan.certainties.get((kind, using))
    if found is None:
        found = {name: certainty(field, kind, using) for name, field in plan.all_fields.items()}
        plan.certainties[kind, using] = found
    return found


def row_key(instance: models.Model, model: type[models.Model]) -> Any:
    """Return the key of the instance's row in the table of ``model``, its own or a parent's, as the row holds it."""
    values = tuple(_key_value(field, getattr(instance, field.attname)) for field in model._meta.pk_fields)
    return values if len(values) > 1 else values[0]


def stored_key(plan: ModelPlan, pk: Any, using: str, *, is_given: bool = False) -> Any:
    """Return the primary key of a row as the row holds it, which names it in the audit log.

    An object may have it in another form: "1.5" where the column holds 1.50, or what the field makes of it on its way
    to the column. It is read where that is not certain.

    Args:
        plan: The plan of the row's model.
        pk: The key as the object has it.
        using: The database.
        is_given: Whether somebody gave the key to find the row by: where "ä" is found by "A", the row is that of "ä".

    """
    if pk is None:
        return None
    fields, vendor = plan.model._meta.pk_fields, connections[using].vendor
    certainties: list[Certainty] | None = plan.certainties.get(using)
    if certainties is None:
        certainties = plan.certainties[using] = [certainty(field, plan.model, using) for field in fields]
    values = pk if len(fields) > 1 else (pk,)
    known = [
        NOT_KNOWN if rule is None or (is_given and _is_found_by_others(plain, vendor)) else rule(plain, value, vendor)
        for (plain, rule), value in zip(certainties, values, strict=True)
    ]
    if NOT_KNOWN in known:
        found = (
            rows_of(plan.model, using).filter(pk=pk).values_list("pk", flat=True).first() if is_key(plan, pk) else None
        )
        return pk if found is None else found
    return tuple(known) if len(fields) > 1 else known[0]


def _is_found_by_others(field: Field, vendor: str) -> bool:
    return vendor == "mysql" and isinstance(field, models.CharField)


def _key_value(field: Field, value: object) -> object:
    if value is None or (value.__class__ is int and isinstance(field, models.IntegerField)):
        return value
    if hasattr(value, "resolve_expression"):
        return value
    try:
        # An instance built by hand may have got its key as text from a URL.
        return plain_field(field).to_python(value)
    except (ValidationError, ValueError, TypeError):
        return value  # no row has such a key, and Django is about to say so


def differences(fields: Mapping[str, Field], old: Row, new: Row) -> dict[str, FieldChange]:
    """Return the fields whose stored value differs, in the order of the fields."""
    return {
        name: FieldChange(old=old[name], new=new[name])
        for name, field in fields.items()
        if name in old and name in new and not same(field, old[name], new[name])
    }


def same(field: Field, old: object, new: object) -> bool:
    """Return whether two values of a field are the same in the database."""
    kind = old.__class__
    if kind is new.__class__ and kind in _COMPARABLE:
        return bool(old == new)
    plain = plain_field(field)
    if isinstance(plain, models.JSONField):
        # True == 1 == 1.0 in Python, and not in a document.
        if plain.decoder is None and repr(old) == repr(new):
            return True
        return canonical_json(encode(field, old)) == canonical_json(encode(field, new))
    return bool(old == new) or (old is not None and new is not None and old != old and new != new)  # NaN
