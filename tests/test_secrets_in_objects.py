"""What people put into ``data`` beside JSON may hold secrets as well: mappings, dataclasses, errors, addresses."""

from __future__ import annotations

import dataclasses
import json
from collections import UserDict
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
from django.contrib.auth.models import User
from django.http import QueryDict
from django.test import RequestFactory
from django.utils.functional import SimpleLazyObject

from django_signal_audit import audit_context, record

from .conftest import Audit, events, last
from .vault.models import Token

pytestmark = pytest.mark.django_db

SECRET = "hunter2-hunter2"


@dataclasses.dataclass
class Login:
    password: str
    user: str = "ann"


class Account(NamedTuple):
    password: str
    user: str = "ann"


class Odd:
    def __repr__(self) -> str:
        return f"Odd(user='ann', password={SECRET!r})"


VALUES: dict[str, Any] = {
    "mapping": MappingProxyType({"password": SECRET, "user": "ann"}),
    "mapping of a package": UserDict({"deep": UserDict({"password": SECRET}), "user": "ann"}),
    "items": {"password": SECRET, "user": "ann"}.items(),
    "query": QueryDict(f"password={SECRET}&user=ann"),
    "dataclass": Login(SECRET),
    "named tuple": Account(SECRET),
    "named tuple in a dataclass": Login("", Account(SECRET)),  # type: ignore[arg-type]
    "dataclass in a tuple": ("ann", Login(SECRET)),
    "namespace": SimpleNamespace(password=SECRET, user="ann"),
    "object": Odd(),
    "error": ValueError(f"user=ann password={SECRET}"),
    "address": f"https://example.com/?user=ann&token={SECRET}#top",
    "login in an address": f"https://ann:{SECRET}@example.com/",
    "request": RequestFactory().get(f"/?user=ann&token={SECRET}"),
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_secrets_in_objects_of_every_kind_are_masked(audit: Audit, value: Any) -> None:
    audit({"name": "said", "events": ["said"]})
    with audit_context(note=value):
        record("said", data={"value": value, "list": [value]})
    written = json.dumps([last().data, last().context])
    assert SECRET not in written
    assert "ann" in written


def test_rows_as_dicts(audit: Audit) -> None:
    audit({"name": "said", "events": ["said"]})
    User.objects.create(username="ann", password=SECRET)
    record("said", data={"rows": User.objects.values("username", "password")})
    assert SECRET not in json.dumps(last().data)
    assert "ann" in json.dumps(last().data)


def test_a_mapping_that_contains_itself(audit: Audit) -> None:
    audit({"name": "said", "events": ["said"]})
    loop: UserDict[str, Any] = UserDict()
    loop["again"] = loop
    record("said", data={"loop": loop, "flat": 1})
    assert last().data["flat"] == 1


@pytest.mark.parametrize("kind", [str, ValueError, lambda word: b"\\" * len(word)])
def test_one_long_word_takes_no_longer_than_many_short_ones(audit: Audit, kind: Any) -> None:
    # In square time it would take half an hour.
    audit({"name": "said", "events": ["said"]})
    record("said", data={"value": kind("x" * 300_000)})
    assert len(str(last().data)) < 100_000


@pytest.mark.parametrize("end", ['"a": 1}', '"a": '])
def test_a_text_with_very_many_names_takes_no_longer_for_each(audit: Audit, end: str) -> None:
    # One doubled name, or an end that is missing, was paid for by all names once for each.
    audit({"name": "said", "events": ["said"]}, MAX_VALUE_BYTES=10_000_000)
    names = "".join(f'"name{number}": 1, ' for number in range(100_000))
    for secret in ("", '"password": "hunter2-hunter2", '):
        record("said", data={"body": f'{{"a": 0, {secret}{names}{end}'})
        assert ("$masked" in str(last().data)[:40]) is bool(secret)
    assert "hunter2" not in str(last().data)


def test_lazy_objects_and_querysets_of_secrets(audit: Audit) -> None:
    audit({"name": "said", "events": ["said"]})
    token = Token.objects.create(key="9944b09199c62bcf9418ad846dd0e4bbdfc6ee4b")
    for value in (SimpleLazyObject(lambda: token), Token.objects.all(), [Token.objects.all()], {token: token}):
        record("said", data={"value": value})
        with audit_context(value=value):
            record("said")
    assert token.key not in str([(event.data, event.context) for event in events()])


def test_ordinary_texts_stay(audit: Audit) -> None:
    audit({"name": "said", "events": ["said"]})
    texts = ["https://example.com/?page=2#top", "at 10:30: tea", "token count: 3"]
    record("said", data={"texts": texts})
    assert last().data == {"texts": texts}


def test_a_tuple_that_only_resembles_a_named_one_is_recorded_as_a_list(audit: Audit) -> None:
    class Resembling(tuple[Any, ...]):
        _fields = ("one",)

        def _asdict(self) -> dict[str, Any]:
            raise RuntimeError("no")

    audit({"name": "said", "events": ["said"]})
    record("said", data={"value": Resembling(("ann", 2))})
    assert last().data == {"value": ["ann", 2]}
