"""Who may see what a message tells of, asked at the moment it is sent."""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import Model

from django_signal_audit.models import AuditEvent
from django_signal_audit.rules.visibility import is_left_to_project, may_view_model, may_view_object, narrowed

from .subjects import load_subjects


def visible_events(user: Model, events: Sequence[AuditEvent], using: str) -> Sequence[AuditEvent]:
    """Return the events that the user may see, by permissions and by the project's VISIBILITY.

    A permission for this one object is enough. A user model that knows no permissions, an event about no object, and a
    model that nobody can be permitted to view (``default_permissions``) keep nothing from anybody.
    """
    if not hasattr(user, "has_perm"):
        return events
    return _by_project(user, _by_permission(user, events, using), using)


def _by_permission(user: Model, events: Sequence[AuditEvent], using: str) -> Sequence[AuditEvent]:
    labels = {event.model: event for event in events}
    open_models = {label for label, event in labels.items() if _is_open(event) or may_view_model(user, label)}
    refused = [event for event in events if event.model not in open_models]
    if not refused:
        return events
    subjects = load_subjects(refused, using)
    seen = {name for name, subject in subjects.items() if may_view_object(user, subject)}
    return [event for event in events if event.model in open_models or (event.model, event.object_id) in seen]


def _by_project(user: Model, events: Sequence[AuditEvent], using: str) -> Sequence[AuditEvent]:
    """Return the events without those of models that no ModelAdmin shows and that VISIBILITY keeps from the user."""
    asked = {event.pk for event in events if is_left_to_project(event.model)}
    if not asked:
        return events
    left = narrowed(user, AuditEvent.objects.using(using).filter(pk__in=asked))
    seen = set(left.values_list("pk", flat=True))
    return [event for event in events if event.pk not in asked or event.pk in seen]


def _is_open(event: AuditEvent) -> bool:
    model = event.model_class
    return model is not None and {"view", "change"}.isdisjoint(model._meta.default_permissions)
