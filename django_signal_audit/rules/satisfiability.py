"""Reach: which changes of a model a rule can ever match, and why it cannot match the others."""

from __future__ import annotations

from collections.abc import Mapping

from django_signal_audit.enums import MODEL_EVENTS, EventType
from django_signal_audit.rules.conditions import can_hold

from .patterns import Model, watchable_fields, watchable_members
from .plans import condition_fields, watched_names
from .schema import Rule


def obstacle(rule: Rule, model: Model, event_type: str) -> str:
    """Return why a rule on a model, without mistakes, matches no event of this type; ``""`` if it may."""
    if event_type not in (rule.events or MODEL_EVENTS):
        return f"it asks for {', '.join(rule.events)} only"
    return _fields_obstacle(rule, model, event_type) or _condition_obstacle(rule, model, event_type)


def _fields_obstacle(rule: Rule, model: Model, event_type: str) -> str:
    names = watched_names(rule, model)
    if rule.fields and not names:
        return f"{model._meta.label} has none of its fields that can change"
    if event_type == EventType.UPDATE and names.isdisjoint(watchable_fields(model)):
        return f"it audits no column of {model._meta.label}"
    if event_type == EventType.M2M and names.isdisjoint(watchable_members(model)):
        return f"it audits no many-to-many field of {model._meta.label}"
    return ""


def _condition_obstacle(rule: Rule, model: Model, event_type: str) -> str:
    if not isinstance(rule.when, Mapping):
        return ""
    fields = condition_fields(model)
    for name, spec in rule.when.items():
        if name not in fields:
            return f'its condition asks for "{name}", which {model._meta.label} has not'
        if not can_hold(spec, fields[name], event_type):
            return f'its condition on "{name}" cannot hold on {event_type}'
    return ""
