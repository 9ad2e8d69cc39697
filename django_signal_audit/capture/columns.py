"""Columns as the database holds them, where the project's own fields make something else of them.

A field that Django did not write may turn the column's value into anything: a member of an enum, a label in the
language of the moment, an object without a JSON form. The audit log has to stay the same whatever that code does, so
the value is taken before the field converts it. Primary keys and foreign keys stay as the project sees them, because
events name objects by them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar

from django.db import connections, models
from django.db.models.query import ValuesListIterable

from django_signal_audit.events.values import is_djangos

Field: TypeAlias = "models.Field[Any, Any]"
Converter: TypeAlias = Callable[[Any, Any, Any], Any]
Q = TypeVar("Q", bound="models.QuerySet[Any, Any]")


def _document(value: Any, *_: Any) -> Any:
    """Return a JSON document as any reader finds it, without the field's decoder."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _text_of(field: Field, value: Any) -> Any:
    """Return what the driver gives for a stored value: the text of a document, the same for all else."""
    if value is None:
        return None
    base = getattr(field, "base_field", None)
    if isinstance(base, models.Field) and isinstance(value, list):
        return [_text_of(base, item) for item in value]
    return json.dumps(value) if _is_document(field) else value


def _is_document(field: Field) -> bool:
    return field.get_internal_type() == "JSONField"


def _plain(field: Field, convert: Converter) -> Converter | None:
    """Return what gives the column's value instead of a converter of the field; the same one if that does."""
    base = getattr(field, "base_field", None)
    if isinstance(base, models.Field):
        items = getattr(base, "from_db_value", None)
        plain = items and _plain(base, items)
        return convert if items is None or plain == items else partial(_each, plain)
    if _is_document(field):
        return convert if is_djangos(convert) and getattr(field, "decoder", None) is None else _document
    return convert if is_djangos(convert) else None


def _each(plain: Converter | None, value: Any, expression: Any, connection: Any) -> Any:
    if plain is None or value is None:
        return value
    return [None if item is None else plain(item, expression, connection) for item in value]


def _is_key(field: Field) -> bool:
    return field.is_relation or field.primary_key or field in field.model._meta.pk_fields


def stored_converters(compiler: Any, expressions: Sequence[Any]) -> dict[int, tuple[Sequence[Converter], Any]]:
    """Return the converters of a compiler's columns, without what the project's own fields make of the values."""
    converters: dict[int, tuple[Sequence[Converter], Any]] = compiler.get_converters(expressions)
    for position, (functions, expression) in list(converters.items()):
        target = getattr(expression, "target", None)
        if target is None or _is_key(target):
            continue
        own = expression.get_db_converters(compiler.connection)
        plain = [_plain(expression.output_field, convert) for convert in own]
        if plain != own:
            backend = functions[: len(functions) - len(own)]
            converters[position] = [*backend, *filter(None, plain)], expression
    return converters


class _StoredValues(ValuesListIterable):  # type: ignore[type-arg]  # it takes none at run time
    def __iter__(self) -> Any:
        rows: Any = self.queryset
        compiler = rows.query.get_compiler(rows.db)
        kind = type(compiler)
        compiler.get_converters = partial(stored_converters, _Original(kind, compiler))
        return compiler.results_iter(tuple_expected=True, chunked_fetch=self.chunked_fetch, chunk_size=self.chunk_size)


class _Original:
    """A compiler with the ``get_converters`` of its class."""

    def __init__(self, kind: type, compiler: Any) -> None:
        self.connection = compiler.connection
        self.get_converters = partial(kind.get_converters, compiler)  # type: ignore[attr-defined]


def stored(rows: Q) -> Q:
    """Return a queryset of ``values_list`` that gives what the columns hold."""
    rows = rows.all()
    rows._iterable_class = _StoredValues  # noqa: SLF001  # as values_list() sets it
    return rows


def is_converted(field: Field, using: str) -> bool:
    """Return whether objects have something else for the field than what the column holds."""
    if _is_key(field) or not field.column:
        return False
    column: Any = field.cached_col
    own = column.get_db_converters(connections[using])
    return bool([_plain(column.output_field, convert) for convert in own] != own)


def converted(field: Field, value: Any, using: str) -> Any:
    """Return what objects have for a value that the column holds; the same value if the field refuses it."""
    column: Any = field.cached_col
    connection = connections[using]
    found = _text_of(column.output_field, value)
    try:
        for convert in column.get_db_converters(connection):
            found = convert(found, column, connection)
    except Exception:  # noqa: BLE001  # the project's code, which cannot read what is in its column
        return value
    return found


def converted_fields(fields: Iterable[Field], using: str) -> Mapping[int, Field]:
    """Return the fields of which objects have something else than the column holds, by position."""
    return {position: field for position, field in enumerate(fields) if is_converted(field, using)}


def assignable(field: Field, value: Any, using: str) -> Any:
    """Return what an object has to be given so that its column gets a value again."""
    # A decoder may make of a document what cannot be saved again; the document itself always can.
    if not is_converted(field, using) or (_is_document(field) and is_djangos(getattr(field, "from_db_value", None))):
        return value
    return converted(field, value, using)


def stored_value(instance: models.Model, field: Field) -> Any:
    """Return what the column of an object's row holds; it is read only where the object does not tell."""
    using = instance._state.db
    if using is None or not is_converted(field, using):
        return getattr(instance, field.attname)
    rows: models.QuerySet[Any] = models.QuerySet(type(instance), using=using).filter(pk=instance.pk)
    if connections[using].vendor == "mysql" and connections[using].in_atomic_block:
        rows = rows.select_for_update()  # all other reads are of the past there
    return next((value for (value,) in stored(rows.values_list(field.attname))), None)
