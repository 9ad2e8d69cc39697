"""Multi-table inheritance in the audit log: events of a child describe its parent's row too."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import models

from django_signal_audit.conf import on_settings_changed
from django_signal_audit.models.renames import former_labels

Model = type[models.Model]


@cache
def labels_including_children(model: Model) -> tuple[str, ...]:
    """Return the labels of the events that tell what rows of a concrete model hold: its own, and its children's.

    Those that the models had before they were renamed are among them.
    """
    labels = [known._meta.label_lower for known in (model, *mti_children(model))]
    return tuple(name for label in labels for name in (label, *former_labels(label)))


on_settings_changed(labels_including_children.cache_clear)


def mti_children(model: Model) -> tuple[Model, ...]:
    """Return the multi-table children, near and far, whose rows have the primary key of this model's rows."""
    return tuple(child for child in apps.get_models() if _is_child(child, model) and shares_key(child, model))


@cache
def children_with_other_keys(model: Model) -> tuple[Model, ...]:
    """Return the multi-table children, near and far, whose rows have a key of their own."""
    return tuple(child for child in apps.get_models() if _is_child(child, model) and not shares_key(child, model))


def rows_of_children(model: Model, pk: object, using: str) -> Iterator[tuple[Model, object]]:
    """Yield the children with a key of their own that extend a row of the model, with that key."""
    for child in children_with_other_keys(model):
        try:
            rows: models.QuerySet[Any] = models.QuerySet(child, using=using)
            found = rows.filter(**{model._meta.pk_fields[0].name: pk}).values_list("pk", flat=True).first()
        except (TypeError, ValueError, ValidationError):
            return  # no row has such a key
        if found is not None:
            yield child, found


def _is_child(child: Model, model: Model) -> bool:
    return child is not model and not child._meta.proxy and issubclass(child, model)


def shares_key(child: Model, model: Model) -> bool:
    """Return whether the child's primary key is its link to the parent, and so on up to the model."""
    while child is not model:
        link = child._meta.pk.remote_field if child._meta.pk is not None else None
        if link is None or not getattr(link, "parent_link", False):
            return False
        child = link.model
    return True
