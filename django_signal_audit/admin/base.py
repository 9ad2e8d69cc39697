"""What both admins have in common: nothing can be added, changed or deleted."""

from __future__ import annotations

import datetime as dt
from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin
from django.db.models import Model, Q
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from django_signal_audit.reports.display import local

from .paging import BoundedPaginator


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic in the stubs only
    """Shows rows of a table that may be long, and lets nobody write."""

    actions: Any = None
    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    ordering: ClassVar[tuple[str, ...]] = ("-id",)
    sortable_by = ()
    list_per_page = 50
    list_max_show_all = 0

    class Media:
        css = {"all": ["django_signal_audit/audit.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: rows are written by what happens."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse: nobody edits a record."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse: nobody deletes one here."""
        return False

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[()]:
        """Return none: the pages have templates of their own instead of a form."""
        return ()


def show_second(moment: dt.datetime) -> str:
    """Return a moment to the second in the current time zone."""
    day, time = local(moment).strftime("%Y-%m-%d %H:%M:%S").split()
    return format_html('<time datetime="{}"><span>{}</span> <span>{}</span></time>', moment.isoformat(), day, time)


def with_uid(column: str, text: str) -> Q:
    """Return the condition that the column holds the uid a text names; that nothing does where it names none."""
    try:
        return Q(**{column: UUID(text)})
    except ValueError:
        return Q(pk__in=[])


def badge(kind: str, text: object) -> SafeString:
    """Return a word on a coloured ground; ``kind`` names the colour in audit.css."""
    return format_html('<span class="audit-badge audit-{}">{}</span>', kind, text)
