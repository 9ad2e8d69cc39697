"""The system checks: every mistake in SIGNAL_AUDIT, all at once."""

from __future__ import annotations

import inspect
import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from django.apps import AppConfig, apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections, models, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.module_loading import import_string

from django_signal_audit.capture.hooks import self_check
from django_signal_audit.capture.sources.base import registered_sources
from django_signal_audit.channels import load_channel
from django_signal_audit.channels.base import Channel
from django_signal_audit.conf import KEYS, SETTING, get_settings
from django_signal_audit.context.clients import UNIX
from django_signal_audit.delivery.connection_pools import pool_problems
from django_signal_audit.delivery.recipient_checks import (
    absence_problems,
    link_problems,
    permission_problems,
    recipient_problems,
    spec_problems,
    unreachable_problems,
)
from django_signal_audit.dispatchers import load_dispatcher
from django_signal_audit.dispatchers.base import Dispatcher
from django_signal_audit.events.keys import MAX_LENGTH
from django_signal_audit.events.masking import is_left_out
from django_signal_audit.events.secret_fields import Reason, has_secret_key, secret_fields
from django_signal_audit.evidence.config import evidence_problems
from django_signal_audit.evidence.hardening import hardening_problems
from django_signal_audit.evidence.personal import is_personal
from django_signal_audit.exceptions import InvalidSettings
from django_signal_audit.models import AuditEvent
from django_signal_audit.plugins import PluginError, call_mistake, function_problems, load_class
from django_signal_audit.problems import Problem, nearest, shown
from django_signal_audit.reports.exports.base import ExportFormat
from django_signal_audit.reports.formats.base import ReportFormat
from django_signal_audit.rules.parsing import NAME_LENGTH, storable
from django_signal_audit.rules.plans import CompiledRule, ModelPlan
from django_signal_audit.rules.project_checks import content_problems, rename_problems, tenant_problems
from django_signal_audit.rules.registry import get_registry

SUPPORTED = "PostgreSQL, MariaDB or SQLite"
# Their names, by ``connection.vendor``. Backends that wrap one of Django's own have its vendor.
_NAMES = {"mysql": "MySQL", "oracle": "Oracle", "microsoft": "SQL Server", "cockroachdb": "CockroachDB"}
_DUMMY = "django.db.backends.dummy"
# Seconds to wait for a server that has to be asked what it is.
_PATIENCE = 3


def database_problems(databases: Sequence[str] | None = None) -> Iterator[Problem]:
    """Report databases that may hold audited rows and are not supported.

    Args:
        databases: Their aliases; all if None.

    """
    for alias in databases or connections:
        connection = connections[alias]
        name = _unsupported(connection) if _holds_audited_rows(alias) else ""
        if name:
            yield Problem(
                "E029",
                f'DATABASES["{alias}"]["ENGINE"]',
                f"is {connection.settings_dict['ENGINE']!r}, and {name} is not supported: changes would go unrecorded.",
                f"Use {SUPPORTED}, or keep the audited models from this database by a database router.",
            )


def _holds_audited_rows(alias: str) -> bool:
    return any(
        router.allow_migrate_model(alias, model) or router.db_for_write(model) == alias
        for model in get_registry().plans
    )


def _unsupported(connection: BaseDatabaseWrapper) -> str:
    """Return the name of the database if it is not supported, ``""`` if it is or if it cannot be known."""
    if connection.vendor in ("postgresql", "sqlite") or connection.settings_dict["ENGINE"] == _DUMMY:
        return ""
    if connection.vendor == "mysql" and _is_mariadb(connection) is not False:
        return ""
    name = getattr(type(connection), "display_name", None)  # where it is a property, it may ask the server
    return _NAMES.get(connection.vendor) or (name if isinstance(name, str) else connection.vendor)


