"""django-tenants with one audit log for all, in the public schema."""

from __future__ import annotations

from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import transaction
from django.test import Client
from django_tenants.utils import schema_context, tenant_context

from django_signal_audit import history_of, record
from django_signal_audit.models import AuditEvent

from .schemas import EVENTS, make_company, tables_of, told_in
from .shop.models import Label, Product

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
    # Both have the primary key 1: the tenant tells whose it is.
    found = AuditEvent.of_all_tenants.filter(model="shop.product").order_by("id")
    assert {event.object_id for event in found} == {"1"}
    assert [event.tenant for event in found] == ["north", "north", "south"]


def test_rows_with_the_same_key_share_neither_history_nor_state_nor_replay() -> None:
    north, south = make_company("north"), make_company("south")
    with tenant_context(north):
        Product.objects.create(name="Tea", price=1).labels.add(Label.objects.create(name="fair"))
        Product.objects.update(price=2)
    with tenant_context(south):
        Product.objects.bulk_create([Product(name="Coffee", price=7)])
        record("tasted", Product.objects.get())
    for company, name, price, count in ((north, "Tea", 2, 3), (south, "Coffee", 7, 1)):
        with tenant_context(company):
            product = Product.objects.get()
            state = AuditEvent.objects.state_of(Product, product.pk)
            assert state is not None
            assert (state["name"], state["price"]) == (name, price)
            assert len(history_of(product)) == count
            assert {event.tenant for event in AuditEvent.objects.all()} == {company.schema_name}
            out = StringIO()
            call_command("audit_replay", "shop.*", "--check", stdout=out)
            assert " 0 differences" in out.getvalue()
    with tenant_context(north):
        Product.objects.all().delete()
        assert AuditEvent.objects.state_of(Product, 1) is None
    with tenant_context(south):
        assert AuditEvent.objects.state_of(Product, 1) is not None


def test_starting_points_of_a_prune_are_each_tenants_own() -> None:
    companies = [make_company("north"), make_company("south")]
    for company in companies:
        with tenant_context(company):
            Product.objects.create(name=company.name, price=1)
            Product.objects.update(price=2)
    AuditEvent.of_all_tenants.filter(model="shop.product").prune()
    for company in companies:
        with tenant_context(company):
            state = AuditEvent.objects.state_of(Product, Product.objects.get().pk)
            assert state is not None
            assert (state["name"], state["price"]) == (company.name, 2)
            call_command("audit_replay", "shop.*", "--check", stdout=StringIO())


def test_pages_and_commands_of_a_host_have_its_tenant_alone() -> None:
    pages = {}
    for name in ("north", "south"):
        with tenant_context(make_company(name)):
            Product.objects.create(name=f"Salt of the {name}")
            client = Client(headers={"host": f"{name}.example.com"})
            client.force_login(User.objects.create_superuser("ada"))
            out = StringIO()
            call_command("audit_export", stdout=out)
            assert f"Salt of the {name}" in out.getvalue()
            assert "Salt of the south" not in out.getvalue() or name == "south"
            assert "Salt of the north" not in out.getvalue() or name == "north"
    for name, other in (("north", "south"), ("south", "north")):
        with schema_context(name):
            client = Client(headers={"host": f"{name}.example.com"})
            client.force_login(User.objects.get())
        for path in ("", "?q=Salt", "?q=tenant:south", "history/shop.product/1/", "dashboard/"):
            pages[name] = client.get(f"/admin/django_signal_audit/auditevent/{path}").content.decode()
            assert f"of the {other}" not in pages[name]
        found = client.get("/admin/django_signal_audit/auditevent/").content.decode()
        assert f"of the {name}" in found
