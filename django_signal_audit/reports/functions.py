"""What reports ask the database for: names and items in JSON, and the span of time that an event is in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Func, IntegerField, JSONField, Lookup, TextField
from django.db.models.lookups import In
from django.db.models.sql.compiler import SQLCompiler

from django_signal_audit.models.fields import ReadableJSON


@contextmanager
def much_memory(using: str) -> Iterator[None]:
    """Let PostgreSQL count hundreds of thousands of groups in memory, for the rest of the transaction.

    Its processes count together: to hand over such groups is cheaper than it is taken to be.
    """
    if connections[using].vendor != "postgresql":
        yield
        return
    with transaction.atomic(using=using):
        with connections[using].cursor() as cursor:
            cursor.execute(
                "SELECT set_config('work_mem', '64MB', true)"
                " WHERE pg_size_bytes(current_setting('work_mem')) < pg_size_bytes('64MB')"
            )
            cursor.execute("SELECT set_config('parallel_tuple_cost', '0.01', true)")
        yield


class Epoch(Func):
    """The seconds since 1970 of a column with times in UTC."""

    output_field = IntegerField()

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        """Return the SQL of SQLite."""
        # SQL can write there what is no moment.
        template = "COALESCE(CAST(STRFTIME('%%%%s', %(expressions)s) AS INTEGER), 0)"
        return super().as_sql(compiler, connection, template=template, **extra)

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        """Return the SQL of PostgreSQL, whose EXTRACT computes with decimals and takes several times as long."""
        return super().as_sql(compiler, connection, template="DATE_PART('epoch', %(expressions)s)", **extra)

    def as_mysql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        """Return the SQL of MySQL and MariaDB, whose seconds are counted from the year 0."""
        template = "COALESCE(TO_SECONDS(%(expressions)s) - 62167219200, 0)"
        return super().as_sql(compiler, connection, template=template, **extra)


class Bucket(Func):
    """Which of the spans of so many seconds the sum of some numbers is in."""

    output_field = IntegerField()
    arg_joiner = " + "

    def __init__(self, seconds: int, *numbers: Any, **extra: Any) -> None:
        super().__init__(*numbers, seconds=seconds, **extra)

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        """Return the SQL of SQLite."""
        return super().as_sql(compiler, connection, template="(%(expressions)s) / %(seconds)s", **extra)

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        """Return the SQL of PostgreSQL."""
        template = "FLOOR((%(expressions)s) / %(seconds)s)::bigint"
        return super().as_sql(compiler, connection, template=template, **extra)

    def as_mysql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        """Return the SQL of MySQL and MariaDB."""
        return super().as_sql(compiler, connection, template="(%(expressions)s) DIV %(seconds)s", **extra)


class EachKey(Func):
    """The names in a JSON object, each in a row of its own: PostgreSQL takes a third of the time for it."""

    set_returning = True
    output_field = TextField()

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        """Return the SQL of PostgreSQL."""
        found = "CASE JSONB_TYPEOF(%(expressions)s) WHEN 'object' THEN %(expressions)s END"
        return super().as_sql(compiler, connection, template=f"JSONB_OBJECT_KEYS({found})", **extra)


class Keys(Func):
    """The names in a JSON object as a list; none of JSON that is no object, which only SQL can have stored."""

    output_field = JSONField()

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        """Return the SQL of SQLite."""
        names = "(SELECT JSON_GROUP_ARRAY(key) FROM JSON_EACH(%(expressions)s))"
        template = f"CASE JSON_TYPE(%(expressions)s) WHEN 'object' THEN {names} END"
        return super().as_sql(compiler, connection, template=template, **extra)

    def as_mysql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        """Return the SQL of MySQL and MariaDB."""
        return super().as_sql(compiler, connection, function="JSON_KEYS", **extra)


class HasItem(ReadableJSON, Lookup):
    """True where the JSON list on the left holds the text on the right.

    Django's own ``contains`` does not exist on SQLite, and searching the list's text would depend on how each
    database writes a quote or an umlaut. Use it as an expression: ``filter(HasItem(F("rules"), "price-drop"))``.
    """

    lookup_name = "has_item"
    prepare_rhs = False

    def _sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, template: str, item: str) -> object:
        left, params = self.process_lhs(compiler, connection)
        return template % left, (*params, item)

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> object:
        """Return the SQL of SQLite."""
        template = "EXISTS (SELECT 1 FROM json_each(%s) WHERE value = %%s)"
        return self._sql(compiler, connection, template, self.rhs)

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> object:
        """Return the SQL of PostgreSQL."""
        return self._sql(compiler, connection, "%s @> %%s::jsonb", json.dumps([self.rhs]))

    def as_mysql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> object:
        """Return the SQL of MySQL and MariaDB."""
        return self._sql(compiler, connection, "JSON_CONTAINS(%s, %%s)", json.dumps(self.rhs))


class AnyOf(Lookup):
    """``IN`` for thousands of values: PostgreSQL gets whole numbers and texts as one parameter.

    Django and the driver otherwise take several times as long for the statement as the database does.
    """

    lookup_name = "any_of"
    prepare_rhs = False

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        """Return the SQL of ``IN``."""
        return compiler.compile(In(self.lhs, self.rhs))

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        """Return the SQL of PostgreSQL."""
        prepare = self.lhs.output_field.get_db_prep_value
        values = [prepare(value, connection) for value in self.rhs]
        kind = _ARRAYS.get(frozenset(map(type, values)))
        if kind is None:
            return self.as_sql(compiler, connection)
        left, params = self.process_lhs(compiler, connection)
        return f"{left} = ANY(%s::{kind})", (*params, values)


_ARRAYS = {frozenset({int}): "bigint[]", frozenset({str}): "text[]"}
