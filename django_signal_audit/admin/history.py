"""The history of one object: all that is recorded of it, the newest first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from urllib.parse import urlencode

from django.contrib.admin.models import LogEntry
from django.contrib.admin.options import get_content_type_for_model
from django.contrib.admin.utils import quote
from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _

from django_signal_audit.enums import ROW_EVENTS, EventType
from django_signal_audit.events.values import clean_text
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.renames import current_name, former_names
from django_signal_audit.reports.formatter import show_short, zone_name

from .base import ReadOnlyAdmin, render_page
from .compare import compare_page, state_page
from .details import view_events
from .erase import may_erase
from .export import formats, may_export
from .keyset import ALL_TIME, Cursor, Found, Scan, find_visible, neighbours
from .links import erase_url, object_url, restore_url
from .listing import Group, Row, group_key, group_of, notifying_rules
from .related import related_events
from .restore import may_restore
from .revert import open_revert_url
from .reverting import Present
from .search.choices import fields_of
from .search.conditions import MAX_LENGTH, by_fields
from .steps import Steps, steps_of
from .subjects import Subject, crumbs_of, subject_of

PER_PAGE = 50
# So many entries of Django's own log are shown; its own page has all.
MOST_LOGGED = 100
TEMPLATE = "django_signal_audit/admin/history.html"
# What the address of a history may ask for.
PARAMETERS = ("field", "tab", "at", "older", "newer", "p")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One event of the object, and what can be done with it. Addresses the user may not open are ``""``."""

    row: Row
    when: str
    # Whether there is a state after it.
    is_version: bool
    revert_url: str
    restore_url: str


@dataclass(frozen=True, slots=True)
class Together:
    """Events that follow each other, of one request, actor and reason."""

    group: Group
    entries: Sequence[Entry]


def history_page(model_admin: ReadOnlyAdmin, request: HttpRequest, label: str, segment: str) -> HttpResponse:
    """Return the page, for who may view events and the object; an object with no event yet has one too."""
    subject = subject_of(model_admin, request, label, segment)
    if request.GET.get("at", "").strip():
        return state_page(model_admin, request, subject)
    if "older" in request.GET or "newer" in request.GET:
        return compare_page(model_admin, request, subject)
    page = HistoryPage(model_admin, request, subject)
    context = {**page.head(), **page.body()}
    crumbs = crumbs_of(model_admin, subject)
    return render_page(model_admin, request, TEMPLATE, context, crumbs=crumbs, here=_("History"))


