"""Columns of our tables: moments in UTC, and whatever SQL wrote, which must not take a page of the log away."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import cache
from itertools import islice
from typing import Any, Self, TypeAlias, TypeVar

from django.conf import settings
from django.db import OperationalError, connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.fields.json import HasAnyKeys, HasKey, HasKeys
from django.utils import timezone

# What attributes hold: the class below has no type parameters.
Moment: TypeAlias = "models.DateTimeField[dt.datetime, dt.datetime]"
OptionalMoment: TypeAlias = "models.DateTimeField[dt.datetime | None, dt.datetime | None]"

# SQL can write what Python has no moment for; this one stands for it then.
_NO_MOMENT = "TIMESTAMP '1970-01-01 00:00:00'"
_IS_MOMENT = {
    "sqlite": "typeof({0}) = 'text' AND substr({0}, 1, 4) <> '0000' AND date({0}, '+0 days') = substr({0}, 1, 10)",
    "mysql": "{0} >= '0001-01-01' AND MONTH({0}) > 0 AND DAYOFMONTH({0}) > 0",
    "postgresql": "{0} BETWEEN '0001-01-02' AND '9999-12-30'",
}
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001  # naive, in UTC


def in_project_time(moment: dt.datetime) -> dt.datetime:
    """Return a moment of ours as ``timezone.now()`` would return it, as columns and pages of the project have it."""
    if settings.USE_TZ:
        return moment
    try:
        return timezone.make_naive(moment.replace(tzinfo=dt.UTC))
    except OverflowError:  # at the end of time
        return moment


class UtcDateTimeField(models.DateTimeField):  # type: ignore[type-arg]  # generic in the stubs only
    """A DateTimeField whose column holds the true instant, also where ``USE_TZ`` is False.

    Django reads and writes naive times in the time zone of the connection. That zone isn't UTC where ``USE_TZ`` is
    False on PostgreSQL, or where ``DATABASES`` has a ``TIME_ZONE``, and one hour a year can't be told from the next.
    In Python the values are in UTC: aware with ``USE_TZ``, naive without. Both kinds are accepted.
    """

    def deconstruct(self) -> Any:
        """Return what a migration writes: the column is an ordinary one."""
        name, _path, args, kwargs = super().deconstruct()
        return name, "django.db.models.DateTimeField", args, kwargs

    def value_from_object(self, obj: models.Model) -> Any:
        """Return the moment as text: ``dumpdata`` would cut a datetime to milliseconds."""
        moment = super().value_from_object(obj)
        return moment.isoformat() if isinstance(moment, dt.datetime) else moment

    def value_to_string(self, obj: models.Model) -> str:
        """Return the text that other serializers write."""
        return str(self.value_from_object(obj) or "")

    def get_prep_value(self, value: Any) -> Any:
        """Return the moment in UTC, aware with ``USE_TZ`` and naive without."""
        if not settings.USE_TZ:
            moment = self.to_python(value)
            if isinstance(moment, dt.datetime) and timezone.is_aware(moment):
                return timezone.make_naive(moment, dt.UTC)
            return moment
        return super().get_prep_value(value)

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        """Return the parameter: PostgreSQL is told the offset, other databases keep naive times, here in UTC."""
        moment = value if prepared else self.get_prep_value(value)
        if isinstance(moment, dt.datetime):
            aware = moment if timezone.is_aware(moment) else moment.replace(tzinfo=dt.UTC)
            moment = aware if connection.vendor == "postgresql" else timezone.make_naive(aware, dt.UTC)
        return connection.ops.adapt_datetimefield_value(moment)

    def select_format(self, compiler: Any, sql: str, params: Any) -> tuple[str, Any]:
        """Have PostgreSQL return seconds where the driver could return times of an ambiguous hour.

        They are naive without ``USE_TZ``. With it, psycopg2 puts the zone of the connection to the time of its clocks.
        """
        connection = compiler.connection
        # A subquery's column is compared with others as it is.
        if connection.vendor != "postgresql" or compiler.query.subquery:
            return sql, params
        if settings.USE_TZ and connection.timezone_name == "UTC":
            return sql, params
        return f"EXTRACT(EPOCH FROM {sql})", params

    def from_db_value(self, value: Any, _expression: Any, connection: BaseDatabaseWrapper) -> Any:
        """Return the moment in UTC."""
        if isinstance(value, Decimal):
            moment = _EPOCH + dt.timedelta(microseconds=int(value * 1_000_000))
            return moment.replace(tzinfo=dt.UTC) if settings.USE_TZ else moment
        if value is None or value.tzinfo is dt.UTC:
            return value
        if connection.vendor != "postgresql":
            # The backend has added the zone of the connection, if any.
            return value.replace(tzinfo=dt.UTC if settings.USE_TZ else None)
        if settings.USE_TZ:
            return value.astimezone(dt.UTC)
        # Raw queries: the time is in the zone of the session, and "fold" tells the two hours apart if the driver did.
        return timezone.make_naive(timezone.make_aware(value, timezone.get_default_timezone()), dt.UTC)


def _reads_rows(compiler: Any) -> bool:
    """Return whether a statement reads whole rows: columns may be ordered by their place, which needs an index."""
    query = compiler.query
    return bool(query.default_cols) and not query.distinct and not query.subquery


class AnyDateTimeField(UtcDateTimeField):
    """A UtcDateTimeField that reads whatever SQL has written: what is no moment of Python's is the first of 1970."""

    def select_format(self, compiler: Any, sql: str, params: Any) -> tuple[str, Any]:
        """Have the database look at it first, as the driver would fail to make a moment of it."""
        vendor = compiler.connection.vendor
        if vendor in _IS_MOMENT and _reads_rows(compiler) and "SELECT" not in sql:
            is_moment = _IS_MOMENT[vendor]
            params = [*params] * (is_moment.count("{0}") + 2)
            other = _NO_MOMENT.removeprefix("TIMESTAMP ") if vendor == "sqlite" else _NO_MOMENT
            sql = f"CASE WHEN {is_moment.format(sql)} THEN {sql} WHEN {sql} IS NOT NULL THEN {other} END"
        return super().select_format(compiler, sql, params)


