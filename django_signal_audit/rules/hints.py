"""The edit to make where a key or a value of the settings is wrong, by what people write in its place."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from importlib import import_module
from types import FunctionType
from typing import Any

from django.apps import apps
from django.db.models import Field, Model

from django_signal_audit.conf import get_settings
from django_signal_audit.enums import Level
from django_signal_audit.problems import did_you_mean, nearest, shown
from django_signal_audit.rules.durations import parse_duration, parse_rate, period_hint
from django_signal_audit.rules.schema import NOTIFY_KEYS, RULE_KEYS

# What other packages call the settings, the keys of a rule, and those of a notify entry.
SETTING_SYNONYMS = {
    **dict.fromkeys(("backend", "backends", "notifications", "notifiers", "notify", "default_channel"), "CHANNELS"),
    **dict.fromkeys(("async", "celery", "queue", "worker", "delivery", "tasks"), "DISPATCHER"),
    **dict.fromkeys(("user", "get_user", "user_function", "current_user", "get_actor"), "ACTOR"),
    **dict.fromkeys(("permission", "permissions", "can_view", "visible"), "VISIBILITY"),
    **dict.fromkeys(("models", "include_models", "include", "watch", "audit", "tracked_models"), "RULES"),
    **dict.fromkeys(("fail_silently", "raise_errors", "strict", "errors", "ignore_errors"), "ON_ERROR"),
    **dict.fromkeys(("mask", "masks", "secrets", "sensitive", "redact", "hide_fields"), "MASK_FIELDS"),
    **dict.fromkeys(("exclude", "ignore", "ignore_models", "excluded", "skip_models"), "EXCLUDE_MODELS"),
    **dict.fromkeys(("secret_key", "salt", "hash_key", "key"), "MASK_KEY"),
    **dict.fromkeys(("max_size", "max_length", "max_value_length", "truncate"), "MAX_VALUE_BYTES"),
    **dict.fromkeys(("bulk", "capture_bulk", "track_bulk", "querysets"), "CAPTURE_QUERIES"),
}
RULE_SYNONYMS = {
    **dict.fromkeys(("action", "actions", "event_types", "operations", "on", "triggers", "trigger"), "events"),
    **dict.fromkeys(("condition", "conditions", "if", "filter", "where", "changes"), "when"),
    **dict.fromkeys(("models", "sender", "senders", "table", "class"), "model"),
    **dict.fromkeys(("severity", "priority", "importance"), "level"),
    **dict.fromkeys(("id", "title", "label", "slug", "key", "rule"), "name"),
    **dict.fromkeys(("active", "is_active", "is_enabled", "on_off"), "enabled"),
    **dict.fromkeys(("keep", "ttl", "expire", "expires", "max_age", "retain", "prune"), "retention"),
    **dict.fromkeys(("ignore", "skip", "exclude_fields", "excluded_fields", "ignore_fields"), "exclude"),
    **dict.fromkeys(("include", "only", "columns", "attributes", "include_fields", "field_names"), "fields"),
    **dict.fromkeys(("hide", "redact", "mask_fields", "masked_fields", "sensitive", "secret", "secrets"), "mask"),
    **dict.fromkeys(("url", "urls", "path", "routes", "patterns"), "paths"),
    **dict.fromkeys(("verbs", "http_methods", "method"), "methods"),
    **dict.fromkeys(("notification", "notifications", "alert", "alerts", "send"), "notify"),
}
NOTIFY_SYNONYMS = {
    **dict.fromkeys(("recipient", "recipients", "email", "emails", "address", "addresses", "send_to"), "to"),
    **dict.fromkeys(("user", "users", "group", "groups", "cc", "bcc", "who", "whom"), "to"),
    **dict.fromkeys(("template", "body", "text", "content", "html", "message_template"), "message"),
    **dict.fromkeys(("title", "headline", "subject_template"), "subject"),
    **dict.fromkeys(("alias", "channels", "via", "by", "backend", "transport", "type"), "channel"),
    **dict.fromkeys(("rate", "limit", "rate_limit", "max", "cooldown"), "throttle"),
    **dict.fromkeys(("batch", "interval", "every", "window", "schedule", "bundle"), "digest"),
}
_ON_ERROR = {
    **dict.fromkeys(("ignore", "silent", "pass", "warn", "warning", "continue", "swallow", "false", "none"), "log"),
    **dict.fromkeys(("fail", "error", "strict", "abort", "true"), "raise"),
}
_SIZE = re.compile(r"\s*(\d+)\s*([km]?)i?b?(?:ytes?)?\s*", re.IGNORECASE)
_SIZES = {"": 1, "k": 1024, "m": 1024**2}


def unknown_setting_hint(key: object, known: Collection[str]) -> str:
    """Return the edit to make to a key of SIGNAL_AUDIT that doesn't exist."""
    if isinstance(key, str) and key.lower() in RULE_KEYS and key.lower() != "notify" and key.upper() not in known:
        near = SETTING_SYNONYMS.get(key.lower())
        also = f' For all models, there is "{near}".' if near else ""
        return f'That is a key of a rule: write "RULES": [{{"{key.lower()}": …}}].{also}'
    if isinstance(key, str) and key.upper() == "OPTIONS":
        return 'That is a key of a channel: write "CHANNELS": {"mail": {"BACKEND": …, "OPTIONS": …}}.'
    return did_you_mean(key, known, synonyms=SETTING_SYNONYMS)


