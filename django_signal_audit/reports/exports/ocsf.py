"""OCSF 1.8: the Open Cybersecurity Schema Framework, which log stores and SIEMs read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import django_signal_audit
from django_signal_audit.enums import EventType, Level
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.state import shaped
from django_signal_audit.reports.exports.base import utc

from .base import JsonLinesExport

VERSION = "1.8.0"
_SEVERITIES = {Level.INFO.value: 1, Level.WARNING.value: 3, Level.CRITICAL.value: 5}
_SUCCESS, _FAILURE = 1, 2
# In every class.
_OTHER = 99
# Those the schema knows.
_METHODS = ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE")


class _Kind(NamedTuple):
    """An OCSF class, its activity by event type (or HTTP method), and the attributes that it alone has."""

    class_uid: int
    activities: Mapping[str, int]
    describe: Callable[[AuditEvent], dict[str, Any]]


def _user(uid: str, name: str) -> dict[str, object]:
    """Return who somebody is; nobody is known to be unknown."""
    if not uid and not name:
        return {"name": "anonymous", "type_id": 0}
    return {key: text for key, text in (("uid", uid), ("name", name)) if text}


def _actor(event: AuditEvent) -> dict[str, object]:
    if event.actor_id or event.actor_repr:
        return {"user": _user(event.actor_id, event.actor_repr)}
    program = event.context.get("command") or event.context.get("task")
    return {"app_name": program} if program else {"user": _user("", "")}


def _origin(event: AuditEvent) -> dict[str, object]:
    """Return where the request came from, and what it was."""
    request = event.context.get("request")
    if not (request and isinstance(request, dict)):
        return {}
    method = str(request.get("method", "")).upper()
    parts = {
        "http_method": method if method in _METHODS else "",
        "user_agent": request.get("user_agent"),
        "uid": request.get("request_id"),
        "url": {"path": request["path"]} if request.get("path") else None,
    }
    found: dict[str, Any] = {"http_request": {key: part for key, part in parts.items() if part}}
    if request.get("ip"):
        found["src_endpoint"] = {"ip": request["ip"]}
    return found


def _common(event: AuditEvent) -> dict[str, object]:
    found: dict[str, Any] = {"actor": _actor(event), **_origin(event)}
    if event.context.get("reason"):
        found["comment"] = event.context["reason"]
    return found


def _entity(event: AuditEvent) -> dict[str, object]:
    """Return the row before and after; of m2m fields, what came and what went."""
    named = {"type": event.model, "type_id": _OTHER, "uid": event.object_id or "-"}
    if event.object_repr:
        named["name"] = event.object_repr
    before: dict[str, Any] = {}
    after: dict[str, object] = {}
    for name, change in event.changes.items():
        if isinstance(change, list):
            before[name], after[name] = change
        else:
            after[name] = change
    found: dict[str, Any] = {**_common(event), "entity": {**named, **({"data": before} if before else {})}}
    if after and event.event_type != EventType.DELETE:
        found["entity_result"] = {**named, "data": after}
    return found


def _authentication(event: AuditEvent) -> dict[str, object]:
    credentials = event.data.get("credentials")
    given = credentials if isinstance(credentials, dict) else {}
    tried = next((str(value) for key, value in given.items() if "name" in key or "mail" in key), "")
    user = _user(event.object_id, event.object_repr or tried)
    found = {**_common(event), "user": user, "service": {"name": "django.contrib.auth"}}
    failed = event.event_type == EventType.LOGIN_FAILED
    return {**found, "status_id": _FAILURE if failed else _SUCCESS}


def _request(event: AuditEvent) -> dict[str, object]:
    data = event.data
    found = {
        "src_endpoint": {"name": "unknown"},
        **_common(event),
        "api": {"operation": str(data.get("view") or f"{data.get('method', '')} {data.get('path', '')}")},
    }
    found.pop("comment", None)  # this class has none
    status = data.get("status")
    if isinstance(status, int):
        found |= {"http_response": {"code": status}, "status_id": _FAILURE if status >= 400 else _SUCCESS}
    return found


def _anything(_: AuditEvent) -> dict[str, object]:
    return {}  # not even an actor has a place in this class


_ENTITY = _Kind(3004, {"create": 1, "view": 2, "update": 3, "m2m": 3, "delete": 4}, _entity)
_AUTHENTICATION = _Kind(3002, {"login": 1, "login_failed": 1, "logout": 2}, _authentication)
_REQUEST = _Kind(6003, {"POST": 1, "GET": 2, "HEAD": 2, "OPTIONS": 2, "PUT": 3, "PATCH": 3, "DELETE": 4}, _request)
_ANYTHING = _Kind(0, {}, _anything)


def _kind_of(event: AuditEvent) -> tuple[_Kind, int]:
    """Return the OCSF class of an event, and its activity in that class."""
    if event.event_type in _AUTHENTICATION.activities:
        return _AUTHENTICATION, _AUTHENTICATION.activities[event.event_type]
    if event.event_type == EventType.REQUEST:
        return _REQUEST, _REQUEST.activities.get(str(event.data.get("method", "")).upper(), _OTHER)
    kind = _ENTITY if event.model else _ANYTHING
    return kind, kind.activities.get(event.event_type, _OTHER)


class OcsfFormat(JsonLinesExport):
    """One OCSF 1.8 event per line.

    Changes of rows are Entity Management (3004), logins Authentication (3002), requests API Activity (6003), events
    without an object Base Event (0). What the schema has no place for is in ``unmapped``. Subclass it to name your
    product.
    """

    product_name = "django_signal_audit"
    vendor_name = "django_signal_audit"

    def record(self, event: AuditEvent) -> dict[str, Any]:
        """Return the OCSF event."""
        stored = {"rules": event.rules, "data": event.data, "context": event.context}
        changes, event = event.changes, shaped(event)
        if event.changes is not changes:
            stored["changes"] = changes
        kind, activity = _kind_of(event)
        return {
            "class_uid": kind.class_uid,
            "category_uid": kind.class_uid // 1000,
            "activity_id": activity,
            "activity_name": event.event_type,
            "type_uid": kind.class_uid * 100 + activity,
            "time": int(utc(event.recorded_at).timestamp() * 1000),
            "severity_id": _SEVERITIES.get(event.level, _OTHER),
            "status_id": _SUCCESS,
            "message": str(event),
            "metadata": self._metadata(event),
            **kind.describe(event),
            "unmapped": {
                **({} if kind.class_uid else {"actor": _actor(event)}),
                "source": event.source,
                **stored,
                "recorded_at": utc(event.recorded_at).isoformat(),
            },
        }

    def _metadata(self, event: AuditEvent) -> dict[str, object]:
        metadata: dict[str, object] = {
            "version": VERSION,
            "uid": str(event.uid),
            "event_code": event.event_type,
            "sequence": event.pk,
            "product": {
                "name": self.product_name,
                "vendor_name": self.vendor_name,
                "version": django_signal_audit.__version__,
            },
        }
        if event.correlation_id:
            metadata["correlation_uid"] = event.correlation_id
        if event.tenant:
            metadata["tenant_uid"] = event.tenant
        return metadata
