"""What is wrong with rules in this project: models, events, channels, templates, dotted paths."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from django.db.models.signals import ModelSignal
from django.dispatch import Signal
from django.utils.module_loading import import_string

from django_signal_audit import signals
from django_signal_audit.conf import DEFAULT_EXCLUDE_MODELS, get_settings, is_unread
from django_signal_audit.enums import AUTH_EVENTS, MODEL_EVENTS, EventType
from django_signal_audit.problems import Problem, did_you_mean, nearest, nearest_path

from .fields import field_problems
from .hints import split
from .labels import meant_label, nearest_label
from .parsing import ParsedRule
from .patterns import auditable_models, find_model, is_wildcard, matching, resolve_all
from .periods import retention_problems
from .schema import Rule
from .signal_hints import signal_hint
from .templates import template_problems

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
    try:
        found = import_string(dotted)
    except ImportError as error:
        return [Problem("E016", path, f"cannot import {dotted!r}: {error}.", nearest_path(dotted, accepts))]
    except Exception as error:  # noqa: BLE001  # importing runs user code, and check has to go on with the other rules
        return [Problem("E016", path, f"importing {dotted!r} raised {error!r}.", "Fix the module or the path.")]
    if not accepts(found):
        return [Problem("E016", path, f"names {dotted!r}, which isn't {expected}.", f"Name {expected}.")]
    return []


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
