"""Addresses for a project to include: the inbox, what its users want to be notified of, and the audit log as JSON."""

from __future__ import annotations

from django.urls import path

from .inbox import preferences, views
from .inbox.stream import stream
from .web import views as events

app_name = "signal_audit"
urlpatterns = [
    path("", views.show, name="inbox"),
    path("read/", views.mark, name="inbox-mark"),
    path("api/messages/", views.list_messages, name="inbox-messages"),
    path("api/unread/", views.count_unread, name="inbox-unread"),
    path("api/read/", views.mark_read, name="inbox-read"),
    path("stream/", stream, name="inbox-stream"),
    path("preferences/", preferences.show, name="preferences"),
    path("api/preferences/", preferences.answer, name="preferences-api"),
    path("unsubscribe/<str:token>/", preferences.unsubscribe, name="unsubscribe"),
    path("api/events/", events.list_events, name="events"),
    path("api/events/<uuid:uid>/", events.show_event, name="event"),
    path("api/objects/<str:label>/<path:key>/events/", events.list_object_events, name="object-events"),
]
