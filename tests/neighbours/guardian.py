"""django-guardian: permissions of single objects, and who got them."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client
from guardian.admin import GuardedModelAdmin
from guardian.shortcuts import assign_perm, remove_perm

from tests.conftest import trail

from .shop.models import Product

pytestmark = pytest.mark.django_db


@admin.register(Product)
class ProductAdmin(GuardedModelAdmin):  # type: ignore[misc]
    list_display = ("name",)


def test_permissions_of_objects_are_recorded(settings: Any) -> None:
    settings.SIGNAL_AUDIT = {"RULES": [{"name": "permissions", "model": "guardian.*"}]}
    ada, tea = User.objects.create_user("ada"), Product.objects.create(name="Tea")
    assign_perm("shop.change_product", ada, tea)
    assert ada.has_perm("shop.change_product", tea)
    remove_perm("shop.change_product", ada, tea)
    assert [event_type for event_type, _ in trail()] == ["create", "delete"]
    assert trail()[0][1]["object_pk"] == [None, str(tea.pk)]


def test_the_change_form_links_to_both(client: Client) -> None:
    client.force_login(User.objects.create_superuser("root"))
    tea = Product.objects.create(name="Tea")
    page = client.get(f"/admin/shop/product/{tea.pk}/change/").content.decode()
    assert f"auditevent/history/shop.product/{tea.pk}" in page
    assert "Object permissions" in page
