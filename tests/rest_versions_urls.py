"""The addresses of a project that has the version of its API in each address."""

from __future__ import annotations

from django.urls import include, path

from .urls import urlpatterns as pages

urlpatterns = [path("api/<version>/audit/", include("django_signal_audit.rest.urls")), *pages]
