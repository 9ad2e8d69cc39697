"""What to write in place of a ``signal`` that is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from django.apps import apps

from django_signal_audit.problems import nearest

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
