"""Objects of the project as they were, after their ``__str__`` was asked for.

What it loads would stay: a column that was deferred would be written by the next ``save()``, over what others have
written meanwhile, and a related object would be the one of then.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, NamedTuple

import django
from django.db import models
from django.utils.functional import LazyObject, cached_property

_RELATED, _PREFETCHED = "fields_cache", "_prefetched_objects_cache"


class _Before(NamedTuple):
    """What an object held: the names of its attributes, its related objects, and the results of its prefetches."""

    instance: models.Model
    names: frozenset[str]
    related: dict[str, Any]
    prefetched: dict[str, object]
    fetch_mode: object


def _is_loaded(instance: models.Model, name: str) -> bool:
    """Return whether an attribute is one that asking for it sets; another thread may have set others meanwhile."""
    kind = getattr(type(instance), name, None)
    if name == _PREFETCHED or isinstance(kind, (cached_property, functools.cached_property)):
        return True
    return any(field.attname == name for field in instance._meta.concrete_fields)


def _models_in(values: Iterable[Any]) -> Iterator[models.Model]:
    """Yield the objects among values, in lists of them, in results of prefetches and behind lazy objects."""
    for value in values:
        kind = type(value)  # asked about its class, a lazy object would be loaded
        if issubclass(kind, models.Model):
            yield value
        elif issubclass(kind, LazyObject):
            yield from _models_in([value.__dict__.get("_wrapped")])
        else:
            is_rows = issubclass(kind, models.QuerySet)
            items: Any = value._result_cache if is_rows else value if kind is list else None  # noqa: SLF001  # a prefetch's
            yield from (item for item in items or () if issubclass(type(item), models.Model))


class Untouched:
    """A block after which objects, and the related ones that they had loaded, hold what they held before."""

    def __init__(self, objects: Iterable[models.Model]) -> None:
        self._objects = objects
        self._before: list[_Before] = []

    def __enter__(self) -> None:
        """Note what the objects hold, and have each load its columns for itself alone."""
        waiting, known = [*self._objects], set()
        while waiting:
            one = waiting.pop()
            if id(one) in known:
                continue
            known.add(id(one))
            related = dict(one._state.__dict__.get(_RELATED) or {})
            prefetched = dict(one.__dict__.get(_PREFETCHED) or {})
            mode = one._state.__dict__.get("fetch_mode")
            self._before.append(_Before(one, frozenset(one.__dict__), related, prefetched, mode))
            if django.VERSION >= (6, 1) and mode is models.FETCH_PEERS:
                one._state.fetch_mode = models.FETCH_ONE
            waiting += _models_in((*related.values(), *prefetched.values(), *one.__dict__.values()))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Take away what was loaded."""
        for before in self._before:
            own, state = before.instance.__dict__, before.instance._state.__dict__
            for name in own.keys() - before.names:
                if _is_loaded(before.instance, name):
                    del own[name]
            for key, holder, held in ((_RELATED, state, before.related), (_PREFETCHED, own, before.prefetched)):
                if key in holder and holder[key] != held:
                    holder[key] = held
            if before.fetch_mode is not None:
                state["fetch_mode"] = before.fetch_mode
