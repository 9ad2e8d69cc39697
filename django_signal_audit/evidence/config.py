"""The setting EVIDENCE: the key, the anchors and the interval."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shlex import quote
from typing import Any

from django.db import DEFAULT_DB_ALIAS

from django_signal_audit.conf import get_settings, on_settings_changed
from django_signal_audit.events.documents import safe_str
from django_signal_audit.evidence.anchors.base import Anchor, load_anchor
from django_signal_audit.evidence.notes import NoteError, PrivateKey, PublicKey, Signer
from django_signal_audit.exceptions import InvalidSettings
from django_signal_audit.plugins import PluginError, load
from django_signal_audit.problems import Problem, did_you_mean, entry_of, shown
from django_signal_audit.rules.durations import parse_duration

PATH = 'SIGNAL_AUDIT["EVIDENCE"]'
DEFAULT_ORIGIN = "django-signal-audit"
DEFAULT_INTERVAL = "60s"
# How the names of files with keys end.
_FILES = (".key", ".pem", ".txt", ".json")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_origin(value: object) -> bool:
    return isinstance(value, str) and bool(value) and not any(char.isspace() or char == "+" for char in value)


_KEYS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "KEY": ('"file:PATH", "env:NAME" or the dotted path of a function', _is_text),
    "PUBLIC_KEYS": (
        "a list of public keys",
        lambda value: isinstance(value, (list, tuple)) and all(map(_is_text, value)),
    ),
    "ANCHORS": ("a dict of alias to {'BACKEND': dotted path, 'OPTIONS': dict}", lambda value: isinstance(value, dict)),
    "INTERVAL": ('a duration such as "60s" or "5m"', lambda value: _is_text(value) and bool(parse_duration(value))),
    "ORIGIN": ('a name without spaces and "+", such as "example.com/audit"', _is_origin),
    "WORKER": ("True or False", lambda value: isinstance(value, bool)),
}
_SYNONYMS = {
    **dict.fromkeys(("signing_key", "private_key", "secret", "secret_key"), "KEY"),
    **dict.fromkeys(("anchor", "backends", "publish", "witnesses"), "ANCHORS"),
    **dict.fromkeys(("every", "period", "seconds"), "INTERVAL"),
    **dict.fromkeys(("old_keys", "keys", "public_key", "verify_keys"), "PUBLIC_KEYS"),
    **dict.fromkeys(("name", "log", "url"), "ORIGIN"),
    **dict.fromkeys(("deliver", "audit_deliver", "seal", "watch"), "WORKER"),
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What EVIDENCE says, with its defaults; an entry of a wrong type counts as its default."""

    key: str
    public_keys: tuple[str, ...]
    anchors: Mapping[str, Any]
    interval: dt.timedelta
    origin: str
    # Whether ``audit_deliver --watch`` seals too.
    in_worker: bool

    def origin_of(self, using: str) -> str:
        """Return the name of the log of one database."""
        return self.origin if using == DEFAULT_DB_ALIAS else f"{self.origin}/{using}"


@cache
def get_evidence() -> Evidence:
    """Return the settings in force."""
    raw = {key: value for key, value in get_settings().evidence.items() if key in _KEYS and _KEYS[key][1](value)}
    interval = parse_duration(raw.get("INTERVAL", DEFAULT_INTERVAL))
    return Evidence(
        key=raw.get("KEY", ""),
        public_keys=tuple(raw.get("PUBLIC_KEYS", ())),
        anchors=raw.get("ANCHORS", {}),
        interval=interval or dt.timedelta(minutes=1),
        origin=raw.get("ORIGIN", DEFAULT_ORIGIN),
        in_worker=raw.get("WORKER", bool(raw)),
    )


@cache
def get_signer() -> Signer | None:
    """Return what signs checkpoints, None where EVIDENCE has no key.

    Raises:
        InvalidSettings: The key cannot be had.

    """
    key = get_evidence().key
    if not key:
        return None
    path = f'{PATH}["KEY"]'
    try:
        found = _signer(key, path)
        PublicKey.of(found.public_key)
    except InvalidSettings:
        raise
    except (NoteError, OSError, AttributeError, UnicodeError) as error:
        msg = f"{path} can't be used: {error}"
        raise InvalidSettings(msg, _how_to_make(key, error)) from error
    except Exception as error:
        # The function that returns the key is the project's, and asks who knows whom.
        msg = f"{path} can't be used: {type(error).__name__}: {safe_str(error)}"
        raise InvalidSettings(msg, f"Fix the function {key}: it is called without arguments.") from error
    return found


