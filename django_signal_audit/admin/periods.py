"""The periods of the dashboard, in parts that are drawn as bars."""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from django.utils.formats import date_format

from django_signal_audit.models.events import utc_now
from django_signal_audit.reports.arguments import parse_moment
from django_signal_audit.reports.formatter import local, show_date

# So many bars can be told apart.
MOST_PARTS = 92
_HOUR, _DAY = dt.timedelta(hours=1), dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Part:
    """What one bar is for: an hour, a day, or several days of a long period; ``last`` is its last day."""

    start: dt.datetime
    end: dt.datetime
    last: dt.date | None = None

    @property
    def label(self) -> str:
        """Return what it is called."""
        here = local(self.start)
        if self.last is None:
            return f"{show_date(here)} {date_format(here, 'H:i')}"
        first = here.date()
        return show_date(first) if first == self.last else f"{show_date(first)} \N{EN DASH} {show_date(self.last)}"

    @property
    def brief(self) -> str:
        """Return what it is called where there is little room."""
        return date_format(local(self.start), "H:i" if self.last is None else "MONTH_DAY_FORMAT")

    @property
    def filters(self) -> dict[str, str]:
        """Return the filters of the list of events that show just it."""
        if self.last is not None:
            return {"since": local(self.start).date().isoformat(), "until": self.last.isoformat()}
        return {"since": local(self.start).isoformat(), "until": local(self.end).isoformat()}


@dataclass(frozen=True, slots=True)
class Period:
    """A period in parts that follow each other."""

    parts: tuple[Part, ...]

    @classmethod
    def last_hours(cls, count: int) -> Self:
        """Return this hour and those before it, so many in all."""
        now = utc_now().replace(minute=0, second=0, microsecond=0)
        starts = [now - number * _HOUR for number in reversed(range(count))]
        return cls(tuple(Part(start, start + _HOUR) for start in starts))

    @classmethod
    def last_days(cls, count: int) -> Self:
        """Return today and the days before it, so many in all."""
        today = local(utc_now()).date()
        return cls.of_days(today - (count - 1) * _DAY, today)

    @classmethod
    def of_days(cls, first: dt.date, last: dt.date) -> Self:
        """Return whole days in the current time zone, both ends included; the hours of one or two.

        Raises:
            WrongArgument: No such days are in the calendar.

        """
        count = (last - first).days + 1
        if count <= 2:
            start, end = _midnight(first), _midnight(last + _DAY)
            hours = range(-(-(end - start) // _HOUR))
            return cls(tuple(Part(start + hour * _HOUR, min(start + (hour + 1) * _HOUR, end)) for hour in hours))
        step = -(-count // MOST_PARTS)
        firsts = [first + number * _DAY for number in range(0, count, step)]
        lasts = [min(day + (step - 1) * _DAY, last) for day in firsts]
        return cls(
            tuple(
                Part(_midnight(one), _midnight(other + _DAY), other) for one, other in zip(firsts, lasts, strict=True)
            )
        )

    @property
    def since(self) -> dt.datetime:
        """Return its first moment."""
        return self.parts[0].start

    @property
    def until(self) -> dt.datetime:
        """Return the first moment after it."""
        return self.parts[-1].end

    @property
    def days(self) -> float:
        """Return how long it is."""
        return (self.until - self.since) / _DAY

    @property
    def first_day(self) -> dt.date:
        """Return its first day."""
        return local(self.since).date()

    @property
    def last_day(self) -> dt.date:
        """Return its last day."""
        return local(self.until - dt.timedelta(microseconds=1)).date()

    @property
    def days_until_today(self) -> int:
        """Return how many days it has if each has a part and the last is today, 0 otherwise."""
        are_days = all(part.last is not None and part.filters["since"] == part.filters["until"] for part in self.parts)
        return len(self.parts) if are_days and self.last_day == local(utc_now()).date() else 0

    @property
    def is_hourly(self) -> bool:
        """Return whether its parts are hours."""
        return self.parts[0].last is None

    @property
    def filters(self) -> dict[str, str]:
        """Return the filters of the list of events that show just it."""
        if self.is_hourly:
            return {"since": local(self.since).isoformat(), "until": local(self.until).isoformat()}
        return {"since": self.first_day.isoformat(), "until": self.last_day.isoformat()}

    def places_of(self, moments: Iterable[dt.datetime]) -> list[int]:
        """Return which of its parts each of the moments is in."""
        starts = [part.start for part in self.parts]
        return [bisect_right(starts, moment) - 1 for moment in moments]


def _midnight(day: dt.date) -> dt.datetime:
    return parse_moment(day.isoformat(), utc_now())
