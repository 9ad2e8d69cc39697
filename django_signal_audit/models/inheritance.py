"""Multi-table inheritance in the audit log: events of a child describe its parent's row too."""

from __future__ import annotations

from functools import cache

from django.apps import apps
from django.db import models

Model = type[models.Model]


@cache
def labels_including_children(model: Model) -> tuple[str, ...]:
    """Return the labels of the events that tell what rows of a concrete model hold: its own, and its children's."""
    return tuple(known._meta.label_lower for known in (model, *mti_children(model)))


def mti_children(model: Model) -> tuple[Model, ...]:
    """Return the multi-table children, near and far, whose rows have the primary key of this model's rows."""
    return tuple(
        child
        for child in apps.get_models()
        if child is not model and not child._meta.proxy and issubclass(child, model) and _shares_key(child, model)
    )


def _shares_key(child: Model, model: Model) -> bool:
    """Return whether the child's primary key is its link to the parent, and so on up to the model."""
    while child is not model:
        link = child._meta.pk.remote_field if child._meta.pk is not None else None
        if link is None or not getattr(link, "parent_link", False):
            return False
        child = link.model
    return True
