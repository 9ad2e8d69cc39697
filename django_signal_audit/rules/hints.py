"""The edit to make where a value of a rule has the wrong shape, by what people write in its place."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from types import FunctionType
from typing import Any

from django.apps import apps
from django.db.models import Field, Model

from django_signal_audit.enums import Level
from django_signal_audit.problems import did_you_mean, nearest, shown
from django_signal_audit.rules.durations import period_hint

# What other programs call the levels.
LEVEL_SYNONYMS = {
    **dict.fromkeys(("error", "err", "fatal", "emergency", "alert", "severe", "high", "danger"), "critical"),
    **dict.fromkeys(("warn", "medium"), "warning"),
    **dict.fromkeys(("debug", "notice", "low", "success", "normal"), "info"),
}
LISTS = ("events", "fields", "exclude", "mask", "notify", "paths", "methods")
DURATIONS = ("digest", "throttle")
# A list may contain itself.
DEEPEST = 3
_WORDS = {
    **dict.fromkeys(("hourly", "hour", "h"), "1h"),
    **dict.fromkeys(("daily", "day", "d"), "1d"),
    **dict.fromkeys(("minute", "min", "m"), "1m"),
    "weekly": "7d",
}
_QUOTE = "'"
_OFF = ("false", "0", "no", "off")
_FOREVER = ("", "forever", "never", "none", "always", "unlimited")
_UNIT = re.compile(r"(\d+)\s*([smhd])[a-z]*", re.IGNORECASE)


def value_hint(key: str, value: Any) -> str:
    """Return the edit to make to a value that a key of a rule, or of a notify entry, cannot have."""
    if key == "level":
        return did_you_mean(value, Level.values, synonyms=LEVEL_SYNONYMS)
    if key == "retention":
        return _retention_hint(value)
    if value is None or (isinstance(value, (list, tuple, dict)) and not value):
        return f"It is {shown(value)}. Remove the key to have its default."
    if meant := _meant(key, value):
        return meant
    return f"It is {shown(value)}."


def _meant(key: str, value: Any) -> str:
    if key == "model":
        label = _label_of(value)
        return f'Write "{label}".' if label else ""
    if key in ("when", "to", "signal") and callable(value):
        return _path_of(value)
    if key == "when":
        return _condition(value)
    if key in DURATIONS:
        return _duration(value)
    if key == "enabled":
        return f"It is {shown(value)}. Write {shown(value).strip(_QUOTE).lower() not in _OFF}."
    return _list(key, value) if key in (*LISTS, "to") else ""


def split(text: str) -> list[str]:
    """Return the names in a string that holds several, separated by commas or semicolons."""
    return [part.strip() for part in re.split(r"[,;]", text) if part.strip()]


def _list(key: str, value: Any) -> str:
    if isinstance(value, str):
        return f"It is a string. Write {shown(split(value))}." if value.strip() else ""
    if key == "notify" and isinstance(value, Mapping):
        return f"It is {shown(value)}. Write {shown(_entries(value))}."
    names = list(_flat(value))
    return f"It is {shown(value)}. Write {shown(names)}." if names and all(isinstance(n, str) for n in names) else ""


def _entries(value: Mapping[Any, Any]) -> list[Any]:
    if "channel" in value:
        return [dict(value)]
    return [{"channel": key, **item} if isinstance(item, Mapping) else {"channel": key} for key, item in value.items()]


def _flat(value: Any, depth: int = 0) -> Iterable[Any]:
    """Yield what is in lists of lists; fields by their name, dicts by their keys."""
    if isinstance(value, (list, tuple, set, frozenset, Mapping)) and depth < DEEPEST:
        for item in value:
            yield from _flat(item, depth + 1)
    else:
        yield value.name if isinstance(value, Field) else value


def _path_of(value: Any) -> str:
    if not isinstance(value, (FunctionType, type)):
        return ""
    module, name = value.__module__, value.__qualname__
    if "<" in name:
        return "It is a function without a name. Move it to a module, and write its dotted path."
    return f'Write its dotted path, "{module}.{name}".'


def _condition(value: Any) -> str:
    if not isinstance(value, (list, tuple)):
        return ""
    if all(isinstance(item, Mapping) for item in value):
        return f"It is a list. Write {shown({key: spec for item in value for key, spec in item.items()})}."
    if len(value) in (2, 3) and all(isinstance(item, str) for item in value[:2]):
        spec = value[1] if len(value) == 2 else {value[1]: value[2]}  # field, operator, value
        return f"It is a list. Write {shown({value[0]: spec})}."
    return ""


def _duration(value: Any) -> str:
    if isinstance(value, dt.timedelta):
        return f'Write "{int(value.total_seconds())}s".'
    if isinstance(value, int) and not isinstance(value, bool):
        return f'It is {value}. Write "{value}s" for seconds.'
    if not isinstance(value, str):
        return ""
    count, slash, period = value.strip().rpartition("/")
    found = _UNIT.fullmatch(period.strip())
    meant = _WORDS.get(period.strip().lower()) or (f"{found[1]}{found[2].lower()}" if found else "")
    return f'It is {shown(value)}. Write "{count}{slash}{meant}".' if meant else ""


def _retention_hint(value: Any) -> str:
    if value is None or (isinstance(value, str) and value.strip().lower() in _FOREVER):
        return f"It is {shown(value)}. Remove the key: events are kept forever then."
    return period_hint(value)


def _label_of(value: Any) -> str:
    """Return the label of a model that stands in place of it, alone or first in a list."""
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    is_model = isinstance(first, Model) or (isinstance(first, type) and issubclass(first, Model))
    return str(first._meta.label) if is_model else ""


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


def signal_hint(dotted: str, accepts: Callable[[Any], bool]) -> str:
    """Return what to write instead of a path that leads to no signal to be recorded, ``""`` if that cannot be known.

    Args:
        dotted: The path, or the name of a signal alone, or a module that has some.
        accepts: Returns whether something is a signal that may be recorded.

    """
    parent, _, last = dotted.strip().rpartition(".")
    if last in _EVENTS and (not parent or parent.startswith("django.")):
        return f"Name {_EVENTS[last]} instead of the signal."
    known = {path: path.rpartition(".")[2] for path in _signals(accepts)}
    if not parent:
        near = nearest(last, known.values(), 0.7)
        found = [path for path, name in known.items() if name == near]
        return f"Did you mean {found[0]!r}?" if found else ""
    inside = [path for path in known if path.rpartition(".")[0] == dotted]
    return f"Name a signal of the module, such as {inside[0]!r}." if inside else ""


def _signals(accepts: Callable[[Any], bool]) -> Iterator[str]:
    """Yield the dotted paths of the signals in the modules ``signals`` of the installed apps."""
    for config in apps.get_app_configs():
        try:
            module = import_module(f"{config.name}.signals")
        except Exception:  # noqa: BLE001, S112  # an app may have none, or one that does not import
            continue
        for name, value in vars(module).items():
            if accepts(value) and not name.startswith("_"):
                yield f"{config.name}.signals.{name}"