def _is_mariadb(connection: BaseDatabaseWrapper) -> bool | None:
    """Return whether the server is MariaDB, None if it does not answer: MySQL has the same backend in Django.

    An open connection is asked. Otherwise one is made for the question, which does not wait for long.
    """
    if connection.connection is not None:
        return _ask(connection)
    probe = connection.copy()
    probe.settings_dict["OPTIONS"] = {"connect_timeout": _PATIENCE, **probe.settings_dict.get("OPTIONS", {})}
    try:
        return _ask(probe)
    finally:
        probe.close()


def _ask(connection: BaseDatabaseWrapper) -> bool | None:
    try:
        return bool(connection.mysql_is_mariadb)  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001  # the server is away, or tests forbid queries: checks have to go on without it
        return None


# A name is ours if it is that near: SIGNAL_AUDITS and DJANGO_SIGNAL_AUDIT are, AUDIT and AUDITLOG are not.
_NEAR = 0.75


def misnamed_problems() -> Iterator[Problem]:
    """Warn of settings that nothing reads, as their name is nearly ours or begins with it."""
    is_missing = not hasattr(django_settings, SETTING)
    for name in dir(django_settings):
        key = name.removeprefix(f"{SETTING}_")
        if key != name and key in KEYS:
            hint = f'Write {SETTING} = {{"{key}": …}}.'
            yield Problem("W047", name, "is a setting that nothing reads.", hint)
        elif is_missing and name.isupper() and nearest(name, [SETTING], _NEAR):
            message = f"is a setting that nothing reads, and there is no {SETTING}."
            yield Problem("W047", name, message, f"Write {SETTING}.")


MIDDLEWARE = "django_signal_audit.middleware.AuditMiddleware"
ADMIN = "django.contrib.admin"
LINK_TEMPLATE = "templates/admin/change_form_object_tools.html"


def actor_problems() -> Iterator[Problem]:
    """Report an ACTOR that can't be asked."""
    path, dotted = 'SIGNAL_AUDIT["ACTOR"]', get_settings().actor
    if not dotted:
        return
    hint = "Name a function that takes the request and returns the user."
    yield from function_problems("E065", dotted, path, ["request"], hint=hint)


def context_problems() -> Iterator[Problem]:
    """Report a CONTEXT that can't be asked."""
    path, dotted = 'SIGNAL_AUDIT["CONTEXT"]', get_settings().context
    if dotted:
        hint = "Name a function without arguments that returns a dict."
        yield from function_problems("E080", dotted, path, [], hint=hint)


def included_problems() -> Iterator[Problem]:
    """Warn of included fields that sound as if they held personal values."""
    for parsed in get_registry().parsed:
        rule = parsed.rule
        labels = [plan.label for plan in get_registry().plans.values() if rule in plan.rules]
        for name in dict.fromkeys(rule.include):
            if name not in rule.personal and any(is_personal(label, name) for label in labels):
                yield Problem(
                    "W081",
                    f'{parsed.path}["include"]',
                    f"names {name!r}, which seems to hold personal values: every event would repeat them.",
                    "Include the key of the person's row instead. audit_erase empties the context of a person's own "
                    "events only.",
                )


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
    count = sum(map(_is_audit_middleware, django_settings.MIDDLEWARE))
    if count > 1:
        message = f"has AuditMiddleware {count} times: each request is recorded as often."
        yield Problem("W086", "MIDDLEWARE", message, "Keep the first.")
    if get_registry().rules and not count:
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


_GUESSES = {Reason.GUESS, Reason.ENCRYPTS, Reason.MODEL}


def secret_problems() -> Iterator[Problem]:
    """Warn of fields and primary keys of audited models that are masked by guess."""
    yield from _left_out_problems()
    for plan in get_registry().plans.values():
        yield from _guessed_fields(plan)
        yield from _secret_keys(plan)


# So many fields are named.
_NAMED = 5


