"""System checks of what the project has around its rules: apps, middleware, the function that names the actor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from django.apps import apps
from django.conf import settings as django_settings
from django.utils.module_loading import import_string

from django_signal_audit.conf import get_settings
from django_signal_audit.problems import Problem, nearest_path
from django_signal_audit.rules.registry import get_registry

MIDDLEWARE = "django_signal_audit.middleware.AuditMiddleware"
ADMIN = "django.contrib.admin"
LINK_TEMPLATE = "templates/admin/change_form_object_tools.html"


def actor_problems() -> Iterator[Problem]:
    """Report an ACTOR that can't be asked."""
    path, dotted = 'SIGNAL_AUDIT["ACTOR"]', get_settings().actor
    if not dotted:
        return
    try:
        found = import_string(dotted)
    except Exception as error:  # noqa: BLE001  # importing runs the project's code
        yield Problem("E065", path, f"cannot import {dotted!r}: {error}.", nearest_path(dotted, callable))
        return
    if not callable(found):
        message = f"names {dotted!r}, which can't be called."
        hint = nearest_path(dotted, callable) or "Name a function that takes the request and returns the user."
        yield Problem("E065", path, message, hint)


def app_order_problems() -> Iterator[Problem]:
    """Warn of the admin, and of themes, that Django finds the template with the history link of before ours."""
    configs = list(apps.get_app_configs())
    names = [config.name for config in configs]
    if ADMIN not in names:
        return
    before = configs[: names.index("django_signal_audit")]
    hiding = [config.name for config in before if config.name == ADMIN or Path(config.path, LINK_TEMPLATE).is_file()]
    if hiding:
        listed = ", ".join(f'"{name}"' for name in hiding)
        yield Problem(
            "W003",
            "INSTALLED_APPS",
            f'names "django_signal_audit" after {listed}: the admin shows no history links.',
            f'Move "django_signal_audit" before "{hiding[0]}".',
        )


def middleware_problems() -> Iterator[Problem]:
    """Warn of rules without the middleware that ties events to requests."""
    if get_registry().rules and not any(_is_audit_middleware(path) for path in django_settings.MIDDLEWARE):
        yield Problem(
            "W002",
            "MIDDLEWARE",
            "doesn't have AuditMiddleware: events don't record the user and the request, and requests aren't recorded.",
            f'Add "{MIDDLEWARE}" after the authentication middleware.',
        )


def _is_audit_middleware(path: str) -> bool:
    if path == MIDDLEWARE:
        return True
    try:
        found = import_string(path)
        return isinstance(found, type) and issubclass(found, import_string(MIDDLEWARE))
    except Exception:  # noqa: BLE001  # Django itself reports what cannot be imported, when it loads it
        return False
