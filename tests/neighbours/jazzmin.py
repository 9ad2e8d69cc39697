"""django-jazzmin: a theme with templates of its own."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import User
from django.core import checks
from django.test import Client

from .pages import assert_pages_work
from .shop.models import Product

pytestmark = pytest.mark.django_db


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    list_display = ("name", "price")


@pytest.fixture
def root(client: Client) -> User:
    user = User.objects.create_superuser("root")
    client.force_login(user)
    return user


@pytest.mark.usefixtures("root")
def test_every_page_works(client: Client) -> None:
    assert_pages_work(client)


@pytest.mark.usefixtures("root")
def test_the_change_form_links_to_the_history(client: Client) -> None:
    product = Product.objects.create(name="Tea")
    page = client.get(f"/admin/shop/product/{product.pk}/change/").content.decode()
    assert f"django_signal_audit/auditevent/history/shop.product/{product.pk}" in page


def test_check_says_where_the_theme_has_to_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> list[str]:
        return [item.msg for item in checks.run_checks() if item.id == "django_signal_audit.W003"]

    assert found() == []
    configs = sorted(apps.get_app_configs(), key=lambda config: config.name != "jazzmin")
    monkeypatch.setattr(apps, "get_app_configs", lambda: configs)
    [message] = found()
    assert 'after "jazzmin"' in message
