"""Which models are not audited for a while."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import TypeAlias

from django.db import models

Model: TypeAlias = type[models.Model]

ALL_MODELS: frozenset[Model] = frozenset({models.Model})
_suspended: ContextVar[frozenset[Model]] = ContextVar("django_signal_audit_suspended", default=frozenset())


def suspend(suspended: Iterable[Model]) -> Token[frozenset[Model]]:
    """Leave changes of these models unrecorded in this context until ``resume`` is called with the token."""
    concrete = {model if model is models.Model else model._meta.concrete_model or model for model in suspended}
    return _suspended.set(_suspended.get() | concrete)


def resume(token: Token[frozenset[Model]]) -> None:
    """Return to what was suspended before."""
    _suspended.reset(token)


@contextmanager
def suspended() -> Iterator[None]:
    """Leave what a block changes unrecorded, and that too: for what this package sets off itself."""
    token = suspend(ALL_MODELS)
    try:
        yield
    finally:
        resume(token)


def is_suspended(model: Model) -> bool:
    """Return whether changes of a concrete model go unrecorded right now."""
    suspended = _suspended.get()
    return bool(suspended) and (models.Model in suspended or model in suspended)
