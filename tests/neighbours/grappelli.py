"""django-grappelli: a theme with a change form of its own, which shows no links that others add to Django's."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.template import RequestContext, Template
from django.test import Client, RequestFactory
from django.urls import include, path

from .pages import assert_pages_work
from .shop.models import Product

pytestmark = pytest.mark.django_db

urlpatterns = [path("grappelli/", include("grappelli.urls"))]
# What the page "Works with" says to write.
CHANGE_FORM = (
    '{% extends "admin/change_form.html" %}{% load signal_audit %}{% block object-tools-items %}{{ block.super }}'
    "{% audit_history_url original as url %}"
    '{% if url %}<li><a href="{{ url }}">Audit history</a></li>{% endif %}{% endblock %}'
)


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


def test_a_template_of_the_project_links_to_the_history(client: Client, root: User) -> None:
    product = Product.objects.create(name="Tea")
    page = client.get(f"/admin/shop/product/{product.pk}/change/")
    assert page.status_code == 200
    request = RequestFactory().get("/")
    request.user = root
    values = {key: value for layer in page.context for key, value in layer.flatten().items()}
    shown = Template(CHANGE_FORM).render(RequestContext(request, {**values, "original": product, "change": True}))
    assert f"django_signal_audit/auditevent/history/shop.product/{product.pk}" in shown
