"""Rules about signals, requests and other events without a model: what is wrong with them, and the edit to make."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from importlib import import_module

from django.apps import apps
from django.db.models.signals import ModelSignal
from django.dispatch import Signal

from django_signal_audit import signals
from django_signal_audit.enums import AUTH_EVENTS, MODEL_EVENTS, RULE_EVENTS, EventType
from django_signal_audit.plugins import problem_of
from django_signal_audit.problems import Problem, did_you_mean, nearest, shown
from django_signal_audit.rules.hints import split
from django_signal_audit.rules.parsing import ParsedRule
from django_signal_audit.rules.schema import Rule

MODEL_KEYS = ("fields", "exclude", "include")
EVENT_SYNONYMS = {
    **dict.fromkeys(("add", "added", "insert", "inserted", "new", "save", "saved", "post_save", "pre_save"), "create"),
    **dict.fromkeys(("creation", "created", "insertion", "bulk_create", "+", "c", "i"), "create"),
    **dict.fromkeys(("changes", "modification", "updating", "bulk_update", "upsert", "~", "u"), "update"),
    **dict.fromkeys(("soft_delete", "soft_deleted", "save_existing"), "update"),
    **dict.fromkeys(("deleted", "deletion", "removal", "cascade", "truncate", "purge", "-", "d"), "delete"),
    **dict.fromkeys(("clear", "set", "members", "relation", "relations"), "m2m"),
    **dict.fromkeys(("viewed", "read", "access", "accessed", "select", "retrieve", "seen", "shown"), "view"),
    **dict.fromkeys(("change", "changed", "edit", "edited", "modify", "modified", "write"), "update"),
    **dict.fromkeys(("remove", "removed", "destroy", "destroyed", "post_delete", "pre_delete"), "delete"),
    **dict.fromkeys(("m2m_changed", "many_to_many", "manytomany", "related"), "m2m"),
}
# Of those, the ones that hardly name an event of a project's own.
SIGNAL_SYNONYMS = {
    **dict.fromkeys(("created", "inserted", "insert", "post_save", "pre_save"), "create"),
    "updated": "update",
    "deleted": "delete",
    "post_delete": "delete",
    "pre_delete": "delete",
    "m2m_changed": "m2m",
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


def event_rule_problems(rule: Rule, path: str) -> list[Problem]:
    """Return what is wrong with the events and the keys of a rule without a model."""
    problems = []
    for name in rule.events:
        if name in RULE_EVENTS:
            hint = 'Add "model": the models to audit.'
            problems.append(Problem("E011", f'{path}["events"]', f"names {name!r}, which needs a model.", hint))
        elif near := _meant_event(name):
            message = f"names {name!r}, which exists only if your code calls record() with that name."
            hint = f"Did you mean {near!r}?" + (' It needs a "model".' if near in MODEL_EVENTS else "")
            problems.append(Problem("W031", f'{path}["events"]', message, hint))
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
    word = name.strip().lower()
    near = nearest(name, [*known, *LOGIN_SYNONYMS], NEAR) or ""
    return LOGIN_SYNONYMS.get(near, near) or SIGNAL_SYNONYMS.get(word) or ""


# The signals of Django whose changes are recorded without naming them, with the events.
_EVENTS = {
    **dict.fromkeys(("pre_save", "post_save"), '"model" and "events": ["create", "update"]'),
    **dict.fromkeys(("pre_delete", "post_delete"), '"model" and "events": ["delete"]'),
    "m2m_changed": '"model" and "events": ["m2m"]',
    "user_logged_in": '"events": ["login"]',
    "user_logged_out": '"events": ["logout"]',
    "user_login_failed": '"events": ["login_failed"]',
    "request_started": '"events": ["request"]',
    "request_finished": '"events": ["request"]',
}


def signal_problems(dotted: str, path: str) -> Iterator[Problem]:
    """Report a dotted path that leads to no signal that may be recorded."""
    expected = "a custom django.dispatch.Signal"
    for problem in problem_of("E016", dotted, path, expected, _is_custom_signal, hint=f"Name {expected}."):
        yield replace(problem, hint=_hint(dotted) or problem.hint)


def _is_custom_signal(found: object) -> bool:
    """Return whether a signal may be recorded: a model signal comes from every model, and our own would be endless."""
    return (
        isinstance(found, Signal)
        and not isinstance(found, ModelSignal)
        and all(found is not own for own in vars(signals).values())
    )


def _hint(dotted: str) -> str:
    """Return what to write instead of the path, the name of a signal alone, or a module; ``""`` if it isn't known."""
    parent, _, last = dotted.strip().rpartition(".")
    if last in _EVENTS and (not parent or parent.startswith("django.")):
        return f"Name {_EVENTS[last]} instead of the signal."
    known = {path: path.rpartition(".")[2] for path in _signals()}
    if not parent:
        near = nearest(last, known.values(), 0.7)
        found = [path for path, name in known.items() if name == near]
        return f"Did you mean {found[0]!r}?" if found else ""
    inside = [path for path in known if path.rpartition(".")[0] == dotted]
    return f"Name a signal of the module, such as {inside[0]!r}." if inside else ""


