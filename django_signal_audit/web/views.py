"""The audit log as JSON, for who may view it in the admin."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec
from uuid import UUID

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from django_signal_audit.reports.base import WrongArgument
from django_signal_audit.reports.exports.base import utc

from .addresses import beside
from .reading import EventPage, event_json, find_event, may_view_log, object_events, search_events

P = ParamSpec("P")
# Either what is answered, or None for what the user may not know of.
Answer = Callable[Concatenate[HttpRequest, P], "dict[str, object] | None"]


def as_json(answer: Answer[P]) -> Callable[Concatenate[HttpRequest, P], HttpResponse]:
    """Return a view that answers users who may view audit events in JSON, errors too."""

    @wraps(answer)
    def view(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        user: Any = getattr(request, "user", None)
        if user is None or not user.is_authenticated:
            return JsonResponse({"error": "Log in first."}, status=401)
        if not may_view_log(request):
            return JsonResponse({"error": "You may not view audit events."}, status=403)
        try:
            found = answer(request, *args, **kwargs)
        except WrongArgument as wrong:
            return JsonResponse({"error": str(wrong)}, status=400)
        if found is None:
            return JsonResponse({"error": "There is no such event or object, or you may not view it."}, status=404)
        return JsonResponse(found)

    # Whoever is not logged in is answered above, and not sent to a page.
    return login_not_required(require_GET(never_cache(view)))


@as_json
def list_events(request: HttpRequest) -> dict[str, object] | None:
    """Answer with a page of events, by the parameters of the admin's list."""
    return _page_json(request, search_events(request, request.GET))


@as_json
def show_event(request: HttpRequest, uid: UUID) -> dict[str, object] | None:
    """Answer with one event."""
    event = find_event(request, uid)
    return None if event is None else event_json(event)


@as_json
def list_object_events(request: HttpRequest, label: str, key: str) -> dict[str, object] | None:
    """Answer with a page of one object's events."""
    page = object_events(request, label, key, request.GET)
    return None if page is None else _page_json(request, page)


def _page_json(request: HttpRequest, page: EventPage) -> dict[str, object]:
    return {
        "events": [event_json(event) for event in page.events],
        "newer": beside(request, page.newer),
        "older": beside(request, page.older),
        "searched_to": utc(page.searched_to).isoformat() if page.searched_to else None,
        "read_as": page.read_as or None,
    }
