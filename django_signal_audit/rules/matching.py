"""Matching: which rules match a change, and what they record and notify."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field

from django_signal_audit.context.scopes import current_context
from django_signal_audit.enums import EventType, Level, Source
from django_signal_audit.events.changes import Change
from django_signal_audit.events.project_code import own_queries
from django_signal_audit.events.values import safe_str

from .conditions import AllOf
from .plans import CompiledRule, ModelPlan
from .registry import get_registry
from .schema import NotifyEntry, Rule

logger = logging.getLogger("django_signal_audit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The rules that match a change, the fields they record, and whom they notify."""

    rules: tuple[Rule, ...]
    names: frozenset[str]
    level: str
    notify: tuple[tuple[Rule, NotifyEntry], ...]
    plan: ModelPlan | None = None
    # The names of the fields whose values the event keeps beside its changes.
    include: tuple[str, ...] = ()
    rule_names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Note the names of the rules, which every event has."""
        object.__setattr__(self, "rule_names", tuple(rule.name for rule in self.rules))


def match_change(change: Change) -> Match | None:
    """Return the rules that match a change, None if none does.

    Custom events are recorded even if no rule matches, because ``record`` was called.
    """
    registry = get_registry()
    registry.log_mistakes()
    if change.is_model_event or change.source == Source.BASELINE:
        plan = registry.plan_for(change.model) if change.model else None
        if plan is None:
            return None
        return match_baseline(plan) if change.source == Source.BASELINE else _match_row(change, plan)
    if change.event_type == EventType.VIEW and change.model is not None:
        plan = registry.plan_for(change.model)
        return None if plan is None else _combine(plan.by_event[EventType.VIEW], change, plan)
    candidates = registry.event_rules.get(change.event_type, ())
    if change.event_type == EventType.REQUEST:
        candidates = tuple(item for item in candidates if _wants_request(item.rule, change))
    return _combine(candidates, change, None)


def _match_row(change: Change, plan: ModelPlan) -> Match | None:
    key = (change.event_type, change.touched)
    if change.event_type not in plan.conditional and key in plan.matches:
        found: Match | None = plan.matches[key]
        return found
    candidates = tuple(item for item in plan.by_event[change.event_type] if _is_triggered(item, change, key[1]))
    match = _combine(candidates, change, plan) if candidates else None
    if change.event_type not in plan.conditional:
        plan.matches[key] = match
    return match


def match_baseline(plan: ModelPlan) -> Match | None:
    """Return the match of a baseline: the fields of the rules without a condition. It notifies nobody."""
    if not plan.unconditional:
        return None
    return Match(
        rules=tuple(item.rule for item in plan.unconditional),
        names=frozenset().union(*(item.names for item in plan.unconditional)),
        level=Level.INFO.value,
        notify=(),
        plan=plan,
    )


def _is_triggered(item: CompiledRule, change: Change, touched: frozenset[str]) -> bool:
    # Creating and deleting concern the row as a whole, also for a rule whose fields it has none of.
    if change.event_type in (EventType.CREATE, EventType.DELETE):
        return True
    return not item.names.isdisjoint(touched)


def _wants_request(rule: Rule, change: Change) -> bool:
    request = current_context().request
    # The path of the event has stars for its secrets.
    path = str(change.data.get("path", "")) if request is None else request.path
    method = str(change.data.get("method", ""))
    if rule.methods and method.upper() not in {wanted.upper() for wanted in rule.methods}:
        return False
    return not rule.paths or any(fnmatch.fnmatchcase(path, pattern) for pattern in rule.paths)


def _combine(candidates: tuple[CompiledRule, ...], change: Change, plan: ModelPlan | None) -> Match | None:
    matching: list[CompiledRule] = []
    notifying: list[CompiledRule] = []
    for item in candidates:
        holds = _holds(item, change)
        if holds is not False:
            matching.append(item)
        if holds:
            notifying.append(item)
    if not matching and change.source != Source.MANUAL:
        return None
    return Match(
        rules=tuple(item.rule for item in matching),
        names=frozenset().union(*(item.names for item in matching)),
        level=Level.highest([change.level, *(item.rule.level for item in matching)]),
        notify=tuple((item.rule, entry) for item in notifying for entry in item.notify),
        plan=plan,
        include=_included(matching, plan),
    )


def _included(matching: Iterable[CompiledRule], plan: ModelPlan | None) -> tuple[str, ...]:
    """Return the fields that the rules include, in the order of the model."""
    named = {name for item in matching for name in item.rule.include}
    return tuple(name for name in plan.all_fields if name in named) if plan is not None and named else ()


def _holds(item: CompiledRule, change: Change) -> bool | None:
    """Return whether the condition holds; None if it raised: then the event is recorded and nobody is told."""
    if item.condition is None:
        return True
    try:
        # Operators ask the database nothing; what a project's function does is its own affair.
        with nullcontext() if isinstance(item.condition, AllOf) else own_queries(change.using):
            return bool(item.condition(change))
    except Exception:
        subject = f"{change.model._meta.label if change.model else change.event_type} {safe_str(change.pk)}"
        logger.exception('The condition of rule "%s" raised for %s; the rule does not notify.', item.rule.name, subject)
        return None
