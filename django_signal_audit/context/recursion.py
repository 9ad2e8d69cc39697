"""An end for what would go on without one: a delivery that writes, and so notifies, and so delivers again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# How many deliveries in a row may each have been set off by what the one before wrote.
MAX_GENERATION = 10
# How deep receivers of event_recorded may be called for what such a receiver wrote.
MAX_DEPTH = 3
_generation: ContextVar[int] = ContextVar("django_signal_audit_generation", default=0)
_depth: ContextVar[int] = ContextVar("django_signal_audit_receivers", default=0)


def generation() -> int:
    """Return how many deliveries led to what is written now."""
    return _generation.get()


@contextmanager
def delivering(generation: int) -> Iterator[None]:
    """Note that what a block writes is written by the delivery of a notification of this generation."""
    token = _generation.set(generation + 1)
    try:
        yield
    finally:
        _generation.reset(token)


@contextmanager
def telling_receivers() -> Iterator[bool]:
    """Run a block that calls receivers; the value is whether to call them, or it has gone too deep."""
    depth = _depth.get()
    token = _depth.set(depth + 1)
    try:
        yield depth < MAX_DEPTH
    finally:
        _depth.reset(token)
