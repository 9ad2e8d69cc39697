"""Problem: one mistake in SIGNAL_AUDIT, as the system checks show it."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType

from django.apps import apps
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning

from django_signal_audit.events.payloads import without_its_secrets

# Comparing texts takes the square of their lengths, and no name is that long.
LONGEST_NAME = 100
LONGEST_VALUE = 80
CORRECT_PATH = "Correct the dotted path."


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, where, and the edit to make. ``code`` is ``E0xx`` for errors, ``W0xx`` for warnings."""

    code: str
    path: str
    message: str
    hint: str

    @property
    def is_error(self) -> bool:
        """Return whether it is an error rather than a warning."""
        return self.code.startswith("E")

    def as_check(self) -> CheckMessage:
        """Return the message ``manage.py check`` prints."""
        kind = Error if self.is_error else CheckWarning
        return kind(f"{self.path} {self.message}", hint=self.hint, id=f"django_signal_audit.{self.code}")


def shown(value: object) -> str:
    """Return the value as a message may quote it: on one line, not for pages, and without secrets."""
    try:
        text = repr(without_its_secrets(value))
    except Exception:  # noqa: BLE001  # anything may stand in settings, and its repr is code like any other
        text = f"<{type(value).__name__}>"
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


def entry_of(path: str, key: object) -> str:
    """Return where in the settings the value of a key stands."""
    return f'{path}["{key[:LONGEST_VALUE]}"]' if isinstance(key, str) else f"{path}[{shown(key)}]"


def nearest(word: object, known: Iterable[object], cutoff: float = 0.5) -> str | None:
    """Return the known name that somebody most likely meant, whatever its case; None if none is near."""
    names = {str(name).lower(): str(name) for name in known}
    text = word if isinstance(word, str) else shown(word)
    near = get_close_matches(text[:LONGEST_NAME].strip().lower(), sorted(names), n=1, cutoff=cutoff)
    return names[near[0]] if near else None


def did_you_mean(
    word: object, known: Iterable[object], otherwise: str = "", synonyms: Mapping[str, str] | None = None
) -> str:
    """Return a hint with the nearest right name, or all of them if none is near.

    Args:
        word: What somebody wrote.
        known: The right names.
        otherwise: What to say if none of them is near.
        synonyms: Words that are near to none of them, in lower case, with the name they mean.

    """
    names = sorted(set(map(str, known)))
    if joined := _joined(word, names):
        return f"Write {joined[0]!r}, {joined[1]!r}: the comma between them is missing."
    near = (synonyms or {}).get(str(word).strip().lower() if isinstance(word, str) else "") or nearest(word, names)
    if near is not None:
        return f"Did you mean {near!r}?"
    listed = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    return otherwise or f"Known are: {listed or 'none'}."


def _joined(word: object, names: Iterable[str]) -> tuple[str, str] | None:
    """Return the two names that a text is, as Python joins strings with no comma between them; None if it is none."""
    known = set(names)
    pairs = ((name, word[len(name) :]) for name in sorted(known) if isinstance(word, str) and word.startswith(name))
    return next((pair for pair in pairs if pair[0] and pair[1] in known), None)


def nearest_path(dotted: str, accepts: Callable[[object], bool] = callable, built_in: Iterable[str] = ()) -> str:
    """Return a hint with the dotted path nearest to one that cannot be imported.

    Args:
        dotted: The path that is wrong, in its last part or before.
        accepts: What the path has to lead to.
        built_in: Paths that are right, which people also name by their class or module alone.

    """
    if ":" in dotted and _module(dotted.partition(":")[0]):
        return f"Did you mean {dotted.replace(':', '.')!r}?"
    parts = dotted.split(".")
    built_in = list(built_in)
    known = next((path for path in built_in if path.startswith(f"{dotted}.")), "") or _built_in(parts, built_in)
    if known:
        return f"Did you mean {known!r}?"
    for length in range(len(parts) - 1, -1, -1):
        module = _module(".".join(parts[:length])) if length else None
        if length and module is None:
            continue
        names = {path.rpartition(".")[2] for path in built_in if path.rpartition(".")[0] == ".".join(parts[:length])}
        # The names of packages have nothing to do with each other.
        cutoff = 0.5 if length else 0.7
        found = _names_in(module, accepts, is_last=length == len(parts) - 1)
        near = nearest(parts[length], [*names, *found], cutoff)
        path = ".".join([*parts[:length], near or "", *parts[length + 1 :]])
        if near and not (length == len(parts) - 1 and _is_class_of(known, parts[-1]) and near != parts[-1]):
            return f"Did you mean {path!r}?"
        break
    return CORRECT_PATH


def _built_in(parts: Sequence[str], paths: Iterable[str]) -> str:
    """Return the path whose class a wrong path ends with, or a single word begins; ``""`` for none."""
    last = parts[-1].lower().replace("_", "")
    for path in paths:
        name = path.rpartition(".")[2].lower()
        if last == name or (len(parts) == 1 and last and name.startswith(last)):
            return path
    return ""


def _is_class_of(path: str, name: str) -> bool:
    """Return whether a path of this package ends with exactly that class, which is nearer than any resemblance."""
    return bool(path) and path.rpartition(".")[2].lower() == name.lower()


def _names_in(module: ModuleType | None, accepts: Callable[[object], bool], *, is_last: bool) -> list[str]:
    """Return what the next part of a dotted path may be: an object of a module, a submodule, or a top-level package."""
    if module is None:
        return [config.name.partition(".")[0] for config in apps.get_app_configs()]
    if is_last:
        return [name for name, value in vars(module).items() if not name.startswith("_") and accepts(value)]
    return [found.name for found in pkgutil.iter_modules(getattr(module, "__path__", []))]


def _module(path: str) -> ModuleType | None:
    try:
        return import_module(path)
    except Exception:  # noqa: BLE001  # a module that does not import has been reported already
        return None
