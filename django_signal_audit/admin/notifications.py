"""The outbox."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_signal_audit.dispatchers.registry import get_dispatcher
from django_signal_audit.models import Notification, NotificationQuerySet
from django_signal_audit.reports.texts import shorten
from django_signal_audit.values import clean_text

from .base import ReadOnlyAdmin, badge, show_second, with_uid
from .details import view_events
from .filters import ChannelFilter, NotifyingRuleFilter, StatusFilter

# Waking is for what a dispatcher sends at once; it leaves the rest to a worker anyway.
WOKEN = 100
ERROR_WIDTH = 120
WILL_BE_TRIED = (Notification.STATUS.pending, Notification.STATUS.claimed, Notification.STATUS.failed)


@admin.register(Notification)
class NotificationAdmin(ReadOnlyAdmin):
    """Every message that is owed to somebody, how far it has come, and what went wrong."""

    list_display = ("made", "state", "addressee", "rule", "moment", "error")
    list_display_links = ("made",)
    list_filter = (StatusFilter, ChannelFilter, NotifyingRuleFilter)
    search_fields = ("event__exact", "recipient__exact")
    search_help_text = gettext_lazy("The exact recipient, or the uid of an event.")
    actions = ("retry",)

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may have messages sent again: it takes the permission to change notifications."""
        return bool(request.user.has_perm("django_signal_audit.change_notification"))

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Show the notification and the events it tells of instead of a form."""
        notification = context["original"]
        views = view_events(self.admin_site.name, notification.audit_events())
        extra = {"title": _("Notification"), "notification": notification, "views": views, "is_digest": len(views) > 1}
        return super().render_change_form(request, {**context, **extra}, *args, **kwargs)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Return the notifications to exactly this recipient, or of the event with this uid."""
        term = clean_text(search_term.strip())
        return (queryset.filter(Q(recipient=term) | with_uid("event", term)) if term else queryset), False

    @admin.action(description=gettext_lazy("Send again"), permissions=["retry"])
    def retry(self, request: HttpRequest, queryset: NotificationQuerySet) -> None:
        """Make the failed, dead and skipped ones due now, and wake the delivery."""
        status = Notification.STATUS
        with transaction.atomic(using=queryset.db):
            unsent = queryset.of_status(status.failed, status.dead, status.skipped)
            woken = list(unsent.values_list("pk", flat=True)[:WOKEN])
            count = queryset.order_by().retry()
            get_dispatcher().wake(queryset.db, woken)
        if count:
            text = ngettext("%(count)d message is due again.", "%(count)d messages are due again.", count)
            self.message_user(request, text % {"count": count}, messages.SUCCESS)
        else:
            text = _("Nothing to send again: only failed, dead and skipped messages are.")
            self.message_user(request, text, messages.WARNING)

    @admin.display(description=gettext_lazy("made"))
    def made(self, row: Notification) -> str:
        """Return when it was written."""
        return show_second(row.created)

    @admin.display(description=gettext_lazy("status"))
    def state(self, row: Notification) -> SafeString:
        """Return how far it has come, and in how many attempts."""
        tried = ngettext("%(count)d attempt", "%(count)d attempts", row.attempts) % {"count": row.attempts}
        return format_html("{}<br><small>{}</small>", badge(row.status, row.get_status_display()), tried)

    @admin.display(description=gettext_lazy("recipient"))
    def addressee(self, row: Notification) -> str:
        """Return the channel and who it goes to."""
        return format_html("{}<br><small>{}</small>", row.channel, row.recipient)

    @admin.display(description=gettext_lazy("last error"))
    def error(self, row: Notification) -> str:
        """Return the beginning of the last error."""
        return shorten(row.last_error, ERROR_WIDTH)

    @admin.display(description=gettext_lazy("sent or due"))
    def moment(self, row: Notification) -> str:
        """Return when it was sent, or when it will be tried next, if it will be."""
        if row.sent_at is not None:
            return show_second(row.sent_at)
        return show_second(row.available_at) if row.status in WILL_BE_TRIED else ""
