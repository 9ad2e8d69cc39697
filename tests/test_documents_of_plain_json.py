"""JSON documents are recorded as they are, but for what is secret, reserved or too deep, at whatever level it is."""

from __future__ import annotations

from typing import Any

import pytest

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


def test_what_lies_too_deep_is_a_digest(audit: Audit) -> None:
    audit({"name": "products", "model": "app.Product"})
    document: Any = "bottom"
    for _ in range(120):
        document = [document]
    assert "$digest" in str(_recorded(document))
