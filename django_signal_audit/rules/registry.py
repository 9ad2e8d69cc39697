"""The rules in force, compiled once and again whenever the settings change."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from functools import cache, cached_property
from weakref import WeakKeyDictionary

from django.apps import apps
from django.core.exceptions import AppRegistryNotReady

from django_signal_audit.conf import get_settings, on_settings_changed
from django_signal_audit.events.secret_fields import ask_rules
from django_signal_audit.models.renames import current_label
from django_signal_audit.problems import Problem

from .parsing import masks, parse_rules, settings_problems
from .patterns import Model, concrete, means, resolve_all
from .plans import CompiledRule, ModelPlan, build_plan, compile_condition, concerns, plan_of_its_day
from .schema import NotifyEntry, Rule
from .validation import exclusion_problems, mask_word_problems, rule_problems

logger = logging.getLogger("django_signal_audit")


class Registry:
    """All rules of the settings: those without a mistake are in force, what is wrong with the others is in problems."""

    are_reported = False

    def __init__(self) -> None:
        raw_rules = get_settings().rules
        self.parsed, problems = parse_rules(raw_rules)
        self.problems: list[Problem] = [*settings_problems(), *exclusion_problems(self.parsed), *problems]
        self.problems += mask_word_problems()
        for item in self.parsed:
            self.problems += rule_problems(item)
        self.rules: tuple[Rule, ...] = tuple(
            item.rule for item in self.parsed if item.rule.enabled and not self.errors_at(item.path)
        )
        self._masks = [(tuple(resolve_all(mask.models)), mask.names) for mask in masks(raw_rules)]
        self._mask_patterns = [(mask.models, mask.names) for mask in masks(raw_rules)]
        self._by_name = {rule.name: rule for rule in self.rules}

    def errors_at(self, path: str) -> list[Problem]:
        """Return the mistakes for which the rule at this path is not in force."""
        return [
            problem
            for problem in self.problems
            if problem.is_error
            # A duplicate name is reported at the second rule, which is still a rule that somebody wanted.
            and problem.code != "E007"
            and (problem.path == path or problem.path.startswith(f"{path}["))
        ]

    def log_mistakes(self) -> None:
        """Log that rules are left out, once, unless the checks have reported it: a server starts without them.

        While the apps are being loaded it is too early: a command is about to run the checks.
        """
        if self.are_reported:
            return
        self.are_reported = True
        mistakes = [problem for problem in self.problems if problem.is_error]
        if mistakes:
            first = f"{mistakes[0].path} {mistakes[0].message}"
            count = f"{len(mistakes)} error{'' if len(mistakes) == 1 else 's'}"
            logger.error("SIGNAL_AUDIT has %s (run manage.py check). The first: %s", count, first)

    def rule(self, name: str) -> Rule | None:
        """Return the rule of that name, None if no rule in force has it."""
        return self._by_name.get(name)

    @cached_property
    def plans(self) -> dict[Model, ModelPlan]:
        """Return the plan of every ruled concrete model."""
        named = [(rule, model) for rule in self.rules for model in resolve_all(rule.models) if concerns(rule, model)]
        plans = {
            model: build_plan(
                model,
                _once((rule, owner) for rule, owner in named if issubclass(model, owner)),
                self.masked(model),
            )
            for model in dict.fromkeys(model for _, model in named)
        }
        return {
            model: replace(
                plan,
                descendants=tuple(
                    other for child, other in plans.items() if child is not model and issubclass(child, model)
                ),
            )
            for model, plan in plans.items()
        }

    def admit(self, model: Model) -> bool:
        """Take in a model that was defined after the rules were read, and return whether they concern it.

        The plans of other models stay as they are, but for those of its parents.
        """
        if model in vars(self).get("senders", ()):
            return True  # the rules were read when it was there
        self._masks += [((model,), names) for patterns, names in self._mask_patterns if means(patterns, model)]
        owners = (model, *model._meta.get_parent_list())
        named = [
            (rule, owner)
            for rule in self.rules
            for owner in owners
            if (owner is model or owner in self.plans) and means(rule.models, owner) and concerns(rule, owner)
        ]
        if model not in self.plans and any(owner is model for _, owner in named):
            plan = build_plan(model, _once(named), self.masked(model))
            for parent in self.plans.keys() & {*owners[1:]}:
                known = self.plans[parent]
                self.plans[parent] = replace(known, descendants=(*known.descendants, plan))
            self.plans[model] = plan
        for name in ("senders", "_plans_by_label"):
            vars(self).pop(name, None)
        return model in self.senders

    def masked(self, model: Model) -> set[str]:
        """Return the names that rules on a model have masked."""
        # A rule that is not in force for a mistake in it still says what nobody may read.
        return {name for owners, names in self._masks if issubclass(model, owners) for name in names}

    def plan_for(self, model: Model) -> ModelPlan | None:
        """Return the plan for rows of a model, a proxy's being its concrete model's; None if no rule names it."""
        plan = self.plans.get(concrete(model))
        if plan is not None or model._meta.apps is apps:
            return plan
        return self.historical_plan(concrete(model))

    def historical_plan(self, model: Model) -> ModelPlan | None:
        """Return the plan of a model as a data migration sees it: what it is called, and the fields of its day."""
        if model not in self._historical:
            plan = self._plans_by_label.get(current_label(model._meta.label_lower))
            self._historical[model] = None if plan is None else plan_of_its_day(plan, model)
        return self._historical[model]

    @cached_property
    def _historical(self) -> WeakKeyDictionary[Model, ModelPlan | None]:
        return WeakKeyDictionary()

    @cached_property
    def _plans_by_label(self) -> dict[str, ModelPlan]:
        return {model._meta.label_lower: plan for model, plan in self.plans.items()}

    @cached_property
    def senders(self) -> dict[Model, tuple[ModelPlan, ...]]:
        """Return, by every class that may send a model signal for a ruled row, the plans of the rows it stands for.

        These are the ruled models, their proxies, and multi-table children without a rule of their own, for which the
        nearest ruled ancestors count.
        """
        found: dict[Model, tuple[ModelPlan, ...]] = {}
        for model in apps.get_models(include_auto_created=True):
            base = concrete(model)
            lineage = [base, *base._meta.get_parent_list()]
            ruled = [parent for parent in lineage if parent in self.plans]
            nearest = [
                parent
                for parent in ruled
                if not any(other is not parent and issubclass(other, parent) for other in ruled)
            ]
            if nearest:
                found[model] = tuple(self.plans[parent] for parent in nearest)
        return found

    @cached_property
    def event_rules(self) -> dict[str, tuple[CompiledRule, ...]]:
        """Return the rules without a model by the event type they ask for, those of custom signals among them."""
        found: dict[str, tuple[CompiledRule, ...]] = {}
        for rule in self.rules:
            if rule.models:
                continue
            compiled = CompiledRule(
                rule=rule,
                events=frozenset({*rule.events, rule.event} - {""}),
                names=frozenset(),
                condition=compile_condition(rule, {}) if isinstance(rule.when, str) else None,
                notify=tuple(map(NotifyEntry.of, rule.notify)),
            )
            for event_type in compiled.events:
                found[event_type] = (*found.get(event_type, ()), compiled)
        return found

    def watches_event(self, event_type: str) -> bool:
        """Return whether any rule without a model asks for events of this type."""
        return event_type in self.event_rules


def _once(pairs: Iterable[tuple[Rule, Model]]) -> list[tuple[Rule, Model]]:
    """Return each rule once, with the most derived of the models it names."""
    best: dict[int, tuple[Rule, Model]] = {}
    for rule, model in pairs:
        # By identity: two rules may have one name, which is a mistake of their names and of nothing else.
        if id(rule) not in best or issubclass(model, best[id(rule)][1]):
            best[id(rule)] = (rule, model)
    return list(best.values())


@cache
def get_registry() -> Registry:
    """Return the registry for the settings in force. All models must be loaded."""
    if not apps.models_ready:
        msg = "The audit rules name models, so they can be read only once all apps are loaded."
        raise AppRegistryNotReady(msg)
    registry = Registry()
    if apps.ready:
        registry.log_mistakes()
    return registry


on_settings_changed(get_registry.cache_clear)
ask_rules(lambda model: get_registry().masked(model))
