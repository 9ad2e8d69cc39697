"""Addresses for a project to include: the inbox."""

from __future__ import annotations

from django.urls import path

from .inbox import views

app_name = "signal_audit"
urlpatterns = [
    path("", views.show, name="inbox"),
    path("read/", views.mark, name="inbox-mark"),
    path("api/messages/", views.list_messages, name="inbox-messages"),
    path("api/unread/", views.count_unread, name="inbox-unread"),
    path("api/read/", views.mark_read, name="inbox-read"),
]
