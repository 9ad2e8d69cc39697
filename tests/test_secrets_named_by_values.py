"""A secret in a document may be named by another value: pairs, headers, arguments, and JSON within a text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core import serializers

from django_signal_audit import audit_context, record
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.replay import Replay
from django_signal_audit.rules.registry import get_registry

from .app.models import Product
from .conftest import Audit, last

pytestmark = pytest.mark.django_db

SECRET = "hunter2-hunter2"
DOCUMENTS: dict[str, Any] = {
    "pair": {"name": "password", "value": SECRET},
    "pair in other letters": {"Name": "DB_PASSWORD", "Value": SECRET},
    "key and value": {"key": "X-Api-Key", "value": [SECRET]},
    "change": {"field": "password", "old": SECRET, "new": f"{SECRET}!"},
    "short names": {"k": "password", "v": SECRET},
    "field of a form": {"type": "password", "value": SECRET},
    "variable": {"env": "DB_PASSWORD", "value": SECRET},
    "change in other words": {"field": "password", "from": SECRET, "to": f"{SECRET}!"},
    "now and before": {"name": "password", "current": SECRET, "previous": f"{SECRET}!"},
    "patch": [{"op": "replace", "path": "/user/password", "value": SECRET}],
    "pairs": [["theme", "dark"], ["password", SECRET]],
    "headers": {"headers": [{"name": "Accept", "value": "*/*"}, {"name": "Authorization", "value": f"Basic {SECRET}"}]},
    "lines": ["Accept: */*", f"Authorization: Bearer {SECRET}"],
    "environment": ["PATH=/bin", f"PGPASSWORD={SECRET}"],
    "arguments": ["creatething", "--password", SECRET, "--verbose"],
    "arguments in one": ["creatething", f"--api-key={SECRET}"],
    "text": {"body": json.dumps({"user": "ann", "password": SECRET})},
    "text of a text": {"body": json.dumps({"inner": json.dumps([{"name": "token", "value": SECRET}])})},
    "text that calls itself masked": {"body": json.dumps({"$masked": "x", "password": SECRET})},
    "text that calls itself a digest": {"body": json.dumps({"a": {"$digest": "x", "length": 1, "password": SECRET}})},
    "text that calls its secret masked": {"body": json.dumps({"password": {"$masked": "x", "raw": SECRET}})},
    "text with a key that comes twice": {"body": f'{{"password": "{SECRET}", "password": null}}'},
    "text with a huge integer": {"body": f'{{"password": "{SECRET}", "x": {"9" * 5000}}}'},
    "text that is too deep": {"body": f'{{"password": "{SECRET}", "x": {"[" * 900}{"]" * 900}}}'},
    "text with a byte order mark": {"body": "\ufeff" + json.dumps({"password": SECRET})},
    "text of nothing but a text": {"body": json.dumps(json.dumps({"password": SECRET}))},
    "texts one after another": {"body": json.dumps({"password": SECRET}) + json.dumps({"a": 1})},
    "text that ends too early": {"body": json.dumps({"password": SECRET, "a": [1, 2]})[:-2]},
    "text with blanks": {"body": f'\n  {{"login": {{"secret": "{SECRET}"}}}}'},
}
HARMLESS: dict[str, Any] = {
    "pair": {"name": "color", "value": "red"},
    "a list of two": ["session", "python"],
    "about": {"name": "password_changed_at", "value": "2026-01-01"},
    "lines": ["Accept: */*", "a: b", "-v", "x"],
    "text": {"body": '{"user": "ann"}'},
    "no JSON": {"body": "{password: it}"},
    "null": {"name": "password", "value": None},
}


def everything_written() -> str:
    return serializers.serialize("json", [*AuditEvent.objects.all(), *Notification.objects.all()])


def differences() -> list[Any]:
    return list(Replay(get_registry().plans.values(), "default").differences())


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_they_are_masked_wherever_documents_are_kept(audit: Audit, document: Any) -> None:
    audit({"name": "products", "model": "app.Product"}, {"name": "said", "events": ["said"]})
    product = Product.objects.create(name="x", attributes=document)
    product.attributes = {"deep": [document]}
    product.save()
    with audit_context(note=document):
        record("said", data={"document": document})
    assert SECRET not in everything_written()
    assert "$masked" in json.dumps(last().data)
    assert differences() == []


@pytest.mark.parametrize("document", HARMLESS.values(), ids=HARMLESS)
def test_what_only_looks_so_stays(audit: Audit, document: Any) -> None:
    audit({"name": "products", "model": "app.Product"}, {"name": "said", "events": ["said"]})
    Product.objects.create(name="x", attributes=document)
    assert last().changes["attributes"][1] == document
    record("said", data={"document": document})
    assert last().data == {"document": document}


def test_a_field_of_text_may_hold_json(audit: Audit) -> None:
    audit({"name": "products", "model": "app.Product"})
    text = json.dumps({"password": SECRET})
    product = Product.objects.create(name=text)
    Product.objects.update(name="[1, 2]")
    assert SECRET not in everything_written()
    assert last().changes["name"][1] == "[1, 2]"
    assert differences() == []
    product.delete()
    assert SECRET not in everything_written()


def test_a_flat_object_that_was_written_in_bulk(audit: Audit) -> None:
    audit({"name": "products", "model": "app.Product"})
    Product.objects.bulk_create([Product(name="x", attributes={"name": "token", "value": SECRET}) for _ in range(3)])
    Product.objects.update(attributes={"body": json.dumps({"token": SECRET})})
    assert SECRET not in everything_written()
    assert differences() == []


def test_the_text_of_an_object_hides_the_secrets_of_its_documents(
    audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit({"name": "products", "model": "app.Product"})
    monkeypatch.setattr(Product, "__str__", lambda self: f"{self.name}: {self.attributes}")
    Product.objects.create(name="tea", attributes={"deep": [{"api_key": SECRET, "size": 4}]})
    Product.objects.update(stock=2)
    Product.objects.bulk_create([Product(name="tea", attributes={"token": [SECRET]})])
    Product.objects.all().delete()
    assert SECRET not in everything_written()
    assert "'size': 4" in AuditEvent.objects.earliest("pk").object_repr
