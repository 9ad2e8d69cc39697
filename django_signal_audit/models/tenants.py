"""Whose events are read: those of the tenant that is current."""

from __future__ import annotations

from collections.abc import Callable

from django_signal_audit.conf import get_settings

PATH = 'SIGNAL_AUDIT["TENANT"]'

_current: Callable[[], str] = lambda: ""  # noqa: E731


def ask_for_tenant(current: Callable[[], str]) -> Callable[[], str]:
    """Set what tells the current tenant; usable as a decorator."""
    global _current
    _current = current
    return current


def current_tenant() -> str:
    """Return the tenant whose events are meant, ``""`` for those of all; see ``context.tenants``."""
    return _current()


def tenant_function() -> str:
    """Return the dotted path of the function of TENANT, ``""`` if the setting names none."""
    found = get_settings().tenant
    return found if isinstance(found, str) else ""


def tenant_of_tables() -> str:
    """Return the current tenant where TENANT names a function, as if each had tables of its own; otherwise ``""``."""
    return current_tenant() if tenant_function() else ""
