"""The list of notifications: what each says, to whom it goes and how far it has come, below a search bar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib.admin.views.main import PAGE_VAR, SEARCH_VAR, ChangeList
from django.db.models import Q
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_signal_audit.channels import get_channel
from django_signal_audit.delivery.recipients import username, users_by_key
from django_signal_audit.delivery.rendering import subject_line
from django_signal_audit.enums import EventType
from django_signal_audit.events.keys import object_id
from django_signal_audit.events.values import clean_text
from django_signal_audit.exceptions import GiveUp, InvalidSettings
from django_signal_audit.models import AuditEvent, Notification, NotificationQuerySet
from django_signal_audit.reports.display import shorten

from .access import Access, access_of, shaped_notification
from .base import show_second, with_uid
from .filters import ChoiceFilter, TimeFilter
from .keyset import ALL_TIME, Cursor, find_keys
from .links import notification_url
from .search.conditions import by_beginning
from .search.form import Chip, Select
from .search.query import Parsed, parse

STATUS = Notification.STATUS
WILL_BE_TRIED = (STATUS.pending, STATUS.claimed, STATUS.failed)
TERMS = ("rule", "channel", "status")
# The newest events of objects with the name that was typed in; notifications about others aren't found by it.
MOST_NAMED = 500
# Failures are counted up to here.
MOST_FAILED = 1000
ERROR_WIDTH, SUBJECT_WIDTH = 120, 120
# All keys of so many digits fit into the column.
MOST_DIGITS = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One notification as the list shows it."""

    notification: Notification
    url: str
    subject: str
    error: str
    below: str
    recipient: str
    when: str


@dataclass(frozen=True, slots=True)
class Failures:
    """How many notifications are given up and how many will be retried, and the newest error that the user may read."""

    dead: int
    failed: int
    channel: str
    error: str


