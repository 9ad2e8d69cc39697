"""The system checks: every mistake in SIGNAL_AUDIT, all at once."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections, models, router
from django.utils.module_loading import import_string

from django_signal_audit.capture.databases import database_problems
from django_signal_audit.capture.internals import self_check
from django_signal_audit.capture.sources.base import registered_sources
from django_signal_audit.channels.base import Channel
from django_signal_audit.channels.registry import load_channel
from django_signal_audit.conf import get_settings
from django_signal_audit.context.clients import UNIX
from django_signal_audit.delivery.recipient_checks import permission_problems, recipient_problems, spec_problems
from django_signal_audit.dispatchers.registry import load_dispatcher
from django_signal_audit.events.keys import MAX_LENGTH
from django_signal_audit.exceptions import InvalidSettings
from django_signal_audit.models import AuditEvent
from django_signal_audit.problems import Problem, nearest_path
from django_signal_audit.reports.exports.base import ExportFormat
from django_signal_audit.reports.formats.base import ReportFormat
from django_signal_audit.rules.parsing import NAME_LENGTH, storable
from django_signal_audit.rules.registry import get_registry

from .project import actor_problems, app_order_problems, middleware_problems
from .secrets import secret_problems


def register_all() -> None:
    """Register the checks; registering twice changes nothing."""
    register(check_rules, Tags.signals)
    register(check_plugins, Tags.signals)
    register(check_installation, Tags.signals)
    register(check_databases, Tags.signals)
    register(check_permissions, Tags.signals)


def check_rules(app_configs: Sequence[AppConfig] | None = None, **_: Any) -> list[CheckMessage]:
    """Report what is wrong with SIGNAL_AUDIT and its rules."""
    registry = get_registry()
    registry.are_reported = True
    return [problem.as_check() for problem in registry.problems]


def check_plugins(app_configs: Sequence[AppConfig] | None = None, **_: Any) -> list[CheckMessage]:
    """Report what is wrong with channels, dispatcher, formats and proxies."""
    settings = get_settings()
    problems = [
        *recipient_problems(),
        *spec_problems(),
        *_format_problems("E023", "REPORT_FORMATS", settings.report_formats, ReportFormat),
        *_format_problems("E028", "EXPORT_FORMATS", settings.export_formats, ExportFormat),
        *_proxy_problems(),
        *actor_problems(),
        *_visibility_problems(),
    ]
    return [*_check_channels(), *_check_dispatcher(), *(problem.as_check() for problem in problems)]


def check_installation(app_configs: Sequence[AppConfig] | None = None, **_: Any) -> list[CheckMessage]:
    """Report what is wrong with the project around the rules, and with the Django it runs on."""
    problems = [*self_check(), *app_order_problems(), *middleware_problems(), *_sqlite_problems()]
    problems += [*_unseen_problems(), *secret_problems()]
    for source in registered_sources():
        problems += source.problems()
    return [problem.as_check() for problem in problems]


def check_databases(
    app_configs: Sequence[AppConfig] | None = None, databases: Sequence[str] | None = None, **_: Any
) -> list[CheckMessage]:
    """Report databases that are not supported, and audited models on a database that the audit tables are kept from.

    Only the routers are asked, and MySQL's backend whether it is MariaDB's, so all databases are looked at where none
    is named.
    """
    problems = list(database_problems(databases))
    for alias in databases or connections:
        if router.allow_migrate_model(alias, AuditEvent):
            continue
        labels = [
            model._meta.label
            for model in get_registry().plans
            if model._meta.managed and router.allow_migrate_model(alias, model)
        ]
        if labels:
            hint = "Let your database router allow django_signal_audit there too: an event is written where its row is."
            message = f"has the audited models {', '.join(labels)} but not the audit tables."
            problems.append(Problem("E019", f'DATABASES["{alias}"]', message, hint))
    return [problem.as_check() for problem in problems]


def check_permissions(app_configs: Sequence[AppConfig] | None = None, **_: Any) -> list[CheckMessage]:
    """Report recipients who are skipped unless they have a permission, where nobody has decided that."""
    return [problem.as_check() for problem in permission_problems()]


def _check_channels() -> Iterator[CheckMessage]:
    for alias, config in get_settings().channels.items():
        path = f'SIGNAL_AUDIT["CHANNELS"]["{alias}"]'
        if not storable(alias) or not alias:
            message = f"has an alias that is empty, longer than {NAME_LENGTH} characters, or not printable."
            yield Problem("E015", path, message, "Give it a short name.").as_check()
        try:
            channel = load_channel(alias, config)
            problems = channel.check()
            yield from problems or _check_recipients(channel, path)
        except InvalidSettings as error:
            yield Error(error.message, hint=error.hint, id="django_signal_audit.E015")
        except Exception as error:  # noqa: BLE001  # channels are the project's code, and the others are to be checked
            hint = "Fix the method of the channel that raises, or the OPTIONS it reads."
            yield Problem("E015", path, f"cannot be checked: {error!r}.", hint).as_check()


def _check_recipients(channel: Channel, path: str) -> Iterator[CheckMessage]:
    if not all(storable(recipient, MAX_LENGTH) for recipient in channel.recipients()):
        message = f"names a recipient that is longer than {MAX_LENGTH} characters or not printable."
        yield Problem("E015", f'{path}["OPTIONS"]["to"]', message, "Correct the recipient.").as_check()


def _check_dispatcher() -> Iterator[CheckMessage]:
    dotted = get_settings().dispatcher
    try:
        yield from load_dispatcher(dotted).check()
    except InvalidSettings as error:
        yield Error(error.message, hint=error.hint, id="django_signal_audit.E022")
    except Exception as error:  # noqa: BLE001  # a dispatcher may be the project's code
        message = f"is {dotted!r}, which cannot be checked: {error!r}."
        yield Problem("E022", 'SIGNAL_AUDIT["DISPATCHER"]', message, "Fix its check method.").as_check()


def _format_problems(code: str, setting: str, formats: Mapping[str, str], base: type) -> Iterator[Problem]:
    def fits(found: object) -> bool:
        return isinstance(found, type) and issubclass(found, base)

    for alias, dotted in formats.items():
        path = f'SIGNAL_AUDIT["{setting}"]["{alias}"]'
        try:
            found = import_string(dotted)
        except Exception as error:  # noqa: BLE001  # importing runs the project's code
            yield Problem(code, path, f"cannot import {dotted!r}: {error}.", nearest_path(dotted, fits))
            continue
        if not fits(found):
            message = f"names {dotted!r}, which isn't a subclass of {base.__module__}.{base.__name__}."
            yield Problem(code, path, message, nearest_path(dotted, fits))


def _visibility_problems() -> Iterator[Problem]:
    dotted = get_settings().visibility
    if not dotted:
        return
    path = 'SIGNAL_AUDIT["VISIBILITY"]'
    try:
        found = import_string(dotted)
    except Exception as error:  # noqa: BLE001  # importing runs the project's code
        yield Problem("E060", path, f"cannot import {dotted!r}: {error}.", nearest_path(dotted))
        return
    if not callable(found):
        hint = "Name a function that takes a user and a queryset of events, and returns those that the user may see."
        yield Problem("E060", path, f"names {dotted!r}, which isn't a function.", hint)


def _proxy_problems() -> Iterator[Problem]:
    for position, text in enumerate(get_settings().trusted_proxies):
        if text == UNIX:
            continue
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            path = f'SIGNAL_AUDIT["TRUSTED_PROXIES"][{position}]'
            yield Problem(
                "E003", path, f"is {text!r}, which isn't an IP address or network.", 'Write "10.0.0.7" or "10.0.0.0/8".'
            )


def _sqlite_problems() -> Iterator[Problem]:
    if not get_registry().plans:
        return
    for alias in connections:
        connection = connections[alias]
        mode = str(connection.settings_dict.get("OPTIONS", {}).get("transaction_mode") or "")
        if connection.vendor == "sqlite" and mode.upper() not in ("IMMEDIATE", "EXCLUSIVE"):
            path = f'DATABASES["{alias}"]["OPTIONS"]["transaction_mode"]'
            yield Problem(
                "W005",
                path,
                'isn\'t "IMMEDIATE": every audited save needs one more statement to wait for the lock.',
                'Set "transaction_mode": "IMMEDIATE".',
            )


def _unseen_problems() -> Iterator[Problem]:
    """Warn of foreign keys whose deletion rule the database carries out by itself (Django 6.1)."""
    kinds = [getattr(models, name) for name in ("DB_CASCADE", "DB_SET_NULL", "DB_SET_DEFAULT") if hasattr(models, name)]
    for plan in get_registry().plans.values():
        for field in plan.model._meta.local_fields:
            on_delete = getattr(field.remote_field, "on_delete", None)
            if any(on_delete is kind for kind in kinds):
                yield Problem(
                    "W006",
                    f"{plan.model._meta.label}.{field.name}",
                    "is changed by the database itself when the related object is deleted: no event is recorded.",
                    "Use models.CASCADE, SET_NULL or SET_DEFAULT, or leave the model out of the rules.",
                )
