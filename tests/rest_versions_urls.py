"""The addresses of a project whose prefixes capture arguments: the version of its API, and others."""

from __future__ import annotations

from django.urls import include, path, re_path

from .urls import urlpatterns as pages

OURS = "django_signal_audit.rest.urls"
urlpatterns = [
    path("api/<version>/audit/", include(OURS)),
    path("own/<str:uid>/<int:pk>/", include(OURS, namespace="own")),
    re_path(r"^unnamed/([a-z]+)/", include(OURS, namespace="unnamed")),
    *pages,
]