def setting_hint(key: str, value: object) -> str:
    """Return the edit to make to a value that a setting cannot have, ``""`` if it isn't known; it shows no secret."""
    if key == "RULES":
        return _rules_hint(value)
    if key == "CHANNELS":
        return _channels_hint(value)
    if key in ("ACTOR", "VISIBILITY", "DISPATCHER"):
        return "Remove the key to have its default." if value is None else _path_of(value)
    if key in ("MASK_FIELDS", "EXCLUDE_MODELS", "TRUSTED_PROXIES"):
        return _names_hint(value)
    if key == "ON_ERROR":
        near = _ON_ERROR.get(shown(value).strip(_QUOTE).strip().lower()) or nearest(value, ("raise", "log"))
        return f'Write "{near}".' if near else ""
    if key == "CAPTURE_QUERIES":
        return f"Write {shown(value).strip(_QUOTE).lower() not in _OFF}."
    if key == "MAX_VALUE_BYTES":
        size = _SIZE.fullmatch(shown(value).strip(_QUOTE).removesuffix(".0"))
        number = int(size[1]) * _SIZES[size[2].lower()] if size else 0
        return f"Write {number}." if number else ""
    return ""


def _rules_hint(value: object) -> str:
    if not isinstance(value, Mapping):
        return ""
    if "name" in value or "model" in value:
        return f"Put the rule into a list: {shown([dict(value)])}."
    rules = [{"name": name, **rule} for name, rule in value.items() if isinstance(rule, Mapping)]
    return f"Write a list, with the name in each rule: {shown(rules)}." if rules else "Write a list of dicts."


def _channels_hint(value: object) -> str:
    form = '{"BACKEND": "dotted.path", "OPTIONS": {…}}'
    if isinstance(value, Mapping) and "BACKEND" not in value:
        return "Aliases are strings."
    return f'Write a dict of alias to channel: "CHANNELS": {{"mail": {form}}}.'


def _names_hint(value: object) -> str:
    inside = list(value.values()) if isinstance(value, Mapping) else value
    names = [value] if isinstance(value, (str, type)) else _flat(inside)
    found = [part for name in names for part in (split(name) if isinstance(name, str) else [_label_of(name)])]
    return f"Write {shown(found)}." if found and all(found) and found != value else ""


