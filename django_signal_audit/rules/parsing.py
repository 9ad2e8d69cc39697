"""From what the user wrote to Rule objects: keys, names and types, before any model is looked at."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from django_signal_audit.conf import KEYS, raw_settings
from django_signal_audit.enums import Level
from django_signal_audit.events.keys import MAX_LENGTH
from django_signal_audit.events.values import clean_text
from django_signal_audit.problems import Problem, entry_of, shown
from django_signal_audit.rules.durations import EXAMPLES, is_retention
from django_signal_audit.rules.hints import (
    key_hint,
    meant_key,
    rule_hint,
    setting_hint,
    unknown_setting_hint,
    value_hint,
)

from .durations import parse_duration, parse_rate
from .schema import NotifyEntry, Rule

# What the columns for rule, event type and channel take.
NAME_LENGTH = 100
# Values that are secrets, or hold some.
_UNSHOWN = ("CHANNELS", "MASK_KEY")


class ParsedEntry(NamedTuple):
    """What could be read of an entry of ``notify``, where it stands, and which keys could not be read."""

    entry: NotifyEntry
    path: str
    unread: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedRule:
    """What could be read of a rule, and where it stands in the settings.

    ``unread`` are the keys whose value is wrong, or was most likely given by a key that there is not. The rule has
    their defaults, from which nothing follows.
    """

    rule: Rule
    path: str
    notify: tuple[ParsedEntry, ...]
    unread: frozenset[str]

    def lacks(self, *keys: str) -> bool:
        """Return whether the rule has none of these keys, which cannot be said if one of them could not be read."""
        return self.unread.isdisjoint(keys) and not any(getattr(self.rule, key) for key in keys)


class Mask(NamedTuple):
    """The field names that a rule masks, and the patterns of the models it does so for."""

    models: tuple[str, ...]
    names: tuple[str, ...]


def _text(value: object) -> bool:
    return isinstance(value, str)


def _texts(value: object) -> bool:
    return isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(item, str) and item for item in value)


def storable(value: object, length: int = NAME_LENGTH) -> bool:
    """Return whether a text of the settings can stand in a column of that length, on every database."""
    return isinstance(value, str) and len(value) <= length and clean_text(value) == value


def _labels(value: Any) -> bool:
    return _texts(value) and all(map(storable, value))


def _notify(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(item, (str, Mapping)) for item in value)


def _window(value: object) -> bool:
    # What is added to a date has to leave one.
    found = parse_duration(value) if isinstance(value, str) else None
    return value == "" or (found is not None and dt.timedelta() < found <= dt.timedelta(days=366))


def _rate(value: object) -> bool:
    return isinstance(value, str) and (not value or parse_rate(value) is not None)


class _Key(NamedTuple):
    code: str
    expects: str
    accepts: Callable[[Any], bool]


_RULE: dict[str, _Key] = {
    "name": _Key("E008", f"a string of at most {NAME_LENGTH} printable characters", storable),
    "model": _Key("E008", "a model label or a list of them", lambda value: _text(value) or _texts(value)),
    "signal": _Key("E008", "the dotted path of a signal", _text),
    "event": _Key("E008", f"the name of an event type, of at most {NAME_LENGTH} printable characters", storable),
    "events": _Key("E008", "a list of event types", _labels),
    "fields": _Key("E008", "a list of field names", _texts),
    "exclude": _Key("E008", "a list of field names", _texts),
    "mask": _Key("E008", "a list of field names", _texts),
    "personal": _Key("E008", "a list of field names", _texts),
    "include": _Key("E008", "a list of field names", _texts),
    "when": _Key(
        "E008",
        "a dict of field to operator, or a dotted path",
        lambda value: value is None or isinstance(value, (str, Mapping)),
    ),
    "notify": _Key("E008", "a list of channel aliases or dicts", _notify),
    "subject": _Key("E008", "a template string", _text),
    "message": _Key("E008", "a template string", _text),
    "level": _Key("E013", f"one of {', '.join(Level.values)}", lambda value: _text(value) and value in Level.values),
    "paths": _Key("E008", "a list of patterns", _texts),
    "methods": _Key("E008", "a list of HTTP methods", _texts),
    "window": _Key("E021", 'a duration above zero such as "1h", of at most 366 days', _window),
    "retention": _Key("E021", f"a duration such as {EXAMPLES}", is_retention),
    "locked": _Key("E008", "True or False", lambda value: isinstance(value, bool)),
    "enabled": _Key("E008", "True or False", lambda value: isinstance(value, bool)),
}


def _is_recipients(value: Any) -> bool:
    recipients = (value,) if _text(value) else value
    return bool(recipients) and _texts(recipients) and all(storable(item, MAX_LENGTH) for item in recipients)


_NOTIFY: dict[str, _Key] = {
    "channel": _Key("E014", "the alias of a channel", lambda value: _text(value) and bool(value)),
    "to": _Key("E008", f"a recipient of at most {MAX_LENGTH} characters, or a list of them", _is_recipients),
    "subject": _Key("E008", "a template string", _text),
    "message": _Key("E008", "a template string", _text),
    "digest": _Key("E021", 'a duration above zero such as "1h", of at most 366 days', _window),
    "throttle": _Key("E021", 'a number of messages per duration such as "5/1h", or "1h" for one', _rate),
    "opt_in": _Key("E008", "True or False", lambda value: isinstance(value, bool)),
}


def settings_problems() -> list[Problem]:
    """Return what is wrong with SIGNAL_AUDIT itself: its type, its keys and their types."""
    raw = raw_settings()
    if not isinstance(raw, Mapping):
        hint = 'Write SIGNAL_AUDIT = {"RULES": [...], "CHANNELS": {...}}.'
        if isinstance(raw, tuple) and len(raw) == 1 and isinstance(raw[0], Mapping):
            hint = "Remove the comma behind the dict, which makes it a tuple."
        return [Problem("E001", "SIGNAL_AUDIT", f"must be a dict, not {type(raw).__name__}.", hint)]
    problems = []
    for key, value in raw.items():
        path = entry_of("SIGNAL_AUDIT", key)
        if key not in KEYS:
            hint = unknown_setting_hint(key, KEYS)
            problems.append(Problem("E002", path, "isn't a setting of this package.", hint))
        elif not KEYS[key][1](value):
            said = f"It is of type {type(value).__name__}." if key in _UNSHOWN else f"It is {shown(value)}."
            hint = f"{said} {setting_hint(key, value)}".rstrip()
            problems.append(Problem("E003", path, f"must be {KEYS[key][0]}.", hint))
    return problems


def rule_path(index: int) -> str:
    """Return where in the settings a rule stands."""
    return f'SIGNAL_AUDIT["RULES"][{index}]'


def parse_rules(raw_rules: Iterable[object]) -> tuple[list[ParsedRule], list[Problem]]:
    """Return what could be read of each rule, and what is wrong with the rest of it."""
    parsed: list[ParsedRule] = []
    problems: list[Problem] = []
    first: dict[str, str] = {}
    for index, raw in enumerate(raw_rules):
        path = rule_path(index)
        entry = as_mapping(raw)
        if entry is None:
            message = f"must be a dict or a Rule, not {type(raw).__name__}."
            problems.append(Problem("E004", path, message, rule_hint(raw)))
            continue
        rule, found = _parse_rule(entry, path)
        parsed.append(rule)
        problems += [*found, *_name_problems(entry.get("name", ""), path, first)]
    return parsed, problems


def masks(raw_rules: Iterable[object]) -> list[Mask]:
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


def as_mapping(raw: object) -> Mapping[object, object] | None:
    """Return an entry of RULES by key, None if it is neither a dict nor a Rule."""
    if isinstance(raw, Rule):
        # Nobody can tell a key that was left out from its default.
        return {item.name: getattr(raw, item.name) for item in fields(Rule) if getattr(raw, item.name) != item.default}
    return raw if isinstance(raw, Mapping) else None


def _parse_rule(raw: Mapping[object, object], path: str) -> tuple[ParsedRule, list[Problem]]:
    named = {key: value for key, value in raw.items() if key != "name" or not _is_nameless(value)}
    sound, unread, problems = _read(named, path, _RULE, "a rule")
    if "name" not in {*named, *unread}:
        hint = 'Add "name": a unique text; it is shown on events and notifications.'
        problems.append(Problem("E006", path, "has no name.", hint))
    problems += _empty_problems(raw, path)
    entries = []
    for position, item in enumerate(_items(raw.get("notify"))):
        if isinstance(item, (str, Mapping)):
            entry, found = _parse_entry(item, f'{path}["notify"][{position}]')
            entries.append(entry)
            problems += found
    if any(entry.unread for entry in entries):
        sound.pop("notify", None)
        unread |= {"notify"}
    rule = Rule(**{"name": "", **sound})
    return ParsedRule(rule=rule, path=path, notify=tuple(entries), unread=unread), problems


# Lists that leave nothing out where they are empty, and what a rule is about then.
_ALL = {"fields": "every field", "events": "every event", "paths": "every path", "methods": "every method"}


def _empty_problems(raw: Mapping[object, object], path: str) -> Iterator[Problem]:
    """Warn of empty lists, which somebody may have written for "none"."""
    for key, what in _ALL.items():
        value = raw.get(key)
        if isinstance(value, (list, tuple, set, frozenset)) and not value:
            hint = f'Remove "{key}", name what the rule is about, or leave the rule out by "enabled": False.'
            yield Problem("W091", f'{path}["{key}"]', f"is empty, so the rule is about {what}.", hint)


def _items(notify: object) -> Iterable[object]:
    return notify if isinstance(notify, (list, tuple)) else ()


def _parse_entry(raw: str | Mapping[object, object], path: str) -> tuple[ParsedEntry, list[Problem]]:
    if isinstance(raw, str):
        return ParsedEntry(NotifyEntry.of(raw), path, frozenset()), []
    sound, unread, problems = _read(raw, path, _NOTIFY, "a notify entry")
    if "channel" not in {*sound, *unread}:
        problems.append(Problem("E014", path, "has no channel.", 'Add "channel": an alias of CHANNELS.'))
        unread |= {"channel"}
    return ParsedEntry(NotifyEntry.of({"channel": "", **sound}), path, unread), problems


def _read(
    raw: Mapping[Any, object], path: str, keys: Mapping[str, _Key], what: str
) -> tuple[dict[str, Any], frozenset[str], list[Problem]]:
    """Return the values that are as they must be, the keys that could not be read, and what is wrong with them."""
    sound, unread, problems = {}, set(), []
    for name, value in raw.items():
        where, key = entry_of(path, name), keys.get(name)
        if key is None:
            unread.add(meant_key(name, keys))
            problems.append(Problem("E005", where, f"isn't a key of {what}.", key_hint(name, value, keys)))
        elif not key.accepts(value):
            unread.add(name)
            problems.append(Problem(key.code, where, f"must be {key.expects}.", value_hint(name, value)))
        else:
            sound[name] = value
    return sound, frozenset(unread), problems


def _is_nameless(name: object) -> bool:
    return name is None or (isinstance(name, str) and not name.strip())


def _name_problems(name: object, path: str, first: dict[str, str]) -> list[Problem]:
    if not isinstance(name, str) or not name.strip():
        return []
    where = f'{path}["name"]'
    if name in first:
        hint = f"Rename one of them: {first[name]} has the same name."
        return [Problem("E007", where, f"is {shown(name)}, a name that another rule has already.", hint)]
    alike = next((other for other in first if _folded(other) == _folded(name)), None)
    first[name] = path
    if alike is not None:
        hint = f"Rename one of them: {first[alike]} is named {shown(alike)}."
        message = f"is {shown(name)}, which differs from the name of another rule only in case or spaces."
        return [Problem("W010", where, message, hint)]
    if name != name.strip():
        return [Problem("W010", where, f"is {shown(name)}, with spaces around it.", f"Write {shown(name.strip())}.")]
    return []


def _folded(name: str) -> str:
    return " ".join(name.split()).casefold()
