"""What both admins have in common: nothing can be added, changed or deleted."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar
from uuid import UUID

import django
from django.contrib import admin
from django.contrib.admin import FieldListFilter, ModelAdmin
from django.contrib.admin.utils import get_fields_from_path
from django.contrib.admin.views.main import PAGE_VAR, SEARCH_VAR, ChangeList
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.text import capfirst

from django_signal_audit.reports.display import spelled_out
from django_signal_audit.reports.formatter import local, show_clock, show_moment

Response = TypeVar("Response", bound=HttpResponse)


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic in the stubs only
    """Shows rows of a table that may be long, and lets nobody write."""

    actions: Any = None
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    ordering: ClassVar[tuple[str, ...]] = ("-id",)
    sortable_by = ()
    list_per_page = 50
    list_max_show_all = 0
    empty_value_display = ""
    # The parameters that the list takes besides those of its filters.
    declared: ClassVar[frozenset[str]] = frozenset()

    class Media:
        css = {"all": ["django_signal_audit/audit.css"]}

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """Return the list, of a request that has the declared parameters alone.

        Django takes any lookup on a column of the model for a filter. With those, columns that no page shows could be
        read letter by letter.
        """
        request.GET = _declared(self, request)  # type: ignore[assignment]  # the stubs tell mutable ones apart
        return super().get_changelist_instance(request)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, object] | None = None) -> HttpResponse:
        """Return the list, with unseen characters spelled out."""
        return spell_out(super().changelist_view(request, extra_context))

    def render_change_form(self, *args: Any, **kwargs: Any) -> HttpResponse:
        """Return the page of one row, with unseen characters spelled out."""
        return spell_out(super().render_change_form(*args, **kwargs))

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


def names_undeclared(model_admin: ReadOnlyAdmin, request: HttpRequest) -> bool:
    """Return whether the request has a parameter that its list does not declare."""
    return not request.GET.keys() <= _declared_names(model_admin, request)


def _declared(model_admin: ReadOnlyAdmin, request: HttpRequest) -> QueryDict:
    names = _declared_names(model_admin, request)
    found = QueryDict(mutable=True, encoding=request.GET.encoding)
    for name, values in request.GET.lists():
        if name in names:
            found.setlist(name, values)
    return found


def _declared_names(model_admin: ReadOnlyAdmin, request: HttpRequest) -> set[str]:
    """Return the parameters of a list: those of its filters, the search term and the page."""
    names = {PAGE_VAR, SEARCH_VAR, *getattr(model_admin, "declared", ())}
    for declared in model_admin.get_list_filter(request):
        names.update(map(str, _filter_of(model_admin, request, declared).expected_parameters()))
    return names


def _filter_of(model_admin: ReadOnlyAdmin, request: HttpRequest, declared: object) -> Any:
    """Return a filter as the list makes it, of an address without parameters; subclasses may add those of fields."""
    if callable(declared):
        return declared(request, {}, model_admin.model, model_admin)
    path, kind = declared if isinstance(declared, (tuple, list)) else (declared, FieldListFilter.create)
    field = get_fields_from_path(model_admin.model, path)[-1]
    return kind(field, request, {}, model_admin.model, model_admin, field_path=path)


# The text and the address of a breadcrumb.
Crumb = tuple[str, str]


def crumbs_to_list(model_admin: ModelAdmin[Any], changelist: str = "") -> list[Crumb]:
    """Return the breadcrumbs of a page that hangs on the list of a model.

    Args:
        model_admin: The admin of the model.
        changelist: The address of the list, filters and all; the whole list's if empty.

    """
    opts, site = model_admin.opts, model_admin.admin_site.name
    app = reverse("admin:app_list", kwargs={"app_label": opts.app_label}, current_app=site)
    whole = reverse(f"admin:{opts.app_label}_{opts.model_name}_changelist", current_app=site)
    return [
        (str(opts.app_config.verbose_name), app),
        (str(capfirst(opts.verbose_name_plural)), changelist or whole),
    ]


def trail(crumbs: Sequence[Crumb], here: str) -> dict[str, object]:
    """Return what the template of the breadcrumbs needs.

    Args:
        crumbs: Those between the first page and this one.
        here: The last one, this page's.

    """
    # Their markup changed with Django's styles.
    return {"breadcrumbs_are_a_list": django.VERSION >= (6, 1), "crumbs": crumbs, "here": here}


def render_page(
    model_admin: ReadOnlyAdmin,
    request: HttpRequest,
    template: str,
    context: Mapping[str, object],
    *,
    crumbs: Sequence[Crumb],
    here: str = "",
    status: int = 200,
) -> TemplateResponse:
    """Return a page of our own among the admin's.

    Args:
        model_admin: The admin of the model it belongs to.
        request: The request.
        template: One that extends ``page.html``.
        context: What it shows, its ``title`` among it.
        crumbs: The breadcrumbs between the first page and this one.
        here: The last one, this page's; its title if empty.
        status: The HTTP status.

    """
    site = model_admin.admin_site
    request.current_app = site.name  # as the admin's own views do
    page = {
        **site.each_context(request),
        "opts": model_admin.opts,
        "media": model_admin.media,
        **trail(crumbs, here or str(context["title"])),
        **context,
    }
    return spell_out(TemplateResponse(request, template, page, status=status))


def spell_out(response: Response) -> Response:
    """Have unseen characters of a page spelled out once it is rendered, in whatever place somebody typed them."""
    if isinstance(response, TemplateResponse):
        response.add_post_render_callback(_spell_content)
    return response


def _spell_content(response: TemplateResponse) -> None:
    response.content = spelled_out(response.content.decode())


def show_second(moment: dt.datetime) -> str:
    """Return a moment to the second in the current time zone, the month in figures where the language has that."""
    here = local(moment)
    parts = date_format(here, "SHORT_DATE_FORMAT"), show_clock(here)
    return format_html(
        '<time datetime="{}" title="{}"><span>{}</span> <span>{}</span></time>',
        moment.isoformat(),
        show_moment(moment),
        *parts,
    )


def written_in(queryset: QuerySet[Any]) -> str:
    """Return the database to which rows of a queryset are written: a router may have them read from a replica."""
    return str(queryset.select_for_update().db)


def with_uid(column: str, text: str) -> Q:
    """Return the condition that the column holds the uid a text names; that nothing does where it names none."""
    try:
        return Q(**{column: UUID(text)})
    except ValueError:
        return Q(pk__in=[])
