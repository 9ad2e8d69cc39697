"""Filters whose choices come from the settings: asking the table for them would mean reading it."""

from __future__ import annotations

import datetime as dt
from abc import ABC, abstractmethod
from typing import Any

from django.contrib.admin import ModelAdmin, SimpleListFilter
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from django_signal_audit.conf import get_settings
from django_signal_audit.events.values import clean_text
from django_signal_audit.models import Notification, NotificationQuerySet
from django_signal_audit.models.events import utc_now
from django_signal_audit.reports.arguments import parse_moment
from django_signal_audit.reports.base import WrongArgument

from .access import Access, access_of
from .search.choices import SPANS, rules_of

_UNORDERED = 1000


class ChoiceFilter(SimpleListFilter, ABC):
    """Narrows by one of the choices, or by any other value that a link names."""

    @abstractmethod
    def known(self) -> dict[str, Any]:
        """Return the label of each value that the settings offer."""

    access: Access

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, Any]]:
        """Return the choices; a value in force that is none of them is one too, so that it is seen."""
        self.access = access_of(request, model_admin.admin_site)
        choices = self.known()
        value = self.value()
        if value:
            choices.setdefault(value, value)
        return list(choices.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows with the value in force."""
        value = self.value()
        return queryset.filter(**{str(self.parameter_name): clean_text(value)}) if value else queryset


class TimeFilter(ChoiceFilter):
    """Narrows notifications by when they were made."""

    title = _("Time")
    parameter_name = "since"
    error = ""

    def known(self) -> dict[str, Any]:
        """Return the spans."""
        return dict(SPANS)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows since then, none if the value is no time.

        No index has when they were made, but their keys ascend with it.
        """
        value = self.value()
        if not value:
            return queryset
        try:
            since = parse_moment(clean_text(value), utc_now())
        except WrongArgument as wrong:
            self.error = str(wrong)
            return queryset.none()
        rows = Notification.objects.using(queryset.db)
        return queryset.filter(pk__gte=_first_key(rows, since), created__gte=since)


def _first_key(rows: NotificationQuerySet, since: dt.datetime) -> int:
    """Return a key before those of all rows that were made since then: few queries, of one row each."""
    ends = [rows.order_by(order).values_list("pk", flat=True).first() for order in ("pk", "-pk")]
    low, high = (end or 0 for end in ends)
    while low < high:
        middle = (low + high) // 2
        pk, created = rows.filter(pk__gt=middle).order_by("pk").values_list("pk", "created")[0]
        low, high = (pk, high) if created < since else (low, middle)
    # Rows that were made at the same time may have their keys in another order.
    return low - _UNORDERED


class StatusFilter(ChoiceFilter):
    """Narrows notifications by how far they have come."""

    title = _("status")
    parameter_name = "status"

    def known(self) -> dict[str, Any]:
        """Return the states."""
        return {str(value): label for value, label in Notification.STATUS}


class ChannelFilter(ChoiceFilter):
    """Narrows notifications by channel."""

    title = _("channel")
    parameter_name = "channel"

    def known(self) -> dict[str, Any]:
        """Return the aliases of the channels."""
        return {alias: alias for alias in get_settings().channels}


class NotifyingRuleFilter(ChoiceFilter):
    """Narrows notifications by the rule that asked for them."""

    title = _("rule")
    parameter_name = "rule"

    def known(self) -> dict[str, Any]:
        """Return the names of the rules that notify anybody."""
        return {rule.name: rule.name for rule in rules_of(self.access) if rule.notify}
