from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from .app import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("inbox/", include("django_signal_audit.urls")),
    path("shop/", include("testproject.shop.urls")),
    path("products/<int:pk>/", views.product_page),
    path("create/<str:name>/", views.create),
    path("acreate/<str:name>/", views.acreate),
    path("stream/<str:name>/", views.stream),
    path("astream/<str:name>/", views.astream),
    path("token/<str:name>/", views.token),
    path("fail/", views.fail),
]
