"""The audit log."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponsePermanentRedirect
from django.urls import URLPattern, path
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from django_signal_audit.enums import EventType, Level
from django_signal_audit.models import AuditEvent, AuditEventQuerySet
from django_signal_audit.reports.display import show_actor, show_actors, summarise
from django_signal_audit.reports.formatter import ANYBODY

from .access import access_of, certain, readable
from .base import ReadOnlyAdmin, badge, show_second
from .changelist import EventChangeList
from .dashboard import dashboard_page
from .details import event_page
from .filters import EventTypeFilter, LevelFilter, ModelFilter, RuleFilter
from .history import history_page
from .inputs import ActorFilter, PeriodFilter
from .links import actor_url, history_url, revert_url
from .revert import revert_page


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    """The list of events, the page of one, the history of an object, and the dashboard."""

    list_display = ("when", "what", "object", "summary", "actor")
    list_display_links = ("when",)
    list_filter = (PeriodFilter, EventTypeFilter, ModelFilter, ActorFilter, RuleFilter, LevelFilter)
    ordering = ("-recorded_at", "-id")
    # Names what the search box looks at; the search itself is the list's.
    search_fields = ("object_id__exact", "actor_id__exact", "correlation_id__exact", "uid__exact")
    search_help_text = _("The exact primary key of an object or actor, an event's uid, or a correlation id.")

    def get_urls(self) -> list[URLPattern]:
        """Return the pages of the log, the history of an object among them."""
        view = self.admin_site.admin_view(self.object_history_view)
        name = "django_signal_audit_auditevent_object_history"
        revert = self.admin_site.admin_view(self.revert_view)
        moved = self.admin_site.admin_view(self.moved_revert_view)
        dashboard = self.admin_site.admin_view(self.dashboard_view)
        return [
            path("dashboard/", dashboard, name="django_signal_audit_auditevent_dashboard"),
            path("history/<str:label>/<path:key>/", view, name=name),
            path("<int:event_id>/revert/", revert, name="django_signal_audit_auditevent_revert"),
            path("<int:event_id>/put-back/", moved),
            *super().get_urls(),
        ]

    def dashboard_view(self, request: HttpRequest) -> HttpResponse:
        """Show what happened in the last days, in charts and numbers."""
        return dashboard_page(self, request)

    def revert_view(self, request: HttpRequest, event_id: int) -> HttpResponse:
        """Revert the change of one event, once that is confirmed."""
        return revert_page(self, request, event_id)

    def moved_revert_view(self, request: HttpRequest, event_id: int) -> HttpResponse:
        """Redirect from the URL that the page had before; a POST stays a POST."""
        url = revert_url(self.admin_site.name, event_id)
        return HttpResponsePermanentRedirect(url, preserve_request=True)

    def object_history_view(self, request: HttpRequest, label: str, key: str) -> HttpResponse:
        """Show the whole history of one object, deleted ones included."""
        return history_page(self, request, label, key)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Show the event instead of a form."""
        page = event_page(self, request, context["original"])
        return super().render_change_form(request, {**context, **page}, *args, **kwargs)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Return all: the list looks into each index by itself (``listing.py``)."""
        return queryset, False

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

    @admin.display(description=_("time"))
    def when(self, event: AuditEvent) -> str:
        """Return the time to the second."""
        return show_second(event.recorded_at)

    @admin.display(description=_("event and rules"))
    def what(self, event: AuditEvent) -> SafeString:
        """Return the type of the event, its level if it is not the usual one, and the rules that matched."""
        level = "" if event.level == Level.INFO else badge(event.level, event.get_level_display())
        rules = format_html_join("", "<br><small>{}</small>", ((rule,) for rule in event.rules))
        return format_html("{} {}{}", badge(event.event_type, EventType.label_of(event.event_type)), level, rules)

    @admin.display(description=_("object"))
    def object(self, event: AuditEvent) -> str:
        """Return the object, linked to its history, and its model."""
        if not (event.object_id and event.model):
            return event.object_repr or event.model
        address = history_url(self.admin_site.name, event.model, event.object_id)
        name = event.object_repr or event.object_id
        return format_html('<a href="{}">{}</a><br><small>{} {}</small>', address, name, event.model, event.object_id)

    @admin.display(description=_("actor"))
    def actor(self, event: AuditEvent) -> str:
        """Return the actor, linked to all that this actor did."""
        name = show_actor(event)
        if not name:
            return ""
        address = actor_url(self.admin_site.name, event.actor_id, event.actor_repr)
        return format_html('<a href="{}">{}</a>', address, show_actors(event))

    @admin.display(description=_("changes"))
    def summary(self, event: AuditEvent) -> str:
        """Return the first few changes, each on a line."""
        lines = summarise(event, getattr(event, "reader", ANYBODY))
        return format_html_join("", '<div class="audit-line">{}</div>', ((line,) for line in lines))
