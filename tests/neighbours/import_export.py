"""django-import-export: each imported row is recorded, a dry run leaves nothing."""

from __future__ import annotations

import pytest
import tablib
from import_export.resources import ModelResource

from tests.conftest import events, trail

from .shop.models import Product

pytestmark = pytest.mark.django_db


class ProductResource(ModelResource):
    class Meta:
        model = Product
        fields = ("id", "name", "price")


class BulkResource(ModelResource):
    class Meta:
        model = Product
        fields = ("id", "name", "price")
        use_bulk = True


def table(*rows: tuple[object, ...]) -> tablib.Dataset:
    return tablib.Dataset(*rows, headers=["id", "name", "price"])


@pytest.mark.parametrize("resource", [ProductResource, BulkResource])
def test_imported_rows_are_recorded(resource: type[ModelResource]) -> None:
    tea, coffee = Product.objects.create(name="Tea", price=1), Product.objects.create(name="Coffee", price=1)
    rows = table((tea.pk, "Tea", "2.00"), (coffee.pk, "Coffee", "1.00"), ("", "Milk", "3.00"))
    result = resource().import_data(rows, raise_errors=True)
    assert not result.has_errors()
    assert trail()[2:] in (
        [("update", {"price": ["1.00", "2.00"]}), ("create", {"name": [None, "Milk"], "price": [None, "3.00"]})],
        [("create", {"name": [None, "Milk"], "price": [None, "3.00"]}), ("update", {"price": ["1.00", "2.00"]})],
    )


@pytest.mark.parametrize("resource", [ProductResource, BulkResource])
def test_a_dry_run_leaves_no_event(resource: type[ModelResource]) -> None:
    resource().import_data(table(("", "Milk", "3.00")), dry_run=True, raise_errors=True)
    assert (events(), Product.objects.count()) == ([], 0)
