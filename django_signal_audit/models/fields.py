"""Moments that are stored in UTC, whatever time zone the project or the database connection has."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any, TypeAlias

from django.conf import settings
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

# What attributes hold: the class below has no type parameters.
Moment: TypeAlias = "models.DateTimeField[dt.datetime, dt.datetime]"
OptionalMoment: TypeAlias = "models.DateTimeField[dt.datetime | None, dt.datetime | None]"

_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001  # naive, in UTC


def in_project_time(moment: dt.datetime) -> dt.datetime:
    """Return a moment of ``utc_now`` as ``timezone.now()`` would return it, for columns that Django itself fills."""
    return moment if settings.USE_TZ else timezone.make_naive(moment.replace(tzinfo=dt.UTC))


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
        """Have PostgreSQL return seconds where the driver would return naive times of an ambiguous hour."""
        # A subquery's column is compared with others as it is.
        if settings.USE_TZ or compiler.connection.vendor != "postgresql" or compiler.query.subquery:
            return sql, params
        return f"EXTRACT(EPOCH FROM {sql})", params

    def from_db_value(self, value: Any, _expression: Any, connection: BaseDatabaseWrapper) -> Any:
        """Return the moment in UTC."""
        if isinstance(value, Decimal):
            return _EPOCH + dt.timedelta(microseconds=int(value * 1_000_000))
        if value is None or value.tzinfo is dt.UTC:
            return value
        if connection.vendor != "postgresql":
            # The backend has added the zone of the connection, if any.
            return value.replace(tzinfo=dt.UTC if settings.USE_TZ else None)
        if settings.USE_TZ:
            return value.astimezone(dt.UTC)
        # Raw queries: the time is in the zone of the session, and "fold" tells the two hours apart if the driver did.
        return timezone.make_naive(timezone.make_aware(value, timezone.get_default_timezone()), dt.UTC)
