"""What an anchor is: a class that takes a checkpoint to where the database's administrators cannot change it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from django_signal_audit.exceptions import InvalidSettings
from django_signal_audit.plugins import load_class
from django_signal_audit.problems import Problem, did_you_mean, shown

BUILT_IN = tuple(
    f"{__package__}.{name}.{name.title()}Anchor" for name in ("email", "file", "log", "storage", "webhook")
)


@dataclass(frozen=True, slots=True)
class Publication:
    """One checkpoint that is to be published.

    ``note`` holds no personal data, so it may be public.
    """

    origin: str
    size: int
    note: str

    @property
    def name(self) -> str:
        """Return a file name for it, which sorts by size."""
        origin = "".join(char if char.isalnum() or char in ".-" else "_" for char in self.origin)
        return f"{origin}-{self.size:019d}.checkpoint"


class Anchor(ABC):
    """Base class of anchors.

    Subclass it, write ``publish``, and name the subclass as BACKEND in ``EVIDENCE["ANCHORS"]``.
    """

    # The keys OPTIONS may have, and the test of each; the first word says what it must be.
    option_schema: ClassVar[Mapping[str, tuple[str, Callable[[Any], bool]]]] = {}
    required: ClassVar[tuple[str, ...]] = ()

    def __init__(self, alias: str, options: Mapping[str, object] | None = None) -> None:
        self.alias = alias
        self.options: Mapping[str, Any] = options or {}

    @abstractmethod
    def publish(self, publication: Publication) -> str:
        """Publish the checkpoint and return a receipt: where it is, or what the other side answered.

        Any exception means that it was not published; it is tried again with the next checkpoint.
        """

    def notes(self) -> Iterator[str]:
        """Yield the notes that were published, if this anchor can read them back."""
        yield from ()

    @property
    def can_read(self) -> bool:
        """Return whether this anchor can read back what it has published."""
        return type(self).notes is not Anchor.notes

    def problems(self) -> Iterator[Problem]:
        """Report what is wrong with OPTIONS."""
        path = f'SIGNAL_AUDIT["EVIDENCE"]["ANCHORS"]["{self.alias}"]["OPTIONS"]'
        for key, value in self.options.items():
            if key not in self.option_schema:
                hint = did_you_mean(key, self.option_schema)
                yield Problem("E068", f'{path}["{key}"]', "isn't an option of this anchor.", hint)
            elif not self.option_schema[key][1](value):
                hint = f"Write {self.option_schema[key][0]}."
                yield Problem("E068", f'{path}["{key}"]', f"is {shown(value)}.", hint)
        for key in self.required:
            if key not in self.options:
                yield Problem("E068", path, f'has no "{key}".', f"Add {self.option_schema[key][0]}.")


def is_text(value: object) -> bool:
    """Return whether the value is a string with something in it."""
    return isinstance(value, str) and bool(value)


def load_anchor(alias: str, config: object) -> Anchor:
    """Return the anchor that an entry of ANCHORS makes.

    Raises:
        InvalidSettings: It makes none.

    """
    path = f'SIGNAL_AUDIT["EVIDENCE"]["ANCHORS"]["{alias}"]'
    if not isinstance(config, Mapping) or not is_text(config.get("BACKEND")):
        msg = f"{path} must be a dict with the dotted path of an anchor as BACKEND."
        raise InvalidSettings(msg, f'Such as {{"BACKEND": "{BUILT_IN[1]}", "OPTIONS": {{"path": "…"}}}}.')
    options = config.get("OPTIONS", {})
    if not isinstance(options, Mapping):
        msg = f'{path}["OPTIONS"] must be a dict, not {type(options).__name__}.'
        raise InvalidSettings(msg, "Write a dict of option to value, or remove it.")
    backend = load_class(config["BACKEND"], f'{path}["BACKEND"]', Anchor, built_in=BUILT_IN)  # type: ignore[type-abstract]
    return backend(alias, options)
