"""django-tenants with an audit log in each schema: what a tenant does is in the tenant's own."""

from __future__ import annotations

from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path
from django_tenants.utils import schema_context, tenant_context

from django_signal_audit.models import AuditEvent, Notification
from tests.conftest import last, trail

from .company.models import Domain
from .schemas import EVENTS, make_company, tables_of, told_in
from .shop.models import Label, Product

pytestmark = pytest.mark.django_db


def make(request: HttpRequest, name: str) -> HttpResponse:
    Product.objects.create(name=name)
    return HttpResponse()


urlpatterns = [path("make/<name>/", make)]


def test_every_kind_of_write_has_its_event_in_the_schema_of_its_row() -> None:
    north, south = make_company("north"), make_company("south")
    assert EVENTS in tables_of("north") & tables_of("south") & tables_of("public")
    public = told_in("public")
    with tenant_context(north):
        tea = Product.objects.create(name="Tea")
        tea.labels.add(Label.objects.create(name="fair"))
        Product.objects.update(price=2)
    with tenant_context(south):
        Product.objects.bulk_create([Product(name="Coffee"), Product(name="Salt")])
        Product.objects.filter(name="Salt").delete()
    with tenant_context(north):
        assert [row.event_type for row in AuditEvent.objects.for_object(tea).order_by("id")] == [
            "create",
            "m2m",
            "update",
        ]
    assert told_in("north") == [
        ("shop.product", "create", "Tea"),
        ("shop.label", "create", "fair"),
        ("shop.product", "m2m", "Tea"),
        ("shop.product", "update", "Tea"),
    ]
    assert told_in("south") == [
        ("shop.product", "create", "Coffee"),
        ("shop.product", "create", "Salt"),
        ("shop.product", "delete", "Salt"),
    ]
    assert told_in("public") == public
    assert {model for model, _, _ in public} == {"company.company", "company.domain"}


def test_a_log_in_each_schema_needs_no_tenant() -> None:
    with tenant_context(make_company("north")):
        Product.objects.create(name="Tea")
        assert last().tenant == ""


def test_what_is_rolled_back_leaves_no_event_in_any_schema() -> None:
    north = make_company("north")
    before = told_in("public")
    with tenant_context(north), transaction.atomic():
        Product.objects.create(name="Tea")
        assert [kind for kind, _ in trail()] == ["create"]
        transaction.set_rollback(True)
    assert (told_in("north"), told_in("public")) == ([], before)


def test_a_shared_row_that_a_tenant_writes_has_its_event_with_the_tenant() -> None:
    north = make_company("north")
    before = told_in("public")
    with tenant_context(north):
        Domain.objects.create(tenant=north, domain="n.example.com", is_primary=False)
        assert last().model == "company.domain"
    assert told_in("public") == before


def test_a_request_is_told_and_shown_in_the_schema_of_its_host() -> None:
    pages = {}
    for name in ("north", "south"):
        with tenant_context(make_company(name)):
            ada = User.objects.create_superuser("ada")
            client = Client(headers={"host": f"{name}.example.com"})
            client.force_login(ada)
        assert client.post(f"/make/Salt of the {name}/").status_code == 200
        pages[name] = client.get("/admin/django_signal_audit/auditevent/").content.decode()
        with schema_context(name):
            assert (last().actor_repr, last().object_repr) == ("ada", f"Salt of the {name}")
    assert "of the north" in pages["north"]
    assert "of the south" not in pages["north"]
    assert "of the south" in pages["south"]
    assert "of the north" not in pages["south"]


def test_commands_work_in_the_schema_they_are_called_for() -> None:
    north, south = make_company("north"), make_company("south")
    with tenant_context(north):
        Product.objects.create(name="Tea")
    with tenant_context(south):
        Product.objects.create(name="Coffee")
    for name, text, other in (("north", "Tea", "Coffee"), ("south", "Coffee", "Tea")):
        with schema_context(name):
            out = StringIO()
            call_command("audit_export", stdout=out)
            call_command("audit_replay", "--check", stdout=StringIO())
            call_command("audit_deliver", stdout=StringIO())
            assert [kind for kind, _ in trail()] == ["create", "events_exported"]
            assert set(Notification.objects.values_list("status", flat=True)) == {"sent"}
        assert text in out.getvalue()
        assert other not in out.getvalue()
