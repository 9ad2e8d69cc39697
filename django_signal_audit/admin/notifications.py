"""The outbox."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_signal_audit.admin.access import Access, access_of, shaped_notification
from django_signal_audit.admin.base import (
    ReadOnlyAdmin,
    badge,
    crumbs_to_list,
    labelled,
    names_undeclared,
    render_page,
    show_second,
    with_uid,
)
from django_signal_audit.admin.details import view_events
from django_signal_audit.admin.filters import ChannelFilter, ChoiceFilter, NotifyingRuleFilter, StatusFilter
from django_signal_audit.admin.links import notification_url
from django_signal_audit.capture.images import chunks
from django_signal_audit.channels import get_channel
from django_signal_audit.channels.base import Channel
from django_signal_audit.delivery.recipients import load_users
from django_signal_audit.delivery.redaction import describe
from django_signal_audit.delivery.rendering import render
from django_signal_audit.dispatchers import get_dispatcher
from django_signal_audit.enums import EventType
from django_signal_audit.events.values import clean_text
from django_signal_audit.models import AuditEvent, Notification, NotificationQuerySet
from django_signal_audit.reports.display import shorten

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
    error: str = ""
    is_kept: bool = False


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
    return True


def known_uids(notification: Notification) -> list[UUID]:
    """Return the uids of the events that it describes, those that are uids."""
    found = notification.event_uids
    return [uid for text in found if (uid := _uid(text)) is not None] if isinstance(found, list) else []


def _uid(text: Any) -> UUID | None:
    try:
        return text if isinstance(text, UUID) else UUID(text)
    except (ValueError, TypeError, AttributeError):
        return None


def subjects_of(rows: Sequence[Notification], access: Access) -> dict[Any, str]:
    """Return, by primary key, the event that each of the notifications describes, ``""`` if the user may not view it.

    A digest has the first of its events and how many there are; pruned events are missing.
    """
    using = rows[0]._state.db if rows else None
    firsts = {row.pk: uids[0] for row in rows if (uids := known_uids(row))}
    found = AuditEvent.objects.using(using).filter(uid__in=[*firsts.values()])
    events = {str(event.uid): event for event in access.filter(found)}
    return {row.pk: _subject(events.get(str(firsts.get(row.pk))), len(known_uids(row))) for row in rows}


def _subject(event: AuditEvent | None, count: int) -> str:
    if event is None:
        return ""
    text = f"{EventType.label_of(event.event_type)} {event.object_repr or event.object_id or event.model}".rstrip()
    more = ngettext("and %(count)d more event", "and %(count)d more events", count - 1) % {"count": count - 1}
    return f"{text} {more}" if count > 1 else text


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
    return Preview(subject=message.subject, body=message.body, html=message.html)


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
    using = queryset.db
    keys = list(unsent(queryset).order_by("pk").values_list("pk", flat=True)[:MOST])
    count = 0
    for start in range(0, len(keys), CHUNK):
        with transaction.atomic(using=using):
            chunk = keys[start : start + CHUNK]
            count += Notification.objects.using(using).filter(pk__in=chunk).retry()
            if start == 0:
                get_dispatcher().wake(using, chunk[:WOKEN])
    return count


ERROR_WIDTH = 120
TOLD_WIDTH = 80
# All keys of so many digits fit into the column.
MOST_DIGITS = 18
RETRY_TEMPLATE = "admin/django_signal_audit/notification/retry.html"
UNSENT = (Notification.STATUS.failed, Notification.STATUS.dead, Notification.STATUS.skipped)
WILL_BE_TRIED = (Notification.STATUS.pending, Notification.STATUS.claimed, Notification.STATUS.failed)


class NotificationChangeList(ChangeList):
    """A page of the outbox, with what each message describes."""

    def get_results(self, request: HttpRequest) -> None:
        """Find the page, and the events of its rows."""
        super().get_results(request)
        self.result_list = list(map(shaped_notification, self.result_list))
        told = subjects_of(self.result_list, access_of(request, self.model_admin.admin_site))
        for row in self.result_list:
            row.told = told[row.pk]


@admin.register(Notification)
class NotificationAdmin(ReadOnlyAdmin):
    """Every message to somebody, how far it has come, and what went wrong."""

    list_display = ("made", "state", "addressee", "moment")
    list_display_links = ("made",)
    list_filter = (StatusFilter, ChannelFilter, NotifyingRuleFilter)
    search_fields = ("event__exact", "recipient__exact")
    search_help_text = gettext_lazy("The exact recipient, or the uid of an event.")
    actions = ("retry",)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return the list that knows what its rows describe."""
        return NotificationChangeList

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may have messages sent again: it takes the permission to change notifications."""
        return bool(request.user.has_perm("django_signal_audit.change_notification"))

    def get_urls(self) -> list[URLPattern]:
        """Return the pages of the outbox, and where it is sent again from."""
        again, one = self.admin_site.admin_view(self.retry_matching_view), self.admin_site.admin_view(self.retry_view)
        return [
            path("retry/", again, name="django_signal_audit_notification_retry_matching"),
            path("<path:object_id>/retry/", one, name="django_signal_audit_notification_retry"),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, object] | None = None) -> HttpResponse:
        """Show the list, with a way to send all of it again."""
        may = {"may_retry": self.has_retry_permission(request)}
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
        extra = {
            "title": _("Notification"),
            "notification": row,
            "preview": Preview(error=_("It describes objects that you may not view."))
            if is_hidden
            else preview(row, events),
            "is_hidden": is_hidden,
            "views": view_events(self, request, shown),
            "told": len(known_uids(row)),
            "cut": len(known_uids(row)) > MOST_EVENTS,
            "may_retry": self.has_retry_permission(request) and row.status in UNSENT,
        }
        return super().render_change_form(request, {**context, **extra}, *args, **kwargs)

    def retry_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Have one message sent again, and go back to its page."""
        self._demand(request)
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        if request.method == "POST":
            self.retry(request, Notification.objects.using(row._state.db).filter(pk=row.pk))
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
        """Return the notifications to exactly this recipient, or of the event with this uid."""
        term = clean_text(search_term.strip())
        return (queryset.filter(Q(recipient=term) | with_uid("event", term)) if term else queryset), False

    @admin.action(description=gettext_lazy("Retry"), permissions=["retry"])
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

    @admin.display(description=gettext_lazy("created"))
    def made(self, row: Notification) -> str:
        """Return when it was written."""
        return show_second(row.created)

    @admin.display(description=gettext_lazy("status"))
    def state(self, row: Notification) -> SafeString:
        """Return how far it has come, in how many attempts, and the beginning of the last error."""
        tried = ngettext("%(count)d attempt", "%(count)d attempts", row.attempts) % {"count": row.attempts}
        state = format_html("{}<br><small>{}</small>", badge(row.status, row.get_status_display()), tried)
        error = shorten(row.last_error, ERROR_WIDTH)
        return format_html('{}<div class="audit-error">{}</div>', state, error) if error else state

    @admin.display(description=gettext_lazy("event and recipient"))
    def addressee(self, row: Any) -> str:
        """Return the event that it describes, the rule, the channel and who it goes to."""
        way = format_html("{} → {}<br>{}", row.rule, row.channel, row.recipient)
        told = shorten(row.told, TOLD_WIDTH)
        return format_html("{}<br><small>{}</small>", told, way) if told else format_html("<small>{}</small>", way)

    @admin.display(description=gettext_lazy("sent or due"))
    def moment(self, row: Notification) -> str:
        """Return when it was sent, or when it will be tried next, if it will be."""
        if row.sent_at is not None:
            return labelled(_("Sent"), show_second(row.sent_at))
        return labelled(_("Next attempt"), show_second(row.available_at)) if row.status in WILL_BE_TRIED else ""


def _chosen(spec: Any) -> str:
    """Return what a filter is set to, in its own words."""
    value = spec.value() if isinstance(spec, ChoiceFilter) else None
    return str(dict(spec.lookup_choices).get(value, value)) if value else ""