def rule_hint(value: object) -> str:
    """Return the edit to make to an entry of RULES that is no rule."""
    label = value if isinstance(value, str) and "." in value and " " not in value else _label_of(value)
    if isinstance(value, (list, tuple)):
        if value and all(isinstance(item, Mapping) for item in value):
            return "It is a list in the list. Write its rules directly into RULES."
        if len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], Mapping):  # name and rule
            return f"Write {shown({'name': value[0], **value[1]})}."
        label = ""
    if label:
        name = label.rpartition(".")[2].lower()
        return f'Write {{"name": "{name}", "model": "{label}"}}.'
    return 'Write {"name": …, "model": …}.'


def meant_key(name: object, keys: Collection[str]) -> str:
    """Return the key of a rule, or of a notify entry, that a key stands for, ``""`` if none."""
    word = name.strip().lower() if isinstance(name, str) else ""
    if "notify" in keys:
        if word in RULE_SYNONYMS:
            return RULE_SYNONYMS[word]
        if _notify_key(word):
            return "notify"
    elif isinstance(name, str) and name in get_settings().channels:
        return "channel"
    elif word in NOTIFY_SYNONYMS:
        return NOTIFY_SYNONYMS[word]
    return nearest(name, keys) or ""


def _notify_key(word: str) -> str:
    return word if word in NOTIFY_KEYS else NOTIFY_SYNONYMS.get(word, "")


def key_hint(name: object, value: object, keys: Collection[str]) -> str:
    """Return the edit to make to a key that a rule, or a notify entry, doesn't have."""
    word = name.strip().lower() if isinstance(name, str) else ""
    if "notify" in keys:
        if word == "disabled" and isinstance(value, bool):
            return f'Write "enabled": {not value}.'
        if word in ("description", "comment", "notes", "doc"):
            return "Remove it, or write it as a comment: rules have no description."
        if word not in RULE_SYNONYMS and _notify_key(word):
            return _in_notify(word, value)
        return did_you_mean(name, keys, synonyms=RULE_SYNONYMS)
    if isinstance(name, str) and name in get_settings().channels:
        return f"Write {shown(_entries({name: value})[0])}."
    if word in RULE_KEYS and word not in NOTIFY_KEYS:
        return f'That is a key of the rule: write "{word}" beside "notify".'
    return did_you_mean(name, keys, synonyms=NOTIFY_SYNONYMS)


def _in_notify(word: str, value: Any) -> str:
    """Return where a key belongs that only an entry of ``notify`` has."""
    key = _notify_key(word)
    if key in ("message", "subject"):
        return f'Write the text itself as "{key}", which is a template.'
    if key == "channel":
        aliases = [value] if isinstance(value, str) else value
        named = isinstance(aliases, (list, tuple)) and aliases and all(isinstance(item, str) for item in aliases)
        return f'Write "notify": {shown(list(aliases)) if named else "[…]"}.'
    alias = next((item for item in get_settings().channels if isinstance(item, str)), "mail")
    return f'It is a key of a "notify" entry. Write "notify": {shown([{"channel": alias, key: value}])}.'


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
# What people write for all fields.
EVERYTHING = ("*", "__all__", "all", "ALL")
EVERY_FIELD = "Remove it: without this key, the rule is about all fields."
_OFF = ("false", "0", "no", "off")
_FOREVER = ("", "forever", "never", "none", "always", "unlimited")
_UNIT = re.compile(
    r"(\d+)\s*(s|m|h|d|w|seconds?|secs?|minutes?|mins?|hours?|hrs?|days?|weeks?)\.?|p?t?(\d+)([smhdw])", re.IGNORECASE
)
# 1h30m
_SEVERAL = re.compile(r"(\d+)\s*h[a-z]*\s*(?:and\s*)?(\d+)\s*m[a-z]*", re.IGNORECASE)
_PER = re.compile(r"\s+(?:per|an?|every|in|each)\s+|\s*/\s*", re.IGNORECASE)
_ONE = re.compile(r"^(?:an?|one)\s+")
_MONTHS = re.compile(r"\s*(\d+)\s*mo(?:nths?)?\s*", re.IGNORECASE)


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