# What attributes hold: the classes below have no type parameters.
Text: TypeAlias = "models.CharField[str, str]"

# What a text that names something keeps of itself where it is too long; the rest is a hash, so that it stays unique.
_KEPT = 180
# Python's names of the character sets that have others.
_CODECS = {"latin1": "cp1252", "utf8mb3": "utf8mb3", "utf8": "utf8mb3"}


# How characters are written that a character set lacks; NUL and halves of a pair are written so everywhere.
_ESCAPE = re.compile(r"\\(?:U([0-9a-f]{8})|u([0-9a-f]{4})|x([0-9a-f]{2}))")


@cache
def codec_of(using: str, _database: str, table: str) -> str:
    """Return the codec of the texts in a table on MariaDB, empty if it has every character."""
    sql = (
        "SELECT character_set_name FROM information_schema.columns "
        "WHERE table_schema = DATABASE() AND table_name = %s AND column_name IN ('object_repr', 'last_error')"
    )
    with connections[using].cursor() as cursor:
        cursor.execute(sql, [table])
        found = cursor.fetchone()
    name = str(found[0]) if found else "utf8mb4"
    return "" if name == "utf8mb4" else _CODECS.get(name, name)


def encodable(text: str, codec: str) -> str:
    r"""Return the text with the characters that a character set lacks written as ``\U0001f600``."""
    if codec == "utf8mb3":  # MySQL's name of UTF-8 with three bytes at most
        return "".join(char if char <= "\uffff" else f"\\U{ord(char):08x}" for char in text)
    try:
        return text.encode(codec, "backslashreplace").decode(codec)
    except LookupError:
        return text.encode("ascii", "backslashreplace").decode()


def _reads_as_found(compiler: Any, sql: str) -> bool:
    """Return whether a column of SQLite is read, and not compared with others: SQL can write anything into it."""
    return compiler.connection.vendor == "sqlite" and not compiler.query.subquery and "SELECT" not in sql


