"""Connecting and disconnecting all capture sources."""

from __future__ import annotations

import sys

from django.apps import apps
from django.core.signals import request_started
from django.db import models
from django.db.models.signals import class_prepared
from django.utils.module_loading import autodiscover_modules, import_string

from django_signal_audit.capture import deletes, m2m, queries, saves
from django_signal_audit.capture.compilers import DeleteStatement, InsertStatement, Statement, UpdateStatement, guard
from django_signal_audit.capture.sources import accounts, commands, custom_signals, delivery
from django_signal_audit.capture.sources.base import register_source, registered_sources
from django_signal_audit.capture.sources.channels_consumers import ConsumerSource, is_channels_installed
from django_signal_audit.conf import get_settings, on_settings_changed
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.events import is_erasing, is_pruning, refuse
from django_signal_audit.rules.registry import get_registry


def refuse_changes(statement: Statement) -> None:
    """Raise ImmutableEvent for a statement that changes or deletes events, unless ``prune()`` or an erasure runs it."""
    if isinstance(statement, InsertStatement):
        if statement.updates_conflicts:
            refuse("updated")
    elif isinstance(statement, DeleteStatement):
        if not is_pruning():
            refuse("deleted")
    elif not is_erasing() and _changes_rows(statement):
        refuse("changed")


def _changes_rows(statement: UpdateStatement) -> bool:
    """Return whether an UPDATE concerns any event.

    A raw save, which fixtures use, begins with an UPDATE of its primary key and inserts if there is no such row.
    """
    return bool(statement.matching().get_compiler(statement.using).has_results())


guard(AuditEvent, refuse_changes)


# Importing them registers their sources, and the guard of our own table.
BUILT_IN = (saves, deletes, m2m, queries, custom_signals, accounts, commands, delivery)

# Sources for packages that not everybody has; where one has not been imported, nothing of it is in use.
OPTIONAL = {"celery": "django_signal_audit.capture.sources.celery_tasks.CeleryTaskSource"}


def start() -> None:
    """Connect what the rules ask for, and again whenever the settings change."""
    autodiscover_modules("audit_sources")
    if is_channels_installed():
        register_source(ConsumerSource)
    # The apps may have been loaded anew, and others than before (``apps.set_installed_apps``).
    get_registry.cache_clear()
    reconnect()
    on_settings_changed(reconnect)
    request_started.connect(_log_mistakes, dispatch_uid="django_signal_audit.capture.connection")
    class_prepared.connect(_await_registration, dispatch_uid="django_signal_audit.capture.connection")


def _log_mistakes(**_: object) -> None:
    """Log at the first request that rules are left out; no other needs to know."""
    get_registry().log_mistakes()
    request_started.disconnect(dispatch_uid="django_signal_audit.capture.connection")


def reconnect() -> None:
    """Connect exactly what the rules in force ask for; calling it twice changes nothing."""
    for package, dotted in OPTIONAL.items():
        if sys.modules.get(package) is not None:
            register_source(import_string(dotted))
    for source in registered_sources():
        source.disconnect()
    if get_settings().enabled and (apps.ready or apps.models_ready):
        registry = get_registry()
        for source in registered_sources():
            source.connect(registry)


def _await_registration(sender: type[models.Model], **_: object) -> None:
    """Have a model audited that is defined after the start, in a module that nobody had imported until then."""
    options = sender._meta
    # An automatic through model is prepared before the model that has the field, and audited along with it.
    if options.apps is apps and apps.models_ready and not options.auto_created and get_settings().rules:
        apps.lazy_model_operation(_admit, (options.app_label, str(options.model_name)))


# Late models that wait for one that they name and that is still to come.
_waiting: list[type[models.Model]] = []


def _admit(model: type[models.Model]) -> None:
    # Django drops its list of models only after what waits for the registration has run.
    apps.clear_cache()
    _waiting.append(model)
    known = [one for one in _waiting if _is_registered(one)]
    # One that names what never comes keeps nobody else from being audited.
    late = [one for one in known if not _has_open_relation(one)]
    _waiting[:] = [one for one in known if _has_open_relation(one)]
    if not late:
        return
    if any(problem.is_error for problem in get_registry().problems):
        # A rule may have waited for the model, and is read anew.
        get_registry.cache_clear()
        if not get_registry().senders.keys().isdisjoint(late):
            reconnect()
        return
    for one in late:
        if get_registry().admit(one):
            for source in registered_sources():
                source.admit(get_registry(), one)


def _is_registered(model: type[models.Model]) -> bool:
    return apps.all_models[model._meta.app_label].get(str(model._meta.model_name)) is model


def _has_open_relation(model: type[models.Model]) -> bool:
    options = model._meta
    relations = [field.remote_field for field in (*options.local_fields, *options.local_many_to_many)]
    targets = [target for item in relations if item for target in (item.model, getattr(item, "through", None))]
    return any(isinstance(target, str) for target in targets)
