"""Who may see which events, for pages and messages alike: Django's permissions, and the project's VISIBILITY."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, TypeAlias

from django.apps import apps
from django.contrib.auth import get_permission_codename
from django.db import DatabaseError, models

from django_signal_audit.conf import get_settings, is_unread, on_settings_changed
from django_signal_audit.models import AuditEventQuerySet
from django_signal_audit.models.renames import current_label
from django_signal_audit.plugins import PluginError, load

logger = logging.getLogger(__name__)

Visibility: TypeAlias = "Callable[[Any, Any], Any]"
Model: TypeAlias = type[models.Model]

# Who may change may view, as everywhere in Django.
_VIEWING = ("view", "change")


def may_view_model(user: object, label: str) -> bool:
    """Return whether the user has a permission to view a model's rows.

    Events of no model are for all who may view events, those of models that are gone for superusers.
    """
    if is_superuser(user) or not label:
        return True
    model = _model(label)
    return model is not None and any(has_permission(user, action, model) for action in _VIEWING)


def is_superuser(user: object) -> bool:
    """Return whether the user is an active superuser; a project's user model may have no such column."""
    return bool(getattr(user, "is_active", True) and getattr(user, "is_superuser", False))


def knows_permissions(user: object) -> bool:
    """Return whether a user, or a user model, has permissions: one without PermissionsMixin has none to ask for."""
    return hasattr(user, "has_perm")


def may_view_object(user: object, instance: models.Model) -> bool:
    """Return whether the user has a permission to view a row, for its model or for this one object."""
    model = type(instance)
    return any(has_permission(user, action, model, about) for action in _VIEWING for about in (None, instance))


def has_permission(user: Any, action: str, model: Model, instance: models.Model | None = None) -> bool:
    """Return whether the user has a permission for a model, or for one object of it."""
    if not knows_permissions(user):
        return False
    opts = model._meta
    return bool(user.has_perm(f"{opts.app_label}.{get_permission_codename(action, opts)}", instance))


def narrowed(user: object, events: AuditEventQuerySet) -> AuditEventQuerySet:
    """Return those of the events that the project's VISIBILITY lets the user see; none without it."""
    visible = get_visibility()
    if visible is None:
        return events.none()
    try:
        found = visible(user, events)
    except DatabaseError:
        raise
    except Exception:
        logger.exception('SIGNAL_AUDIT["VISIBILITY"] could not say what a user may see, so they see none of it.')
        return events.none()
    return found if isinstance(found, AuditEventQuerySet) else events.none()


def is_left_to_project(label: str) -> bool:
    """Return whether VISIBILITY decides about a model's events: no page of an admin shows its rows."""
    model = _model(label) if get_visibility() is not None else None
    return model is not None and not ({model, *model._meta.get_parent_list()} & set(_shown_in_admin()))


def _model(label: str) -> Model | None:
    try:
        return apps.get_model(current_label(label))
    except (LookupError, ValueError):
        return None


def _shown_in_admin() -> Iterable[object]:
    """Return the concrete models that have a ModelAdmin or an inline on any site."""
    # A project without the admin has not imported it, and is not made to.
    sites: Any = sys.modules.get("django.contrib.admin.sites")
    for site in sites.all_sites if sites is not None and apps.is_installed("django.contrib.admin") else ():
        for model, admin in site._registry.items():  # noqa: SLF001  # it has no other list
            yield model._meta.concrete_model
            yield from (inline.model._meta.concrete_model for inline in admin.inlines)


@cache
def get_visibility() -> Visibility | None:
    """Return the function, None if the settings name none. One that cannot be imported lets nobody see anything."""
    if is_unread("VISIBILITY"):
        return _nothing
    dotted = get_settings().visibility
    if not dotted:
        return None
    try:
        return load(dotted, 'SIGNAL_AUDIT["VISIBILITY"]', "a function")  # type: ignore[no-any-return]
    except PluginError as error:
        logger.error("Nobody sees events of models without a ModelAdmin. %s", error)
        return _nothing


on_settings_changed(get_visibility.cache_clear)


def _nothing(_user: object, events: Any) -> object:
    return events.none()
