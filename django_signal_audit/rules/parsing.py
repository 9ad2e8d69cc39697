"""From what the user wrote to Rule objects: keys, names and types, before any model is looked at."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from django_signal_audit.conf import KEYS, raw_settings
from django_signal_audit.enums import Level
from django_signal_audit.keys import MAX_LENGTH
from django_signal_audit.problems import Problem, did_you_mean, entry_of, shown
from django_signal_audit.values import clean_text

from .durations import parse_duration, parse_rate
from .schema import NOTIFY_KEYS, RULE_KEYS, Rule

# What the columns for rule, event type and channel take.
NAME_LENGTH = 100
# Values that are secrets, or hold some.
_UNSHOWN = ("CHANNELS", "MASK_KEY")


class ParsedRule(NamedTuple):
    """A rule and where it stands in the settings."""

    rule: Rule
    path: str


class Mask(NamedTuple):
    """The field names that a rule masks, and the patterns of the models it does so for."""

    models: tuple[str, ...]
    names: tuple[str, ...]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(item, str) and item for item in value)


def storable(value: Any, length: int = NAME_LENGTH) -> bool:
    """Tell whether a text of the settings can stand in a column of that length, on every database."""
    return isinstance(value, str) and len(value) <= length and clean_text(value) == value


def _labels(value: Any) -> bool:
    return _texts(value) and all(map(storable, value))


def _notify(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(item, (str, Mapping)) for item in value)


def _duration(value: Any) -> bool:
    return isinstance(value, str) and (not value or parse_duration(value) is not None)


def _window(value: Any) -> bool:
    # What is added to a date has to leave one.
    return _duration(value) and (parse_duration(value) or dt.timedelta()) <= dt.timedelta(days=366)


def _rate(value: Any) -> bool:
    return isinstance(value, str) and (not value or parse_rate(value) is not None)


TYPES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "name": (f"a text of at most {NAME_LENGTH} printable characters", storable),
    "model": ("a model label or a list of them", lambda value: _text(value) or _texts(value)),
    "signal": ("the dotted path of a signal", _text),
    "event": (f"the name of an event type, of at most {NAME_LENGTH} printable characters", storable),
    "events": ("a list of event types", _labels),
    "fields": ("a list of field names", _texts),
    "exclude": ("a list of field names", _texts),
    "mask": ("a list of field names", _texts),
    "when": (
        "a dict of field to operator, or a dotted path",
        lambda value: value is None or isinstance(value, (str, Mapping)),
    ),
    "notify": ("a list of channel aliases or dicts", _notify),
    "subject": ("a template string", _text),
    "message": ("a template string", _text),
    "level": (f"one of {', '.join(Level.values)}", lambda value: _text(value) and value in Level.values),
    "paths": ("a list of patterns", _texts),
    "methods": ("a list of HTTP methods", _texts),
    "retention": ('a duration such as "365d"', _duration),
    "enabled": ("True or False", lambda value: isinstance(value, bool)),
}
_LISTS = ("events", "fields", "exclude", "mask", "notify", "paths", "methods")
_CODES = {"level": "E013", "retention": "E021"}


def _is_recipients(value: Any) -> bool:
    recipients = (value,) if _text(value) else value
    return bool(recipients) and _texts(recipients) and all(storable(item, MAX_LENGTH) for item in recipients)


NOTIFY_TYPES: dict[str, tuple[str, str, Callable[[Any], bool]]] = {
    "channel": ("E014", "the alias of a channel", lambda value: _text(value) and bool(value)),
    "to": ("E008", f"a recipient of at most {MAX_LENGTH} characters, or a list of them", _is_recipients),
    "subject": ("E008", "a template string", _text),
    "message": ("E008", "a template string", _text),
    "digest": ("E021", 'a duration such as "1h", of at most 366 days', _window),
    "throttle": ("E021", 'a number of messages per duration such as "5/1h", or "1h" for one', _rate),
}


def settings_problems() -> list[Problem]:
    """Return what is wrong with SIGNAL_AUDIT itself: its type, its keys and their types."""
    raw = raw_settings()
    if not isinstance(raw, Mapping):
        hint = 'Write SIGNAL_AUDIT = {"RULES": [...], "CHANNELS": {...}}.'
        return [Problem("E001", "SIGNAL_AUDIT", f"must be a dict, not {type(raw).__name__}.", hint)]
    problems = []
    for key, value in raw.items():
        path = entry_of("SIGNAL_AUDIT", key)
        if key not in KEYS:
            problems.append(Problem("E002", path, "is no setting of this package.", did_you_mean(key, KEYS)))
        elif not KEYS[key][1](value):
            hint = f"It is of type {type(value).__name__}." if key in _UNSHOWN else f"It is {shown(value)}."
            problems.append(Problem("E003", path, f"must be {KEYS[key][0]}.", hint))
    return problems


def rule_path(index: int) -> str:
    """Return where in the settings a rule stands."""
    return f'SIGNAL_AUDIT["RULES"][{index}]'


def parse_rules(raw_rules: Iterable[Any]) -> tuple[list[ParsedRule], list[Problem]]:
    """Return the rules that could be read, and what is wrong with them and the others."""
    parsed: list[ParsedRule] = []
    problems: list[Problem] = []
    first: dict[str, str] = {}
    for index, raw in enumerate(raw_rules):
        path = rule_path(index)
        entry = as_mapping(raw)
        if entry is None:
            message = f"must be a dict or a Rule, not {type(raw).__name__}."
            problems.append(Problem("E004", path, message, 'Write {"name": …, "model": …}.'))
            continue
        found = _entry_problems(entry, path)
        if not found:
            parsed.append(ParsedRule(Rule(**entry), path))
        problems += [*found, *_name_problems(entry.get("name", ""), path, first)]
    return parsed, problems


def masks(raw_rules: Iterable[Any]) -> list[Mask]:
    """Return what enabled rules mask, those with mistakes among them: no typing error may bring a secret to light."""
    found = []
    for raw in raw_rules:
        entry = as_mapping(raw) or {}
        mask = Mask(_as_texts(entry.get("model")), _as_texts(entry.get("mask")))
        if entry.get("enabled") is not False and all(mask):
            found.append(mask)
    return found


def _as_texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,) if value else ()
    return tuple(value) if _texts(value) else ()


def as_mapping(raw: Any) -> Mapping[Any, Any] | None:
    """Return an entry of RULES by key, None if it is neither a dict nor a Rule."""
    if isinstance(raw, Rule):
        return {key: getattr(raw, key) for key in RULE_KEYS}
    return raw if isinstance(raw, Mapping) else None


def _entry_problems(entry: Mapping[Any, Any], path: str) -> list[Problem]:
    problems = []
    for key, value in entry.items():
        where = entry_of(path, key)
        if key not in RULE_KEYS:
            problems.append(Problem("E005", where, "is no key of a rule.", did_you_mean(key, RULE_KEYS)))
        elif not TYPES[key][1](value) and not (key == "name" and _is_nameless(value)):
            problems.append(Problem(_CODES.get(key, "E008"), where, f"must be {TYPES[key][0]}.", _hint(key, value)))
    if _is_nameless(entry.get("name")):
        hint = 'Add "name": a unique text; it is shown on events and notifications.'
        problems.append(Problem("E006", path, "has no name.", hint))
    notify = entry.get("notify")
    if isinstance(notify, (list, tuple)):
        for position, item in enumerate(notify):
            if isinstance(item, Mapping):
                problems += _notify_problems(item, f'{path}["notify"][{position}]')
    return problems


def _is_nameless(name: Any) -> bool:
    return name is None or (isinstance(name, str) and not name.strip())


def _hint(key: str, value: Any) -> str:
    if key == "level":
        return did_you_mean(value, Level.values)
    if key in _LISTS and isinstance(value, str) and value:
        return f"It is one text. Write [{shown(value)}]."
    return f"It is {shown(value)}."


def _notify_problems(entry: Mapping[Any, Any], path: str) -> list[Problem]:
    problems = []
    if "channel" not in entry:
        problems.append(Problem("E014", path, "names no channel.", 'Add "channel": an alias of CHANNELS.'))
    for key, value in entry.items():
        where = entry_of(path, key)
        if key not in NOTIFY_KEYS:
            problems.append(Problem("E005", where, "is no key of a notify entry.", did_you_mean(key, NOTIFY_KEYS)))
        elif not NOTIFY_TYPES[key][2](value):
            code, expected, _ = NOTIFY_TYPES[key]
            problems.append(Problem(code, where, f"must be {expected}.", f"It is {shown(value)}."))
    return problems


def _name_problems(name: Any, path: str, first: dict[str, str]) -> list[Problem]:
    if not isinstance(name, str) or not name.strip():
        return []
    if name not in first:
        first[name] = path
        return []
    hint = f"{first[name]} has that name already: rename one."
    return [Problem("E007", f'{path}["name"]', f"is {shown(name)} for the second time.", hint)]
