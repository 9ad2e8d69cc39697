from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.test import override_settings

from .app.models import Category, Product
from .conftest import Audit, events, last

pytestmark = pytest.mark.django_db

# MariaDB takes 32 levels.
DEEP: list[Any] = []
for _level in range(20):
    DEEP = [DEEP]


def test_uids_of_a_call_ascend_and_tell_its_moment(audit: Audit) -> None:
    audit({"name": "all", "model": "app.*"})
    Category.objects.bulk_create([Category(name=str(number)) for number in range(1000)])
    uids = [event.uid for event in events()]
    assert uids == sorted(set(uids))
    assert {uid.version for uid in uids} == {7}
    written = [dt.datetime.fromtimestamp((uid.int >> 80) / 1000, dt.UTC) for uid in uids]
    assert max(written) - min(written) < dt.timedelta(seconds=1)


@pytest.mark.parametrize(
    ("document", "recorded"),
    [
        ({"a": {"b": [1, True, None, "ü", 2.5]}}, {"a": {"b": [1, True, None, "ü", 2.5]}}),
        ({"a": (1, 2), "b": {3: "c"}}, {"a": [1, 2], "b": {"3": "c"}}),
        ({"$digest": "typed by a user"}, {"$value": {"$digest": "typed by a user"}}),
        ({"deep": DEEP}, {"deep": DEEP}),
        ([{"a": 1}, "b"], [{"a": 1}, "b"]),
        ({}, {}),
    ],
)
def test_documents_are_recorded_as_they_are(audit: Audit, document: Any, recorded: Any) -> None:
    audit({"name": "all", "model": "app.Product"})
    Product.objects.create(name="p", attributes=document)
    assert last().changes["attributes"] == [None, recorded]
    Product.objects.all().delete()
    assert last().changes["attributes"] == [recorded, None]


@pytest.mark.parametrize("text", ["x" * 300, "ü" * 60, "\U0001f600" * 30])
def test_long_documents_are_digests(audit: Audit, settings: Any, text: str) -> None:
    settings.SIGNAL_AUDIT = {"RULES": [{"name": "all", "model": "app.Product"}], "MAX_VALUE_BYTES": 300}
    Product.objects.create(name="p", attributes={"text": text})
    assert set(last().changes["attributes"][1]) == {"$digest", "length"}


def test_documents_inside_the_limit_are_kept(audit: Audit) -> None:
    with override_settings(SIGNAL_AUDIT={"RULES": [{"name": "all", "model": "app.Product"}], "MAX_VALUE_BYTES": 300}):
        Product.objects.create(name="p", attributes={"text": "x" * 250})
    assert last().changes["attributes"][1] == {"text": "x" * 250}
