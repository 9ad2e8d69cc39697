"""The edit to make where a key or a value of the settings is wrong, by what people write in its place."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePath
from types import FunctionType
from typing import Any

from django.db.models import Field, Model
from django.utils.functional import Promise

from django_signal_audit.conf import get_settings
from django_signal_audit.enums import Level
from django_signal_audit.problems import did_you_mean, nearest, shown
from django_signal_audit.rules.durations import duration_hint, retention_hint, seconds_hint
from django_signal_audit.rules.schema import NOTIFY_KEYS, RULE_KEYS

_ON_ERROR = {
    **dict.fromkeys(("ignore", "silent", "pass", "warn", "warning", "continue", "swallow", "false", "none"), "log"),
    **dict.fromkeys(("fail", "error", "strict", "abort", "true"), "raise"),
}
_SIZE = re.compile(r"\s*(\d+)\s*([km]?)i?b?(?:ytes?)?\s*", re.IGNORECASE)
_SIZES = {"": 1, "k": 1024, "m": 1024**2}


def setting_hint(key: str, value: object) -> str:
    """Return the edit to make to a value that a setting cannot have, ``""`` if it isn't known; it shows no secret."""
    if value is None:
        return DEFAULT_HINT
    if key == "MASK_KEY":
        return ""
    if key == "CHANNELS":
        return _channels_hint(value)
    if text := text_hint(value) or ("" if key in (*_LISTS, "RULES") else comma_hint(value)):
        return text
    if key == "RULES":
        return _rules_hint(value)
    if key in ("ACTOR", "VISIBILITY", "DISPATCHER"):
        return path_of(value)
    if key in ("REPORT_FORMATS", "EXPORT_FORMATS"):
        return next(filter(None, map(path_of, value.values())), "") if isinstance(value, Mapping) else ""
    return _names_hint(value) if key in _LISTS else _scalar_hint(key, value)


_LISTS = ("MASK_FIELDS", "EXCLUDE_MODELS", "TRUSTED_PROXIES")


def _scalar_hint(key: str, value: object) -> str:
    text = shown(value).strip(_QUOTE).strip().lower()
    if key == "ON_ERROR":
        near = _ON_ERROR.get(text) or nearest(value, ("raise", "log"))
        return f'Write "{near}".' if near else ""
    if key == "ENGINE":
        return f'Write "{nearest(value, ("auto", "portable")) or "auto"}".'
    if key == "CAPTURE_QUERIES":
        return f"Write {text not in _OFF}."
    if key == "SEND_TIMEOUT":
        return seconds_hint(value)
    size = _SIZE.fullmatch(text.removesuffix(".0"))
    number = int(size[1]) * _SIZES[size[2].lower()] if size else 0
    return f"Write {number}." if number else ""


def _rules_hint(value: object) -> str:
    if isinstance(value, str) and value:
        return f"{rule_hint(value).removesuffix('.')}, in a list."
    if not isinstance(value, Mapping):
        return "Write a list."
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


# What other programs call the levels.
LEVEL_SYNONYMS = {
    **dict.fromkeys(("error", "err", "fatal", "emergency", "alert", "severe", "high", "danger"), "critical"),
    **dict.fromkeys(("warn", "medium"), "warning"),
    **dict.fromkeys(("debug", "notice", "low", "success", "normal"), "info"),
}
# The levels of the module logging.
_LOGGING = {10: "debug", 20: "info", 30: "warning", 40: "error", 50: "critical"}
LISTS = ("events", "fields", "exclude", "mask", "personal", "notify", "paths", "methods")
DURATIONS = ("digest", "throttle")
# A list may contain itself.
DEEPEST = 3
_QUOTE = "'"
DEFAULT_HINT = "Remove the key to have its default."
# What people write for all fields.
EVERYTHING = ("*", "__all__", "all", "ALL")
EVERY_FIELD = "Remove it: without this key, the rule is about all fields."
_OFF = ("false", "0", "no", "off")


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


def text_hint(value: object) -> str:
    """Return what to write instead of a lazy text or a path, or a list with one; ``""`` if it is none of these."""
    found = next((item for item in _flat(value) if isinstance(item, (Promise, PurePath))), None)
    if found is None:
        return ""
    kind = "a lazy string, as of gettext_lazy" if isinstance(found, Promise) else "a Path"
    return f"It is {kind}. Write the string itself: {shown(str(found))}."


def comma_hint(value: object) -> str:
    """Return what to write instead of a tuple of one, as a comma behind a value makes it; ``""`` if it is none."""
    if isinstance(value, tuple) and len(value) == 1:
        return f"It is a tuple of one. Remove the comma behind {shown(value[0])}."
    return ""


def value_hint(key: str, value: object) -> str:
    """Return the edit to make to a value that a key of a rule, or of a notify entry, cannot have."""
    if text := text_hint(value) or ("" if key in (*LISTS, "to", "model") else comma_hint(value)):
        return text
    if key == "level":
        word = _LOGGING.get(value, value) if isinstance(value, int) else value
        return did_you_mean(word, Level.values, synonyms=LEVEL_SYNONYMS)
    if key == "retention":
        return retention_hint(value)
    if value is None or (isinstance(value, (list, tuple, dict)) and not value):
        return f"It is {shown(value)}. {DEFAULT_HINT}"
    if meant := _meant(key, value):
        return meant
    return f"It is {shown(value)}."


