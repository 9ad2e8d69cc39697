"""What the user of a request may read of the audit log, for the panel, the JSON views and the REST API."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.apps import apps
from django.contrib.admin import AdminSite
from django.contrib.admin.sites import all_sites
from django.http import HttpRequest, QueryDict

from django_signal_audit.admin.access import Access, access_of, is_included, readable
from django_signal_audit.admin.keyset import (
    ALL_TIME,
    Cursor,
    Found,
    Scan,
    find_visible,
    neighbours,
)
from django_signal_audit.admin.search.conditions import Condition
from django_signal_audit.admin.search.interpretation import Interpretation
from django_signal_audit.admin.search.query import DECLARED, READ_AS, query_of
from django_signal_audit.admin.subjects import Subject
from django_signal_audit.events.values import clean_text
from django_signal_audit.models import AuditEvent
from django_signal_audit.reports.base import WrongArgument
from django_signal_audit.reports.exports.base import record_of
from django_signal_audit.rules.visibility import knows_permissions

PER_PAGE, MOST_PER_PAGE = 50, 100
# Where a page begins, and how many events it has.
PAGE, LIMIT = "p", "limit"
PARAMETERS = (*sorted(DECLARED - {PAGE}), PAGE, LIMIT)


@dataclass(frozen=True, slots=True)
class EventPage:
    """A page of events that the user may see, the newest first, without the fields that they may not see.

    Attributes:
        events: The events.
        newer: The query of the page with newer events, ``""`` if there are none.
        older: The query of the page with older events, ``""`` if there are none.
        searched_to: Where reading ended before the page was full; ``older`` goes on there.
        read_as: How free text was read.

    """

    events: Sequence[AuditEvent]
    newer: str = ""
    older: str = ""
    searched_to: dt.datetime | None = None
    read_as: str = ""


def audit_site() -> AdminSite | None:
    """Return the admin site that shows the audit log, None in a project without the admin."""
    if not apps.is_installed("django.contrib.admin"):
        return None
    sites = sorted((site for site in all_sites if AuditEvent in site._registry), key=lambda site: site.name)  # noqa: SLF001  # it has no other list
    if len(sites) > 1:
        # The default site shows the audit log in every project, also where it is replaced by a site of the project.
        sites = [site for site in sites if is_included(site)] or sites
    return next((site for site in sites if site.name == "admin"), sites[0] if sites else None)


def access_for(request: HttpRequest) -> Access:
    """Return what the user of a request may see: what they may see on the admin site with the audit log."""
    return access_of(request, audit_site() or "")


def may_view_log(request: HttpRequest) -> bool:
    """Return whether the user of a request may view audit events at all."""
    user: Any = getattr(request, "user", None)
    if user is None or not knows_permissions(user):
        return False
    site = audit_site()
    if site is None:
        return bool(user.has_perm("django_signal_audit.view_auditevent"))
    return site._registry[AuditEvent].has_view_permission(request)  # noqa: SLF001  # the ModelAdmin of the project


def search_events(request: HttpRequest, parameters: QueryDict, *, per_page: int = PER_PAGE) -> EventPage:
    """Return the events that the parameters of the admin's list find.

    Args:
        request: The request.
        parameters: Those of the admin's list, and ``limit``.
        per_page: How many events there are on a page without ``limit``.

    Raises:
        WrongArgument: A parameter is unknown or wrong; the message says which.

    """
    _require_known(parameters, PARAMETERS)
    access, size = access_for(request), _size(parameters, per_page)
    interpretation = Interpretation(access, AuditEvent.objects.all(), query_of(parameters))
    query = interpretation.query
    if query.error:
        raise WrongArgument(query.error)
    cursor = Cursor.parse(parameters.get(PAGE, ""))
    result = interpretation.find(cursor, size)
    reading = {READ_AS: result.read_as} if result.read_as and not query.read_as else {}
    pairs = [*query.parameters(), *reading.items(), *_size_given(parameters)]
    return _page(access, cursor, result.found, pairs, result.read_as)


def object_events(
    request: HttpRequest,
    label: str,
    key: str,
    parameters: QueryDict,
    *,
    using: str = "",
    conditions: Sequence[Condition] = (),
    per_page: int = PER_PAGE,
) -> EventPage | None:
    """Return the events of one object, None if the user may not view its history.

    Args:
        request: The request.
        label: The label of the model.
        key: The primary key as events have it.
        parameters: ``p`` and ``limit``.
        using: The database; by default that of the audit log.
        conditions: What events have to fulfil besides.
        per_page: How many events there are on a page without ``limit``.

    Raises:
        WrongArgument: A parameter is unknown or wrong.

    """
    _require_known(parameters, (PAGE, LIMIT))
    access, size = access_for(request), _size(parameters, per_page)
    events = AuditEvent.objects.using(using or AuditEvent.objects.all().db)
    subject = Subject(access, events.db, clean_text(label), key)
    if not may_view_log(request) or not subject.is_visible:
        return None
    cursor = Cursor.parse(parameters.get(PAGE, ""))
    scan = Scan(access, events, subject.scans(events), ALL_TIME, size, conditions)
    found = find_visible(scan, cursor, subject.labels)
    return _page(access, cursor, found, list(_size_given(parameters)))


def find_event(request: HttpRequest, uid: UUID) -> AuditEvent | None:
    """Return the event with this uid, None if there is none or the user may not see it."""
    access = access_for(request)
    found = access.filter(readable(access, AuditEvent.objects.all()).filter(uid=uid))
    return next(iter(access.redact(found)), None)


def _page(
    access: Access, cursor: Cursor, found: Found, pairs: Iterable[tuple[str, str]], read_as: str = ""
) -> EventPage:
    events = access.redact(found.events)
    cursors = neighbours(cursor, found.page, events)
    if found.further is not None:
        cursors["older" if cursor.is_older else "newer"] = found.further
    # Of an empty page that is not the newest, the newest one is what there is beside it.
    newer = cursors.get("newer") or (cursors.get("newest") if not events else None)
    links = {
        name: f"?{urlencode([*pairs, (PAGE, str(one))])}" if one is not None else ""
        for name, one in (("newer", newer), ("older", cursors.get("older")))
    }
    return EventPage(events, **links, searched_to=found.searched_to, read_as=read_as)


def _require_known(parameters: Mapping[str, object], known: Sequence[str]) -> None:
    unknown = sorted(parameters.keys() - set(known))
    if unknown:
        msg = f"There is no parameter {unknown[0][:50]!r}. Use {', '.join(known)}."
        raise WrongArgument(msg)


def _size(parameters: QueryDict, default: int) -> int:
    text = parameters.get(LIMIT, "")
    if not text:
        return default
    size = int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0
    if not 1 <= size <= MOST_PER_PAGE:
        msg = f"{LIMIT} must be a number from 1 to {MOST_PER_PAGE}, not {text[:50]!r}."
        raise WrongArgument(msg)
    return size


def _size_given(parameters: QueryDict) -> Iterable[tuple[str, str]]:
    return [(LIMIT, value) for value in parameters.getlist(LIMIT)[-1:] if value]


_SURROGATE = re.compile("[\ud800-\udfff]")


def event_json(event: AuditEvent) -> dict[str, object]:
    """Return the columns of an event as JSON that any encoder can write.

    SQL can store numbers that are infinite to Python, and half characters, which strict encoders refuse.
    """
    text = json.dumps(record_of(event), default=str, ensure_ascii=False)
    text = _SURROGATE.sub(lambda found: f"\\\\u{ord(found[0]):04x}", text)
    found: dict[str, object] = json.loads(text, parse_constant=str)
    return {**found, "is_cut": bool(getattr(event, "is_cut", False))}
