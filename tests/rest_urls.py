"""The addresses of a project with the REST API and its schema."""

from __future__ import annotations

from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView

from .urls import urlpatterns as pages

urlpatterns = [
    path("api/audit/", include("django_signal_audit.rest.urls")),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    *pages,
]
