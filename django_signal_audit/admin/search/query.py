"""What is asked of the list of events: the search bar, the selects and links, all of it in the address.

In the search bar stand filters such as ``actor:bruno``, and free text.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

from django.http import QueryDict
from django.utils.translation import gettext as _

from django_signal_audit.admin.keyset import TimeRange
from django_signal_audit.events.values import clean_text
from django_signal_audit.models.events import utc_now
from django_signal_audit.reports.arguments import parse_moment
from django_signal_audit.reports.base import WrongArgument

FILTERS = (
    "actor", "object", "model", "field", "event", "rule", "level", "reason", "request", "tenant", "after", "before",
)  # fmt: skip
# Nobody types more; what is longer was pasted by mistake.
MAX_LENGTH = 2000
# A name and a colon, then a text in quotes (the last one may be missing), or anything up to a space.
_TERM = re.compile(r'(?:([^\W\d_]+):)?(?:"([^"]*)"?|(\S*))')


@dataclass(slots=True)
class Parsed:
    """A search that was typed in.

    Attributes:
        terms: The names of filters with their values.
        text: What is no filter.
        error: What is wrong with it; nothing is searched then.

    """

    terms: list[tuple[str, str]] = field(default_factory=list)
    text: str = ""
    error: str = ""


def parse(typed: str, filters: Sequence[str] = FILTERS) -> Parsed:
    """Return what was typed in, taken apart; ``filters`` are the names that may stand before a colon."""
    found, words = Parsed(), []
    if len(typed) > MAX_LENGTH:
        found.error = _("The search is too long: %(most)s characters are the limit.") % {"most": MAX_LENGTH}
        return found
    for match in _TERM.finditer(clean_text(typed.strip())):
        name, quoted, plain = match.groups()
        value = (plain if quoted is None else quoted).strip()
        if name is None:
            words.append(value)
        elif name.lower() not in filters:
            found.error = found.error or _unknown(name, filters)
        elif not value:
            found.error = found.error or _("“%(name)s:” needs a value, such as %(name)s:bruno.") % {"name": name}
        else:
            found.terms.append((name.lower(), value))
    found.text = " ".join(filter(None, words))
    return found


def _unknown(name: str, filters: Sequence[str]) -> str:
    text = _("“%(name)s:” isn't a search filter. Use %(filters)s. To search for text with a colon, quote it.")
    return text % {"name": name, "filters": ", ".join(f"{one}:" for one in filters)}


# The parameters of an address, by the filter that may be typed in place of them.
PARAMETERS = {"event": "event_type", "after": "since", "before": "until"}
# How the free text is to be read, where somebody chose that.
READ_AS = "as"
# What the form says of the time: one of the spans, or RANGE, for which two dates are typed in.
TIME, RANGE = "time", "range"
NAMES = ("actor", "actor_name", "object", "model", "field", "event", "rule", "level", "reason", "request", "tenant")
DATES = ("after", "before")
# Each is looked up by itself, and the page has a chip for it with an address of its own.
MOST_FILTERS = 30
DECLARED = {*(PARAMETERS.get(name, name) for name in (*NAMES, *DATES)), "q", "p", READ_AS, TIME}

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for.

    Attributes:
        pairs: Filters and their values; an event has to fulfil all.
        text: Free text.
        read_as: How the free text is read, ``""`` for the first reading that finds something.
        typed: What stands in the search bar.
        error: What is wrong with all that; nothing is searched then.

    """

    pairs: tuple[Pair, ...] = ()
    text: str = ""
    read_as: str = ""
    typed: str = ""
    error: str = ""

    def values(self, name: str) -> list[str]:
        """Return the values of a filter."""
        return [value for one, value in self.pairs if one == name]

    def value(self, name: str) -> str:
        """Return the last value of a filter, ``""`` if it has none."""
        return next(reversed(self.values(name)), "")

    def without(self, *pairs: Pair) -> Query:
        """Return the query without some of its filters."""
        return replace(self, pairs=tuple(one for one in self.pairs if one not in pairs))

    def read(self, reading: str) -> Query:
        """Return the query with its free text read in another way."""
        return replace(self, read_as=reading)

    def parameters(self) -> list[Pair]:
        """Return the parameters of the address."""
        found = [(PARAMETERS.get(name, name), value) for name, value in self.pairs]
        text = self.typed if self.error else self.text
        found += [("q", text)] if text else []
        return found + ([(READ_AS, self.read_as)] if self.read_as and self.text else [])

    def address(self, **more: str) -> str:
        """Return the query part of the address, ``?`` at least; with more parameters, if they have values."""
        return f"?{urlencode([*self.parameters(), *((name, value) for name, value in more.items() if value)])}"

    def time_range(self) -> TimeRange:
        """Return the period.

        Raises:
            WrongArgument: A date is none.

        """
        now = utc_now()
        since = [parse_moment(value, now) for value in self.values("after")]
        until = [parse_moment(_day_after(value), now) for value in self.values("before")]
        return TimeRange.of(max(since, default=None), min(until, default=None))


def query_of(parameters: QueryDict) -> Query:
    """Return what an address asks for."""
    typed = clean_text(parameters.get("q", "").strip())
    parsed = parse(typed)
    named = [*_chosen(parameters), *parsed.terms]
    dates = dict(pair for pair in named if pair[0] in DATES)
    pairs = dict.fromkeys((*(pair for pair in named if pair[0] not in DATES), *dates.items()))
    found = Query(
        pairs=tuple(pairs),
        text=parsed.text,
        read_as=parameters.get(READ_AS, ""),
        typed=typed,
        error=parsed.error,
    )
    if len(found.pairs) > MOST_FILTERS:
        text = _("Use at most %(count)d filters.") % {"count": MOST_FILTERS}
        return replace(found, pairs=found.pairs[:MOST_FILTERS], error=text)
    try:
        found.time_range()
    except WrongArgument as wrong:
        return replace(found, error=found.error or str(wrong))
    return found


def _chosen(parameters: QueryDict) -> Iterator[Pair]:
    for name in NAMES:
        for value in parameters.getlist(PARAMETERS.get(name, name)):
            text = clean_text(value.strip())[:MAX_LENGTH]
            if text:
                yield name, text
    yield from _times(parameters)


def _times(parameters: QueryDict) -> Iterator[Pair]:
    """Yield the two ends of the period: the form has a choice of spans beside them."""
    span = parameters.get(TIME)
    if span is not None and span != RANGE:
        yield from [("after", clean_text(span)[:MAX_LENGTH])] if span else []
        return
    for name in DATES:
        text = clean_text(parameters.get(PARAMETERS[name], "").strip())[:MAX_LENGTH]
        if text:
            yield name, text


def _day_after(text: str) -> str:
    """Return the day after a date, so that the date itself is included; any other text as it is."""
    try:
        return (dt.date.fromisoformat(text) + dt.timedelta(days=1)).isoformat()
    except (ValueError, OverflowError):
        return text
