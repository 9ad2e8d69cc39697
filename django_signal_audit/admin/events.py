"""The audit log."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponsePermanentRedirect, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, register_converter
from django.urls.converters import IntConverter
from django.utils.text import capfirst

from django_signal_audit.models import AuditEvent, AuditEventQuerySet

from .access import access_of, certain, readable
from .base import ReadOnlyAdmin
from .changelist import EventChangeList
from .dashboard import dashboard_page
from .details import event_page, json_page
from .erase import erase_page
from .evidence import proof_page, seal_of
from .export import export_page, formats, may_export
from .history import history_page
from .links import event_url, revert_request_url, revert_url
from .listing import by_day
from .prune import may_prune, prune_page
from .request_revert import may_revert_requests, request_revert_page
from .restore import restore_page
from .revert import revert_page
from .search.form import SearchForm
from .search.query import DECLARED


class EventConverter(IntConverter):
    """The id of an event in a URL; those of imported events are negative."""

    regex = "-?[0-9]+"


register_converter(EventConverter, "audit_event")


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    """The list of events, the page of one, the history of an object, and the dashboard."""

    ordering = ("-recorded_at", "-id")
    declared = frozenset(DECLARED)

    class Media:
        js = ["django_signal_audit/audit.js"]

    def get_urls(self) -> list[URLPattern]:
        """Return the pages of the log, the history of an object among them."""
        view = self.admin_site.admin_view(self.object_history_view)
        name = "django_signal_audit_auditevent_object_history"
        revert = self.admin_site.admin_view(self.revert_view)
        restore = self.admin_site.admin_view(self.restore_view)
        request_revert = self.admin_site.admin_view(self.request_revert_view)
        moved = self.admin_site.admin_view(self.moved_revert_view)
        permalink = self.admin_site.admin_view(self.permalink_view)
        export = self.admin_site.admin_view(self.export_view)
        erase = self.admin_site.admin_view(self.erase_view)
        proof = self.admin_site.admin_view(self.proof_view)
        dashboard = self.admin_site.admin_view(self.dashboard_view)
        prune = self.admin_site.admin_view(self.prune_view)
        return [
            path("events/<uuid:uid>/", permalink, name="django_signal_audit_auditevent_permalink"),
            path("events/<uuid:uid>/proof/", proof, name="django_signal_audit_auditevent_proof"),
            path("export/", export, name="django_signal_audit_auditevent_export"),
            path("prune/", prune, name="django_signal_audit_auditevent_prune"),
            path("dashboard/", dashboard, name="django_signal_audit_auditevent_dashboard"),
            path("history/<str:label>/<str:key>/restore/", restore, name="django_signal_audit_auditevent_restore"),
            path("history/<str:label>/<str:key>/erase/", erase, name="django_signal_audit_auditevent_erase"),
            path("history/<str:label>/<path:key>/", view, name=name),
            path("revert/", request_revert, name="django_signal_audit_auditevent_revert_request"),
            path("<audit_event:event_id>/revert/", revert, name="django_signal_audit_auditevent_revert"),
            path("<audit_event:event_id>/put-back/", moved),
            *super().get_urls(),
        ]

    def dashboard_view(self, request: HttpRequest) -> HttpResponse:
        """Show what happened in the last days, in charts and numbers."""
        return dashboard_page(self, request)

    def permalink_view(self, request: HttpRequest, uid: UUID) -> HttpResponse:
        """Redirect to the page of the event with this uid."""
        pk = self._visible(request, uid).pk
        query = request.GET.urlencode()
        return HttpResponseRedirect(f"{event_url(self.admin_site.name, pk)}{f'?{query}' if query else ''}")

    def proof_view(self, request: HttpRequest, uid: UUID) -> HttpResponse:
        """Send the proof of the event with this uid."""
        return proof_page(self, request, self._visible(request, uid))

    def _visible(self, request: HttpRequest, uid: UUID) -> AuditEvent:
        """Return the event with this uid; Http404 if there is none or the user may not see it."""
        pk = AuditEvent.objects.filter(uid=uid).values_list("pk", flat=True).first()
        is_allowed = pk is not None and self.has_view_permission(request)
        event = self.get_object(request, str(pk)) if is_allowed else None
        if event is None:
            raise Http404
        return event

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show an event, as JSON where the address asks for it."""
        if request.GET.get("format") == "json" and self.has_view_permission(request):
            event = self.get_object(request, unquote(object_id))
            if event is not None:
                return json_page(self, request, event)
        return super().change_view(request, object_id, *args, **kwargs)

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """Send the events that the filters find as a file."""
        return export_page(self, request)

    def prune_view(self, request: HttpRequest) -> HttpResponse:
        """Prune events past the retention of their rules, once that is confirmed."""
        return prune_page(self, request)

    def revert_view(self, request: HttpRequest, event_id: int) -> HttpResponse:
        """Revert the change of one event, once that is confirmed."""
        return revert_page(self, request, event_id)

    def moved_revert_view(self, request: HttpRequest, event_id: int) -> HttpResponse:
        """Redirect from the URL that the page had before; a POST stays a POST."""
        url = revert_url(self.admin_site.name, event_id)
        return HttpResponsePermanentRedirect(url, preserve_request=True)

    def request_revert_view(self, request: HttpRequest) -> HttpResponse:
        """Revert all changes of one request, task or command, once that is confirmed."""
        return request_revert_page(self, request)

    def restore_view(self, request: HttpRequest, label: str, key: str) -> HttpResponse:
        """Restore fields of an object as they were at a point of its history, once that is confirmed."""
        return restore_page(self, request, label, key)

    def erase_view(self, request: HttpRequest, label: str, key: str) -> HttpResponse:
        """Erase the personal data of an object, once that is confirmed."""
        return erase_page(self, request, label, key)

    def object_history_view(self, request: HttpRequest, label: str, key: str) -> HttpResponse:
        """Show the whole history of one object, deleted ones included."""
        return history_page(self, request, label, key)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Show the event instead of a form."""
        page = event_page(self, request, context["original"])
        page["seal"] = seal_of(self, request, context["original"])
        return super().render_change_form(request, {**context, **page}, *args, **kwargs)

    def get_queryset(self, request: HttpRequest) -> AuditEventQuerySet:
        """Return the events of models of which the user may see all rows; the pages find the others by themselves."""
        return certain(access_of(request, self.admin_site), AuditEvent.objects.all())

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> AuditEvent | None:
        """Return the event of a page, None if there is none or the user may not see it."""
        try:
            pk = AuditEvent._meta.pk.to_python(object_id)
        except ValidationError:
            return None
        access = access_of(request, self.admin_site)
        found = readable(access, AuditEvent.objects.all()).filter(pk=pk)
        return next(iter(access.filter(found)), None)

    def get_changelist(self, request: HttpRequest, **kwargs: object) -> type[ChangeList]:
        """Return the list that pages by where one is."""
        return EventChangeList

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, object] | None = None) -> HttpResponse:
        """Return the list, by day and by who did what for which reason."""
        response = super().changelist_view(request, extra_context)
        if isinstance(response, TemplateResponse) and response.context_data and "cl" in response.context_data:
            changelist: EventChangeList = response.context_data["cl"]
            newest = next(iter(changelist.result_list), None)
            response.context_data |= {
                "title": capfirst(self.opts.verbose_name_plural),
                "form": SearchForm(changelist.interpretation, changelist.read_as, newest),
                "added": list(changelist.filter_params.items()),
                "days": by_day(self.admin_site, changelist.result_list),
                "links": changelist.page_links(),
                "may_prune": may_prune(request),
                "formats": formats() if may_export(request) else {},
                "revert_request_url": self._revert_request_url(request, changelist),
                "export_query": changelist.address({}),
            }
        return response

    def _revert_request_url(self, request: HttpRequest, changelist: EventChangeList) -> str:
        """Return the URL that reverts the request whose events are listed, ``""`` if it is no request's list."""
        asked = changelist.search_query.values("request")
        if len(asked) != 1 or not changelist.result_list or not may_revert_requests(request):
            return ""
        return revert_request_url(self.admin_site.name, asked[0])
