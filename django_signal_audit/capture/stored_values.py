"""What the database will hold of a Python value, for the cases in which that is certain.

A value is certain only if it is in the very form the database hands out: the right type, inside the column's
precision and length. Everything else, and every field class that Django did not write, is read back instead.
"""

from __future__ import annotations

import datetime as dt
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from types import CodeType
from typing import Any, Final, TypeAlias
from uuid import UUID

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections, models
from django.db.backends.base.operations import BaseDatabaseOperations
from django.db.models.fields.files import FieldFile
from django.db.models.sql import DeleteQuery, InsertQuery, UpdateQuery
from django.db.models.sql.compiler import SQLDeleteCompiler, SQLInsertCompiler, SQLUpdateCompiler

from django_signal_audit.capture.hooks import keeps_values
from django_signal_audit.capture.tables import is_as_declared
from django_signal_audit.events.values import at_scale, plain_field
from django_signal_audit.models import AuditEvent
from django_signal_audit.problems import Problem
from django_signal_audit.rules.patterns import Field


class _Uncertain:
    def __repr__(self) -> str:
        return "NOT_KNOWN"


NOT_KNOWN: Final = _Uncertain()

# SQLite keeps decimals as IEEE doubles, which are exact to 15 digits.
_DOUBLE_DIGITS = 15
_SAFE_INTEGER = 2**53


_RANGES: Mapping[str, tuple[int, int]] = BaseDatabaseOperations.integer_field_ranges


def _integer(field: Field, value: object, vendor: str) -> object:
    if value.__class__ is not int:
        return NOT_KNOWN
    # Out of its strict mode, MariaDB writes the nearest number that the column can hold.
    lowest, highest = _RANGES[field.get_internal_type()] if vendor == "mysql" else (value, value)
    return value if lowest <= value <= highest else NOT_KNOWN


def _boolean(_field: Field, value: object, _vendor: str) -> object:
    return value if value.__class__ is bool else NOT_KNOWN


def _text(field: Field, value: object, _vendor: str) -> object:
    if value.__class__ is not str:
        return NOT_KNOWN
    # Some databases cut the blanks that exceed a column, silently.
    return value if field.max_length is None or len(value) <= field.max_length else NOT_KNOWN


def _decimal(field: Any, value: object, vendor: str) -> object:
    if value.__class__ is not Decimal or not value.is_finite() or (not value and value.is_signed()):
        return NOT_KNOWN
    exponent = int(value.as_tuple().exponent)
    places = field.decimal_places
    # Out of its strict mode, MariaDB writes the nearest number that the column can hold.
    if places is None or -exponent > places or value.adjusted() >= field.max_digits - places:
        return NOT_KNOWN
    if vendor == "sqlite" and value.adjusted() + 1 + places > _DOUBLE_DIGITS:
        return NOT_KNOWN
    return at_scale(value, places) if -exponent != places else value


def _float(_field: Field, value: object, _vendor: str) -> object:
    # NaN, infinities and the negative zero come back as something else from one database or another.
    plain = value.__class__ is float and math.isfinite(value) and (value != 0 or math.copysign(1, value) > 0)
    return value if plain else NOT_KNOWN


def _uuid(_field: Field, value: object, _vendor: str) -> object:
    return value if value.__class__ is UUID else NOT_KNOWN


def _datetime(_field: Field, value: object, _vendor: str) -> object:
    if value.__class__ is not dt.datetime or (value.tzinfo is None) is settings.USE_TZ:
        return NOT_KNOWN
    try:
        return value.astimezone(dt.UTC) if value.tzinfo else value
    except OverflowError:
        return NOT_KNOWN  # the last hours of the year 9999, or the first of the year 1, in another time zone


def _date(_field: Field, value: object, _vendor: str) -> object:
    return value if value.__class__ is dt.date else NOT_KNOWN


def _time(_field: Field, value: object, _vendor: str) -> object:
    return value if value.__class__ is dt.time and value.tzinfo is None else NOT_KNOWN


def _binary(_field: Field, value: object, _vendor: str) -> object:
    return value if value.__class__ is bytes else NOT_KNOWN


# The column holds microseconds where the database has no type for durations.
_LONGEST = dt.timedelta(days=100_000_000)


def _duration(_field: Field, value: Any, _vendor: str) -> object:
    return value if value.__class__ is dt.timedelta and abs(value) < _LONGEST else NOT_KNOWN