class NotificationChangeList(ChangeList):
    """A page of the notifications, newest first; nothing is counted."""

    access: Access
    links: dict[str, str]
    _names: dict[object, str]

    def get_results(self, request: HttpRequest) -> None:
        """Find the page, and what its rows say."""
        self.access = access_of(request, self.model_admin.admin_site)
        rows = self._page(request.GET.get(PAGE_VAR, ""))
        told = told_of([shaped_notification(row) for row in rows], self.access)
        self.result_list = [row if told[row.pk] or not known_uids(row) else anonymous(row) for row in rows]
        for row in self.result_list:
            row.told = told[row.pk]
        self._names = names_of(self.result_list, self.access)
        self.result_count = self.full_result_count = len(self.result_list)
        self.show_full_result_count = self.show_admin_actions = self.can_show_all = self.multi_page = False

    def _page(self, asked: str) -> list[Notification]:
        """Return the rows of the page that the address asks for, and note the addresses of its neighbours."""
        direction, _dash, text = asked.partition("-")
        key = int(text) if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS else 0
        rows, size = self.queryset, self.list_per_page
        if direction == "older" and key:
            found = list(rows.filter(pk__lt=key).order_by("-pk")[: size + 1])
            return self._linked(found[:size], has_newer=True, has_older=len(found) > size)
        if direction == "oldest" or (direction == "newer" and key):
            found = list(rows.filter(pk__gt=key).order_by("pk")[: size + 1])
            if len(found) > size:
                is_end = direction == "oldest"
                return self._linked(found[size - 1 :: -1], has_newer=True, has_older=not is_end)
        found = list(rows.order_by("-pk")[: size + 1])
        return self._linked(found[:size], has_newer=False, has_older=len(found) > size)

    def _linked(self, rows: list[Notification], *, has_newer: bool, has_older: bool) -> list[Notification]:
        self.links = {"newest": self.get_query_string({PAGE_VAR: None})} if has_newer else {}
        if has_newer and rows:
            self.links["newer"] = self.get_query_string({PAGE_VAR: f"newer-{rows[0].pk}"})
        if has_older:
            self.links["older"] = self.get_query_string({PAGE_VAR: f"older-{rows[-1].pk}"})
            self.links["oldest"] = self.get_query_string({PAGE_VAR: "oldest"})
        return rows

    @property
    def error(self) -> str:
        """Return what is wrong with what is asked for, ``""`` if nothing is."""
        times = [spec.error for spec in self.filter_specs if isinstance(spec, TimeFilter)]
        return parse(self.query, TERMS).error or "".join(times)

    def rows(self) -> Iterator[Row]:
        """Yield the rows of the page."""
        for row in self.result_list:
            yield Row(
                notification=row,
                url=notification_url(self.model_admin.admin_site.name, row.pk),
                subject=shorten(row.told, SUBJECT_WIDTH),
                error=shorten(row.last_error, ERROR_WIDTH),
                below=_below(row),
                recipient=self._names.get(row.pk, row.recipient),
                when=show_second(row.sent_at or row.created),
            )

    def selects(self) -> Iterator[Select]:
        """Yield the filters of this package as selects."""
        for spec in self.filter_specs:
            if isinstance(spec, ChoiceFilter):
                options = [("", _("Any")), *((value, str(label)) for value, label in spec.lookup_choices)]
                yield Select(str(spec.parameter_name), str(capfirst(spec.title)), options, spec.value() or "")

    def added_specs(self) -> list[object]:
        """Return the filters that a project has added."""
        return [spec for spec in self.filter_specs if not isinstance(spec, ChoiceFilter)]

    def hidden(self) -> list[tuple[str, str]]:
        """Return the parameters that no select and not the search bar shows, to be sent along."""
        shown = {SEARCH_VAR, *(select.name for select in self.selects())}
        pairs = [(name, value) for name, values in self.filter_params.items() for value in values]
        return [pair for pair in pairs if pair[0] not in shown]

    def chips(self) -> Iterator[Chip]:
        """Yield the filters in force."""
        if self.query:
            yield Chip(_("Search"), self.query, self._without(SEARCH_VAR))
        for select in self.selects():
            if select.value:
                yield Chip(select.label, dict(select.options)[select.value], self._without(select.name))

    def _without(self, name: str) -> str:
        return self.get_query_string({name: None, PAGE_VAR: None})

    def failures(self) -> Failures | None:
        """Return what failed of all that the filters find, None if nothing did."""
        failed = self.queryset.filter(status__in=(STATUS.failed, STATUS.dead)).order_by()
        states = dict(failed.values_list("pk", "status")[:MOST_FAILED])
        if not states:
            return None
        dead = sum(status == STATUS.dead for status in states.values())
        row = self.queryset.filter(pk=max(states)).first()
        may_read = row is not None and told_of([shaped_notification(row)], self.access)[row.pk]
        error = shorten(row.last_error, ERROR_WIDTH) if row is not None and may_read else ""
        return Failures(dead, len(states) - dead, row.channel if row is not None else "", error)

    def dead_url(self) -> str:
        """Return the address of the notifications that are given up."""
        return self.get_query_string({"status": STATUS.dead, PAGE_VAR: None})

    def failed_url(self) -> str:
        """Return the address of those that failed and will be retried."""
        return self.get_query_string({"status": STATUS.failed, PAGE_VAR: None})


def _below(row: Notification) -> str:
    """Return what stands below a status: when it will be tried, or how often it was."""
    if row.status in WILL_BE_TRIED:
        return format_html("{} {}", _("Next attempt"), show_second(row.available_at))
    if row.status == STATUS.sent and row.attempts < 2:
        return ""
    return ngettext("%(count)d attempt", "%(count)d attempts", row.attempts) % {"count": row.attempts}


def searched(queryset: NotificationQuerySet, typed: str, access: Access) -> NotificationQuerySet:
    """Return the notifications that a search finds; none if it is wrong.

    Free text is a recipient, the uid of an event, or the beginning of an object's name.
    """
    parsed: Parsed = parse(typed, TERMS)
    if parsed.error:
        return queryset.none()
    for name, value in parsed.terms:
        queryset = queryset.filter(**{name: value})
    if not parsed.text:
        return queryset
    named = Q(event__in=_uids_of_objects(queryset.db, parsed.text, access))
    return queryset.filter(_of_recipient(queryset, parsed.text, access) | with_uid("event", parsed.text) | named)


