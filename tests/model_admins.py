"""ModelAdmins that are registered for the time of a test, and people with certain permissions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.test import override_settings
from django.urls import path

from .urls import urlpatterns

OURS = ("view_auditevent", "revert_auditevent", "view_notification")


@contextmanager
def registered(model: Any, kind: type[Any] = admin.ModelAdmin, site: admin.AdminSite = admin.site) -> Iterator[None]:
    """Register a model on a site, in the place of the ModelAdmin that it may have."""
    before = site._registry.pop(model, None)
    site.register(model, kind)
    try:
        # The pages of a site are those of the models that were registered when its addresses were asked for.
        with override_settings(ROOT_URLCONF=(path("admin/", site.urls), *urlpatterns)):
            yield
    finally:
        site.unregister(model)
        if before is not None:
            site._registry[model] = before


def person_who_may(name: str, *codenames: str, **values: Any) -> User:
    """Make a member of the staff with our permissions and these."""
    user = User.objects.create_user(name, is_staff=True, **values)
    user.user_permissions.set(Permission.objects.filter(codename__in=[*OURS, *codenames]))
    return user
