"""What is wrong with rules in this project: models, events, channels, templates, dotted paths."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from django.db.models.signals import ModelSignal
from django.dispatch import Signal

from django_signal_audit import signals
from django_signal_audit.conf import DEFAULT_EXCLUDE_MODELS, get_settings, is_unread
from django_signal_audit.enums import AUTH_EVENTS, MODEL_EVENTS, EventType
from django_signal_audit.plugins import problem_of
from django_signal_audit.problems import Problem, did_you_mean, nearest, shown
from django_signal_audit.rules.choices import choice_problems
from django_signal_audit.rules.conditions import when_problems
from django_signal_audit.rules.durations import retention_problems
from django_signal_audit.rules.hints import signal_hint, split
from django_signal_audit.rules.parsing import ParsedRule
from django_signal_audit.rules.patterns import (
    Field,
    Model,
    auditable_models,
    find_model,
    hand_written_members,
    is_wildcard,
    key_fields,
    matching,
    meant_label,
    nearest_label,
    resolve_all,
    watchable_fields,
)
from django_signal_audit.rules.plans import condition_fields, obstacle
from django_signal_audit.rules.schema import Rule
from django_signal_audit.rules.templates import template_problems

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


REQUEST_KEYS = ("paths", "methods")
MODEL_KEYS = ("fields", "exclude")
EVENT_SYNONYMS = {
    **dict.fromkeys(("add", "added", "insert", "inserted", "new", "save", "saved", "post_save", "pre_save"), "create"),
    **dict.fromkeys(("change", "changed", "edit", "edited", "modify", "modified", "write"), "update"),
    **dict.fromkeys(("remove", "removed", "destroy", "destroyed", "post_delete", "pre_delete"), "delete"),
    **dict.fromkeys(("m2m_changed", "many_to_many", "manytomany", "related"), "m2m"),
}
# Near misses of the events that this package makes without a model; any other name is one for ``record()``.
LOGIN_SYNONYMS = {
    **dict.fromkeys(("log_in", "logged_in", "user_logged_in", "signin", "sign_in", "signed_in"), "login"),
    **dict.fromkeys(("log_out", "logged_out", "user_logged_out", "signout", "sign_out", "signed_out"), "logout"),
    **dict.fromkeys(
        ("user_login_failed", "failed_login", "loginfailed", "login_failure", "login_error"), "login_failed"
    ),
    **dict.fromkeys(("http_request", "requests"), "request"),
}
NEAR = 0.85
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")


def rule_problems(parsed: ParsedRule) -> list[Problem]:
    """Return every mistake in what could be read of a rule, warnings among them."""
    rule, path = parsed.rule, parsed.path
    models = resolve_all(rule.models)
    problems = [*_kind_problems(parsed), *_path_problems(rule, path), *_channel_problems(parsed)]
    problems += [*_request_problems(parsed), *template_problems(parsed, models), *retention_problems(rule, path)]
    if rule.models:
        problems += _model_rule_problems(rule, path)
    elif parsed.lacks("model"):
        problems += _event_rule_problems(rule, path)
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
        problems += import_problems(rule.when, f'{path}["when"]', _takes_a_change, "a function that takes a change")
    if rule.signal:
        expected = "a custom django.dispatch.Signal"
        found = import_problems(rule.signal, f'{path}["signal"]', _is_custom_signal, expected)
        hint = signal_hint(rule.signal, _is_custom_signal) if found else ""
        problems += [replace(problem, hint=hint) if hint else problem for problem in found]
    return problems


def import_problems(dotted: str, path: str, accepts: Callable[[Any], bool], expected: str) -> list[Problem]:
    """Return what is wrong with a dotted path that has to lead to something; an empty one leads nowhere."""
    return list(problem_of("E016", dotted, path, expected, accepts, hint=f"Name {expected}."))


def _takes_a_change(found: Any) -> bool:
    """Return whether a condition can be called with one argument, and answers at once rather than by a coroutine."""
    if not callable(found) or inspect.iscoroutinefunction(found):
        return False
    try:
        inspect.signature(found).bind(object())
    except TypeError:
        return False
    except ValueError:
        return True  # a function in C does not tell its arguments
    return True


def _is_custom_signal(found: Any) -> bool:
    """Return whether a signal may be recorded: a model signal comes from every model, and our own would be endless."""
    return (
        isinstance(found, Signal)
        and not isinstance(found, ModelSignal)
        and all(found is not own for own in vars(signals).values())
    )


def _channel_problems(parsed: ParsedRule) -> list[Problem]:
    channels = get_settings().channels
    problems = []
    for entry, path, unread in parsed.notify:
        if entry.channel not in channels and "channel" not in unread and not is_unread("CHANNELS"):
            hint = _channel_hint(entry.channel, channels)
            message = f"names the channel {entry.channel!r}, which CHANNELS does not have."
            problems.append(Problem("E014", path, message, hint))
    if parsed.lacks("notify"):
        problems += [
            Problem("W001", f'{parsed.path}["{key}"]', "has no effect: the rule notifies nobody.", 'Add "notify".')
            for key in ("subject", "message")
            if getattr(parsed.rule, key)
        ]
    return problems


def _channel_hint(name: str, channels: Mapping[str, Any]) -> str:
    if not channels:
        return "Add it to CHANNELS."
    if "@" in name:
        return f'An address is not a channel. Write {{"channel": {next(iter(channels))!r}, "to": {name!r}}}.'
    if "." in name:
        by_backend = [alias for alias, config in channels.items() if _backend(config) == name]
        return did_you_mean(by_backend[0] if by_backend else name, channels)
    kinds = {_backend(config).split(".")[-2:][0]: alias for alias, config in channels.items()}
    return did_you_mean(name, channels, synonyms=kinds)


def _backend(config: Any) -> str:
    return str(config.get("BACKEND", "")) if isinstance(config, Mapping) else ""


def _event_rule_problems(rule: Rule, path: str) -> list[Problem]:
    problems = []
    for name in rule.events:
        if name in MODEL_EVENTS:
            hint = 'Add "model": the models to audit.'
            problems.append(Problem("E011", f'{path}["events"]', f"names {name!r}, which needs a model.", hint))
        elif near := _meant_event(name):
            message = f"names {name!r}, which exists only if your code calls record() with that name."
            problems.append(Problem("W031", f'{path}["events"]', message, f"Did you mean {near!r}?"))
    problems += [
        Problem("W001", f'{path}["{key}"]', "has no effect without a model.", "Remove it, or add a model.")
        for key in MODEL_KEYS
        if getattr(rule, key)
    ]
    if isinstance(rule.when, Mapping):
        hint = "Remove it, or name a function by its dotted path."
        problems.append(
            Problem("W001", f'{path}["when"]', "names fields, but the rule has no model: it never holds.", hint)
        )
    return problems


def _meant_event(name: str) -> str:
    """Return the event of this package that somebody most likely meant by a name that is none, ``""`` if none."""
    known = (*AUTH_EVENTS, EventType.REQUEST.value)
    if name in known:
        return ""
    return LOGIN_SYNONYMS.get(name.strip().lower()) or nearest(name, known, NEAR) or ""


def _request_problems(parsed: ParsedRule) -> list[Problem]:
    rule, path = parsed.rule, parsed.path
    if EventType.REQUEST.value not in rule.events and "events" not in parsed.unread:
        return [
            Problem("W001", f'{path}["{key}"]', 'has no effect without the event "request".', "Remove it.")
            for key in REQUEST_KEYS
            if getattr(rule, key)
        ]
    return [
        Problem(
            "W001", f'{path}["methods"]', f"names {name!r}, which isn't an HTTP method.", did_you_mean(name, METHODS)
        )
        for name in rule.methods
        if name.upper() not in METHODS
    ]


def _model_rule_problems(rule: Rule, path: str) -> list[Problem]:
    problems = []
    for pattern in [rule.model] if isinstance(rule.model, str) else rule.model:
        problems += pattern_problems(pattern, f'{path}["model"]')
    for name in rule.events:
        if name not in MODEL_EVENTS:
            hint = did_you_mean(name, MODEL_EVENTS, synonyms=EVENT_SYNONYMS)
            if name in (*AUTH_EVENTS, EventType.REQUEST):
                hint = f"Move {name!r} to a rule of its own, without a model."
            problems.append(
                Problem("E011", f'{path}["events"]', f"names {name!r}, which isn't an event of a model.", hint)
            )
    return problems


def pattern_problems(pattern: str, path: str) -> list[Problem]:
    """Return why a pattern means no model that can be audited."""
    if matching(pattern):
        return []
    if is_wildcard(pattern):
        known = {f"{model._meta.app_label}.*" for model in auditable_models()}
        hint = meant_label(pattern) or did_you_mean(pattern, known)
        return [Problem("E009", path, f"is {pattern!r}, which matches no model.", hint)]
    model = find_model(pattern)
    if model is None:
        several = split(pattern)
        hint = f"It is one string. Write {several!r}." if len(several) > 1 else nearest_label(pattern)
        return [Problem("E009", path, f"is {pattern!r}, but that model doesn't exist.", hint)]
    owner: Any = model._meta.auto_created
    if owner:
        hint = f"Audit the many-to-many field of {owner._meta.label} instead."
        return [Problem("E009", path, f"is {pattern!r}, an automatic through model.", hint)]
    swapped = model._meta.swapped
    hint = f"Write {swapped!r}, which is used in its place." if swapped else "Remove it."
    return [Problem("E009", path, f"is {pattern!r}, which cannot be audited.", hint)]


def exclusion_problems() -> list[Problem]:
    """Return the entries of EXCLUDE_MODELS that exclude nothing; of the default ones, not every app is installed."""
    return [
        problem
        for position, pattern in enumerate(get_settings().exclude_models)
        if pattern.lower() not in DEFAULT_EXCLUDE_MODELS and find_model(pattern) is None
        for problem in pattern_problems(pattern, f'SIGNAL_AUDIT["EXCLUDE_MODELS"][{position}]')
    ]
