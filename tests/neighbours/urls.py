from __future__ import annotations

from importlib import import_module

from django.contrib import admin
from django.urls import path

from .settings import NAME

# The admin's own answer every address below theirs.
urlpatterns = [
    *getattr(import_module(f"tests.neighbours.{NAME}"), "urlpatterns", []),
    path("admin/", admin.site.urls),
]
