"""Which models a command that goes through tables is to go through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from django.core.management.base import CommandError
from django.db import router

from django_signal_audit.problems import did_you_mean, nearest
from django_signal_audit.reports.arguments import check_database
from django_signal_audit.reports.base import WrongArgument
from django_signal_audit.rules.labels import meant_label
from django_signal_audit.rules.patterns import find_model, is_wildcard, matching
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.rules.registry import get_registry

T = TypeVar("T")

# What ends a command that was asked for something that means nothing; 1 says something else.
WRONG = 2
# How alike a label is that is taken for a misspelling rather than for another name of a model.
NEAR = 0.8


def select_plans(patterns: Sequence[str], using: str) -> list[ModelPlan]:
    """Return the plans of the models that the patterns mean; without any, of all whose rows may be on the database.

    Raises:
        CommandError: A pattern or the database means nothing, or no rule names the model.

    """
    try:
        check_database(using)
    except WrongArgument as error:
        raise CommandError(str(error), returncode=WRONG) from error
    registry = get_registry()
    if not patterns:
        return [plan for model, plan in registry.plans.items() if router.allow_migrate_model(using, model)]
    found: dict[ModelPlan, None] = {}
    for pattern in patterns:
        plans = [plan for model in matching(pattern) if (plan := registry.plan_for(model))]
        if not plans:
            raise CommandError(_why_none(pattern, registry.plans), returncode=WRONG)
        found |= dict.fromkeys(plans)
    return list(found)


def _why_none(pattern: str, plans: dict[type, ModelPlan]) -> str:
    known = [plan.label for plan in plans.values()]
    if is_wildcard(pattern) or find_model(pattern) is None:
        hint = "" if nearest(pattern, known, NEAR) else meant_label(pattern, plans)
        hint = hint or did_you_mean(pattern, known, "Write app_label.Model or app.*")
        return f"{pattern!r} matches no audited model. {hint}"
    return f"No rule names {pattern}, so it isn't audited. {did_you_mean(pattern, known)}"
