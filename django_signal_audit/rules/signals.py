"""Signals that a rule may name, and what to write in place of a path that leads to none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module

from django.apps import apps
from django.db.models.signals import ModelSignal
from django.dispatch import Signal

from django_signal_audit import signals
from django_signal_audit.plugins import problem_of
from django_signal_audit.problems import Problem, nearest

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
