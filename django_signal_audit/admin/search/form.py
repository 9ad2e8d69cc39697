"""The search as a form: what is chosen, what else there is to choose, and what can be taken away."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from django_signal_audit.conf import get_settings
from django_signal_audit.enums import EventType
from django_signal_audit.models import AuditEvent
from django_signal_audit.reports.display import show_actor
from django_signal_audit.reports.formatter import zone_name

from .choices import SPANS, events_of, field_label, fields_of, levels, models_of, rules_of
from .interpretation import NOBODY, Interpretation
from .query import PARAMETERS, RANGE, TIME, Query

# What may be meant instead, by how the text was read.
INSTEAD = {
    "object-key": ("actor-key", "object"),
    "actor-key": ("object-key", "actor"),
    "actor": ("object",),
    "object": ("actor",),
}


@dataclass(frozen=True, slots=True)
class Select:
    """A select of the form: its options are pairs of value and label."""

    name: str
    label: str
    options: list[tuple[str, str]]
    value: str


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter in force, and the address without it."""

    label: str
    value: str
    remove: str


class SearchForm:
    """What the template of the list shows above the events.

    Args:
        interpretation: What the search means.
        read_as: How its free text was read.
        newest: The first event found, if any.

    """

    def __init__(self, interpretation: Interpretation, read_as: str, newest: AuditEvent | None) -> None:
        self.access = interpretation.access
        self.query: Query = interpretation.query
        self.read_as = read_as
        self.newest = newest

    @property
    def text(self) -> str:
        """Return what stands in the search bar: what is no filter, all of it where that is wrong."""
        return self.query.typed if self.query.error else self.query.text

    @property
    def is_narrowed(self) -> bool:
        """Return whether anything is asked for."""
        return bool(self.query.pairs or self.query.text or self.query.error)

    @property
    def zone(self) -> str:
        """Return the name of the time zone in which times are shown."""
        return zone_name()

    # Selects

    def selects(self) -> Iterator[Select]:
        """Yield the selects."""
        spans = [("", _("Any")), *((name, str(label)) for name, label in SPANS.items()), (RANGE, _("From … to …"))]
        yield Select(TIME, _("Time"), spans, self.span)
        for name, choices in self._choices.items():
            value = self.query.value(name)
            options = {"": _("Any"), **choices}
            options.setdefault(value, value)
            yield Select(PARAMETERS.get(name, name), self._title(name), list(options.items()), value)

    @cached_property
    def _choices(self) -> Mapping[str, Mapping[str, str]]:
        return {
            "event": events_of(self.access),
            "model": models_of(self.access),
            "field": fields_of(self.access, self.query.values("model")),
            "rule": {rule.name: rule.name for rule in rules_of(self.access)},
            "level": levels(),
        }

    @property
    def span(self) -> str:
        """Return which of the spans is chosen."""
        since, until = self.query.value("after"), self.query.value("before")
        if not since and not until:
            return ""
        return since if since in SPANS and not until else RANGE

    def dates(self) -> list[tuple[str, str, str]]:
        """Return name, label and value of the two inputs of a period."""
        is_range = self.span == RANGE
        return [
            (PARAMETERS[name], label, self.query.value(name) if is_range else "")
            for name, label in (("after", _("From")), ("before", _("To")))
        ]

    def hidden(self) -> list[tuple[str, str]]:
        """Return the filters that no select shows, to be sent along."""
        shown = {(name, self.query.value(name)) for name in self._choices}
        pairs = [pair for pair in self.query.pairs if pair not in shown and pair[0] not in ("after", "before")]
        return [(PARAMETERS.get(name, name), value) for name, value in pairs]

    # Chips

    def chips(self) -> list[Chip]:
        """Return the filters in force."""
        times = [pair for pair in self.query.pairs if pair[0] in ("after", "before")]
        found = [Chip(_("Time"), self._period(), self.query.without(*times).address())] if times else []
        return found + [
            Chip(self._title(name), self._shown(name, value), self.query.without((name, value)).address())
            for name, value in self.query.pairs
            if (name, value) not in times
        ]

    def all_time(self) -> str:
        """Return the address without the period, ``""`` where there is none."""
        times = [pair for pair in self.query.pairs if pair[0] in ("after", "before")]
        return self.query.without(*times).address() if times else ""

    def _title(self, name: str) -> str:
        return {
            "actor": pgettext("filter", "Actor"),
            "actor_name": pgettext("filter", "Actor"),
            "object": pgettext("filter", "Object"),
            "model": pgettext("filter", "Model"),
            "field": pgettext("filter", "Field"),
            "event": pgettext("filter", "Event"),
            "rule": pgettext("filter", "Rule"),
            "level": pgettext("filter", "Level"),
            "reason": pgettext("filter", "Reason"),
            "request": pgettext("filter", "Request"),
            "tenant": pgettext("filter", "Tenant"),
        }[name]

    def _shown(self, name: str, value: str) -> str:
        if name == "field":
            label = next(iter(self.query.values("model")), "")
            return field_label(label, value) if label else value
        if name == "event":
            return EventType.label_of(value)
        if name == "actor":
            return self._actor(value)
        return self._choices.get(name, {}).get(value, value)

    def _actor(self, value: str) -> str:
        """Return the name of the actor whose primary key was asked for."""
        if value.lower() == NOBODY:
            return _("no actor")
        is_key = self.newest is not None and self.newest.actor_id == value
        return show_actor(self.newest) if self.newest is not None and is_key else value

    def _period(self) -> str:
        since, until = (_date(self.query.value(name)) for name in ("after", "before"))
        if self.span in SPANS:
            return str(SPANS[self.span])
        if since and until:
            return _("%(since)s to %(until)s") % {"since": since, "until": until}
        return _("from %(since)s") % {"since": since} if since else _("until %(until)s") % {"until": until}

    # How the free text was read

    def note(self) -> str:
        """Return how the free text was read, ``""`` if there was none or nothing was found."""
        notes = {
            "uid": _("Showing the event with this UID."),
            "request": _("Showing the events of one request, task or command."),
            "object-key": _("Showing events of objects with the primary key %(text)s."),
            "actor-key": _("Showing events by the actor with the primary key %(text)s."),
            "actor": _("Showing events by actors whose names begin with “%(text)s”."),
            "object": _("Showing events of objects whose names begin with “%(text)s”."),
        }
        text = notes.get(self.read_as, "") if self.newest is not None else ""
        if self.read_as == "actor" and self.newest and self.newest.actor_repr.casefold() == self.query.text.casefold():
            text = _("Showing events by the actor %(text)s.")
        return text % {"text": self.query.text} if text else ""

    def instead(self) -> list[tuple[str, str]]:
        """Return the addresses and texts of other readings of the free text."""
        texts = {
            "object-key": _("Search objects with the primary key %(text)s instead"),
            "actor-key": _("Search the actor with the primary key %(text)s instead"),
            "actor": _("Search actors named “%(text)s…” instead"),
            "object": _("Search objects named “%(text)s…” instead"),
        }
        return [
            (self.query.read(name).address(), texts[name] % {"text": self.query.text})
            for name in INSTEAD.get(self.read_as, ())
        ]

    def syntax(self) -> list[tuple[list[str], str]]:
        """Return examples of what may be typed in, and what each finds."""
        return [
            (["bruno"], _("start of an actor's or object's name")),
            (["actor:bruno"], _("events by one actor; actor:none for events without one")),
            (["3"], _("primary key of an object or actor")),
            (['object:"Arabica coffee"'], _("one object, by name or primary key")),
            (["field:price"], _("events that changed this field")),
            (["model:product", "event:deleted"], _("by model and event type")),
            (['reason:"Market prices"'], _("start of the reason")),
            (["after:2026-11-01", "before:7d"], _("both days included; or 12h, 7d, 2w ago")),
            (["request:01a21555-4479-741e-a0fb-e52710d98f25"], _("one request or command")),
            (["rule:price-drop", "level:warning"], _("by rule or severity")),
            *([(["tenant:north"], _("one tenant; tenant:none for none"))] if get_settings().tenant else []),
        ]


def _date(text: str) -> str:
    """Return a date in the format of the language, any other text as it is."""
    try:
        return date_format(dt.date.fromisoformat(text), "DATE_FORMAT")
    except ValueError:
        return text
