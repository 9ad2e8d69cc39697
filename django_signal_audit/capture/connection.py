"""Connecting and disconnecting all capture sources."""

from __future__ import annotations

from django.apps import apps
from django.utils.module_loading import autodiscover_modules

from django_signal_audit.conf import on_settings_changed
from django_signal_audit.rules.registry import get_registry

from . import accounts, commands, custom_signals, deletes, members, queries, saves
from .base import registered_sources

# Importing them registers their sources.
BUILT_IN = (saves, deletes, members, queries, custom_signals, accounts, commands)


def start() -> None:
    """Connect what the rules ask for, and again whenever the settings change."""
    autodiscover_modules("audit_sources")
    # The apps may have been loaded anew, and others than before (``apps.set_installed_apps``).
    get_registry.cache_clear()
    reconnect()
    on_settings_changed(reconnect)


def reconnect() -> None:
    """Connect exactly what the rules in force ask for; calling it twice changes nothing."""
    for source in registered_sources():
        source.disconnect()
    if apps.ready or apps.models_ready:
        registry = get_registry()
        for source in registered_sources():
            source.connect(registry)