def _of_recipient(queryset: NotificationQuerySet, recipient: str, access: Access) -> Q:
    """Return the condition for a recipient's notifications: the newest, where the user may not know of all."""
    if access.sees_everything:
        return Q(recipient=recipient)
    rows = list(queryset.filter(recipient=recipient).order_by("-pk")[:MOST_NAMED])
    told = told_of([shaped_notification(row) for row in rows], access)
    return Q(pk__in=[row.pk for row in rows if told[row.pk] or not known_uids(row)])


def _uids_of_objects(using: str, beginning: str, access: Access) -> list[UUID]:
    """Return the newest events of objects whose names have a beginning, those that the user may see."""
    events = AuditEvent.objects.using(using)
    scans = by_beginning(events, "object_repr", beginning).scans
    keys = find_keys(scans, ALL_TIME, MOST_NAMED, Cursor()) if scans else []
    return [event.uid for event in access.filter(events.filter(pk__in=keys))]


def anonymous(row: Notification) -> Any:
    """Return a notification without what may tell of objects: an error quotes them, a recipient may be one's value."""
    shown = copy(row)
    shown.recipient = shown.last_error = ""
    return shown


def names_of(rows: Sequence[Notification], access: Access) -> dict[Any, str]:
    """Return, by primary key, the names of the users that rows name by key, as far as the viewer may know them."""
    keyed = {row.pk: row.recipient for row in rows if row.recipient and _names_user(row)}
    users = users_by_key(set(keyed.values()))
    known = {object_id(user.pk) for user in access.readable(list(users.values()))}
    return {pk: f"{clean_text(username(users[key]))} ({key})" for pk, key in keyed.items() if key in known}


def _names_user(row: Notification) -> bool:
    if row.recipient == row.user:
        return True
    try:
        return get_channel(row.channel).recipients_are_users
    except InvalidSettings:
        return False


def known_uids(notification: Notification) -> list[UUID]:
    """Return the uids of the events that it describes, those that are uids."""
    found = notification.event_uids
    return [uid for text in found if (uid := _uid(text)) is not None] if isinstance(found, list) else []


def _uid(text: Any) -> UUID | None:
    try:
        return text if isinstance(text, UUID) else UUID(text)
    except (ValueError, TypeError, AttributeError):
        return None


def told_of(rows: Sequence[Notification], access: Access) -> dict[object, str]:
    """Return, by primary key, what each notification says in a line, ``""`` if the user may not view its event.

    A digest has the first of its events and how many there are; pruned events are missing.
    """
    using = rows[0]._state.db if rows else None
    firsts = {row.pk: uids[0] for row in rows if (uids := known_uids(row))}
    found = AuditEvent.objects.using(using).filter(uid__in=[*firsts.values()])
    events = {str(event.uid): event for event in access.redact(access.filter(found))}
    reader = access.reader_of(events.values())
    for_others = access.naming_unreadable(list(events.values()))
    told = ((row, events.get(str(firsts.get(row.pk)))) for row in rows)
    return {row.pk: _told(row, event, reader, is_kept=not event or event.pk not in for_others) for row, event in told}


def _told(row: Notification, event: AuditEvent | None, reader: Any, *, is_kept: bool) -> str:
    if event is None:
        return ""
    count = len(known_uids(row))
    if count == 1 and not getattr(event, "is_cut", False):
        try:
            return (row.subject if is_kept else "") or subject_line(row, [event], reader)
        except GiveUp:
            pass  # the page of the notification says what is wrong with the template
    text = f"{EventType.label_of(event.event_type)} {event.object_repr or event.object_id or event.model}".rstrip()
    more = ngettext("and %(count)d more event", "and %(count)d more events", count - 1) % {"count": count - 1}
    return f"{text} {more}" if count > 1 else text
