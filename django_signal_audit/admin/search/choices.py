"""What the selects of the search offer. It comes from the settings: asking the table would mean reading it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from django.apps import apps
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from django_signal_audit.admin.access import Access
from django_signal_audit.enums import MODEL_EVENTS, EventType, Level
from django_signal_audit.models import AuditEvent
from django_signal_audit.reports.display import label_of
from django_signal_audit.rules.registry import get_registry
from django_signal_audit.rules.schema import Rule

SPANS = {"1h": _("Last hour"), "24h": _("Last 24 hours"), "7d": _("Last 7 days"), "30d": _("Last 30 days")}
# What this package records by itself, whatever the rules.
OWN_EVENTS = ("events_pruned", "auditing_suspended", "auditing_resumed", "events_exported")
# How people say what happened.
SYNONYMS = {"created": "create", "changed": "update", "updated": "update", "deleted": "delete"}


def rules_of(access: Access) -> list[Rule]:
    """Return the rules of which the user may see any events: the name of another one would say what there is."""
    registry = get_registry()
    seen: dict[str, bool] = {}
    for plan in registry.plans.values():
        for rule in plan.rules:
            seen[rule.name] = seen.get(rule.name, False) or access.may_view(plan.label)
    return [rule for rule in registry.rules if seen.get(rule.name, True)]


def models_of(access: Access) -> dict[str, str]:
    """Return the audited models that the user may see by label, two of one name with their apps'."""
    plans = [plan for plan in get_registry().plans.values() if access.may_view(plan.label)]
    names = {plan.label: capfirst(str(plan.model._meta.verbose_name)) for plan in plans}
    twins = Counter(names.values())
    labels = {label: name if twins[name] == 1 else f"{name} ({_app(label)})" for label, name in names.items()}
    return dict(sorted(labels.items(), key=lambda item: item[1]))


def _app(label: str) -> str:
    return str(apps.get_app_config(label.partition(".")[0]).verbose_name)


def events_of(access: Access) -> dict[str, str]:
    """Return the types of event that the rules ask for, and those of this package, with their labels."""
    names = [name for rule in rules_of(access) for name in _events(rule)]
    return {name: EventType.label_of(name) for name in (*names, *OWN_EVENTS)}


def _events(rule: Rule) -> Iterable[str]:
    return (*rule.events, *filter(None, (rule.event,))) or MODEL_EVENTS


def fields_of(access: Access, labels: Iterable[str]) -> dict[str, str]:
    """Return the audited fields of some models that the user may see, with their labels."""
    plans = {plan.label: plan for plan in get_registry().plans.values()}
    found: dict[str, str] = {}
    for label in labels:
        for name in plans[label].fields if label in plans else ():
            if access.may_view(label) and access.shows_field(label, name):
                found.setdefault(name, field_label(label, name))
    return dict(sorted(found.items(), key=lambda item: item[1]))


def field_label(label: str, name: str) -> str:
    """Return what a field of a model is called."""
    return label_of(AuditEvent(model=label).field(name), name)


def levels() -> dict[str, str]:
    """Return the levels with their labels."""
    return {value: str(label) for value, label in Level.choices}
