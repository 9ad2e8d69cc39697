"""Notes about objects, kept beside them: what is on an object is pickled, cached and copied along with it."""

from __future__ import annotations

from typing import Any, Generic, TypeVar
from weakref import ref

T = TypeVar("T")


class Notes(Generic[T]):
    """One note per object, by identity. It goes with the object, if nobody takes it before."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[ref[Any], T]] = {}

    def put(self, about: object, note: T) -> None:
        """Keep a note in place of the one that is there."""
        key = id(about)
        self._kept[key] = ref(about, lambda _: self._kept.pop(key, None) and None), note

    def take(self, about: object) -> T | None:
        """Return the note about an object and forget it; None if there is none."""
        found = self._kept.pop(id(about), None)
        return None if found is None else found[1]
