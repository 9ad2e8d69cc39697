"""django-debug-toolbar: it wraps the cursors of each request, and shows our statements too."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import include, path

from tests.conftest import trail

from .shop.models import Label, Product

pytestmark = pytest.mark.django_db


def always(request: HttpRequest) -> bool:
    return True


def write(request: HttpRequest) -> HttpResponse:
    hot, cold = Label.objects.bulk_create([Label(name="hot"), Label(name="cold")])
    tea, coffee = Product.objects.bulk_create([Product(name="Tea"), Product(name="Coffee")])
    tea.labels.set([hot, cold])
    Product.objects.update(price=2)
    coffee.price = 3
    coffee.save()
    Product.objects.bulk_update([tea, coffee], ["name"])
    Product.objects.filter(name="Coffee").delete()
    tea.delete()
    return HttpResponse("<html><body>done</body></html>")


urlpatterns = [path("write/", write), path("__debug__/", include("debug_toolbar.urls", namespace="djdt"))]


def test_writes_of_many_rows_are_recorded_under_the_toolbar(client: Client) -> None:
    answer = client.get("/write/")
    assert answer.status_code == 200
    assert "djDebug" in answer.content.decode()
    types = [event_type for event_type, _ in trail(model="shop.product")]
    assert types.count("create") == 2
    assert types.count("update") == 3
    assert types.count("delete") == 2
    assert len(trail(model="shop.label")) == 2


def test_the_audit_pages_work_under_the_toolbar(client: Client) -> None:
    client.force_login(User.objects.create_superuser("root"))
    client.get("/write/")
    for page in ("auditevent/", "notification/", "auditevent/dashboard/"):
        assert client.get(f"/admin/django_signal_audit/{page}").status_code == 200