def mask_mistake(word: str) -> tuple[str, str] | None:
    """Return why an entry of MASK_FIELDS doesn't do what was meant, and the edit to make; None if it may."""
    name = word.strip("!-~ ").rpartition(".")[2]
    if word[:1] in ("-", "~"):
        return "has a sign that only masks more", f'Write "!{name}" to store the values of {name}.'
    if "." in word:
        sign = "!" if word.startswith("!") else ""
        rule = "" if sign else f', or "mask": ["{name}"] in a rule of the model'
        return "names a model or a path, and only names of fields are compared", f'Write "{sign}{name}"{rule}.'
    if re.search(r"[*^$?+()|\\\[\]]", word):
        plain = re.sub(r"[^\w-]", "", word)
        return "is a pattern", f'Write "{plain}": it masks each name that has the word in it.'
    return None


def value_hint(key: str, value: object) -> str:
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


def _meant(key: str, value: object) -> str:
    if key == "model":
        label = _label_of(value)
        return f'Write "{label}".' if label else ""
    if key in ("when", "to", "signal") and callable(value):
        return _path_of(value)
    if key == "when":
        return _condition(value)
    if key in DURATIONS:
        return _duration(key, value)
    if key == "enabled":
        return f"It is {shown(value)}. Write {shown(value).strip(_QUOTE).lower() not in _OFF}."
    return _list(key, value) if key in (*LISTS, "to") else ""


def split(text: str) -> list[str]:
    """Return the names in a string that holds several, separated by commas or semicolons."""
    return [part.strip() for part in re.split(r"[,;]", text) if part.strip()]


def _list(key: str, value: object) -> str:
    if isinstance(value, str):
        if key == "fields" and value.strip() in EVERYTHING:
            return EVERY_FIELD
        return f"It is a string. Write {shown(split(value))}." if value.strip() else ""
    if key == "to" and (addresses := [text for text in _texts_in(value) if "@" in text]):
        return f"It is {shown(value)}. Write {shown(addresses)}."
    if key == "notify" and isinstance(value, Mapping):
        return f"It is {shown(value)}. Write {shown(_entries(value))}."
    names = list(_flat(value))
    return f"It is {shown(value)}. Write {shown(names)}." if names and all(isinstance(n, str) for n in names) else ""


def _entries(value: Mapping[object, object]) -> list[object]:
    if "channel" in value:
        return [dict(value)]
    return [{"channel": key, **item} if isinstance(item, Mapping) else {"channel": key} for key, item in value.items()]


def _flat(value: object, depth: int = 0) -> Iterable[object]:
    """Yield what is in lists of lists; fields by their name, dicts by their keys."""
    if isinstance(value, (list, tuple, set, frozenset, Mapping)) and depth < DEEPEST:
        for item in value:
            yield from _flat(item, depth + 1)
    else:
        yield value.name if isinstance(value, Field) else value


def _texts_in(value: object) -> list[str]:
    """Return the texts in the values of a dict, or in the pairs of a list such as ADMINS."""
    inside = list(value.values()) if isinstance(value, Mapping) else value
    return [text for text in _flat(inside) if isinstance(text, str)]


def _path_of(value: object) -> str:
    if not isinstance(value, (FunctionType, type)):
        return ""
    module, name = value.__module__, value.__qualname__
    if "<" in name:
        return "It is a function without a name. Move it to a module, and write its dotted path."
    return f'Write its dotted path, "{module}.{name}".'


def _condition(value: object) -> str:
    if not isinstance(value, (list, tuple)):
        return ""
    if all(isinstance(item, Mapping) for item in value):
        return f"It is a list. Write {shown({key: spec for item in value for key, spec in item.items()})}."
    if len(value) in (2, 3) and all(isinstance(item, str) for item in value[:2]):
        spec = value[1] if len(value) == 2 else {value[1]: value[2]}  # field, operator, value
        return f"It is a list. Write {shown({value[0]: spec})}."
    return ""


