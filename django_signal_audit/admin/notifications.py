"""The outbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.text import Truncator, capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.clickjacking import xframe_options_sameorigin

from django_signal_audit.admin.access import Access, access_of, shaped_notification
from django_signal_audit.admin.base import (
    ReadOnlyAdmin,
    crumbs_to_list,
    names_undeclared,
    render_page,
    trail,
    written_in,
)
from django_signal_audit.admin.channels import NAME as CHANNELS
from django_signal_audit.admin.channels import channels_page, troubled
from django_signal_audit.admin.details import view_events
from django_signal_audit.admin.filters import (
    ChannelFilter,
    ChoiceFilter,
    NotifyingRuleFilter,
    StatusFilter,
    TimeFilter,
)
from django_signal_audit.admin.links import events_url, notification_url
from django_signal_audit.admin.listing import row_of
from django_signal_audit.admin.notification_list import (
    MOST_DIGITS,
    NotificationChangeList,
    anonymous,
    known_uids,
    searched,
)
from django_signal_audit.capture.images import chunks
from django_signal_audit.channels import get_channel
from django_signal_audit.channels.base import Channel
from django_signal_audit.delivery.recipients import load_users
from django_signal_audit.delivery.redaction import describe
from django_signal_audit.delivery.rendering import render
from django_signal_audit.dispatchers import get_dispatcher
from django_signal_audit.exceptions import InvalidSettings
from django_signal_audit.models import AuditEvent, Notification, NotificationQuerySet
from django_signal_audit.reports.display import printable
from django_signal_audit.reports.formatter import zone_name

# A bulk call may make a digest of any number of events, and a page is no place for them all.
MOST_EVENTS = 100
# Of more events nobody is asked whether the user may see them all: the message is not shown.
MOST_ASKED = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """Texts for a template, which escapes them; ``error`` says why there are none."""

    subject: str = ""
    body: str = ""
    html: str = ""
    reason: str = ""
    error: str = ""
    is_kept: bool = False


def _hidden() -> Preview:
    return Preview(error=_("It describes objects that you may not view."))


def _kind_of(alias: str) -> str:
    """Return what kind of channel an alias stands for, ``""`` if it is none."""
    try:
        return type(get_channel(alias)).__name__.removesuffix("Channel").lower()
    except InvalidSettings:
        return ""


def first_events(notification: Notification) -> list[AuditEvent]:
    """Return the first of the events that it describes; pruned ones are missing."""
    uids = known_uids(notification)[:MOST_EVENTS]
    return list(AuditEvent.objects.using(notification._state.db).filter(uid__in=uids).order_by("id"))


def sees_message(access: Access, notification: Notification) -> bool:
    """Return whether the user may see all that a notification describes, down to the fields."""
    uids = known_uids(notification)
    if len(uids) > MOST_ASKED:
        return False
    for part in chunks(uids, MOST_EVENTS):
        events = list(AuditEvent.objects.using(notification._state.db).filter(uid__in=part))
        if len(events) < len(part) and not access.sees_everything:
            return False  # nobody can tell any more what the message says of those that were pruned
        shown = access.redact(access.filter(events))
        if len(shown) < len(events) or any(getattr(event, "is_cut", False) for event in shown):
            return False
        if access.naming_unreadable(shown):
            return False  # the message was written for somebody else, who may know those rows by name
    return True


def preview(notification: Notification, events: list[AuditEvent]) -> Preview:
    """Return what it says, made of these of its events; nothing is sent or asked of the channel but how it writes."""
    if notification.status == Notification.STATUS.sent and notification.data.get("subject"):
        return Preview(subject=notification.subject, body=notification.body, is_kept=True)
    if not events:
        return Preview(error="Its events are no longer in the audit log.")
    user = load_users([notification]).get(notification.user)
    channel: Channel | None = None
    try:
        channel = get_channel(notification.channel)
        message = render(notification, events, notification.recipient, channel, user)
    except Exception as error:  # noqa: BLE001  # templates and channels are the project's, and the page is to be shown
        return Preview(error=describe(error, channel))
    return Preview(subject=message.subject, body=message.body, html=message.html, reason=message.reason)


# Waking is for what a dispatcher sends at once; it leaves the rest to a worker anyway.
WOKEN = 100
# What one request may change. A page that says so can be confirmed again.
MOST = 10_000
# SQLite limits the parameters of a statement, and a lock should not be held for long.
CHUNK = 500

STATUS = Notification.STATUS


def unsent(queryset: NotificationQuerySet) -> NotificationQuerySet:
    """Return those that can be sent again."""
    return queryset.of_status(STATUS.failed, STATUS.dead, STATUS.skipped)


def count_unsent(queryset: NotificationQuerySet) -> int:
    """Return how many can be sent again, one more than may be at once for that many and more."""
    return unsent(queryset).order_by().values("pk")[: MOST + 1].count()


def retry(queryset: NotificationQuerySet) -> int:
    """Make them due now, the oldest first and no more than 10,000, wake the delivery, and return how many they were."""
    using = written_in(queryset)
    keys = list(unsent(queryset).order_by("pk").values_list("pk", flat=True)[:MOST])
    count = 0
    for start in range(0, len(keys), CHUNK):
        with transaction.atomic(using=using):
            chunk = keys[start : start + CHUNK]
            count += Notification.objects.using(using).filter(pk__in=chunk).retry()
            if start == 0:
                get_dispatcher().wake(using, chunk[:WOKEN])
    return count


RETRY_TEMPLATE = "admin/django_signal_audit/notification/retry.html"
UNSENT = (Notification.STATUS.failed, Notification.STATUS.dead, Notification.STATUS.skipped)


@admin.register(Notification)
class NotificationAdmin(ReadOnlyAdmin):
    """Every message to somebody, how far it has come, and what went wrong."""

    list_filter = (TimeFilter, StatusFilter, ChannelFilter, NotifyingRuleFilter)
    search_fields = ("event__exact", "recipient__exact")
    actions = ("retry",)

    def get_changelist(self, request: HttpRequest, **kwargs: object) -> type[ChangeList]:
        """Return the list that knows what its rows describe."""
        return NotificationChangeList

    def get_queryset(self, request: HttpRequest) -> NotificationQuerySet:
        """Return the messages of the current tenant, where the setting TENANT names a function."""
        return cast("NotificationQuerySet", super().get_queryset(request)).of_current_tenant()

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may have messages sent again: it takes the permission to change notifications."""
        return bool(request.user.has_perm("django_signal_audit.change_notification"))

    def get_urls(self) -> list[URLPattern]:
        """Return the pages of the outbox, and where it is sent again from."""
        again, one = self.admin_site.admin_view(self.retry_matching_view), self.admin_site.admin_view(self.retry_view)
        channels = self.admin_site.admin_view(self.channels_view)
        html = xframe_options_sameorigin(self.admin_site.admin_view(self.html_view))
        return [
            path("channels/", channels, name=CHANNELS),
            path("retry/", again, name="django_signal_audit_notification_retry_matching"),
            path("<path:object_id>/html/", html, name="django_signal_audit_notification_html"),
            path("<path:object_id>/retry/", one, name="django_signal_audit_notification_retry"),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, object] | None = None) -> HttpResponse:
        """Show the list, with ways to send some of it or all of it again."""
        may = {
            "title": capfirst(self.opts.verbose_name_plural),
            "may_retry": self.has_retry_permission(request),
            "troubled": troubled(str(self.get_queryset(request).db)),
            "zone": zone_name(),
        }
        return super().changelist_view(request, {**may, **(extra_context or {})})

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any) -> Any:
        """Run the action; show the list again if what was selected can be no notification."""
        keys = request.POST.getlist(ACTION_CHECKBOX_NAME)
        may_be_keys = all(key.isascii() and key.isdigit() and len(key) <= MOST_DIGITS for key in keys)
        return super().response_action(request, queryset, *args, **kwargs) if may_be_keys else None

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: object) -> Any:
        """Show the notification, its message and the events it describes instead of a form."""
        row = shaped_notification(context["original"])
        events, access = first_events(row), access_of(request, self.admin_site)
        shown = access.filter(events)
        is_hidden = not sees_message(access, row)
        if is_hidden:
            row = anonymous(row)
        views = view_events(self, request, shown)
        reader = access.reader_of([view.event for view in views])
        rows = [row_of(self.admin_site.name, view.event, reader=reader) for view in views]
        may_view_log = request.user.has_perm("django_signal_audit.view_auditevent")
        message = _hidden() if is_hidden else preview(row, events)
        here = Truncator(printable(message.subject)).chars(60) or _("Notification")
        extra = {
            **trail(crumbs_to_list(self), here),
            "title": _("Notification"),
            "subtitle": here,
            "original": row,
            "notification": row,
            "preview": message,
            "shows_html": request.GET.get("view") == "html",
            "is_hidden": is_hidden,
            "events": list(zip(views, rows, strict=True)),
            "told": len(known_uids(row)),
            "cut": len(known_uids(row)) > MOST_EVENTS,
            "channel_kind": _kind_of(row.channel),
            "rule_url": events_url(self.admin_site.name, rule=row.rule) if may_view_log else "",
            "may_retry": self.has_retry_permission(request) and row.status in UNSENT,
        }
        return super().render_change_form(request, {**context, **extra}, *args, **kwargs)

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, object] | None = None
    ) -> HttpResponse:
        """Show the admin's own log of the notification, which names it by its recipient."""
        row = self.get_object(request, unquote(object_id))
        hidden: dict[str, object] = {}
        if row is not None and not sees_message(access_of(request, self.admin_site), shaped_notification(row)):
            hidden = {"title": _("Notification"), "object": anonymous(row)}
        return super().history_view(request, object_id, {**hidden, **(extra_context or {})})

    def html_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the message in HTML, for a frame in which nothing runs."""
        row = self.get_object(request, unquote(object_id))
        if row is None or not self.has_view_permission(request, row):
            raise Http404
        row = shaped_notification(row)
        shown = preview(row, first_events(row)) if sees_message(access_of(request, self.admin_site), row) else _hidden()
        response = HttpResponse(shown.html)
        response["Content-Security-Policy"] = (
            "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src https: data:"
        )
        return response

    def channels_view(self, request: HttpRequest) -> HttpResponse:
        """Show the channels that fail, and let them be paused."""
        using, may_pause = written_in(self.get_queryset(request)), self.has_retry_permission(request)
        return channels_page(self, request, using=using, may_pause=may_pause)

    def retry_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Have one message sent again, and go back to its page."""
        self._demand(request)
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        if request.method == "POST":
            self.retry(request, self.get_queryset(request).filter(pk=row.pk))
        return HttpResponseRedirect(notification_url(self.admin_site.name, row.pk))

    def retry_matching_view(self, request: HttpRequest) -> HttpResponse:
        """Say how many messages match the filters of the address, and once that is confirmed, have them sent again."""
        self._demand(request)
        back = reverse("admin:django_signal_audit_notification_changelist", current_app=self.admin_site.name)
        try:
            # A misspelt filter is none at all, and all would be sent again.
            changelist = None if names_undeclared(self, request) else self.get_changelist_instance(request)
        except IncorrectLookupParameters:
            changelist = None
        if changelist is None:
            return HttpResponseRedirect(back)
        back += changelist.get_query_string()
        if request.method == "POST":
            self.retry(request, changelist.queryset)
            return HttpResponseRedirect(back)
        count = count_unsent(changelist.queryset)
        context = {
            "title": _("Retry"),
            "back": back,
            "count": min(count, MOST),
            "is_cut": count > MOST,
            "filters": [(spec.title, chosen) for spec in changelist.filter_specs if (chosen := _chosen(spec))],
            "query": changelist.query,
        }
        return render_page(self, request, RETRY_TEMPLATE, context, crumbs=crumbs_to_list(self, back))

    def _demand(self, request: HttpRequest) -> None:
        if not (self.has_view_permission(request) and self.has_retry_permission(request)):
            raise PermissionDenied

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Return the notifications that the search finds."""
        access = access_of(request, self.admin_site)
        return searched(cast("NotificationQuerySet", queryset), search_term, access), False

    @admin.action(description=gettext_lazy("Retry selected"), permissions=["retry"])
    def retry(self, request: HttpRequest, queryset: NotificationQuerySet) -> None:
        """Make the failed, dead and skipped ones due now, at most 10,000, and wake the delivery."""
        count = retry(queryset)
        if count:
            text = ngettext(
                "%(count)d notification is queued again.", "%(count)d notifications are queued again.", count
            )
            self.message_user(request, text % {"count": count}, messages.SUCCESS)
            if count == MOST and unsent(queryset).exists():
                text = _("There are more: at most %(count)d are retried at once.") % {"count": MOST}
                self.message_user(request, text, messages.WARNING)
        else:
            text = _("Nothing to retry: only failed, dead and skipped notifications can be retried.")
            self.message_user(request, text, messages.WARNING)


def _chosen(spec: Any) -> str:
    """Return what a filter is set to, in its own words."""
    value = spec.value() if isinstance(spec, ChoiceFilter) else None
    return str(dict(spec.lookup_choices).get(value, value)) if value else ""