def _address(_field: Field, _value: object, _vendor: str) -> object:
    return NOT_KNOWN  # PostgreSQL has a form of its own


def _file(_field: Field, value: object, _vendor: str) -> object:
    if isinstance(value, FieldFile):
        value = value.name or ""
    return value if value.__class__ is str else NOT_KNOWN


def _document(field: Any, value: Any, _vendor: str) -> object:
    try:
        is_plain = field.encoder is None and field.decoder is None and _is_plain_document(value)
    except RecursionError:
        return NOT_KNOWN  # a document within itself, which Django is about to refuse
    return value if is_plain else NOT_KNOWN


_PLAIN = frozenset({str, bool, type(None)})
_TEXTS = frozenset({str})


def _is_plain_document(value: Any) -> bool:
    """Return whether every JSON store returns the document as it is: floats and huge integers may be spelled anew."""
    kind = value.__class__
    if kind in _PLAIN or (kind is int and -_SAFE_INTEGER < value < _SAFE_INTEGER):
        return True
    if kind is not list and (kind is not dict or not _TEXTS.issuperset(map(type, value))):
        return False
    parts = value if kind is list else value.values()
    return _PLAIN.issuperset(map(type, parts)) or all(map(_is_plain_document, parts))


Rule: TypeAlias = Callable[[Any, Any, str], Any]
_CERTAIN: dict[type, Rule] = {
    **dict.fromkeys(
        (
            models.AutoField,
            models.BigAutoField,
            models.SmallAutoField,
            models.IntegerField,
            models.BigIntegerField,
            models.SmallIntegerField,
            models.PositiveIntegerField,
            models.PositiveBigIntegerField,
            models.PositiveSmallIntegerField,
        ),
        _integer,
    ),
    **dict.fromkeys((models.CharField, models.TextField, models.SlugField, models.EmailField, models.URLField), _text),
    **dict.fromkeys((models.FileField, models.ImageField), _file),
    models.BooleanField: _boolean,
    models.DecimalField: _decimal,
    models.FloatField: _float,
    models.UUIDField: _uuid,
    models.DateTimeField: _datetime,
    models.DateField: _date,
    models.TimeField: _time,
    models.JSONField: _document,
    models.BinaryField: _binary,
    models.DurationField: _duration,
    models.GenericIPAddressField: _address,
}


# The field whose type a column's values have, and its rule; None for a rule where only the database can tell.
Certainty: TypeAlias = tuple[Field, Rule | None]

# What decides about a value on its way into the column; a field may have been given another one of its own.
_DECISIVE = {"pre_save", "get_prep_value", "get_db_prep_value", "get_db_prep_save", "get_db_converters", "db_type"}


def certainty(field: Field, model: type[models.Model], using: str) -> Certainty:
    """Return how to tell what a column gives back; a foreign key counts as the field it refers to.

    It is certain only where all is Django's own: the classes of the field and of what it refers to, the attribute
    through which the model's objects give the value, and the column in the database.

    Args:
        field: The field.
        model: The class of the objects that are written, which may be a proxy.
        using: The database.

    """
    plain = plain_field(field)
    rule = _CERTAIN.get(plain.__class__)
    is_certain = rule is not None and _is_own(field) and keeps_values(model, field) and is_as_declared(field, using)
    return plain, rule if is_certain and not _may_be_another_hour(plain, using) else None


def _may_be_another_hour(plain: Field, using: str) -> bool:
    """Return whether times may come back as another one than they went, where clocks are set forward and back.

    With ``USE_TZ``, they go to the column without their zone where the key ``TIME_ZONE`` of ``DATABASES`` names one
    for a database that has no type with a zone. Without it, PostgreSQL takes them for times of the connection's zone.
    """
    if not isinstance(plain, models.DateTimeField):
        return False
    connection = connections[using]
    return connection.timezone_name != "UTC" and connection.features.supports_timezones is not settings.USE_TZ


def _is_own(field: Field) -> bool:
    while field.__class__ in (models.ForeignKey, models.OneToOneField):
        if not _DECISIVE.isdisjoint(vars(field)):
            return False
        field = field.target_field
    return field.__class__ in _CERTAIN and _DECISIVE.isdisjoint(vars(field))


