"""What is wrong with the fields that a rule names, in the models it names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django_signal_audit.enums import MODEL_EVENTS
from django_signal_audit.problems import Problem, did_you_mean, shown
from django_signal_audit.rules.choices import choice_problems
from django_signal_audit.rules.conditions import when_problems

from .parsing import ParsedRule
from .patterns import Field, Model, hand_written_members, key_fields, watchable_fields
from .plans import condition_fields
from .satisfiability import obstacle
from .schema import Rule

# What decides which changes a rule matches.
_DECISIVE = ("model", "events", "fields", "exclude", "when")


def field_problems(parsed: ParsedRule, models: list[Model]) -> list[Problem]:
    """Return what is wrong with ``fields``, ``exclude``, ``mask`` and ``when`` of a rule on these models.

    A field is right if one of the models has it.
    """
    rule, path = parsed.rule, parsed.path
    known = _Known(models)
    problems = []
    for key in ("fields", "exclude", "mask"):
        problems += known.problems(getattr(rule, key), f'{path}["{key}"]')
    problems += _mask_problems(rule, models, path)
    if isinstance(rule.when, Mapping):
        problems += known.problems(rule.when, f'{path}["when"]')
        for fields in known.by_model.values():
            problems += when_problems(rule.when, fields, f'{path}["when"]')
    if isinstance(rule.when, Mapping) and not problems:
        problems += choice_problems(rule.when, list(known.by_model.values()), f'{path}["when"]')
    if problems or not parsed.unread.isdisjoint(_DECISIVE):
        return list(dict.fromkeys(problems))
    return _reach_problems(rule, models, path)


class _Known:
    """The fields of several models by name."""

    def __init__(self, models: list[Model]) -> None:
        self.by_model: dict[Model, dict[str, Field]] = {model: condition_fields(model) for model in models}
        self._fields = {name: field for fields in self.by_model.values() for name, field in fields.items()}
        self._through = {name: found for model in models for name, found in hand_written_members(model).items()}
        self._columns = {field.attname: name for name, field in self._fields.items()}

    def problems(self, names: Iterable[Any], path: str) -> list[Problem]:
        return [self._problem(name, path) for name in names if name not in self._fields]

    def _problem(self, name: Any, path: str) -> Problem:
        if name in self._through:
            label = self._through[name]._meta.label
            hint = f'Add a rule with "model": "{label}": its rows hold the members.'
            return Problem("E018", path, f"names {shown(name)}, which has the through model {label}.", hint)
        near = self._columns.get(name) or self._meant(name)
        hint = f"Did you mean {near!r}?" if near else did_you_mean(name, self._fields)
        return Problem("E010", path, f"names {shown(name)}, which isn't a field of the model.", hint)

    def _meant(self, name: Any) -> str | None:
        """Return the field that a lookup such as ``price__gt`` or a verbose name means, None if it is neither."""
        if not isinstance(name, str):
            return None
        first = name.partition("__")[0].partition(".")[0]
        verbose = {str(field.verbose_name).lower(): found for found, field in self._fields.items()}
        return first if first in self._fields else self._columns.get(first) or verbose.get(name.strip().lower())


def _mask_problems(rule: Rule, models: list[Model], path: str) -> list[Problem]:
    """Return the fields whose values stand in the trail where no mask reaches them."""
    maskable: set[str] = set()
    unmaskable: dict[str, str] = {}
    for model in models:
        keys = {field.name for field in {*key_fields(model), *model._meta.pk_fields}}
        maskable |= set(watchable_fields(model)) - keys
        unmaskable |= {field.name: "the keys of its members are" for field in model._meta.many_to_many}
        unmaskable |= dict.fromkeys(keys, "as part of the object's key it is")
    return [
        Problem(
            "E025",
            f'{path}["mask"]',
            f"names {name!r}, which cannot be masked: {unmaskable[name]} on every event.",
            "Remove it; exclude the field, or leave the model out of the rules.",
        )
        for name in rule.mask
        if name in unmaskable and name not in maskable
    ]


def _reach_problems(rule: Rule, models: list[Model], path: str) -> list[Problem]:
    """Return the events that a rule, otherwise right, can never match in any of its models."""
    asked = tuple(dict.fromkeys(rule.events)) or MODEL_EVENTS
    reasons = {event_type: [obstacle(rule, model, event_type) for model in models] for event_type in asked}
    dead = {event_type: found[0] for event_type, found in reasons.items() if all(found)}
    hint = "Correct the events, the fields or the condition, or remove the rule."
    if len(dead) == len(asked):
        why = "; ".join(dict.fromkeys(dead.values()))
        return [Problem("W001", path, f"can never match: {why}.", hint)]
    if not rule.events:
        return []
    hint = "Remove the event, or correct the fields or the condition."
    return [
        Problem("W001", f'{path}["events"]', f"names {event_type!r}, which can never match: {why}.", hint)
        for event_type, why in dead.items()
    ]
