"""django-tenants with one audit log for all, in the public schema."""

from __future__ import annotations

import pytest
from django.db import transaction
from django_tenants.utils import tenant_context

from tests.conftest import events

from .schemas import EVENTS, make_company, tables_of, told_in
from .shop.models import Product

pytestmark = pytest.mark.django_db


def test_events_of_every_schema_are_in_public_where_keys_of_tenants_meet() -> None:
    north, south = make_company("north"), make_company("south")
    assert EVENTS not in tables_of("north") | tables_of("south")
    before = len(told_in("public"))
    with tenant_context(north):
        Product.objects.create(name="Tea")
        Product.objects.update(price=2)
    with tenant_context(south):
        Product.objects.bulk_create([Product(name="Coffee")])
        with transaction.atomic():
            Product.objects.create(name="Salt")
            transaction.set_rollback(True)
    assert told_in("public")[before:] == [
        ("shop.product", "create", "Tea"),
        ("shop.product", "update", "Tea"),
        ("shop.product", "create", "Coffee"),
    ]
    # Both have the primary key 1: no column tells whose it is.
    assert len({event.object_id for event in events(model="shop.product")}) == 1
