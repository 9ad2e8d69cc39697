from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from django_signal_audit.channels.base import Channel
from django_signal_audit.conf import get_settings, on_settings_changed
from django_signal_audit.exceptions import InvalidSettings
from django_signal_audit.plugins import PluginError, load_class
from django_signal_audit.problems import did_you_mean, entry_of, nearest, nearest_path, shown

# Those of this package, named in hints.
BUILT_IN = tuple(
    f"{__package__}.{name}.{name.title()}Channel"
    for name in ("apprise", "callable", "email", "inbox", "log", "webhook")
)

_KEYS = ("BACKEND", "OPTIONS")
_KEY_SYNONYMS = {
    **dict.fromkeys(("class", "path", "type", "channel", "engine", "handler", "()"), "BACKEND"),
    **dict.fromkeys(("args", "kwargs", "params", "settings", "config", "conf"), "OPTIONS"),
}
# What people call them.
_SYNONYMS = {"mail": "email", "smtp": "email", "http": "webhook", "function": "callable", "logging": "log"}


@cache
def get_channel(alias: str) -> Channel:
    """Return the channel of that alias, the same one on every call.

    Raises:
        InvalidSettings: CHANNELS has no such alias, or its entry makes no channel.

    """
    channels = get_settings().channels
    if alias not in channels:
        hint = did_you_mean(alias, channels) if channels else "Add it."
        msg = f'SIGNAL_AUDIT["CHANNELS"] has no "{alias}".'
        raise InvalidSettings(msg, hint)
    return load_channel(alias, channels[alias])


on_settings_changed(get_channel.cache_clear)


def load_channel(alias: str, config: object) -> Channel:
    """Return a new channel made from an entry of CHANNELS.

    Raises:
        InvalidSettings: The entry makes no channel; the text says where and what to edit.

    """
    path = f'SIGNAL_AUDIT["CHANNELS"]["{alias}"]'
    if not isinstance(config, Mapping):
        msg = f"{path} must be a dict, not {type(config).__name__}."
        dotted = config if isinstance(config, str) and config.replace(".", "").isidentifier() else "dotted.path"
        raise InvalidSettings(msg, f"Write {{'BACKEND': {dotted!r}, 'OPTIONS': {{}}}}.")
    unknown = [key for key in config if key not in _KEYS]
    if unknown:
        subject = entry_of(path, unknown[0])
        msg = f"{subject} isn't a key of a channel."
        raise InvalidSettings(msg, _key_hint(unknown))
    options = config.get("OPTIONS", {})
    if not isinstance(options, Mapping):
        msg = f'{path}["OPTIONS"] must be a dict, not {type(options).__name__}.'
        raise InvalidSettings(msg, "Write a dict of option to value, or remove it.")
    backend = _backend(config.get("BACKEND"), f'{path}["BACKEND"]')
    try:
        return backend(alias, options)
    except Exception as error:
        msg = f"{path} can't create {backend.__name__}: {type(error).__name__}: {error}."
        raise InvalidSettings(msg, "Fix the class or its OPTIONS.") from error


def _key_hint(unknown: list[object]) -> str:
    """Return where the keys belong that a channel doesn't have: most likely they are its options."""
    first = unknown[0]
    word = first.lower() if isinstance(first, str) else ""
    near = _KEY_SYNONYMS.get(word) or nearest(first, _KEYS, 0.7)
    if near:
        return f"Did you mean {near!r}?"
    options = ", ".join(f'"{key}": …' for key in unknown if isinstance(key, str))
    return f'Options of the channel go into OPTIONS: "OPTIONS": {{{options}}}.' if options else "Remove it."


def _backend(dotted: object, path: str) -> type[Channel]:
    if not isinstance(dotted, str) or "." not in dotted:
        msg = f"{path} must be the dotted path of a channel class, not {shown(dotted)}."
        such = 'Such as "django_signal_audit.channels.email.EmailChannel".'
        raise InvalidSettings(msg, _nearest(dotted) if isinstance(dotted, str) and dotted else such)
    try:
        return load_class(dotted, path, Channel, built_in=BUILT_IN)  # type: ignore[type-abstract]
    except PluginError as error:
        package = _missing_package(dotted, error.__cause__)
        meant = nearest_path(_SYNONYMS[dotted.lower()], _is_channel, BUILT_IN) if dotted.lower() in _SYNONYMS else ""
        raise PluginError(path, error.what, package or meant or error.hint) from error.__cause__


def _nearest(dotted: str) -> str:
    return nearest_path(_SYNONYMS.get(dotted.lower(), dotted), _is_channel, BUILT_IN)


def _missing_package(dotted: str, error: BaseException | None) -> str:
    """Return how to install what a channel of ours needs: its extra has the name of its module."""
    module, _, _ = dotted.rpartition(".")
    parent, _, extra = module.rpartition(".")
    missing = error.name or "" if isinstance(error, ModuleNotFoundError) else ""
    if parent != __package__ or not missing or missing == module:
        return ""
    return f"Install it: pip install 'django-signal-audit[{extra}]'."


def _is_channel(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, Channel)