class AnyText(models.Field):  # type: ignore[type-arg]  # generic in the stubs only
    """A column of text whose values, and those that are looked for in it, are written in the table's character set."""

    def deconstruct(self) -> Any:
        """Return what a migration writes: the column is an ordinary one."""
        name, _path, args, kwargs = super().deconstruct()
        return name, f"django.db.models.{self.get_internal_type()}", args, kwargs

    def select_format(self, compiler: Any, sql: str, params: Any) -> tuple[str, Any]:
        """Have SQLite return bytes that SQL wrote as the text of a literal, so that what is read is a text."""
        if not _reads_as_found(compiler, sql):
            return sql, params
        return f"CASE typeof({sql}) WHEN 'blob' THEN quote({sql}) ELSE {sql} END", [*params] * 3

    def get_db_prep_value(self, value: object, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        """Return the parameter."""
        value = super().get_db_prep_value(value, connection, prepared)
        if connection.vendor != "mysql" or not isinstance(value, str) or value.isascii():
            return value
        return self.fitted(value, _codec(connection, self))

    def fitted(self, text: str, codec: str) -> str:
        """Return the text as the column holds it, no longer than it may be."""
        text = encodable(text, codec) if codec else text
        return text if self.max_length is None or len(text) <= self.max_length else self._cut(text, self.max_length)

    def _cut(self, text: str, most: int) -> str:
        return f"{text[: most - 1]}…"


class NameField(AnyText, models.CharField):  # type: ignore[type-arg]
    """A CharField of what names something: what is read is what was written, so that it can be looked up."""

    def get_db_converters(self, connection: BaseDatabaseWrapper) -> list[Any]:
        """Return what has the characters in place of their escapes."""
        found = super().get_db_converters(connection)
        return [*found, self._unescaped] if connection.vendor == "mysql" else found

    def _cut(self, text: str, most: int) -> str:
        digest = hashlib.sha256(text.encode()).hexdigest()
        return f"{text[: min(_KEPT, most - len(digest) - 1)]}…{digest}"

    def _unescaped(self, value: object, _expression: object, connection: BaseDatabaseWrapper) -> object:
        if not isinstance(value, str) or "\\" not in value or not _codec(connection, self):
            return value
        return _ESCAPE.sub(_character, value)


class TenantField(NameField):
    """A NameField that tells ``a`` from ``A`` and from ``a `` on MariaDB too: one tenant must not see another's."""

    def deconstruct(self) -> Any:
        """Return what a migration writes: the column has a collation of its own."""
        name, _path, args, kwargs = super().deconstruct()
        return name, f"{type(self).__module__}.{type(self).__qualname__}", args, kwargs

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        """Return the type of the column."""
        found = super().db_parameters(connection)
        return {**found, "collation": "utf8mb4_nopad_bin"} if connection.vendor == "mysql" else found


def _character(match: re.Match[str]) -> str:
    code = int(match[1] or match[2] or match[3], 16)
    return chr(code) if code and not 0xD800 <= code <= 0xDFFF and code <= 0x10FFFF else match[0]


def _codec(connection: BaseDatabaseWrapper, field: models.Field[object, object]) -> str:
    return codec_of(connection.alias, str(connection.settings_dict["NAME"]), field.model._meta.db_table)


class AnyCharField(AnyText, models.CharField):  # type: ignore[type-arg]
    """A CharField that takes any text."""


class AnyTextField(AnyText, models.TextField):  # type: ignore[type-arg]
    """A TextField that takes any text."""


class AnyUUIDField(models.UUIDField):  # type: ignore[type-arg]  # generic in the stubs only
    """A UUIDField that reads whatever SQL has written on SQLite: what is no UUID is that of nothing."""

    def deconstruct(self) -> Any:
        """Return what a migration writes: the column is an ordinary one."""
        name, _path, args, kwargs = super().deconstruct()
        return name, "django.db.models.UUIDField", args, kwargs

    def select_format(self, compiler: Any, sql: str, params: Any) -> tuple[str, Any]:
        """Have SQLite look at it first: Django would fail to make a UUID of it."""
        if not _reads_as_found(compiler, sql):
            return sql, params
        is_uuid = f"typeof({sql}) = 'text' AND length({sql}) = 32 AND {sql} NOT GLOB '*[^0-9a-fA-F]*'"
        return f"CASE WHEN {is_uuid} THEN {sql} WHEN {sql} IS NOT NULL THEN '{'0' * 32}' END", [*params] * 5


class ReadableJSON:
    """A lookup of JSON that has SQLite pass what is none: one such row must not hide all others."""

    def process_lhs(self, compiler: Any, connection: BaseDatabaseWrapper, lhs: Any = None) -> Any:
        """Return the column, NULL where SQL wrote something else into it."""
        sql, params = super().process_lhs(compiler, connection, lhs)  # type: ignore[misc]  # a lookup's
        if connection.vendor != "sqlite":
            return sql, params
        return f"CASE WHEN JSON_VALID({sql}) THEN {sql} END", [*params] * 2


class AnyJSONField(models.JSONField):
    """A JSONField that reads whatever SQL has written: what Python can't read is a text, as other databases give it."""

    def deconstruct(self) -> Any:
        """Return what a migration writes: the column is an ordinary one."""
        name, _path, args, kwargs = super().deconstruct()
        return name, "django.db.models.JSONField", args, kwargs

    def from_db_value(self, value: Any, expression: Any, connection: BaseDatabaseWrapper) -> Any:
        """Return the value. Numbers can be too long, lists too deep, and halves of a pair have no place in a page."""
        try:
            found = super().from_db_value(value, expression, connection)
            if isinstance(value, str) and ("\\ud" in value or "\\uD" in value):
                found = json.loads(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace"))
            return found if not isinstance(found, bytes) else repr(found)
        except (RecursionError, ValueError):
            return value if isinstance(value, str) else repr(value)


@AnyJSONField.register_lookup
class _HasKey(ReadableJSON, HasKey):
    pass


@AnyJSONField.register_lookup
class _HasKeys(ReadableJSON, HasKeys):
    pass


@AnyJSONField.register_lookup
class _HasAnyKeys(ReadableJSON, HasAnyKeys):
    pass


_T = TypeVar("_T")
_Row = TypeVar("_Row", bound=models.Model, covariant=True)


def _is_undecodable(error: Exception) -> bool:
    """Return whether the driver of SQLite could not read a text that isn't UTF-8: it raises for the whole statement."""
    return isinstance(error, OperationalError) and "Could not decode to UTF-8" in str(error)


@contextmanager
def _decoding(using: str, decode: Callable[[bytes], object]) -> Iterator[None]:
    """Have texts read by a function within the block."""
    raw = connections[using].connection
    former, raw.text_factory = raw.text_factory, decode
    try:
        yield
    finally:
        raw.text_factory = former


def _read(using: str, function: Callable[[], _T], decode: Callable[[bytes], object]) -> _T:
    """Return what a function reads; once more, with texts read by another one, if the driver can't read one of them."""
    try:
        return function()
    except OperationalError as error:
        if not _is_undecodable(error):
            raise
    with _decoding(using, decode):
        return function()


def _readable(data: bytes) -> str:
    """Return a text for people: what isn't UTF-8 is replaced."""
    return data.decode("utf-8", "replace")


class ReadableQuerySet(models.QuerySet[_Row]):
    """A queryset whose rows can be read whatever SQL wrote: it must not take a page of the log away."""

    def read_by(self, decode: Callable[[bytes], object]) -> Self:
        """Return the rows, read, with texts that aren't UTF-8 as a function gives them."""
        rows = self.all()
        _read(self.db, super(ReadableQuerySet, rows)._fetch_all, decode)
        return rows

    def _fetch_all(self) -> None:
        _read(self.db, super()._fetch_all, _readable)

    def iterator(self, chunk_size: int | None = None) -> Iterator[_Row]:
        """Return the rows one by one, like Django's."""
        done = 0
        try:
            for row in super().iterator(chunk_size):
                yield row
                done += 1
        except OperationalError as error:
            if not _is_undecodable(error):
                raise
            with _decoding(self.db, _readable):
                yield from islice(super().iterator(chunk_size), done, None)
