"""Addresses for a project to include: the inbox, what its users want to be notified of, and the audit log as JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.urls import URLPattern, path

from .inbox import preferences, views
from .inbox.stream import stream
from .web import views as events
from .web.addresses import below_prefix


def _path(route: str, view: Callable[..., Any], *own: str, name: str) -> URLPattern:
    return path(route, below_prefix(view, *own), name=name)


app_name = "signal_audit"
urlpatterns = [
    _path("", views.show, name="inbox"),
    _path("read/", views.mark, name="inbox-mark"),
    _path("api/messages/", views.list_messages, name="inbox-messages"),
    _path("api/unread/", views.count_unread, name="inbox-unread"),
    _path("api/read/", views.mark_read, name="inbox-read"),
    _path("stream/", stream, name="inbox-stream"),
    _path("preferences/", preferences.show, name="preferences"),
    _path("api/preferences/", preferences.answer, name="preferences-api"),
    _path("unsubscribe/<str:token>/", preferences.unsubscribe, "token", name="unsubscribe"),
    _path("api/events/", events.list_events, name="events"),
    _path("api/events/<uuid:uid>/", events.show_event, "uid", name="event"),
    _path(
        "api/objects/<str:label>/<path:key>/events/", events.list_object_events, "label", "key", name="object-events"
    ),
]