def _duration(key: str, value: object) -> str:
    if isinstance(value, dt.timedelta):
        return f'Write "{int(value.total_seconds())}s".' if value > dt.timedelta() else ""
    meant = _rate_meant(value) if key == "throttle" else _duration_meant(value)
    is_right = bool(parse_rate(meant) if key == "throttle" else parse_duration(meant))
    if not meant or meant == value or not is_right:
        return ""
    unit = " for seconds" if isinstance(value, int) and key == "digest" else ""
    return f'It is {shown(value)}. Write "{meant}"{unit}.'


def _duration_meant(value: object) -> str:
    """Return the duration that a number, ``30 days``, ``daily``, ``1h30m`` or ``PT1H`` means, ``""`` if none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value}s"
    if not isinstance(value, str):
        return ""
    word = _ONE.sub("1 ", value.strip().lower())
    if month := _MONTHS.fullmatch(word):
        return f"{int(month[1]) * 30}d"
    if several := _SEVERAL.fullmatch(word):
        return f"{int(several[1]) * 60 + int(several[2])}m"
    found = _UNIT.fullmatch(word)
    if found:
        return f"{found[1] or found[3]}{(found[2] or found[4])[0]}"
    return f"{word}s" if word.isdecimal() else _WORDS.get(word, "")


def _rate_meant(value: object) -> str:
    """Return the rate that ``5``, ``5 per hour``, ``(5, "1h")`` or ``{"1h": 5}`` means, ``""`` if none."""
    if isinstance(value, Mapping) and len(value) == 1:
        value = (*value.values(), *value)
    if isinstance(value, (list, tuple)) and len(value) == 2:  # a number and a duration
        value = "/".join(shown(part).strip(_QUOTE) for part in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value}/1h"
    parts = _PER.split(value.strip()) if isinstance(value, str) else []
    if len(parts) == 1 and parts[0].isdecimal():
        return f"{parts[0]}/1h"
    count, *period = [part for part in parts if part] or [""]
    if not period:
        return _duration_meant(count)
    if period[0].isdecimal() and parse_duration(count):
        count, period = period[0], [count]
    number = re.match(r"\d+", count)
    return f"{number[0]}/{_duration_meant(period[0])}" if number else ""


def _retention_hint(value: object) -> str:
    if value is None or (isinstance(value, str) and value.strip().lower() in _FOREVER):
        return f"It is {shown(value)}. Remove the key: events are kept forever then."
    days = value.get("days") if isinstance(value, Mapping) else value
    if isinstance(days, str) and (found := re.fullmatch(r"P(\d+)([DWMY])", days.strip(), re.IGNORECASE)):
        return f'It is {shown(value)}. Write "{found[1]}{found[2].lower().replace("m", "mo")}".'
    if isinstance(days, str) and _ONE.match(days.strip().lower()):
        _, _, edit = period_hint(_ONE.sub("1 ", days.strip().lower())).partition(". ")
        return f"It is {shown(value)}. {edit}".rstrip()
    if isinstance(days, str) and days.strip().isdecimal():
        days = int(days)
    if isinstance(days, int) and not isinstance(days, bool) and days > 0:
        return f'It is {shown(value)}. Write "{days}d" for days.'
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


def signal_hint(dotted: str, accepts: Callable[[object], bool]) -> str:
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


def _signals(accepts: Callable[[object], bool]) -> Iterator[str]:
    """Yield the dotted paths of the signals in the modules ``signals`` of the installed apps."""
    for config in apps.get_app_configs():
        try:
            module = import_module(f"{config.name}.signals")
        except Exception:  # noqa: BLE001, S112  # an app may have none, or one that does not import
            continue
        for name, value in vars(module).items():
            if accepts(value) and not name.startswith("_"):
                yield f"{config.name}.signals.{name}"