def _meant(key: str, value: object) -> str:
    if key == "model":
        label = _label_of(value)
        return f'Write "{label}".' if label else _list(key, value)
    if key in ("when", "to", "signal") and callable(value):
        return path_of(value)
    if key == "when":
        return _condition(value)
    if key in DURATIONS:
        return duration_hint(key, value)
    if key.lower() in ("send_timeout", "timeout") and (hint := seconds_hint(value)):
        return f"It is {shown(value)}. {hint}"
    if key == "channel" and isinstance(value, (list, tuple)):
        return f"It is {shown(value)}. Write an entry for each of them."
    if key in ("enabled", "locked", "opt_in"):
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
        return f"It is {shown(value)}. Write {shown(entries(value))}."
    names = list(_flat(value))
    return f"It is {shown(value)}. Write {shown(names)}." if names and all(isinstance(n, str) for n in names) else ""


def entries(value: Mapping[object, object]) -> list[object]:
    """Return the entries of ``notify`` that a dict means, be it one of them or a dict by channel."""
    if "channel" in value:
        return [dict(value)]
    return [{"channel": key, **_said_of(item)} for key, item in value.items()]


def _said_of(item: object) -> dict[object, object]:
    """Return the keys of an entry that somebody gave as the value of its channel: the keys, or recipients alone."""
    if isinstance(item, Mapping):
        return dict(item)
    names = item if isinstance(item, (list, tuple)) else [item]
    return {"to": item} if names and all(isinstance(name, str) and name for name in names) else {}


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


def path_of(value: object) -> str:
    """Return the dotted path to write instead of a function or a class, ``""`` for anything else."""
    if not isinstance(value, (FunctionType, type)):
        return ""
    module, name = value.__module__, value.__qualname__
    if "<" in name:
        return "It is a function without a name. Move it to a module, and write its dotted path."
    return f'Write its dotted path, "{module}.{name}".'


def _condition(value: object) -> str:
    if not isinstance(value, (list, tuple)):
        return f'It is {shown(value)}. Write a dict such as {{"price": "changed"}}.'
    if all(isinstance(item, Mapping) for item in value):
        every = {key: spec for item in value for key, spec in item.items()}
        return f"It is a list. Write {shown(every)}. All have to hold then; if one is enough, make two rules of it."
    if len(value) in (2, 3) and all(isinstance(item, str) for item in value[:2]):
        spec = value[1] if len(value) == 2 else {value[1]: value[2]}  # field, operator, value
        return f"It is a list. Write {shown({value[0]: spec})}."
    return ""


def _label_of(value: Any) -> str:
    """Return the label of a model that stands in place of it, alone or first in a list."""
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    is_model = isinstance(first, Model) or (isinstance(first, type) and issubclass(first, Model))
    return str(first._meta.label) if is_model else ""


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
    **dict.fromkeys(("site", "base_url", "domain", "host", "url", "root_url"), "SITE_URL"),
    **dict.fromkeys(("sealing", "seal", "anchors", "tamper_evidence", "signing"), "EVIDENCE"),
    **dict.fromkeys(("bulk", "capture_bulk", "track_bulk", "querysets"), "CAPTURE_QUERIES"),
}
RULE_SYNONYMS = {
    **dict.fromkeys(("action", "actions", "event_types", "operations", "on", "triggers", "trigger"), "events"),
    **dict.fromkeys(("condition", "conditions", "if", "filter", "where", "changes"), "when"),
    **dict.fromkeys(("models", "sender", "senders", "table", "class"), "model"),
    **dict.fromkeys(("severity", "priority", "importance"), "level"),
    **dict.fromkeys(("id", "title", "label", "slug", "key", "rule"), "name"),
    **dict.fromkeys(("active", "is_active", "is_enabled", "on_off"), "enabled"),
    **dict.fromkeys(("mandatory", "required", "force", "forced", "transactional"), "locked"),
    **dict.fromkeys(("keep", "ttl", "expire", "expires", "max_age", "retain", "prune"), "retention"),
    **dict.fromkeys(("ignore", "skip", "exclude_fields", "excluded_fields", "ignore_fields"), "exclude"),
    **dict.fromkeys(("only", "columns", "attributes", "include_fields", "field_names"), "fields"),
    **dict.fromkeys(("hide", "redact", "mask_fields", "masked_fields", "sensitive", "secret", "secrets"), "mask"),
    **dict.fromkeys(("pii", "gdpr", "private", "personal_data", "personal_fields"), "personal"),
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


def unknown_setting_hint(key: object, known: Collection[str]) -> str:
    """Return the edit to make to a key of SIGNAL_AUDIT that doesn't exist."""
    if isinstance(key, str) and key.lower() in RULE_KEYS and key.lower() != "notify" and key.upper() not in known:
        near = SETTING_SYNONYMS.get(key.lower())
        also = f' For all models, there is "{near}".' if near else ""
        return f'That is a key of a rule: write "RULES": [{{"{key.lower()}": …}}].{also}'
    if isinstance(key, str) and key.upper() == "OPTIONS":
        return 'That is a key of a channel: write "CHANNELS": {"mail": {"BACKEND": …, "OPTIONS": …}}.'
    return did_you_mean(key, known, synonyms=SETTING_SYNONYMS)


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
        return f"Write {shown(entries({name: value})[0])}."
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
