"""The list of events: a page of it is found by indexes alone, however long the log is."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.db.models import Q
from django.http import HttpRequest

from django_signal_audit.admin.keyset import Cursor, Found, Page, neighbours
from django_signal_audit.models import AuditEvent, AuditEventQuerySet

from .access import Access, access_of
from .search.conditions import Condition
from .search.interpretation import Interpretation
from .search.query import DECLARED, READ_AS, Query, query_of


class EventChangeList(ChangeList):
    """A page of the log.

    ``queryset`` is all of it: what is asked for decides which index is read.
    """

    access: Access
    cursor: Cursor
    found: Found
    page: Page
    read_as: str
    queryset: AuditEventQuerySet

    def get_filters_params(self, params: Any = None) -> Any:
        """Return the parameters of filters that a project has added."""
        found = super().get_filters_params(params)
        return {name: value for name, value in found.items() if name not in DECLARED}

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Return all events. Who sees what is decided by signature, and again when the rows are fetched."""
        self.root_queryset = AuditEvent.objects.using(self.root_queryset.db)
        self.access = access_of(request, self.model_admin.admin_site)
        self.asked = query_of(request.GET)
        return super().get_queryset(request, *args, **kwargs)

    def get_results(self, request: HttpRequest) -> None:
        """Find the page; nothing is counted."""
        self.cursor = Cursor.parse(request.GET.get(PAGE_VAR, ""))
        result = self.interpretation.find(self.cursor, self.list_per_page)
        self.found, self.read_as = result.found, result.read_as
        self.result_list = self.access.redact(self.found.events)
        reader = self.access.reader_of(self.result_list)
        for event in self.result_list:
            event.reader = reader
        self.page = self.found.page
        self.result_count = self.full_result_count = len(self.result_list)
        self.show_full_result_count = self.show_admin_actions = self.can_show_all = self.multi_page = False

    @cached_property
    def interpretation(self) -> Interpretation:
        """Return what is asked for, and how it is found."""
        events = AuditEvent.objects.using(self.queryset.db)
        return Interpretation(self.access, events, self.asked, self._added())

    @property
    def search_query(self) -> Query:
        """Return what is asked for, in the values that events have."""
        return self.interpretation.query

    def _added(self) -> list[Condition]:
        """Return the condition of the filters that a project has added, which may have no index."""
        if not self.has_active_filters:
            return []
        narrowed = self.queryset.order_by()

        def check(events: AuditEventQuerySet) -> set[int]:
            return set(narrowed.filter(pk__in=list(events.values_list("pk", flat=True))).values_list("pk", flat=True))

        return [Condition(Q(), check=check)]

    def page_links(self) -> dict[str, str]:
        """Return the addresses of the neighbouring pages and of both ends, by the name of the link."""
        cursors = neighbours(self.cursor, self.page, self.result_list)
        if self.found.further is not None:
            cursors["further"] = self.found.further
        return {name: self.address({PAGE_VAR: str(cursor)}) for name, cursor in cursors.items()}

    def address(self, more: dict[str, str]) -> str:
        """Return the query part of the address of another page of the same search."""
        added = {name: values[-1] for name, values in self.filter_params.items()}
        reading = {READ_AS: self.read_as} if self.read_as and not self.search_query.read_as else {}
        return self.search_query.address(**added, **reading, **more)
