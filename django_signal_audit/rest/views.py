"""The views of the REST API: users see in it what they see on the pages of the admin and in their inbox.

Handlers take what the pattern captures below which the project includes the addresses, such as a version.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.core.exceptions import BadRequest
from django.http import HttpRequest, QueryDict
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.permissions import AllowAny, BasePermission, IsAuthenticated, IsAuthenticatedOrReadOnly
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.views import APIView

from django_signal_audit.inbox.mailbox import PAGE_SIZE as MESSAGES_PER_PAGE
from django_signal_audit.inbox.mailbox import Mailbox
from django_signal_audit.inbox.views import LARGEST_KEY, key_from
from django_signal_audit.models import AuditEvent, AuditEventQuerySet, Notification, NotificationQuerySet
from django_signal_audit.reports.base import WrongArgument
from django_signal_audit.web.addresses import beside
from django_signal_audit.web.reading import (
    LIMIT,
    MOST_PER_PAGE,
    PAGE,
    PER_PAGE,
    EventPage,
    event_json,
    find_event,
    may_view_log,
    object_events,
    search_events,
)

from .serializers import (
    EventPageSerializer,
    EventSerializer,
    MarkedSerializer,
    MarkSerializer,
    NotificationPageSerializer,
    NotificationSerializer,
)


def _text(name: str, description: str) -> OpenApiParameter:
    return OpenApiParameter(name, OpenApiTypes.STR, description=description)


_PAGING = [
    OpenApiParameter(LIMIT, OpenApiTypes.INT, description="How many events a page has: at most 100; 50 by default."),
    _text(PAGE, "Where the page begins, as next and previous have it."),
]
_FILTERS = [
    _text("q", "What is typed into the admin's search bar, such as actor:bruno field:price."),
    _text("as", "How the text in q is read: uid, request, object-key, actor-key, actor or object."),
    _text("actor", "The primary key of an actor, or the beginning of their name; none for events without an actor."),
    _text("actor_name", "The whole name of an actor."),
    _text("object", "The primary key of an object, or the beginning of its name."),
    _text("model", "The label of a model, such as shop.product."),
    _text("field", "A field that changed."),
    _text("event_type", "The event, such as update."),
    _text("rule", "The name of a rule."),
    _text("level", "info, warning or critical."),
    _text("reason", "The beginning of the reason."),
    _text("request", "The correlation ID."),
    _text("since", "A date, a date and time, or 24h, 7d, 2w ago."),
    _text("until", "The same; a date is included."),
    _text("time", "1h, 24h, 7d or 30d, in place of since and until."),
]
_OBJECT = [
    OpenApiParameter("label", OpenApiTypes.STR, OpenApiParameter.PATH, description="The label of the model."),
    OpenApiParameter("key", OpenApiTypes.STR, OpenApiParameter.PATH, description="The object's primary key."),
]


class MayViewEvents(BasePermission):
    """Lets in who may view audit events in the admin; which of them, each view decides."""

    message = "You may not view audit events."

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Return whether the user may view audit events at all."""
        return bool(request.user and request.user.is_authenticated and may_view_log(_plain(request)))


def _plain(request: Request) -> HttpRequest:
    """Return Django's request, whose user REST framework has authenticated: the project's ModelAdmins are asked."""
    plain: HttpRequest = request._request  # noqa: SLF001  # REST framework documents it for this
    return plain


def _beside(request: Request, query: str) -> str | None:
    found = beside(_plain(request), query)
    return None if found is None else str(request.build_absolute_uri(found))


def _columns(event: AuditEvent) -> dict[str, object]:
    """Return the columns of an event; the project's settings say how a time is written."""
    return {**event_json(event), "recorded_at": event.recorded_at}


# Next to ours they say nothing, but a schema takes them to say that nobody has to log in.
_WEAKER = (AllowAny, IsAuthenticatedOrReadOnly)


class _AuditView(APIView):
    """A view that holds all that the project asks for in REST_FRAMEWORK, and in any case what the admin asks for."""

    # Asked beside the project's permission classes, also by a subclass with others.
    own_permission: type[BasePermission] = IsAuthenticated

    def get_permissions(self) -> list[BasePermission]:
        """Return the project's permissions and our own."""
        project = [one for one in super().get_permissions() if type(one) not in _WEAKER]
        return [*project, self.own_permission()]

    def page_size(self, default: int) -> int:
        """Return how many there are on a page: as many as on all pages of the project, but not too many."""
        return min(api_settings.PAGE_SIZE or default, MOST_PER_PAGE)


class _EventView(_AuditView):
    own_permission = MayViewEvents

    def get_queryset(self) -> AuditEventQuerySet:
        """Return events for a permission class that asks of which model they are."""
        return AuditEvent.objects.none()

    def parameters(self, request: Request) -> QueryDict:
        """Return the parameters of the address without those of REST framework itself."""
        found: QueryDict = request.query_params.copy()
        for name in (api_settings.URL_FORMAT_OVERRIDE, api_settings.VERSION_PARAM):
            found.pop(name, None)
        return found

    def answer(self, request: Request, page: EventPage | None) -> Response:
        """Return a page of events, 404 for None."""
        if page is None:
            raise NotFound
        shown = {
            "next": _beside(request, page.older),
            "previous": _beside(request, page.newer),
            "searched_to": page.searched_to,
            "read_as": page.read_as or None,
            "results": [_columns(event) for event in page.events],
        }
        return Response(EventPageSerializer(shown).data)

    def handle_exception(self, exc: Exception) -> Response:
        """Answer a wrong parameter with 400."""
        return super().handle_exception(ValidationError(str(exc)) if isinstance(exc, WrongArgument) else exc)


