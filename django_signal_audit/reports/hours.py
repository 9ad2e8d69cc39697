"""Days, hours and quarters of an hour as the database counts by them: numbers, and not a function of time zones."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db.models import Case, IntegerField, Value, When
from django.utils import timezone

from django_signal_audit.models import AuditEvent
from django_signal_audit.models.events import utc_now

from .functions import Bucket, Epoch

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
