"""The current tenant: the one that was chosen, or that the function of the setting TENANT names."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from django_signal_audit.conf import on_settings_changed
from django_signal_audit.context.scopes import asking, chosen_tenant
from django_signal_audit.events.keys import object_id
from django_signal_audit.events.project_code import own_queries_anywhere
from django_signal_audit.models import AuditEvent, AuditEventQuerySet
from django_signal_audit.models.tenants import PATH, ask_for_tenant, tenant_function
from django_signal_audit.plugins import PluginError, is_sync, load

logger = logging.getLogger("django_signal_audit")


@ask_for_tenant
def current_tenant() -> str:
    """Return the tenant whose events are meant, ``""`` for those of all.

    Raises:
        Exception: The function raised it, can't be called, or returned what is no text.

    """
    chosen = chosen_tenant()
    if chosen is not None:
        return object_id(chosen)
    dotted = tenant_function()
    if not dotted:
        return ""
    with asking("TENANT") as may_ask:
        # What the function itself reads and writes has no tenant.
        return _ask(dotted) if may_ask else ""


def _ask(dotted: str) -> str:
    said = _function()()
    if said is not None and not isinstance(said, str):
        msg = f"{dotted} returned {type(said).__name__}, not a str. Return the text of the tenant's primary key."
        raise TypeError(msg)
    return object_id(said)


@cache
def _function() -> Callable[[], object]:
    function: Callable[[], object] = load(
        tenant_function(), PATH, "a function that can be called without await", is_sync
    )
    return function


on_settings_changed(_function.cache_clear)


class Tenant(NamedTuple):
    """The tenant of an event, and what is wrong with the answer of the function."""

    name: str
    error: str = ""


def writing_tenant() -> Tenant:
    """Return the tenant that the function of TENANT names. A function that fails breaks no write: the event says so."""
    dotted = tenant_function()
    try:
        if not dotted:
            return Tenant(current_tenant())
        with own_queries_anywhere():
            return Tenant(current_tenant())
    except PluginError as error:
        return _failed(f"{dotted} can't be called", error)
    except TypeError as error:
        return _failed(f"{dotted} raised TypeError or returned what is no text", error)
    except Exception as error:  # noqa: BLE001  # the project's code may raise anything, and the write must not fail
        return _failed(f"{dotted} raised {type(error).__name__}", error)


def events_of_writer(using: str) -> AuditEventQuerySet:
    """Return the events among which those of a row that is being written are: where keys meet, of its tenant alone."""
    events = AuditEvent.of_all_tenants.using(using)
    tenant = writing_tenant().name if tenant_function() else ""
    return events.for_tenant(tenant) if tenant else events


def _failed(what: str, error: Exception) -> Tenant:
    # The text of the error may hold secrets: the log has it, the event does not.
    logger.error("%s: events are recorded without a tenant, and say so. %s", PATH, what, exc_info=error)
    return Tenant("", what)