def stored_values(certain: Certainty, values: Iterable[object], vendor: str) -> list[object]:
    """Return what the column will give back for each value, NOT_KNOWN for those that only the database knows.

    Args:
        certain: How to tell, as ``certainty`` gave it.
        values: What instances hold for the field after they were saved.
        vendor: The database's, as in ``connection.vendor``.

    """
    plain, rule = certain
    values = list(values)
    kind = _UNCHANGED.get(rule)
    if kind is not None and kind.issuperset(map(type, values)) and _are_unchanged(plain, values, vendor):
        return values
    return [
        NOT_KNOWN if rule is None or value is NOT_KNOWN else None if value is None else rule(plain, value, vendor)
        for value in values
    ]


# Values of these types are given back as they are, by the rule that looks at each: most columns have no others.
_UNCHANGED: dict[Rule | None, frozenset[type]] = {
    _integer: frozenset({int}),
    _boolean: frozenset({bool}),
    _text: frozenset({str}),
    _date: frozenset({dt.date}),
    _uuid: frozenset({UUID}),
    _decimal: frozenset({Decimal}),
}


def _are_unchanged(field: Any, values: Sequence[Any], vendor: str) -> bool:
    """Return whether values of the right type are within the limits of the column."""
    if not values:
        return True
    if isinstance(field, models.DecimalField):
        return _are_at_scale(field, values, vendor)
    if isinstance(field, models.IntegerField):
        return vendor != "mysql"
    return field.max_length is None or field.__class__ is models.UUIDField or max(map(len, values)) <= field.max_length


def _are_at_scale(field: Any, values: Sequence[Decimal], vendor: str) -> bool:
    places = field.decimal_places
    if places is None:
        return False
    digits = min(field.max_digits, _DOUBLE_DIGITS) if vendor == "sqlite" else field.max_digits
    scale = Decimal((0, (1,), -places))
    is_exact = all(value.same_quantum(scale) for value in values)
    # A zero may have a sign.
    return is_exact and all(values) and max(value.adjusted() for value in values) < digits - places


_COMPILERS = (SQLInsertCompiler, SQLUpdateCompiler, SQLDeleteCompiler)
_QUERIES = (InsertQuery, UpdateQuery, DeleteQuery)
_EXECUTES = ("execute_sql", "execute_returning_sql")


def unseen_problems() -> list[Problem]:
    """Name the compilers whose writes are not recorded."""
    hint = (
        "Have its execute_sql call super().execute_sql, or record what it writes with django_signal_audit.record(), "
        "or leave the models it writes out of the rules."
    )
    message = "runs statements past Django's execute_sql: what it writes is not recorded."
    names = dict.fromkeys(f"{found.__module__}.{found.__qualname__}" for found in (*_deaf(), *_strange()))
    return [Problem("W045", name, message, hint) for name in names]


def _deaf() -> Iterator[type]:
    """Return the subclasses of Django's compilers with an ``execute_sql`` that does not call theirs."""
    for base in _COMPILERS:
        for compiler in _subclasses(base):
            own = [vars(compiler).get(name) for name in _EXECUTES]
            if any(callable(method) and not _calls_on(method) for method in own):
                yield compiler


def _strange() -> Iterator[type]:
    """Return the compilers that queries make of themselves and that are none of Django's."""
    for base in _QUERIES:
        for query in _subclasses(base):
            if "get_compiler" not in vars(query) and "compiler" not in vars(query):
                continue
            try:
                compiler = query(AuditEvent).get_compiler(using=DEFAULT_DB_ALIAS)
            except Exception:  # noqa: BLE001, S112  # it wants to be made in a way of its own
                continue
            if not isinstance(compiler, _COMPILERS):
                yield type(compiler)


def _subclasses(base: type) -> Iterator[type]:
    own: list[type] = base.__subclasses__()
    for found in own:
        yield found
        yield from _subclasses(found)


def _calls_on(method: Any) -> bool:
    """Return whether a method, or a function that it wraps, names ``execute_sql`` to call it."""
    code = getattr(method, "__code__", None)
    if hasattr(method, "__wrapped__") or code is None:
        return True  # nobody can tell
    names = set(_names(code))
    known = [method.__globals__[name] for name in names & set(method.__globals__)]
    known += [cell.cell_contents for cell in method.__closure__ or () if _is_full(cell)]
    originals = [found for found in known if inspect.isfunction(found)]
    return not names.isdisjoint(_EXECUTES) or any(found.__name__ in _EXECUTES for found in originals)


def _is_full(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
