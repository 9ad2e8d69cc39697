"""Checks of what is masked without having been asked for, so that a project can say whether that is right."""

from __future__ import annotations

from collections.abc import Iterator

from django_signal_audit.events.secret_fields import Reason, has_secret_key, secret_fields
from django_signal_audit.problems import Problem
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.rules.registry import get_registry

_GUESSES = {Reason.GUESS, Reason.ENCRYPTS, Reason.MODEL}


def secret_problems() -> Iterator[Problem]:
    """Warn of fields and primary keys of audited models that are masked by guess."""
    for plan in get_registry().plans.values():
        yield from _guessed_fields(plan)
        yield from _secret_keys(plan)


def _guessed_fields(plan: ModelPlan) -> Iterator[Problem]:
    confirmed = get_registry().masked(plan.model)
    for name, reason in secret_fields(plan.model).items():
        if reason in _GUESSES and name in plan.fields and name not in confirmed:
            yield Problem(
                "W055",
                f"{plan.model._meta.label}.{name}",
                f"is masked {reason.value}.",
                f'To confirm it, add to a rule: "mask": ["{name}"]. To store its values, add "!{name}" to MASK_FIELDS.',
            )


def _secret_keys(plan: ModelPlan) -> Iterator[Problem]:
    if not has_secret_key(plan.model):
        return
    confirmed = get_registry().masked(plan.model)
    for field in plan.model._meta.pk_fields:
        if field.name in secret_fields(plan.model) and field.name not in confirmed:
            yield Problem(
                "W007",
                f"{plan.model._meta.label}.{field.name}",
                "is the primary key and seems to be a secret, so events name the object by a tag.",
                f'Leave the model out of the rules, or confirm it by "mask": ["{field.name}"]. If it is no secret, add '
                f'"!{field.name}" to MASK_FIELDS.',
            )
