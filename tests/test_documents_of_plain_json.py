"""JSON documents are recorded as they are, but for what is secret, reserved or too deep, at whatever level it is."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from django_signal_audit import record

from .app.models import Product
from .conftest import Audit, last

pytestmark = pytest.mark.django_db


def _recorded(document: Any) -> Any:
    Product.objects.create(name="Kettle", attributes=document)
    return last().changes["attributes"][1]


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        [1, "two", None, True, 2.5],
        {"sizes": [250, 500], "origin": {"country": "PE", "farms": [{"name": "Alta", "height": 1.75}]}},
        {"rows": [[number] for number in range(500)]},
    ],
)
def test_a_document_without_secrets_is_recorded_as_it_is(audit: Audit, document: Any) -> None:
    audit({"name": "products", "model": "app.Product"})
    assert _recorded(document) == document


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: inner,
        lambda inner: {"a": inner},
        lambda inner: [[inner]],
        lambda inner: {"a": [1, {"b": inner}]},
        lambda inner: {"rows": [[number] for number in range(500)], "a": inner},
    ],
)
def test_a_secret_key_is_masked_at_every_level(audit: Audit, wrap: Any) -> None:
    audit({"name": "products", "model": "app.Product"})
    assert "hunter2" not in str(_recorded(wrap({"password": "hunter2"})))


def test_a_key_that_looks_like_a_stand_in_is_escaped_at_every_level(audit: Audit) -> None:
    audit({"name": "products", "model": "app.Product"})
    recorded = _recorded({"a": [{"$masked": "by hand"}]})
    assert recorded == {"a": [{"$value": {"$masked": "by hand"}}]}


@pytest.mark.parametrize("depth", [29, 31, 120])
def test_what_lies_too_deep_is_a_digest_and_the_row_is_saved(audit: Audit, depth: int) -> None:
    if depth > 31 and connection.vendor == "mysql":
        pytest.skip("MariaDB stores no JSON this deep in any table")
    audit({"name": "products", "model": "app.Product"})
    assert "$digest" in str(_recorded(_nested(depth)))
    call_command("audit_replay", check=True, stdout=StringIO())  # raises if the table and the log differ


@pytest.mark.parametrize("inner", ["bottom", {"$masked": "by hand"}, {"password": "hunter2"}, b"\0" * 9000])
@pytest.mark.parametrize("depth", [26, 27, 28, 29, 30, 40, 120])
def test_every_database_stores_events_with_deep_data(audit: Audit, depth: int, inner: Any) -> None:
    audit({"name": "said", "event": "said"})
    assert record("said", data={"document": _nested(depth, inner), "password": _nested(depth)})


def _nested(depth: int, inner: Any = "bottom") -> Any:
    document = inner
    for _ in range(depth):
        document = [document]
    return document