def _left_out_problems() -> Iterator[Problem]:
    """Warn of fields that are stored in clear because a list in the settings replaces the default one."""
    names = [
        f"{plan.model._meta.label}.{name}"
        for plan in get_registry().plans.values()
        for name, field in plan.fields.items()
        if name not in plan.secret and isinstance(field, (models.CharField, models.TextField)) and is_left_out(name)
    ]
    if names:
        listed = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
        yield Problem(
            "W046",
            'SIGNAL_AUDIT["MASK_FIELDS"]',
            f"replaces the default list, so secrets are stored in clear: {listed}.",
            "Begin it with *DEFAULT_MASK_FIELDS from django_signal_audit.conf. A name that is no secret's is written "
            f'"!{names[0].rpartition(".")[2]}".',
        )


def _guessed_fields(plan: ModelPlan) -> Iterator[Problem]:
    confirmed = get_registry().masked(plan.model)
    for name, reason in secret_fields(plan.model).items():
        if reason in _GUESSES and name in plan.fields and name not in confirmed:
            yield Problem(
                "W055",
                f"{plan.model._meta.label}.{name}",
                f"is masked {reason.value}.",
                f'To confirm it, add to a rule: "mask": ["{name}"]. To store its values, add "!{name}" to MASK_FIELDS.',
            )


def _secret_keys(plan: ModelPlan) -> Iterator[Problem]:
    if not has_secret_key(plan.model):
        return
    confirmed = get_registry().masked(plan.model)
    for field in plan.model._meta.pk_fields:
        if field.name in secret_fields(plan.model) and field.name not in confirmed:
            yield Problem(
                "W007",
                f"{plan.model._meta.label}.{field.name}",
                "is the primary key and seems to be a secret, so events name the object by a tag.",
                f'Leave the model out of the rules, or confirm it by "mask": ["{field.name}"]. If it is no secret, add '
                f'"!{field.name}" to MASK_FIELDS.',
            )


def register_all() -> None:
    """Register the checks; registering twice changes nothing."""
    register(check_rules, Tags.signals)
    register(check_plugins, Tags.signals)
    register(check_installation, Tags.signals)
    register(check_databases, Tags.signals)
    register(check_permissions, Tags.signals)
    register(check_recipients, Tags.database)
    register(check_evidence, Tags.database)
    register(check_deployment, Tags.signals, deploy=True)


def check_deployment(app_configs: Sequence[AppConfig] | None = None, **_: object) -> list[CheckMessage]:
    """Warn of what is fine for a test and not for production."""
    if get_settings().enabled:
        return []
    message = "is False: nothing is audited, and no notification is sent."
    return [Problem("W056", f'{SETTING}["ENABLED"]', message, "Remove it once auditing is to go on.").as_check()]


def check_rules(app_configs: Sequence[AppConfig] | None = None, **_: object) -> list[CheckMessage]:
    """Report what is wrong with SIGNAL_AUDIT and its rules."""
    registry = get_registry()
    registry.are_reported = True
    return [problem.as_check() for problem in registry.problems]


def check_plugins(app_configs: Sequence[AppConfig] | None = None, **_: object) -> list[CheckMessage]:
    """Report what is wrong with channels, recipients, templates, dispatcher, formats and proxies."""
    settings = get_settings()
    problems = [
        *recipient_problems(),
        *spec_problems(),
        *absence_problems(),
        *link_problems(),
        *content_problems(),
        *_format_problems("E023", "REPORT_FORMATS", settings.report_formats, ReportFormat),
        *_format_problems("E028", "EXPORT_FORMATS", settings.export_formats, ExportFormat),
        *_proxy_problems(),
        *actor_problems(),
        *context_problems(),
        *tenant_problems(),
        *rename_problems(),
        *included_problems(),
        *_retention_problems(),
        *_visibility_problems(),
        *evidence_problems(),
    ]
    return [*_check_channels(), *_check_dispatcher(), *(problem.as_check() for problem in problems)]