class HistoryPage:
    """The list of an object's events, and the tabs beside it."""

    def __init__(self, model_admin: ReadOnlyAdmin, request: HttpRequest, subject: Subject) -> None:
        self.model_admin = model_admin
        self.site = model_admin.admin_site
        self.request = request
        self.subject = subject
        self.fields = fields_of(subject.access, subject.labels)
        self.field = self._field_named(clean_text(request.GET.get("field", "").strip())[:MAX_LENGTH])

    def _field_named(self, asked: str) -> str:
        """Return the field that a text names, by its name of today, a former one or its label, as in the list."""
        name = next((now for label in self.subject.labels if (now := current_name(label, asked)) != asked), asked)
        folded = name.casefold()
        labeled = (one for one, label in self.fields.items() if folded in (one.casefold(), label.casefold()))
        return name if name in self.fields else next(labeled, asked)

    @cached_property
    def is_deleted(self) -> bool:
        """Return whether the object came to its end."""
        return self.subject.last is not None and self.subject.last.event_type == EventType.DELETE

    @cached_property
    def tab(self) -> str:
        """Return which tab is shown, ``""`` for the history itself."""
        asked = self.request.GET.get("tab", "")
        return asked if asked == "related" or (asked == "log" and self.log_url) else ""

    def head(self) -> dict[str, object]:
        """Return what stands above the tabs, and the tabs."""
        subject, last = self.subject, self.subject.last
        tabs = [("", _("History")), ("related", _("Related objects"))]
        return {
            "title": _("History"),
            "subject": subject,
            "is_deleted": self.is_deleted,
            "object_url": "" if last is None or self.is_deleted else object_url(self.site.name, last),
            "tab": self.tab,
            "tabs": [*tabs, *([("log", _("Admin log"))] if self.log_url else [])],
            "log_url": self.log_url,
            "erase_url": erase_url(self.site.name, subject.label, subject.key) if may_erase(self.request) else "",
            "formats": formats() if may_export(self.request) else {},
            "export_query": f"?{urlencode({'model': subject.label, 'object': subject.key})}",
            "zone": zone_name(),
        }

    def body(self) -> dict[str, object]:
        """Return what the tab that was chosen shows."""
        if self.tab == "log":
            return {"log": self._logged()}
        if self.tab == "related":
            page = self._read(Cursor(), "").events
            related = related_events(self.subject.access, page, self.subject.instance) if page else []
            return {"related": view_events(self.model_admin, self.request, related)}
        return self._events(Cursor.parse(self.request.GET.get("p", "")))

    # The list

    def _events(self, cursor: Cursor) -> dict[str, object]:
        found = self._read(cursor, self.field)
        together = list(self._together(found.events))
        keys = [event.pk for event in found.events]
        last, site = self.subject.last, self.site
        is_open = last is not None and may_restore(site, self.request, self.subject)
        return {
            "together": together,
            "events": found.events,
            "links": self._links(cursor, found),
            "searched_to": found.searched_to,
            # A field whose changes are shown is a choice, also if no rule records it any more.
            "fields": list(
                {**({self.field: self.field} if self.field and found.events else {}), **self.fields}.items()
            ),
            "field": self.field,
            "unknown": self._unknown(is_found=bool(found.events or found.further or cursor != Cursor())),
            # The newest change against the present, or the deletion against what was there before.
            "older_pk": keys[1 if self.is_deleted and len(keys) > 1 else 0] if keys else None,
            "newer_pk": keys[0] if self.is_deleted and keys else None,
            "restore_deleted_url": self._restore_url(last) if last and is_open else "",
            "steps": self._steps(found.events, is_newest=not found.page.has_newer),
        }

    def _read(self, cursor: Cursor, field: str) -> Found:
        """Return a page: what is on neither side of it is not read."""
        subject, events = self.subject, AuditEvent.objects.using(self.subject.using)
        former = (old for label in subject.labels for old in former_names(label, field))
        conditions = [by_fields(sorted({field, *former}), subject.access.shows)] if field else []
        scan = Scan(subject.access, events, subject.scans(events), ALL_TIME, PER_PAGE, conditions)
        return find_visible(scan, cursor, subject.labels)

    def _unknown(self, *, is_found: bool) -> str:
        """Return which parameter the page doesn't know, or which field the object doesn't have; ``""`` for none."""
        # Those that begin with an underscore are the admin's own.
        names = [name for name in self.request.GET if name not in PARAMETERS and not name.startswith("_")]
        if names:
            text = _("“%(name)s” isn't a parameter of this page. Use %(names)s.")
            return text % {"name": names[0][:50], "names": ", ".join(PARAMETERS)}
        if is_found or not self.field or self.field in self.fields:
            return ""
        return _("“%(field)s” isn't a recorded field of this object.") % {"field": self.field}

    def _together(self, events: Sequence[AuditEvent]) -> Iterator[Together]:
        subject = self.subject
        shown = subject.access.redact(events)
        reader, notifying = subject.access.reader_of(shown), notifying_rules()
        whole = dict(zip((event.pk for event in shown), events, strict=True))
        present = Present(subject.instance, subject.last) if subject.last else None
        is_open = may_restore(self.site, self.request, subject)
        for _key, together in groupby(shown, group_key):
            group = group_of(self.site, list(together), notifying, reader, only=self.field)
            rows = [*group.rows, *group.others]
            yield Together(group, [self._entry(row, whole[row.event.pk], present, is_open=is_open) for row in rows])

    def _entry(self, row: Row, event: AuditEvent, present: Present | None, *, is_open: bool) -> Entry:
        """Return an event of the list; a revert covers all of the change, whatever of it may be seen."""
        is_version = event.event_type in ROW_EVENTS
        return Entry(
            row=row,
            when=show_short(event.recorded_at),
            is_version=is_version,
            revert_url=open_revert_url(self.site, self.request, event, present) if present else "",
            restore_url=self._restore_url(event) if is_open and is_version else "",
        )

    def _restore_url(self, event: AuditEvent) -> str:
        return restore_url(self.site.name, self.subject.label, self.subject.key, str(event.pk))

    def _links(self, cursor: Cursor, found: Found) -> dict[str, str]:
        cursors = neighbours(cursor, found.page, found.events)
        if found.further is not None:
            cursors["further"] = found.further
        asked: Mapping[str, str] = {"field": self.field} if self.field else {}
        return {
            name: f"?{urlencode({**asked, **({'p': str(one)} if str(one) else {})})}" for name, one in cursors.items()
        }

    def _steps(self, events: Sequence[AuditEvent], *, is_newest: bool) -> Steps | None:
        return steps_of(self.field, events, is_newest=is_newest) if self.field else None

    # Django's own log

    @cached_property
    def log_url(self) -> str:
        """Return the address of Django's own history of the object, ``""`` for who may not open it."""
        subject = self.subject
        own = self.site._registry.get(subject.model) if subject.model else None  # noqa: SLF001  # it has no other list
        if (
            own is None
            or subject.instance is None
            or not own.has_view_or_change_permission(self.request, subject.instance)
        ):
            return ""
        name = f"admin:{own.opts.app_label}_{own.opts.model_name}_history"
        try:
            return reverse(name, args=(quote(subject.instance.pk),), current_app=self.site.name)
        except NoReverseMatch:
            return ""

    def _logged(self) -> list[LogEntry]:
        instance = self.subject.instance
        if instance is None:
            return []
        rows = LogEntry.objects.filter(content_type=get_content_type_for_model(instance), object_id=str(instance.pk))
        return list(rows.select_related("user").order_by("-action_time")[:MOST_LOGGED])
