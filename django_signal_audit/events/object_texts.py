"""The texts of many objects: what their ``__str__`` follows is fetched for all of them together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from contextlib import suppress

from django.db.models import Model, prefetch_related_objects

from django_signal_audit.events.project_code import OwnQueries, own_queries_anywhere

from .payloads import loaded_text_of, loading_text_of, may_query
from .project_code import Untouched

# Objects whose related ones are fetched by one query: as many as every database lets a query name.
_TOGETHER = 500
# Relations followed from one object to the next.
_MAX_DEPTH = 5


def texts_of(objects: Sequence[Model]) -> list[str]:
    """Return the texts of objects, which may be of several classes."""
    if len(set(map(type, objects))) == 1:
        return list(_texts_of_one_kind(objects))
    kinds: dict[type[Model], list[int]] = {}
    for place, one in enumerate(objects):
        kinds.setdefault(type(one), []).append(place)
    texts = [""] * len(objects)
    for places in kinds.values():
        found = _texts_of_one_kind([objects[place] for place in places])
        for place, text in zip(places, found, strict=True):
            texts[place] = text
    return texts


def _texts_of_one_kind(objects: Sequence[Model]) -> Iterator[str]:
    """Return the texts in order; each may describe relations to fetch for the objects that are still to come."""
    known: set[str] = set()
    block = own_queries_anywhere()
    for start in range(0, len(objects), _TOGETHER):
        peers = objects[start : start + _TOGETHER]
        yield from _texts_of_peers(peers, known, block)


def _texts_of_peers(peers: Sequence[Model], known: set[str], block: OwnQueries) -> Iterator[str]:
    if not any(map(may_query, peers)):
        yield from map(loaded_text_of, peers)
        return
    with Untouched(peers):
        _fetch(peers, known)
        for place, one in enumerate(peers):
            before = _followed(one)
            yield loading_text_of(one, block)
            if found := _followed(one) - before - known:
                known |= found
                _fetch(peers[place + 1 :], found)


def _fetch(objects: Sequence[Model], paths: Set[str]) -> None:
    # What cannot be fetched together is fetched as __str__ asks for it, and fails there if it has to.
    with suppress(Exception), own_queries_anywhere():
        prefetch_related_objects(objects, *sorted(paths))


_NOTHING: frozenset[str] = frozenset()


def _followed(one: Model, above: frozenset[int] = frozenset()) -> Set[str]:
    """Return the names of the relations that an object has fetched, and of those of the related objects."""
    fetched = one._state.__dict__.get("fields_cache")
    if not fetched:
        return _NOTHING
    above |= {id(one)}
    names: set[str] = set()
    for name, related in fetched.items():
        if isinstance(related, Model) and id(related) not in above:
            names.add(name)
            if len(above) < _MAX_DEPTH:
                names |= {f"{name}__{rest}" for rest in _followed(related, above)}
    return names
