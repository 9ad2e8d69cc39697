"""Filters that are typed into: an actor, a period."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

from django.contrib.admin import ListFilter, ModelAdmin
from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from django_signal_audit.events.values import clean_text
from django_signal_audit.models import AuditEventQuerySet
from django_signal_audit.models.events import utc_now
from django_signal_audit.reports.arguments import parse_moment
from django_signal_audit.reports.base import WrongArgument

from .keyset import TimeRange


class InputFilter(ListFilter):
    """A small GET form that keeps all other parameters of the page."""

    parameters: tuple[str, ...]
    # Themes of the admin look filters up by this name, which Django's own filters have.
    parameter_name: str

    def __init__(
        self, request: HttpRequest, params: dict[str, list[str]], model: type[Model], model_admin: ModelAdmin[Any]
    ) -> None:
        super().__init__(request, params, model, model_admin)
        for name in self.parameters:
            if name in params:
                self.used_parameters[name] = params.pop(name)[-1].strip()

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return all: the list reads the part of an index that is asked for (``listing.py``)."""
        return queryset

    def has_output(self) -> bool:
        """Show the form always."""
        return True

    def expected_parameters(self) -> list[str | None]:
        """Return the names of the form's own parameters."""
        return list(self.parameters)

    def value(self, name: str) -> str:
        """Return what was typed in, ``""`` for nothing."""
        return str(self.used_parameters.get(name, ""))

    def hidden(self) -> list[tuple[str, str]]:
        """Return the other parameters of the page, to be sent along; the page number is not one of them."""
        skipped = {*self.parameters, PAGE_VAR}
        return [(name, value) for name, values in self.request.GET.lists() if name not in skipped for value in values]


class ActorFilter(InputFilter):
    """Narrows by an actor's primary key or exact name.

    ``actor`` is a primary key if any event has it as such, and a name otherwise: somebody may have the primary key of
    somebody else for a name. ``actor_name`` is always a name.
    """

    title = _("actor")
    template = "django_signal_audit/admin/filter_actor.html"
    parameters = ("actor", "actor_name")
    parameter_name = "actor"

    def choices(self, changelist: ChangeList) -> Iterator[dict[str, Any]]:
        """Yield the one thing the template shows."""
        value = self.value("actor") or self.value("actor_name")
        yield {"value": value, "clear": changelist.get_query_string(remove=["actor"])}

    def condition(self, events: AuditEventQuerySet) -> tuple[str, str] | None:
        """Return the column and the value that the actor's events have, None for all events."""
        actor, name = clean_text(self.value("actor")), clean_text(self.value("actor_name"))
        if not actor:
            return ("actor_repr", name) if name else None
        is_key = events.filter(actor_id=actor).order_by().values("pk")[:1].exists()
        return ("actor_id" if is_key else "actor_repr", actor)


class PeriodFilter(InputFilter):
    """Narrows by time: one of the usual spans, or from one day to another, both included."""

    title = _("time")
    template = "django_signal_audit/admin/filter_period.html"
    parameters = ("since", "until")
    parameter_name = "since"
    presets = (
        ("", _("Any time")),
        ("1h", _("Past hour")),
        ("24h", _("Past 24 hours")),
        ("7d", _("Past 7 days")),
        ("30d", _("Past 30 days")),
    )

    def choices(self, changelist: ChangeList) -> Iterator[dict[str, Any]]:
        """Yield the usual spans."""
        for since, label in self.presets:
            new = {"since": since} if since else {}
            yield {
                "selected": self.value("since") == since and not self.value("until"),
                "query_string": changelist.get_query_string(new, remove=["since", "until"]),
                "display": label,
            }

    def time_range(self) -> TimeRange | None:
        """Return the period; None if what was typed in means none."""
        try:
            return TimeRange.of(*self._moments())
        except WrongArgument:
            return None

    @property
    def days(self) -> dict[str, str]:
        """Return what stands in the two date inputs, which take nothing but a date."""
        return {name: self.value(name) if _is_date(self.value(name)) else "" for name in self.parameters}

    @property
    def error(self) -> str:
        """Return what is wrong with what was typed in, ``""`` for nothing."""
        try:
            self._moments()
        except WrongArgument as wrong:
            return str(wrong)
        return ""

    def _moments(self) -> tuple[dt.datetime | None, dt.datetime | None]:
        now = utc_now()
        since, until = self.value("since"), self.value("until")
        return (
            parse_moment(since, now) if since else None,
            parse_moment(_day_after(until), now) if until else None,
        )


def _is_date(text: str) -> bool:
    try:
        return dt.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _day_after(text: str) -> str:
    """Return the day after a date, so that the date itself is included; any other text as it is."""
    try:
        return (dt.date.fromisoformat(text) + dt.timedelta(days=1)).isoformat()
    except (ValueError, OverflowError):
        return text
