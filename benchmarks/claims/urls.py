"""Two views that change a product: for a user of the session, and for one who is authenticated inside the view."""

from __future__ import annotations

from decimal import Decimal

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt


def _change(key: int) -> HttpResponse:
    from .models import Product

    product = Product.objects.get(pk=key)
    product.price = Decimal("9.00")
    product.save()
    return HttpResponse()


@csrf_exempt
def change(request: HttpRequest, key: int) -> HttpResponse:
    return _change(key)


@csrf_exempt
def change_with_token(request: HttpRequest, key: int) -> HttpResponse:
    request.user = get_user_model()._default_manager.get(username=request.headers["Authorization"])
    return _change(key)


urlpatterns = [
    path("change/<int:key>/", change),
    path("change-with-token/<int:key>/", change_with_token),
    path("admin/", admin.site.urls),
]
