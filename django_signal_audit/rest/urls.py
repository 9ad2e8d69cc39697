"""Addresses of the REST API, for a project to include."""

from __future__ import annotations

from django.urls import path

from . import views

app_name = "signal_audit_rest"
urlpatterns = [
    path("events/", views.EventList.as_view(), name="events"),
    path("events/<uuid:uid>/", views.EventDetail.as_view(), name="event"),
    path("objects/<str:label>/<path:key>/events/", views.ObjectEventList.as_view(), name="object-events"),
    path("notifications/", views.NotificationList.as_view(), name="notifications"),
    path("notifications/read/", views.NotificationsRead.as_view(), name="notifications-read"),
    path("notifications/<int:pk>/", views.NotificationDetail.as_view(), name="notification"),
    path("notifications/<int:pk>/read/", views.NotificationRead.as_view(), name="notification-read"),
]
