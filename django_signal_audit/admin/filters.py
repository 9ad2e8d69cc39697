"""Filters whose choices come from the settings: asking the table for them would mean reading it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from typing import Any

from django.apps import apps
from django.contrib.admin import ModelAdmin, SimpleListFilter
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from django_signal_audit.conf import get_settings
from django_signal_audit.enums import MODEL_EVENTS, EventType, Level
from django_signal_audit.events.values import clean_text
from django_signal_audit.models import Notification
from django_signal_audit.models.events import Signature
from django_signal_audit.rules.registry import get_registry
from django_signal_audit.rules.schema import Rule

from .access import Access, access_of


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


class KindFilter(ChoiceFilter):
    """Narrows events by what those of one signature have in common; the list looks the signatures up itself."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return all: the list takes the events of the signatures that are admitted."""
        return queryset

    def admits(self, signature: Signature) -> bool:
        """Return whether events of this signature have the value in force."""
        return bool(getattr(signature, str(self.parameter_name)) == clean_text(self.value() or ""))


class EventTypeFilter(KindFilter):
    """Narrows by the types of event the rules ask for."""

    title = _("event")
    parameter_name = "event_type"

    def known(self) -> dict[str, Any]:
        """Return the types with their labels."""
        return {name: EventType.label_of(name) for rule in _rules(self.access) for name in _events(rule)}


def _rules(access: Access) -> list[Rule]:
    """Return the rules of which the user may see any events: the name of another one would say what there is."""
    registry = get_registry()
    seen: dict[str, bool] = {}
    for plan in registry.plans.values():
        for rule in plan.rules:
            seen[rule.name] = seen.get(rule.name, False) or access.may_view(plan.label)
    return [rule for rule in registry.rules if seen.get(rule.name, True)]


def _events(rule: Rule) -> tuple[str, ...]:
    named = (*rule.events, *filter(None, (rule.event,)))
    return named or MODEL_EVENTS


class ModelFilter(KindFilter):
    """Narrows by the models the rules name, as far as the user may see them."""

    title = _("model")
    parameter_name = "model"

    def known(self) -> dict[str, Any]:
        """Return the models by name, two of one name with their apps'."""
        plans = [plan for plan in get_registry().plans.values() if self.access.may_view(plan.label)]
        names = {plan.label: capfirst(str(plan.model._meta.verbose_name)) for plan in plans}
        twins = Counter(names.values())
        labels = {label: name if twins[name] == 1 else f"{name} ({_app(label)})" for label, name in names.items()}
        return dict(sorted(labels.items(), key=lambda item: item[1]))


def _app(label: str) -> str:
    return str(apps.get_app_config(label.partition(".")[0]).verbose_name)


class RuleFilter(KindFilter):
    """Narrows events by a rule that matched."""

    title = _("rule")
    parameter_name = "rule"

    def known(self) -> dict[str, Any]:
        """Return the names of the rules."""
        return {rule.name: rule.name for rule in _rules(self.access)}

    def admits(self, signature: Signature) -> bool:
        """Return whether this rule matched events of this signature."""
        return clean_text(self.value() or "") in signature.rules


class LevelFilter(KindFilter):
    """Narrows by level."""

    title = _("level")
    parameter_name = "level"

    def known(self) -> dict[str, Any]:
        """Return the levels."""
        return dict(Level.choices)


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
        return {rule.name: rule.name for rule in _rules(self.access) if rule.notify}
