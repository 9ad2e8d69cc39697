"""Who may see which events: those of the models that the user may view, and those of no model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.apps import apps
from django.contrib.auth import get_permission_codename
from django.http import HttpRequest

from django_signal_audit.models import AuditEvent, AuditEventQuerySet
from django_signal_audit.reports.reading import Reader
from django_signal_audit.reports.relations import MayName, names_in, related_names


def may_view(user: Any, label: str) -> bool:
    """Tell whether the user may view the rows of a model, and so their events.

    As everywhere in the admin, who may change may view. The events of models that are gone are for superusers.
    """
    if user.is_superuser or not label:
        return True
    try:
        opts = apps.get_model(label)._meta
    except (LookupError, ValueError):
        return False
    codenames = (get_permission_codename(action, opts) for action in ("view", "change"))
    return any(user.has_perm(f"{opts.app_label}.{codename}") for codename in codenames)


def may_view_events(user: Any, label: str) -> bool:
    """Tell whether the user may see the events of a model: it takes the permission for events, and for the model."""
    return user.has_perm("django_signal_audit.view_auditevent") and may_view(user, label)


def visible(request: HttpRequest, events: AuditEventQuerySet) -> AuditEventQuerySet:
    """Return those of the events that the user may see."""
    user: Any = request.user
    if user.is_active and user.is_superuser:
        return events
    labels = [model._meta.label_lower for model in apps.get_models()]
    return events.filter(model__in=["", *(label for label in labels if may_view(user, label))])


def reader_of(user: Any, events: Iterable[AuditEvent]) -> Reader:
    """Return how a user reads the events of a page: keys have the names of those rows that he may view."""
    return Reader(related_names(events, _may_name(user)), is_localised=True)


def reader_of_state(user: Any, event: AuditEvent, state: Mapping[str, Any]) -> Reader:
    """Return how a user reads a recorded state of the event's object."""
    return Reader(names_in(event, state, _may_name(user)), is_localised=True)


def _may_name(user: Any) -> MayName:
    return lambda model: may_view(user, model._meta.label_lower)
