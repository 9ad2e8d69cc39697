"""Where the admin's audit pages are."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib.admin import AdminSite
from django.contrib.admin.utils import quote, unquote
from django.db.models import Model
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from django_signal_audit.events.keys import row_name
from django_signal_audit.models import AuditEvent
from django_signal_audit.rules.registry import get_registry

from .access import access_of

EVENTS = "admin:django_signal_audit_auditevent"
NOTIFICATIONS = "admin:django_signal_audit_notification"


def _page(site: str, name: str, *args: object) -> str:
    """Return the address of one of our pages, ``""`` on a site that has the notifications without the audit log."""
    try:
        return reverse(name, args=args, current_app=site)
    except NoReverseMatch:
        return ""


def events_url(site: str, **parameters: str) -> str:
    """Return the address of the list of events, narrowed by the parameters."""
    return _with_query(_page(site, f"{EVENTS}_changelist"), parameters)


def actor_url(site: str, key: str, name: str) -> str:
    """Return the address of the events of an actor, ``""`` for nobody; who has no primary key is found by name."""
    if not (key or name):
        return ""
    return events_url(site, actor=key) if key else events_url(site, actor_name=name)


def event_url(site: str, event_id: int) -> str:
    """Return the address of one event's page."""
    return _page(site, f"{EVENTS}_change", event_id)


def permalink(site: str, uid: UUID) -> str:
    """Return the address that an event keeps: its uid is its name to the outside."""
    return _page(site, f"{EVENTS}_permalink", uid)


def proof_url(site: str, uid: UUID) -> str:
    """Return the address of the proof of an event."""
    return _page(site, f"{EVENTS}_proof", uid)


def revert_url(site: str, event_id: int) -> str:
    """Return the URL of the page that reverts the change of an event."""
    return _page(site, f"{EVENTS}_revert", event_id)


def revert_request_url(site: str, correlation: str) -> str:
    """Return the URL of the page that reverts all changes of a request, task or command."""
    return _with_query(_page(site, f"{EVENTS}_revert_request"), {"request": correlation})


def notification_url(site: str, notification_id: int) -> str:
    """Return the address of one notification's page."""
    return reverse(f"{NOTIFICATIONS}_change", args=(notification_id,), current_app=site)


def notifications_url(site: str, **parameters: str) -> str:
    """Return the address of the list of notifications, narrowed by the parameters."""
    return _with_query(reverse(f"{NOTIFICATIONS}_changelist", current_app=site), parameters)


def history_url(site: str, label: str, key: str) -> str:
    """Return the address of an object's history; its key may hold any characters."""
    return _page(site, f"{EVENTS}_object_history", label, _segment(key))


def erase_url(site: str, label: str, key: str) -> str:
    """Return the address of the page that erases the personal data of an object."""
    return _page(site, f"{EVENTS}_erase", label, _segment(key))


def restore_url(site: str, label: str, key: str, point: str) -> str:
    """Return the address of the page that restores an object as it was at a point of its history."""
    return _with_query(_page(site, f"{EVENTS}_restore", label, _segment(key)), {"version": point})


# Browsers take a path segment of dots for a way up, and the admin's quote() leaves dots alone. It writes an underscore
# as _5F, so the code for a dot can stand for nothing else.
_DOT = "_2E"


def _segment(key: str) -> str:
    return quote(key).replace(".", _DOT)


def key_of(segment: str) -> str:
    """Return the key that a segment of a history's address stands for."""
    return unquote(segment.replace(_DOT, "."))


def object_url(site: str, event: AuditEvent) -> str:
    """Return the address of the change form of the event's object, ``""`` if the admin has none."""
    model = event.model_class
    if model is None or not event.object_id:
        return ""
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}_change"
    try:
        return reverse(name, args=(quote(event.object_id),), current_app=site)
    except NoReverseMatch:
        return ""


def may_view_events(request: HttpRequest, site: AdminSite | str, label: str) -> bool:
    """Return whether the user may see events of a model: it takes the permission for events, and for the model."""
    user: Any = request.user
    return user.has_perm("django_signal_audit.view_auditevent") and access_of(request, site).may_view(label)


def history_url_of(request: HttpRequest, site: str, instance: Model) -> str:
    """Return the address of the history of an audited object for a user who may see it.

    It is ``""`` for any other, of an object that is not audited, and where the site has no log.

    A multi-table child without a rule of its own has its nearest ruled parent's history.
    """
    registry = get_registry()
    plans = [plan for plan in (registry.plan_for(type(instance)),) if plan] or registry.senders.get(type(instance), ())
    if not plans or instance.pk is None or not may_view_events(request, site, plans[0].label):
        return ""
    pk: Any = plans[0].model._meta.pk
    return history_url(site, plans[0].label, row_name(plans[0].model, getattr(instance, pk.attname)))


def _with_query(address: str, parameters: dict[str, str]) -> str:
    return f"{address}?{urlencode(parameters)}" if parameters and address else address
