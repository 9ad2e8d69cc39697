"""What reports ask the database for: names and items in JSON, spans of time, and which signatures events have.

Days, hours and quarters of an hour are numbers, as the database counts by them, and no function of time zones.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Case, Func, IntegerField, JSONField, Lookup, TextField, Value, When
from django.db.models.lookups import In
from django.db.models.sql.compiler import SQLCompiler
from django.utils import timezone

from django_signal_audit.models import AuditEvent
from django_signal_audit.models.events import Signature, utc_now
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


QUARTER, HOUR, DAY = 900, 3600, 86_400
_ONE_DAY = dt.timedelta(days=1)
_EPOCH = dt.date(1970, 1, 1)
# About fifty years, in which a zone has a hundred offsets. Where dates are further apart, some of them are wrong.
MOST_DAYS = 20_000
# In seconds since 1970: the years 1 and 9999, a day within. SQL can write moments that Python doesn't have.
_FIRST, _LAST = -62_135_510_400, 253_402_128_000


@dataclass(frozen=True, slots=True)
class Unit:
    """What events are counted by.

    Attributes:
        seconds: How long it is: ``QUARTER``, ``HOUR`` or ``DAY``. The first two begin with UTC's.
        offsets: The seconds that the current time zone is ahead of UTC, each until a moment; None for the last. Days
            begin with the zone's.

    """

    seconds: int
    offsets: Sequence[tuple[dt.datetime | None, int]] = ()

    @property
    def expression(self) -> Bucket:
        """Return the number of the unit that an event is in, since 1970."""
        if not self.offsets:
            return Bucket(self.seconds, Epoch("recorded_at"))
        *whens, (_end, last) = self.offsets
        cases = [When(recorded_at__lt=end, then=Value(offset)) for end, offset in whens]
        ahead = Case(*cases, default=Value(last), output_field=IntegerField()) if cases else Value(last)
        return Bucket(self.seconds, Epoch("recorded_at"), ahead)

    def moment(self, number: int) -> dt.datetime:
        """Return a moment in the unit of this number, as events have it."""
        seconds = min(max(number * self.seconds, _FIRST), _LAST)
        if self.offsets:
            noon = dt.datetime.combine(_EPOCH + dt.timedelta(seconds=seconds), dt.time(12))
            return timezone.make_aware(noon) if settings.USE_TZ else noon
        start = dt.datetime.fromtimestamp(seconds, dt.UTC)
        return start if settings.USE_TZ else start.replace(tzinfo=None)


def unit_for(using: str, *, is_daily: bool) -> Unit:
    """Return the longest unit that folds exactly into the days or hours of the current time zone.

    Quarters of an hour do in every zone. They need no time zone tables, which MySQL often lacks, and keep apart the
    hour that comes twice when daylight saving time ends.
    """
    offsets = _offsets(using)
    if offsets is None:
        return Unit(QUARTER)
    if is_daily:
        return Unit(DAY, offsets)
    return Unit(QUARTER if any(offset % HOUR for _end, offset in offsets) else HOUR)


def _offsets(using: str) -> list[tuple[dt.datetime | None, int]] | None:
    """Return the offsets of the current time zone while there are events, None if that is too long."""
    if not settings.USE_TZ:
        return [(None, 0)]
    # An index has both ends. Whole rows are read, as these have a moment whatever SQL wrote there.
    events = AuditEvent.of_all_tenants.using(using).only("recorded_at")
    oldest, newest = events.order_by("recorded_at", "id").first(), events.order_by("-recorded_at", "-id").first()
    if oldest is None or newest is None:
        return [(None, 0)]
    first, last = oldest.recorded_at, newest.recorded_at
    try:
        last = max(last, utc_now()) + 2 * _ONE_DAY
        return _offsets_between(first - _ONE_DAY, last) if last - first < MOST_DAYS * _ONE_DAY else None
    except OverflowError:
        return None


def _offsets_between(moment: dt.datetime, end: dt.datetime) -> list[tuple[dt.datetime | None, int]]:
    found: list[tuple[dt.datetime | None, int]] = []
    offset = _offset(moment)
    while moment < end:
        following = moment + _ONE_DAY
        if (ahead := _offset(following)) != offset:
            found.append((_change(moment, following), offset))
            offset = ahead
        moment = following
    return [*found, (None, offset)]


def _change(before: dt.datetime, after: dt.datetime) -> dt.datetime:
    """Return the first second with another offset: there is one change between two moments at most."""
    offset, low, high = _offset(before), int(before.timestamp()), int(after.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset(_at(middle)) == offset else (low, middle)
    return _at(high)


def _at(second: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(second, dt.UTC)


def _offset(moment: dt.datetime) -> int:
    ahead: Any = timezone.localtime(moment).utcoffset()
    return int(ahead.total_seconds())


# From one number to the next greater one: one look into the index for each signature. DISTINCT reads all of it.
_RECURSIVE = """
WITH RECURSIVE known (signature) AS (
    SELECT MIN(signature) FROM {table}
    UNION ALL
    SELECT (SELECT MIN(event.signature) FROM {table} event WHERE event.signature > known.signature)
    FROM known WHERE known.signature IS NOT NULL
)
SELECT (
    SELECT event.id FROM {table} event WHERE event.signature >= known.signature
    ORDER BY event.signature, event.recorded_at, event.id LIMIT 1
)
FROM known WHERE known.signature IS NOT NULL
"""
# MariaDB does so by itself for a GROUP BY, and looks a number up in the index only where the number is told.
_MARIADB = """
SELECT (
    SELECT event.id FROM {table} event WHERE event.signature = known.signature
    ORDER BY event.recorded_at, event.id LIMIT 1
)
FROM (SELECT signature FROM {table} GROUP BY signature) known
"""


def known_signatures(using: str) -> dict[int, Signature]:
    """Return the signatures of the events there are, by number."""
    connection = connections[using]
    table = connection.ops.quote_name(AuditEvent._meta.db_table)
    sql = _MARIADB if connection.vendor == "mysql" else _RECURSIVE
    with connection.cursor() as cursor:
        cursor.execute(sql.format(table=table))
        samples = [row[0] for row in cursor.fetchall()]
    rows = AuditEvent.of_all_tenants.using(using).filter(pk__in=samples).order_by()
    return {
        number: Signature(event_type, level, model, _names(rules))
        for number, event_type, level, model, rules in rows.values_list("signature", *Signature._fields)
    }


def _names(rules: object) -> tuple[str, ...]:
    """Return the names of rules: SQL can store any JSON."""
    return tuple(name for name in rules if isinstance(name, str)) if isinstance(rules, list) else ()