def _signals() -> Iterator[str]:
    """Yield the dotted paths of the signals in the modules ``signals`` of the installed apps."""
    for config in apps.get_app_configs():
        try:
            module = import_module(f"{config.name}.signals")
        except Exception:  # noqa: BLE001, S112  # an app may have none, or one that does not import
            continue
        for name, value in vars(module).items():
            if _is_custom_signal(value) and not name.startswith("_"):
                yield f"{config.name}.signals.{name}"


REQUEST_KEYS = ("paths", "methods")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
_REGEX = (
    (re.compile(r"^\^"), ""),
    (re.compile(r"\$$"), ""),
    (re.compile(r"\((?:\?P<\w+>)?[^()]*\)|\[\^/\]|\\[dwsS]|\.(?=[*+])"), "*"),
    (re.compile(r"\*[*+?]+"), "*"),
    (re.compile(r"\\(.)"), r"\1"),
)
_IS_REGEX = re.compile(r"^\^|\$$|\\[dwsSbAZ./-]|\(.*\||\(\?|\[\^/\]|[\])]\+|/\.[*+](/|$)")
_CONVERTER = re.compile(r"<[^<>]*>|\{[^{},]*\}")
_METHOD = re.compile(r"\s*([A-Z]{3,7})\s+(/.*)")
_HOST = re.compile(r"(?:\w+:)?//[^/]*(/.*)?")
_QUERY = re.compile(r"\?[\w*\[\]-]+=")


def path_mistake(pattern: str) -> tuple[str, str] | None:
    """Return why a pattern of ``paths`` matches no path as it was meant to, and the edit to make; None if it may."""
    if _IS_REGEX.search(pattern):
        return (
            "is a regular expression, and patterns are matched like file names",
            f"Write {shown(_from_regex(pattern))}.",
        )
    if found := _METHOD.fullmatch(pattern):
        return "begins with an HTTP method", f'Write {shown(found[2])}, and "methods": ["{found[1]}"].'
    if found := _HOST.fullmatch(pattern):
        return "has a host, and only the path is compared", f"Write {shown(found[1] or '/*')}."
    if found := _QUERY.search(pattern):
        return "has a query string, which isn't compared", f"Write {shown(pattern[: found.start()])}."
    if _CONVERTER.search(pattern):
        return "has a parameter of a URL route", f"Write {shown(_CONVERTER.sub('*', pattern))}."
    if re.search(r"\{[^{}]*,[^{}]*\}", pattern):
        return "has alternatives in braces", f"Write a list: {shown(_alternatives(pattern))}."
    if re.search(r"\[[^\]]*$", pattern):
        return "has a [ without ]", "Close it, or write [[] for the character itself."
    return _beginning_mistake(pattern)


def _beginning_mistake(pattern: str) -> tuple[str, str] | None:
    text = pattern.strip()
    if text.startswith("/") and text != pattern:
        return "has spaces around it", f"Write {shown(text)}."
    if text[:1] in ("!", "~", "-"):
        return "can't exclude paths", "Write the paths to record, or decide in a function as the condition."
    if re.fullmatch(r"[\w.-]+:[\w:.-]+", text):
        return "is the name of a URL", "Write its path, such as '/shop/*'."
    if text[:1] not in ("/", "*", "?", "["):
        return "doesn't begin with a slash, as every path does", f"Write {shown('/' + text)}."
    return None


def _from_regex(pattern: str) -> str:
    is_open = pattern.startswith("^") and not pattern.endswith("$")
    text = pattern
    for found, put in _REGEX:
        text = found.sub(put, text)
    text = text if text.startswith(("/", "*")) else f"/{text}"
    return re.sub(r"\*{2,}", "*", f"{text}*" if is_open else text)


def _alternatives(pattern: str) -> list[str]:
    before, _, rest = pattern.partition("{")
    inside, _, after = rest.partition("}")
    return [f"{before}{part.strip()}{after}" for part in inside.split(",")]


def request_problems(parsed: ParsedRule) -> list[Problem]:
    """Return what is wrong with ``paths`` and ``methods`` of a rule."""
    rule, path = parsed.rule, parsed.path
    if EventType.REQUEST.value not in rule.events and "events" not in parsed.unread:
        return [
            Problem("W001", f'{path}["{key}"]', 'has no effect without the event "request".', "Remove it.")
            for key in REQUEST_KEYS
            if getattr(rule, key)
        ]
    return [*_pattern_problems(rule.paths, path), *_method_problems(rule.methods, path)]


def _pattern_problems(patterns: Iterable[str], path: str) -> Iterator[Problem]:
    for position, pattern in enumerate(patterns):
        if mistake := path_mistake(pattern):
            what, hint = mistake
            yield Problem("W009", f'{path}["paths"][{position}]', f"is {shown(pattern)}, which {what}.", hint)


def _method_problems(methods: Iterable[str], path: str) -> Iterator[Problem]:
    for name in methods:
        if name.upper() in METHODS:
            continue
        several = split(name)
        hint = f"Write {several!r}." if len(several) > 1 else did_you_mean(name, METHODS)
        if name.strip().upper() in ("*", "ANY", "ALL"):
            hint = "Remove the key: the rule is about all methods then."
        yield Problem("W001", f'{path}["methods"]', f"names {name!r}, which isn't an HTTP method.", hint)
