"""Whose imported events are: as the setting TENANT says, of what the source knew of the row then."""

from __future__ import annotations

from typing import Any

import pytest

from django_signal_audit import history_of
from django_signal_audit.models import AuditEvent

from .app.models import Category, Picture, Product, Room
from .conftest import Audit
from .current_tenant import FUNCTION, here
from .test_import import CREATE, DELETE, UPDATE, differences, kept, log, run

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nowhere() -> None:
    here("")


def tenants(target: Any, **filters: Any) -> list[tuple[str, str]]:
    found = AuditEvent.of_all_tenants.for_object(target).filter(**filters).order_by("id")
    return list(found.values_list("event_type", "tenant"))


class TestRowsOfTenants:
    """A dict says by which column a row belongs to its tenant."""

    def test_each_event_is_of_the_tenant_that_the_row_had_then(self, audit: Audit) -> None:
        north, south = Category.objects.create(name="North"), Category.objects.create(name="South")
        product = Product.objects.create(name="tea", category=south, stock=2)
        log(product, CREATE, {"name": ["None", "tea"], "category": ["None", str(north.pk)], "stock": ["None", "1"]})
        log(product, UPDATE, {"stock": ["1", "2"]}, minute=1)
        log(product, UPDATE, {"category": [str(north.pk), str(south.pk)]}, minute=2)
        audit(TENANT={"app.Product": "category", "app.*": ""})
        run("auditlog")
        assert [said for _, said in tenants(product)][:3] == [str(north.pk), str(north.pk), str(south.pk)]
        assert {said for _, said in tenants(product)[3:]} <= {str(south.pk)}
        assert differences() == []

    def test_a_deletion_is_of_the_tenant_that_the_row_had_before(self, audit: Audit) -> None:
        north = Category.objects.create(name="North")
        product = Product.objects.create(name="tea", category=north)
        key = product.pk
        log(product, CREATE, {"name": ["None", "tea"], "category": ["None", str(north.pk)]})
        log(product, DELETE, {"name": ["tea", "None"], "category": [str(north.pk), "None"]}, minute=1)
        product.delete()
        audit(TENANT={"app.Product": "category", "app.*": ""})
        run("auditlog")
        found = AuditEvent.objects.filter(model="app.product", object_id=str(key)).order_by("id")
        assert [(event.event_type, event.tenant) for event in found] == [
            ("create", str(north.pk)),
            ("delete", str(north.pk)),
        ]

    def test_what_the_source_does_not_know_is_asked_of_the_row(self, audit: Audit) -> None:
        north = Category.objects.create(name="North")
        product = Product.objects.create(name="tea", category=north, stock=2)
        log(product, UPDATE, {"stock": ["1", "2"]})
        audit(TENANT={"app.Product": "category", "app.*": ""})
        run("auditlog")
        assert {said for _, said in tenants(product)} == {str(north.pk)}

    def test_a_column_of_another_row_names_the_tenant(self, audit: Audit) -> None:
        north = Category.objects.create(name="North")
        product = Product.objects.create(name="tea", category=north)
        picture = Picture.objects.create(product=product)
        log(picture, CREATE, {"product": ["None", str(product.pk)]})
        audit(TENANT={"app.Picture": "product__category", "app.*": ""})
        run("auditlog")
        assert {said for _, said in tenants(picture)} == {str(north.pk)}

    def test_models_without_a_tenant_have_none(self, audit: Audit) -> None:
        product = Product.objects.create(name="tea", stock=2)
        log(product, UPDATE, {"stock": ["1", "2"]})
        audit(TENANT={"app.*": ""})
        run("auditlog")
        assert {said for _, said in tenants(product)} == {""}

    def test_snapshots_of_a_row_that_moved(self, audit: Audit) -> None:
        room = Room.objects.create(code="north")
        kept(room, "+", minute=0)
        room.code = "south"
        room.save()
        kept(room, "~", minute=1)
        audit(TENANT={"app.Room": "code", "app.*": ""})
        run("simple-history")
        assert [said for _, said in tenants(room, source="import")] == ["north", "south"]
        assert differences() == []

    def test_a_second_run_writes_nothing(self, audit: Audit) -> None:
        north = Category.objects.create(name="North")
        product = Product.objects.create(name="tea", category=north, stock=2)
        log(product, UPDATE, {"stock": ["1", "2"]})
        audit(TENANT={"app.Product": "category", "app.*": ""})
        run("auditlog")
        before = tenants(product)
        run("auditlog")
        assert tenants(product) == before


class TestTablesOfTenants:
    """A function says in whose tables the import runs."""

    def test_events_are_of_the_tenant_whose_tables_are_read(self, audit: Audit) -> None:
        product = Product.objects.create(name="tea", stock=2)
        log(product, UPDATE, {"stock": ["1", "2"]})
        audit(TENANT=FUNCTION)
        here("north")
        run("auditlog")
        assert {said for _, said in tenants(product)} == {"north"}
        assert len(history_of(product)) == len(tenants(product))
        assert differences() == []
        here("south")
        assert len(history_of(product)) == 0

    def test_a_second_run_in_the_same_tenant_writes_nothing(self, audit: Audit) -> None:
        product = Product.objects.create(name="tea", stock=2)
        log(product, UPDATE, {"stock": ["1", "2"]})
        audit(TENANT=FUNCTION)
        here("north")
        run("auditlog")
        before = tenants(product)
        run("auditlog")
        assert tenants(product) == before

    def test_rows_of_two_tenants_with_the_same_key_both_have_their_history(self, audit: Audit) -> None:
        product = Product.objects.create(name="tea", stock=2)
        log(product, UPDATE, {"stock": ["1", "2"]})
        audit(TENANT=FUNCTION)
        for name in ("north", "south"):
            here(name)
            run("auditlog")
        assert {said for _, said in tenants(product)} == {"north", "south"}
        for name in ("north", "south"):
            here(name)
            assert [version.values["stock"] for version in history_of(product)][-1] == 2
            assert differences() == []
