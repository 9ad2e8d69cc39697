"""Who may see what a message tells of, asked at the moment it is sent."""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import Model

from django_signal_audit.models import AuditEvent

from .subjects import load_subjects


def visible_events(user: Model, events: Sequence[AuditEvent], using: str) -> Sequence[AuditEvent]:
    """Return the events whose object the user may view, by a permission for its model or for this one object.

    A user model that knows no permissions, an event about no object, and a model without a permission to view it
    (``default_permissions``) keep nothing from anybody.
    """
    if not hasattr(user, "has_perm"):
        return events
    open_models = {label for label in {event.model for event in events} if _may_view(user, label)}
    refused = [event for event in events if event.model not in open_models]
    if not refused:
        return events
    subjects = load_subjects(refused, using)
    seen = {name for name, subject in subjects.items() if user.has_perm(_permission(name[0]), subject)}
    return [event for event in events if event.model in open_models or (event.model, event.object_id) in seen]


def _may_view(user: Model, label: str) -> bool:
    if not label or not _has_permission(label):
        return True
    return bool(user.has_perm(_permission(label)))  # type: ignore[attr-defined]


def _has_permission(label: str) -> bool:
    model = AuditEvent(model=label).model_class
    return model is None or "view" in model._meta.default_permissions


def _permission(label: str) -> str:
    app, _, name = label.partition(".")
    return f"{app}.view_{name}"