def _how_to_make(key: str, error: Exception) -> str:
    """Return the command to run: never over a file that is there, as a key that is lost can't be had again."""
    path = key.removeprefix("file:")
    is_missing = path != key and isinstance(error, FileNotFoundError)
    return f"Make a key with manage.py audit_seal --generate-key {quote(path) if is_missing else 'FILE'}."


def _signer(key: str, path: str) -> Signer:
    if key.startswith("file:"):
        return PrivateKey(Path(key.removeprefix("file:")).read_text(encoding="utf-8"))
    if key.startswith("env:"):
        text = os.environ.get(key.removeprefix("env:"))
        if not text:
            msg = f"the environment variable {key.removeprefix('env:')} is empty."
            raise NoteError(msg)
        return PrivateKey(text)
    found = _load(key, path)()
    return PrivateKey(found) if isinstance(found, str) else found


def _load(key: str, path: str) -> Any:
    try:
        return load(key, path, "a function that returns a key or a signer")
    except InvalidSettings as error:
        if "/" not in key and not key.endswith(_FILES):
            raise
        raise InvalidSettings(error.message, f'Write "file:{key}" for the file of that name.') from error


def verifying_keys() -> list[PublicKey]:
    """Return the keys that sign, or have signed, checkpoints."""
    signer = get_signer()
    texts = dict.fromkeys([*([signer.public_key] if signer else []), *get_evidence().public_keys])
    return [PublicKey.of(text) for text in texts]


@cache
def get_anchors() -> dict[str, Anchor]:
    """Return the anchors by alias; InvalidSettings says which entry makes none."""
    return {alias: load_anchor(alias, config) for alias, config in get_evidence().anchors.items()}


for _cached in (get_evidence, get_signer, get_anchors):
    on_settings_changed(_cached.cache_clear)


def evidence_problems() -> Iterator[Problem]:
    """Report what is wrong with EVIDENCE, and a log that is sealed without a key or an anchor."""
    raw = get_settings().evidence
    for key, value in raw.items():
        if key not in _KEYS:
            yield Problem(
                "E066", entry_of(PATH, key), "isn't a key of EVIDENCE.", did_you_mean(key, _KEYS, synonyms=_SYNONYMS)
            )
        elif not _KEYS[key][1](value):
            yield Problem("E066", f'{PATH}["{key}"]', f"is {shown(value)}.", f"Write {_KEYS[key][0]}.")
    yield from _key_problems()
    yield from _anchor_problems()
    if raw and not get_evidence().key:
        yield Problem(
            "W066",
            PATH,
            "has no KEY: checkpoints are not signed, so anyone who can write to the database can rewrite history.",
            "Make a key with manage.py audit_seal --generate-key FILE, or anchor checkpoints outside.",
        )
    if raw and not get_evidence().anchors:
        yield Problem(
            "W067",
            PATH,
            "has no ANCHORS: restoring an older backup goes unnoticed.",
            "Add an anchor that the administrators of the database can't write.",
        )


def _key_problems() -> Iterator[Problem]:
    try:
        get_signer()
    except InvalidSettings as error:
        text = error.message.removeprefix(f'{PATH}["KEY"] ')
        yield Problem("E067", f'{PATH}["KEY"]', text, error.hint)
    for position, text in enumerate(get_evidence().public_keys):
        try:
            PublicKey.of(text)
        except NoteError as error:
            yield Problem("E067", f'{PATH}["PUBLIC_KEYS"][{position}]', f"can't be used: {error}", "Copy it again.")


def _anchor_problems() -> Iterator[Problem]:
    for alias, config in get_evidence().anchors.items():
        try:
            yield from load_anchor(alias, config).problems()
        except PluginError as error:
            yield error.as_problem("E068")
        except InvalidSettings as error:
            yield Problem("E068", f'{PATH}["ANCHORS"]["{alias}"]', error.message, error.hint)
        except Exception as error:  # noqa: BLE001  # anchors are plug-ins, and the others are to be checked
            message = f"cannot be checked: {type(error).__name__}: {safe_str(error)}."
            yield Problem("E068", f'{PATH}["ANCHORS"]["{alias}"]', message, "Fix the anchor's method problems().")
