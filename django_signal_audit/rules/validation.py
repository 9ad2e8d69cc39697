"""What is wrong with rules in this project: models, events, channels, templates, dotted paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from django.utils.module_loading import import_string

from django_signal_audit.conf import DEFAULT_EXCLUDE_MODELS, DEFAULT_MASK_FIELDS, get_settings, is_unread
from django_signal_audit.enums import AUTH_EVENTS, MODEL_EVENTS, RULE_EVENTS, EventType
from django_signal_audit.events.payloads import hide, leaves, payload
from django_signal_audit.events.secret_fields import secret_fields
from django_signal_audit.plugins import function_problems
from django_signal_audit.problems import Problem, did_you_mean, shown
from django_signal_audit.rules.conditions import WORD_SYNONYMS, WORDS, order_problems, when_problems
from django_signal_audit.rules.durations import retention_problems
from django_signal_audit.rules.event_rules import EVENT_SYNONYMS, event_rule_problems, request_problems, signal_problems
from django_signal_audit.rules.hints import EVERY_FIELD, EVERYTHING, mask_mistake
from django_signal_audit.rules.operands import operand_problems
from django_signal_audit.rules.parsing import ParsedRule
from django_signal_audit.rules.patterns import (
    Field,
    Model,
    auditable_fields,
    auditable_members,
    find_model,
    hand_written_members,
    key_fields,
    matching,
    pattern_problems,
    resolve,
    resolve_all,
)
from django_signal_audit.rules.plans import audited_names, condition_fields, mixture_of, obstacle
from django_signal_audit.rules.schema import Rule
from django_signal_audit.rules.templates import template_problems

# What decides which changes a rule matches.
_DECISIVE = ("model", "events", "fields", "exclude", "when")


def field_problems(parsed: ParsedRule, models: list[Model]) -> list[Problem]:
    """Return what is wrong with ``fields``, ``exclude``, ``mask``, ``personal`` and ``when`` of a rule on these models.

    A field is right if one of the models has it.
    """
    rule, path = parsed.rule, parsed.path
    known = _Known(models)
    problems = []
    for key in ("fields", "exclude", "mask", "personal", "include"):
        problems += known.problems(getattr(rule, key), f'{path}["{key}"]')
    problems += [*_key_problems(rule, models, path), *_include_problems(rule, models, path)]
    if isinstance(rule.when, Mapping):
        problems += known.problems(rule.when, f'{path}["when"]')
        of_values = [
            problem
            for fields in known.by_model.values()
            for problem in when_problems(rule.when, fields, f'{path}["when"]')
        ]
        if not problems and not of_values:
            of_values = operand_problems(rule.when, list(known.by_model.values()), f'{path}["when"]')
        masked = {*rule.mask, *(name for model in models for name in secret_fields(model))}
        problems += _without_values(of_values, _masked_operands(rule.when, masked))
        if not problems:
            problems += [
                problem
                for fields in known.by_model.values()
                for problem in order_problems(rule.when, fields, f'{path}["when"]')
            ]
    if problems or not parsed.unread.isdisjoint(_DECISIVE):
        return list(dict.fromkeys(problems))
    return [*_reach_problems(rule, models, path), *_trigger_problems(rule, models, path)]


def _trigger_problems(rule: Rule, models: list[Model], path: str) -> list[Problem]:
    """Warn of a condition on columns that the rule is not about: it holds only if one of its fields changes too."""
    if not isinstance(rule.when, Mapping) or not rule.when:
        return []
    may_update = [model for model in models if not obstacle(rule, model, EventType.UPDATE.value)]
    asked = set(rule.when)
    if not may_update or any(asked & audited_names(rule, model) for model in may_update):
        return []
    name = next(iter(rule.when))
    hint = f'Remove "{name}" from "exclude".' if name in rule.exclude else f'Add "{name}" to "fields".'
    message = f'asks for "{name}", which isn\'t a field of the rule: it holds only if one of its fields changes too.'
    return [Problem("W013", f'{path}["when"]', message, hint)]


def _masked_operands(when: Mapping[str, object], masked: set[str]) -> list[object]:
    """Return the values in a condition on fields that are masked."""
    return [value for name, spec in when.items() if name in masked for value in leaves(payload(spec))]


def _without_values(problems: Iterable[Problem], values: list[object]) -> list[Problem]:
    return [replace(item, message=hide(item.message, values), hint=hide(item.hint, values)) for item in problems]


class _Known:
    """The fields of several models by name."""

    def __init__(self, models: list[Model]) -> None:
        self.by_model: dict[Model, dict[str, Field]] = {model: condition_fields(model) for model in models}
        self._fields = {name: field for fields in self.by_model.values() for name, field in fields.items()}
        self._through = {name: found for model in models for name, found in hand_written_members(model).items()}
        self._columns = {field.attname: name for name, field in self._fields.items()}

    def problems(self, names: Iterable[object], path: str) -> list[Problem]:
        return [self._problem(name, path) for name in names if name not in self._fields]

    def _problem(self, name: Any, path: str) -> Problem:
        if name in self._through:
            label = self._through[name]._meta.label
            hint = f'Add a rule with "model": "{label}": its rows hold the members.'
            return Problem("E018", path, f"names {shown(name)}, which has the through model {label}.", hint)
        near = self._columns.get(name) or self._meant(name)
        hint = f"Did you mean {near!r}?" if near else self._hint(name, path)
        return Problem("E010", path, f"names {shown(name)}, which isn't a field of the model.", hint)

    def _hint(self, name: object, path: str) -> str:
        if name in EVERYTHING:
            return EVERY_FIELD if path.endswith('["fields"]') else "Name each field."
        if name == "pk":
            return "Remove it: the primary key stands on every event."
        for model in self.by_model:
            generic = [field for field in model._meta.private_fields if isinstance(field.related_model, type)]
            for relation in (*model._meta.related_objects, *generic):
                accessor = getattr(relation, "get_accessor_name", str)()
                if name in (relation.name, accessor):
                    label = relation.related_model._meta.label
                    return f'Add a rule with "model": "{label}", whose rows hold that relation.'
        return did_you_mean(name, self._fields)

    def _meant(self, name: object) -> str | None:
        """Return the field that a lookup such as ``price__gt`` or a verbose name means, None if it is neither."""
        if not isinstance(name, str):
            return None
        first = name.partition("__")[0].partition(".")[0]
        verbose = {str(field.verbose_name).lower(): found for found, field in self._fields.items()}
        last = name.rpartition(".")[2]
        near = first if first in self._fields else last if last in self._fields else None
        return near or self._columns.get(first) or verbose.get(name.strip().lower())


def _key_problems(rule: Rule, models: list[Model], path: str) -> list[Problem]:
    """Return the fields whose values stand in the audit log where neither a mask nor an erasure reaches them."""
    if not rule.mask and not rule.personal:
        return []
    values: set[str] = set()
    keys_of: dict[str, str] = {}
    for model in models:
        keys = {field.name for field in {*key_fields(model), *model._meta.pk_fields}}
        values |= set(auditable_fields(model)) - keys
        keys_of |= {field.name: "the keys of its members are" for field in model._meta.many_to_many}
        keys_of |= dict.fromkeys(keys, "as part of the object's key it is")
    asked = [("E025", "mask", "masked", rule.mask), ("E090", "personal", "erased", rule.personal)]
    return [
        Problem(
            identifier,
            f'{path}["{key}"]',
            f"names {name!r}, which cannot be {what}: {keys_of[name]} on every event.",
            "Remove it; exclude the field, or leave the model out of the rules.",
        )
        for identifier, key, what, names in asked
        for name in names
        if name in keys_of and name not in values
    ]


def _include_problems(rule: Rule, models: list[Model], path: str) -> list[Problem]:
    """Return the fields to include whose values can't stand, or shouldn't, beside the changes of every event."""
    problems, where = [], f'{path}["include"]'
    if not rule.include:
        return []
    columns = {name for model in models for name in auditable_fields(model)}
    members = {name for model in models for name in auditable_members(model)}
    masked = {*rule.mask, *(name for model in models for name in secret_fields(model))}
    for name in dict.fromkeys(rule.include):
        if name in members and name not in columns:
            message = f"names {name!r}, a many-to-many field, which isn't part of the row."
            problems.append(Problem("E081", where, message, "Remove it: its changes are events of their own."))
        elif name not in columns and any(name in condition_fields(model) for model in models):
            message = f"names {name!r}, which every event has as its object."
            problems.append(Problem("E081", where, message, "Remove it."))
        elif name in rule.personal:
            message = f'names {name!r}, which "personal" names too: it would be repeated in every event.'
            problems.append(Problem("E082", where, message, f'Remove "{name}" from "include".'))
        elif name in masked:
            message = f"names {name!r}, which is masked: events keep a tag that nobody can read."
            problems.append(Problem("W080", where, message, "Remove it."))
    return problems


def _reach_problems(rule: Rule, models: list[Model], path: str) -> list[Problem]:
    """Return the events that a rule, otherwise right, can never match in any of its models."""
    asked = tuple(dict.fromkeys(rule.events)) or MODEL_EVENTS
    # The first model that has no obstacle settles it: a pattern may mean hundreds.
    dead = {
        event_type: obstacle(rule, models[0], event_type)
        for event_type in asked
        if all(obstacle(rule, model, event_type) for model in models)
    }
    hint = "Correct the events, the fields or the condition, or remove the rule."
    if len(dead) == len(asked):
        why = _summary(list(dict.fromkeys(dead.values())))
        is_mixed = any(mixture_of(rule, model) for model in models)
        return [Problem("W001", path, f"can never match: {why}.", SPLIT_HINT if is_mixed else hint)]
    if not rule.events:
        if not all(mixture_of(rule, model) for model in models):
            return []
        message = f"holds only for deletions: {mixture_of(rule, models[0])}."
        return [Problem("W001", f'{path}["when"]', message, SPLIT_HINT)]
    hint = "Remove the event, or correct the fields or the condition."
    return [
        Problem("W001", f'{path}["events"]', f"names {event_type!r}, which can never match: {why}.", hint)
        for event_type, why in dead.items()
    ]


def _summary(reasons: list[str]) -> str:
    """Return the reasons as one text; where they differ in the event alone, without it."""
    causes = {reason.rpartition(" on ")[0] or reason for reason in reasons}
    return causes.pop() if len(reasons) == len(MODEL_EVENTS) and len(causes) == 1 else "; ".join(reasons)


SPLIT_HINT = "Make two rules of it: one for the column, one for the many-to-many field."


def rule_problems(parsed: ParsedRule) -> list[Problem]:
    """Return every mistake in what could be read of a rule, warnings among them."""
    rule, path = parsed.rule, parsed.path
    models = resolve_all(rule.models)
    problems = [*_kind_problems(parsed), *_path_problems(rule, path), *_channel_problems(parsed)]
    if rule.window and EventType.VIEW not in rule.events and "events" not in parsed.unread:
        message = 'has no effect without the event "view".'
        problems.append(Problem("W001", f'{path}["window"]', message, "Remove it."))
    problems += [*request_problems(parsed), *template_problems(parsed, models), *retention_problems(rule, path)]
    if rule.models:
        problems += _model_rule_problems(rule, path)
        if rule.models == ("*",) and not models and "*" not in get_settings().exclude_models:
            hint = "Leave out fewer models, or remove the rule."
            problems.append(Problem("W001", path, "audits nothing: EXCLUDE_MODELS leaves out every model.", hint))
    elif parsed.lacks("model"):
        problems += event_rule_problems(rule, path)
    return problems + (field_problems(parsed, models) if models else [])


def _kind_problems(parsed: ParsedRule) -> list[Problem]:
    rule, path = parsed.rule, parsed.path
    problems = []
    if rule.models and rule.signal:
        problems.append(Problem("E020", path, "has both a model and a signal.", "Make two rules of it."))
    if rule.signal and parsed.lacks("event"):
        hint = 'Add "event": the event type it makes.'
        problems.append(Problem("E020", path, "has a signal and no event.", hint))
    if rule.event and parsed.lacks("signal"):
        problems.append(Problem("E020", path, "has an event and no signal.", 'Did you mean "events"?'))
    if parsed.lacks("model", "signal", "event", "events"):
        hint = 'Add "model", or "signal" and "event", or "events".'
        problems.append(Problem("E020", path, "audits nothing.", hint))
    if rule.event in EventType.values:
        hint = "Use a name of your own, such as product_viewed."
        message = f"is {rule.event!r}, which is a built-in event type."
        problems.append(Problem("E011", f'{path}["event"]', message, hint))
    return problems


def _path_problems(rule: Rule, path: str) -> list[Problem]:
    problems = []
    if isinstance(rule.when, str):
        right = "Name a function that takes a change and returns True or False."
        found = list(function_problems("E016", rule.when, f'{path}["when"]', ["change"], hint=right))
        if not found and isinstance(import_string(rule.when), type):
            message = f"names {rule.when!r}, which is a class: what it makes is true of every change."
            found = [Problem("E016", f'{path}["when"]', message, right)]
        hint = _expression_hint(rule) if found else ""
        problems += [replace(problem, hint=hint) if hint else problem for problem in found]
    if rule.signal:
        problems += signal_problems(rule.signal, f'{path}["signal"]')
    return problems


def _expression_hint(rule: Rule) -> str:
    """Return what to write in place of an expression, or of a field alone, as a condition; ``""`` if it is neither."""
    text = str(rule.when).strip()
    if text in WORDS or text in WORD_SYNONYMS:
        return f'Write a dict of field to operator, such as {{"price": "{WORD_SYNONYMS.get(text, text)}"}}.'
    names = [word for word in re.findall(r"[A-Za-z_]\w*", text) if word not in ("old", "new")]
    fields = {name for model in resolve_all(rule.models) for name in condition_fields(model)}
    if names and names[0] in fields and (names == [text] or re.search(r"[^\w.]", text)):
        return f'Write a dict of field to operator, such as {{"{names[0]}": "changed"}}.'
    return ""


def _channel_problems(parsed: ParsedRule) -> list[Problem]:
    channels = get_settings().channels
    problems = []
    for entry, path, unread in parsed.notify:
        if entry.channel not in channels and "channel" not in unread and not is_unread("CHANNELS"):
            hint = _channel_hint(entry.channel, channels)
            message = f"names the channel {entry.channel!r}, which CHANNELS does not have."
            problems.append(Problem("E014", path, message, hint))
        if entry.opt_in and parsed.rule.locked:
            message = "has no effect: the rule is locked, so its users get every message."
            problems.append(Problem("W090", f'{path}["opt_in"]', message, 'Remove it, or "locked" of the rule.'))
    problems += _repeated_entries(parsed)
    if parsed.lacks("notify"):
        problems += [
            Problem("W001", f'{parsed.path}["{key}"]', "has no effect: the rule notifies nobody.", 'Add "notify".')
            for key in ("subject", "message")
            if getattr(parsed.rule, key)
        ]
    return problems


def _repeated_entries(parsed: ParsedRule) -> Iterator[Problem]:
    """Yield entries of whose messages none is written: one event makes one message for each channel and recipient."""
    seen = set()
    for entry, path, unread in parsed.notify:
        if entry.channel not in get_settings().channels or {"channel", "to"} & set(unread):
            continue
        key = (entry.channel, None if entry.to is None else tuple(entry.to))
        if key in seen:
            message = f'names the channel "{entry.channel}" for recipients that an entry before it has.'
            yield Problem("W085", path, message, "Remove one of the two, or name other recipients.")
        seen.add(key)


def _channel_hint(name: str, channels: Mapping[str, object]) -> str:
    if not channels:
        return "Add it to CHANNELS."
    if "@" in name:
        return f'An address is not a channel. Write {{"channel": {next(iter(channels))!r}, "to": {name!r}}}.'
    if "." in name:
        by_backend = [alias for alias, config in channels.items() if _backend(config) == name]
        return did_you_mean(by_backend[0] if by_backend else name, channels)
    kinds = {_backend(config).split(".")[-2:][0]: alias for alias, config in channels.items()}
    return did_you_mean(name, channels, synonyms=kinds)


def _backend(config: object) -> str:
    return str(config.get("BACKEND", "")) if isinstance(config, Mapping) else ""


def _model_rule_problems(rule: Rule, path: str) -> list[Problem]:
    problems = []
    for pattern in [rule.model] if isinstance(rule.model, str) else rule.model:
        problems += pattern_problems(pattern, f'{path}["model"]')
    for name in rule.events:
        if name not in RULE_EVENTS:
            hint = did_you_mean(name, RULE_EVENTS, synonyms=EVENT_SYNONYMS)
            if name.strip().lower() in ("*", "all", "any", "__all__"):
                hint = "Remove the key: the rule is about all of them then."
            if name in (*AUTH_EVENTS, EventType.REQUEST):
                hint = f"Move {name!r} to a rule of its own, without a model."
            problems.append(
                Problem("E011", f'{path}["events"]', f"names {name!r}, which isn't an event of a model.", hint)
            )
    return problems


_DEFAULT_WORDS = frozenset(DEFAULT_MASK_FIELDS)


def mask_word_problems() -> list[Problem]:
    """Return the entries of MASK_FIELDS that mask nothing, or something else than was meant."""
    problems = []
    for position, word in enumerate(get_settings().mask_fields):
        if word not in _DEFAULT_WORDS and (mistake := mask_mistake(word)):
            what, hint = mistake
            path = f'SIGNAL_AUDIT["MASK_FIELDS"][{position}]'
            problems.append(Problem("W012", path, f"is {shown(word)}, which {what}.", hint))
    return problems


def exclusion_problems(parsed: Iterable[ParsedRule]) -> list[Problem]:
    """Return the entries of EXCLUDE_MODELS that exclude everything or nothing."""
    problems = []
    rules = [item.rule for item in parsed if item.rule.enabled]
    is_read = any("*" in rule.models for rule in rules)
    for position, pattern in enumerate(get_settings().exclude_models):
        path = f'SIGNAL_AUDIT["EXCLUDE_MODELS"][{position}]'
        if pattern == "*":
            message = 'is "*": rules with "model": "*" audit nothing.'
            hint = 'Name models or apps, such as "sessions.*".'
            problems += [Problem("W042", path, message, hint)] if any(rule.models for rule in rules) else []
        elif pattern.lower() not in DEFAULT_EXCLUDE_MODELS:  # of the default ones, not every app is installed
            problems += pattern_problems(pattern, path) if find_model(pattern) is None else []
            problems += [] if is_read else _futile_problems(pattern, path, rules)
    return problems


def _futile_problems(excluded: str, path: str, rules: Iterable[Rule]) -> list[Problem]:
    """Return a warning of a model that is excluded and audited all the same, where no rule is about all models."""
    models = set(matching(excluded))
    for rule in rules:
        for named in rule.models:
            if models and models <= set(resolve(named)):
                message = f'is {excluded!r}, which has no effect: the rule "{rule.name}" names "{named}".'
                hint = 'Only "*" leaves out EXCLUDE_MODELS. Name in the rule the models that it is about.'
                return [Problem("W042", path, message, hint)]
    return []
