"""The scope of one deletion: what ``Collector.delete`` is doing while its statements run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from django.db import models

from django_signal_audit.enums import Source
from django_signal_audit.rules.patterns import concrete

from .memberships import Pair

Identity: TypeAlias = tuple[type[models.Model], Any]


@dataclass(slots=True)
class Doomed:
    """What pre_delete told of a row that is about to go, and the members it loses first."""

    source: Source
    instance: models.Model | None = None
    object_repr: str | None = None
    members: dict[str, set[Pair]] = field(default_factory=dict)


@dataclass(slots=True)
class DeletionScope:
    """One run of ``Collector.delete``."""

    collector: Any
    doomed: dict[Identity, Doomed] = field(default_factory=dict)
    # Parents' rows whose deletion is part of their child's event.
    covered: set[Identity] = field(default_factory=set)
    # Parents' rows that stay when the child's row goes.
    kept: set[Identity] = field(default_factory=set)

    def source_of_update(self, fields: set[models.Field[Any, Any]]) -> Source:
        """Return whether an UPDATE is one of the deletion's own, such as SET_NULL."""
        own = {updated for updated, _ in self.collector.field_updates}
        return Source.CASCADE if fields <= own else Source.BULK

    def source_of_delete(self, model: type[models.Model]) -> Source:
        """Tell how the deletion came to rows that it has no objects of: asked for as a queryset, or along with it."""
        origin = self.collector.origin
        return Source.BULK if isinstance(origin, models.QuerySet) and are_kin(model, origin.model) else Source.CASCADE

    def takes(self, model: type[models.Model]) -> bool:
        """Return whether the deletion takes rows of this model too: ``keep_parents`` spares the parents'."""
        taken = (*self.collector.data, *(rows.model for rows in self.collector.fast_deletes))
        return any(one._meta.concrete_model is model for one in taken)

    def asked_for(self, model: type[models.Model]) -> bool:
        """Return whether the deletion was asked for on rows of this model itself."""
        origin = self.collector.origin
        return origin is not None and getattr(origin, "model", type(origin)) is model


def are_kin(one: type[models.Model], other: type[models.Model]) -> bool:
    """Return whether rows of one model may be rows of the other, or parts of them."""
    one, other = concrete(one), concrete(other)
    return issubclass(one, other) or issubclass(other, one)


_scope: ContextVar[DeletionScope | None] = ContextVar("django_signal_audit_deletion", default=None)


def current_deletion() -> DeletionScope | None:
    """Return the deletion that is running, None outside any."""
    return _scope.get()


@contextmanager
def deletion(collector: Any) -> Iterator[DeletionScope]:
    """Run a block as one deletion."""
    scope = DeletionScope(collector)
    token = _scope.set(scope)
    try:
        yield scope
    finally:
        _scope.reset(token)