class EventList(_EventView):
    """The audit events that the filters find, the newest first."""

    @extend_schema(
        operation_id="audit_events_list", parameters=[*_FILTERS, *_PAGING], responses=EventPageSerializer(many=False)
    )
    def get(self, request: Request, *_unnamed: object, **_captured: object) -> Response:
        """List the audit events that the filters find, the newest first."""
        size = self.page_size(PER_PAGE)
        return self.answer(request, search_events(_plain(request), self.parameters(request), per_page=size))


class EventDetail(_EventView):
    """One audit event."""

    @extend_schema(operation_id="audit_events_retrieve", responses=EventSerializer)
    def get(self, request: Request, *_unnamed: object, uid: UUID, **_captured: object) -> Response:
        """Show one audit event."""
        event = find_event(_plain(request), uid)
        if event is None:
            raise NotFound
        self.check_object_permissions(request, event)
        return Response(EventSerializer(_columns(event)).data)


class ObjectEventList(_EventView):
    """The audit events of one object, the newest first; it may be deleted."""

    @extend_schema(
        operation_id="audit_object_events_list",
        parameters=[*_OBJECT, *_PAGING],
        responses=EventPageSerializer(many=False),
    )
    def get(self, request: Request, *_unnamed: object, label: str, key: str, **_captured: object) -> Response:
        """List the audit events of one object, which may be deleted, the newest first."""
        page = object_events(_plain(request), label, key, self.parameters(request), per_page=self.page_size(PER_PAGE))
        return self.answer(request, page)


class _MailboxView(_AuditView):
    # Permissions for a model are for its rows as a whole, and here all read and mark their own messages.
    _ignore_model_permissions = True

    def get_queryset(self) -> NotificationQuerySet:
        """Return messages for a permission class that asks of which model they are."""
        return Notification.objects.none()

    def mailbox(self, request: Request) -> Mailbox:
        """Return the messages of the user."""
        return Mailbox(request.user, size=self.page_size(MESSAGES_PER_PAGE))

    def message(self, request: Request, pk: int) -> Notification:
        """Return one of the user's messages."""
        found = self.mailbox(request).messages.filter(pk=pk).first() if pk <= LARGEST_KEY else None
        if found is None:
            raise NotFound
        return found

    def marked(self, mailbox: Mailbox, keys: Iterable[int], up_to: int | None = None) -> Response:
        """Mark messages as read and return how many were unread."""
        count = mailbox.read([*keys]) + (0 if up_to is None else mailbox.read_up_to(up_to))
        return Response({"marked": count, "unread": mailbox.count_unread()})


class NotificationList(_MailboxView):
    """The messages in the user's inbox, the newest first."""

    @extend_schema(
        operation_id="audit_notifications_list",
        parameters=[
            OpenApiParameter("before", OpenApiTypes.INT, description="Messages older than the one with this ID."),
            OpenApiParameter("after", OpenApiTypes.INT, description="Messages newer than the one with this ID."),
        ],
        responses=NotificationPageSerializer(many=False),
    )
    def get(self, request: Request, *_unnamed: object, **_captured: object) -> Response:
        """List the messages in the user's inbox, the newest first, and note that they were seen."""
        mailbox = self.mailbox(request)
        try:
            ends = {name: key_from(request.query_params.get(name), name) for name in ("before", "after")}
        except BadRequest as error:
            raise ValidationError(str(error)) from error
        page = mailbox.page(**ends)
        mailbox.see(page.messages)
        shown = {
            "next": _beside(request, "" if page.older is None else f"?before={page.older}"),
            "previous": _beside(request, "" if page.newer is None else f"?after={page.newer}"),
            "unread": mailbox.count_unread(),
            "results": page.messages,
        }
        return Response(NotificationPageSerializer(shown).data)


class NotificationDetail(_MailboxView):
    """One message in the user's inbox."""

    @extend_schema(operation_id="audit_notifications_retrieve", responses=NotificationSerializer)
    def get(self, request: Request, *_unnamed: object, pk: int, **_captured: object) -> Response:
        """Show one message of the user's inbox."""
        return Response(NotificationSerializer(self.message(request, pk)).data)


class NotificationRead(_MailboxView):
    """Marks one message as read."""

    @extend_schema(operation_id="audit_notifications_read", request=None, responses=MarkedSerializer)
    def post(self, request: Request, *_unnamed: object, pk: int, **_captured: object) -> Response:
        """Mark one message as read."""
        return self.marked(self.mailbox(request), [self.message(request, pk).pk])


class NotificationsRead(_MailboxView):
    """Marks several messages as read or unread."""

    @extend_schema(operation_id="audit_notifications_read_many", request=MarkSerializer, responses=MarkedSerializer)
    def post(self, request: Request, *_unnamed: object, **_captured: object) -> Response:
        """Mark messages as read: some by ``ids``, or one and all older ones by ``up_to``; ``ids`` also as unread."""
        asked = MarkSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        said: dict[str, Any] = asked.validated_data
        mailbox, keys = self.mailbox(request), said.get("ids", [])
        if not said["read"]:
            return Response({"marked": mailbox.unread(keys), "unread": mailbox.count_unread()})
        return self.marked(mailbox, keys, said.get("up_to"))
