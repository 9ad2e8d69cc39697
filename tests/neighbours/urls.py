from __future__ import annotations

from importlib import import_module

from django.apps import apps
from django.urls import path

from .settings import NAME

# The admin's own answer every address below theirs.
urlpatterns = [
    *getattr(import_module(f"tests.neighbours.{NAME}"), "urlpatterns", []),
]
if apps.is_installed("django.contrib.admin"):
    from django.contrib import admin

    urlpatterns.append(path("admin/", admin.site.urls))