def check_installation(app_configs: Sequence[AppConfig] | None = None, **_: object) -> list[CheckMessage]:
    """Report what is wrong with the project around the rules, and with the Django it runs on."""
    problems = [
        *misnamed_problems(),
        *self_check(queries=get_settings().capture_queries),
        *app_order_problems(),
        *middleware_problems(),
        *_sqlite_problems(),
        *pool_problems(),
    ]
    problems += [*_unseen_problems(), *secret_problems()]
    for source in registered_sources():
        problems += source.problems()
    return [problem.as_check() for problem in problems]


def check_databases(
    app_configs: Sequence[AppConfig] | None = None, databases: Sequence[str] | None = None, **_: object
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


def check_permissions(app_configs: Sequence[AppConfig] | None = None, **_: object) -> list[CheckMessage]:
    """Report recipients who are skipped unless they have a permission, where nobody has decided that."""
    return [problem.as_check() for problem in permission_problems()]


def check_recipients(
    app_configs: Sequence[AppConfig] | None = None, databases: Sequence[str] | None = None, **_: object
) -> list[CheckMessage]:
    """Report users and groups that nobody is, as ``check --database`` is asked to look."""
    return [problem.as_check() for problem in unreachable_problems(databases or ())]


def check_evidence(
    app_configs: Sequence[AppConfig] | None = None, databases: Sequence[str] | None = None, **_: object
) -> list[CheckMessage]:
    """Report databases where events can be deleted or are not sealed in time, as ``check --database`` asks."""
    return [problem.as_check() for problem in hardening_problems(databases or ())]


def _check_channels() -> Iterator[CheckMessage]:
    for alias, config in get_settings().channels.items():
        path = f'SIGNAL_AUDIT["CHANNELS"]["{alias}"]'
        if not storable(alias) or not alias:
            message = f"has an alias that is empty, longer than {NAME_LENGTH} characters, or not printable."
            yield Problem("E015", path, message, "Give it a short name.").as_check()
        try:
            channel = load_channel(alias, config)
            problems = channel.check()
            found = _method_problems("E015", path, type(channel), Channel, "send")
            yield from (problem.as_check() for problem in found)
            yield from problems or _check_recipients(channel, path)
        except InvalidSettings as error:
            yield Error(error.message, hint=error.hint, id="django_signal_audit.E015")
        except Exception as error:  # noqa: BLE001  # channels are the project's code, and the others are to be checked
            hint = "Fix the method of the channel that raises, or the OPTIONS it reads."
            yield Problem("E015", path, f"cannot be checked: {error!r}.", hint).as_check()


def _method_problems(code: str, path: str, plugin: type, base: type, name: str) -> Iterator[Problem]:
    """Report a method of a plug-in that can't be called as the method of its base class is."""
    arguments = list(inspect.signature(getattr(base, name)).parameters)
    if mistake := call_mistake(getattr(plugin, name), arguments):
        message = f"is {plugin.__name__}, whose method {name} {mistake}."
        yield Problem(code, path, message, f"Write def {name}({', '.join(arguments)}), without async and yield.")


def _check_recipients(channel: Channel, path: str) -> Iterator[CheckMessage]:
    if not all(storable(recipient, MAX_LENGTH) for recipient in channel.recipients()):
        message = f"names a recipient that is longer than {MAX_LENGTH} characters or not printable."
        yield Problem("E015", f'{path}["OPTIONS"]["to"]', message, "Correct the recipient.").as_check()


def _check_dispatcher() -> Iterator[CheckMessage]:
    dotted = get_settings().dispatcher
    try:
        dispatcher = load_dispatcher(dotted)
        yield from dispatcher.check()
        found = _method_problems("E022", 'SIGNAL_AUDIT["DISPATCHER"]', type(dispatcher), Dispatcher, "wake")
        yield from (problem.as_check() for problem in found)
    except InvalidSettings as error:
        yield Error(error.message, hint=error.hint, id="django_signal_audit.E022")
    except Exception as error:  # noqa: BLE001  # a dispatcher may be the project's code
        message = f"is {dotted!r}, which cannot be checked: {error!r}."
        yield Problem("E022", 'SIGNAL_AUDIT["DISPATCHER"]', message, "Fix its check method.").as_check()


def _format_problems(code: str, setting: str, formats: Mapping[str, str], base: type) -> Iterator[Problem]:
    for alias, dotted in formats.items():
        path = f'SIGNAL_AUDIT["{setting}"]["{alias}"]'
        try:
            yield from _method_problems(code, path, load_class(dotted, path, base), base, "write")
        except PluginError as error:
            yield error.as_problem(code)


def _retention_problems() -> Iterator[Problem]:
    """Report a retention that never counts, because another rule keeps the same events forever."""
    registry = get_registry()
    kept: dict[tuple[str, str], list[str]] = {}
    of_models = ((plan.model._meta.label, plan.compiled) for plan in registry.plans.values())
    for label, rules in (*of_models, *registry.event_rules.items()):
        for item in rules:
            keepers = (other.rule.name for other in rules if item.rule.retention and _keeps_all(other, item))
            if keeper := next(keepers, None):
                kept.setdefault((item.rule.name, keeper), []).append(label)
    for (name, keeper), labels in kept.items():
        labels.sort()
        where = next(parsed.path for parsed in registry.parsed if parsed.rule.name == name)
        shown_labels = ", ".join(labels[:3]) + (" and others" if len(labels) > 3 else "")
        message = (
            f'has no effect on {shown_labels}: the rule "{keeper}" records the same events, and keeps them forever.'
        )
        hint = f'Set a retention for the rule "{keeper}" as well: the longest one counts.'
        yield Problem("W001", f'{where}["retention"]', message, hint)


def _keeps_all(other: CompiledRule, item: CompiledRule) -> bool:
    """Return whether a rule without a retention matches whatever another rule matches."""
    rule = other.rule
    is_for_all = not (rule.retention or other.condition or rule.paths or rule.methods)
    return is_for_all and item.events <= other.events and item.names <= other.names


def _visibility_problems() -> Iterator[Problem]:
    dotted = get_settings().visibility
    if not dotted:
        return
    hint = "Name a function that takes a user and a queryset of events, and returns those that the user may see."
    yield from function_problems("E060", dotted, 'SIGNAL_AUDIT["VISIBILITY"]', ["user", "events"], hint=hint)


# Wider networks than any that is given to one organization.
_WIDEST = {4: 8, 6: 7}


def _proxy_problems() -> Iterator[Problem]:
    for position, text in enumerate(get_settings().trusted_proxies):
        path = f'SIGNAL_AUDIT["TRUSTED_PROXIES"][{position}]'
        if text == UNIX:
            continue
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            yield Problem("E003", path, f"is {shown(text)}, which isn't an IP address or network.", _proxy_hint(text))
            continue
        what = ""
        if network.prefixlen < _WIDEST[network.version]:
            what = "from which anybody may come: clients could forge their address"
        elif network.network_address.is_unspecified:
            what = "which no proxy has"
        if what:
            yield Problem("W043", path, f"is {text!r}, {what}.", "Name the addresses or networks of your own proxies.")


def _proxy_hint(text: str) -> str:
    word = text.strip().lower()
    if word in ("*", "all", "any"):
        return "Name the addresses or networks of your own proxies: other clients could forge their address."
    if word in ("localhost", "local"):
        return 'Write "127.0.0.1" and "::1".'
    if word.startswith("unix"):
        return f'Write "{UNIX}" for a proxy on a unix socket.'
    address, _, port = word.strip("[]").rpartition("]:" if word.startswith("[") else ":")
    if port.isdecimal() and _is_address(address):
        return f'Remove the port: "{address}".'
    if word != text and _is_address(word):
        return f'Remove the spaces around it: "{word}".'
    return 'Write an address such as "10.0.0.7", or a network such as "10.0.0.0/8".'


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


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
