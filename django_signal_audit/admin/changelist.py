"""The list of events: a page of it is found by indexes alone, however long the log is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.http import HttpRequest

from django_signal_audit.admin.keyset import Found, Scan, find_visible
from django_signal_audit.events.values import clean_text
from django_signal_audit.models import AuditEvent, AuditEventQuerySet
from django_signal_audit.reports.signatures import known_signatures

from .access import Access, access_of, readable
from .base import with_uid
from .filters import KindFilter
from .inputs import ActorFilter, PeriodFilter
from .keyset import ALL_TIME, Cursor, HistoryScan, IndexScan, Page, SortedScan, TimeRange, neighbours, newest_keys

# More signatures than this are no longer looked up one by one.
MAX_SIGNATURES = 200
# Of so many models the events of an object are looked up one by one.
MAX_LABELS = 200


class EventChangeList(ChangeList):
    """A page of the log.

    ``queryset`` is all of it: what is asked for decides which indexes are read, and the pages of these are merged.
    """

    access: Access
    cursor: Cursor
    found: Found
    queryset: AuditEventQuerySet

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Return all events. Who sees what is decided by signature, and again when the rows are fetched."""
        self.root_queryset = AuditEvent.objects.using(self.root_queryset.db)
        self.access = access_of(request, self.model_admin.admin_site)
        return super().get_queryset(request, *args, **kwargs)

    def get_results(self, request: HttpRequest) -> None:
        """Find the page; nothing is counted."""
        self.cursor = Cursor.parse(request.GET.get(PAGE_VAR, ""))
        [period] = [spec for spec in self.filter_specs if isinstance(spec, PeriodFilter)]
        time_range = period.time_range()
        self.found = self._find(time_range) if time_range else Found(Page([]))
        self.result_list = self.access.redact(self.found.events)
        reader = self.access.reader_of(self.result_list)
        for event in self.result_list:
            event.reader = reader
        self.page = self.found.page
        self.result_count = self.full_result_count = len(self.result_list)
        self.show_full_result_count = self.show_admin_actions = self.can_show_all = self.multi_page = False

    def _find(self, time_range: TimeRange) -> Found:
        events = readable(self.access, self.queryset)
        scan = Scan(self.access, events, self._branches(time_range), time_range, self.list_per_page)
        return find_visible(scan, self.cursor, self._labels)

    def page_links(self) -> dict[str, str]:
        """Return the addresses of the neighbouring pages and of both ends, by the name of the link."""
        cursors = neighbours(self.cursor, self.page, self.result_list)
        if self.found.further is not None:
            cursors["further"] = self.found.further
        return {name: self.get_query_string({PAGE_VAR: str(cursor) or None}) for name, cursor in cursors.items()}

    def _branches(self, time_range: TimeRange) -> Sequence[IndexScan | HistoryScan]:
        signatures, actor, term = self._signatures, self._actor(), clean_text(self.query.strip())
        events = self.queryset
        if not term and not actor and signatures is not None and len(signatures) <= MAX_SIGNATURES:
            return [IndexScan(events, "signature", signature) for signature in signatures]
        if signatures is not None:
            events = events.filter(signature__in=signatures)
        if term:
            return _places_of(term, events.filter(**dict([actor])) if actor else events, time_range)
        return [IndexScan(events, *actor)] if actor else [IndexScan(events)]

    def _actor(self) -> tuple[str, str] | None:
        [spec] = [spec for spec in self.filter_specs if isinstance(spec, ActorFilter)]
        return spec.condition(self.queryset)

    @cached_property
    def _labels(self) -> set[str]:
        """Return the models that the page may have events of; none where the user sees everything anyway."""
        if self.access.sees_everything:
            return set()
        known, signatures = known_signatures(self.queryset.db), self._signatures
        return {signature.model for number, signature in known.items() if signatures is None or number in signatures}

    @cached_property
    def _signatures(self) -> list[int] | None:
        """Return the signatures of event that are asked for and may be seen; None if these are all."""
        filters = [spec for spec in self.filter_specs if isinstance(spec, KindFilter) and spec.value()]
        if self.access.sees_everything and not filters:
            return None
        known = known_signatures(self.queryset.db)
        labels = {label for label in {signature.model for signature in known.values()} if self.access.may_view(label)}
        signatures = [
            number
            for number, signature in known.items()
            if signature.model in labels and all(spec.admits(signature) for spec in filters)
        ]
        return None if len(signatures) == len(known) else signatures


def _places_of(term: str, events: AuditEventQuerySet, time_range: TimeRange) -> Sequence[IndexScan | HistoryScan]:
    """Return where the search looks: each place is one look into an index."""
    elsewhere = [
        IndexScan(events, "actor_id", term),
        IndexScan(events, "correlation_id", term),
        SortedScan(events.filter(with_uid("uid", term))),
    ]
    # object_id is the second column of its index, so the first is named too: whatever model it is.
    labels = sorted({signature.model for signature in known_signatures(events.db).values()} - {""})
    if time_range == ALL_TIME and len(labels) <= MAX_LABELS and not newest_keys(elsewhere, 1):
        # Objects alone: their events come as they happened to them, for which none has to be sorted.
        return [HistoryScan(events, label, term) for label in labels]
    return [SortedScan(events.filter(model__in=labels, object_id=term)), *elsewhere]
