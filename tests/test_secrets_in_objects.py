"""What people put into ``data`` beside JSON may hold secrets as well: mappings, dataclasses, errors, addresses."""

from __future__ import annotations

import dataclasses
import json
from collections import UserDict
from functools import partial
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
from django.contrib.auth.models import User
from django.core import serializers
from django.core.exceptions import ValidationError
from django.db.models import Count, F
from django.db.models.functions import Upper
from django.forms import model_to_dict
from django.http import QueryDict
from django.test import RequestFactory
from django.utils.functional import SimpleLazyObject

from django_signal_audit import audit_context, record

from .conftest import Audit, events, last
from .vault.models import Gate, LoginCode, Strongbox, Token

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


KEY = "9944b09199c62bcf9418ad846dd0e4bbdfc6ee4b"


class Wrapper:
    """Its text has what its attributes hold."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)

    def __str__(self) -> str:
        return " and ".join(str(value) for value in vars(self).values())


@pytest.mark.parametrize(
    "make",
    [
        ValueError,
        lambda token: ValueError("wrong", token),
        lambda token: ValueError({"token": [token]}),
        lambda token: ExceptionGroup("all", [KeyError(token)]).exceptions[0],
        lambda token: ValidationError("%(token)s is wrong", params={"token": token}),
        lambda token: Wrapper(inner=token),
        lambda token: Wrapper(api_token=token.key),
        lambda token: partial(print, token),
    ],
)
def test_the_text_of_an_object_hides_the_secrets_of_what_is_in_it(audit: Audit, make: Any) -> None:
    audit({"name": "said", "events": ["said"]})
    value = make(Token.objects.create(key=KEY))
    with audit_context(value=value):
        record("said", data={"value": value, "list": [value]})
    assert KEY not in str([last().data, last().context])


def test_an_error_hides_the_pair_of_a_name_and_its_secret(audit: Audit) -> None:
    audit({"name": "said", "events": ["said"]})
    record("said", data={"error": ValueError("password", SECRET), "other": KeyError({"password": SECRET})})
    assert SECRET not in str(last().data)


QUERIES: dict[str, Any] = {
    "values": lambda: Token.objects.values("key", "label"),
    "all values": lambda: Token.objects.values(),
    "values_list": lambda: Token.objects.values_list("key", "label"),
    "all of values_list": lambda: Token.objects.values_list(),
    "primary keys": lambda: Token.objects.values_list("pk", "label"),
    "flat": lambda: Token.objects.values_list("key", flat=True),
    "named": lambda: Token.objects.values_list("key", "label", named=True),
    "under another name": lambda: Token.objects.values_list("label", F("key")),
    "annotated": lambda: Token.objects.annotate(door=Upper("key")).values("door", "label"),
    "of a relation": lambda: Gate.objects.values_list("main", "main__key", "main__label"),
    "the column of a relation": lambda: Gate.objects.values("main_id", "main__label"),
    "of many-to-many": lambda: Gate.objects.values_list("spare", "main__label"),
    "of the other side": lambda: Token.objects.values_list("gates__spare__key", "label"),
}


@pytest.mark.parametrize("make", QUERIES.values(), ids=QUERIES)
def test_values_of_masked_fields_in_querysets_are_hidden(audit: Audit, make: Any) -> None:
    audit({"name": "said", "events": ["said"]})
    token = Token.objects.create(key=KEY, label="front door")
    Gate.objects.create(main=token).spare.add(token)
    record("said", data={"rows": make()})
    written = json.dumps(last().data)
    assert KEY not in written
    assert KEY.upper() not in written
    assert "front door" in written or "flat" in str(make) or "key" not in written


def test_columns_of_a_queryset_that_are_no_secrets_stay(audit: Audit) -> None:
    audit({"name": "said", "events": ["said"]})
    Token.objects.create(key=KEY, label="front door")
    Token.objects.create(key=KEY[::-1], label="back door")
    counted = (
        Token.objects.values("label").annotate(number=Count("key")).order_by("-label").values_list("label", "number")
    )
    record(
        "said", data={"labels": Token.objects.order_by("-label").values_list("label", flat=True), "counted": counted}
    )
    assert last().data["labels"] == ["front door", "back door"]
    assert last().data["counted"] == [["front door", 1], ["back door", 1]]


def test_a_short_secret_of_the_object_is_hidden_where_it_stands_alone(audit: Audit) -> None:
    audit({"name": "said", "events": ["said"]})
    code = LoginCode.objects.create(code=4938)
    box = Strongbox.objects.create(note="test")
    record("said", code, data={"entered": [4938, "4938"], "number": 24938, "is_right": True})
    assert last().data == {"entered": ["********", "********"], "number": 24938, "is_right": True}
    record("said", box, data={"text": "the latest", "same": "test"})
    assert last().data == {"text": "the latest", "same": "********"}


def test_rows_that_left_their_objects(audit: Audit) -> None:
    audit({"name": "said", "events": ["said"]})
    token = Token.objects.create(key=KEY, label="front door")
    box = Strongbox.objects.create(note="swordfish")
    for value in (
        model_to_dict(token), model_to_dict(box), list(Token.objects.values()), list(Strongbox.objects.values()),
        serializers.serialize("python", [token, box]), serializers.serialize("json", [token, box]),
    ):  # fmt: skip
        with audit_context(value=value):
            record("said", data={"value": value, "list": [value]})
        written = json.dumps([last().data, last().context])
        assert KEY not in written
        assert "swordfish" not in written


def test_what_only_has_the_names_of_a_row(audit: Audit) -> None:
    audit({"name": "said", "events": ["said"]})
    choices = [{"key": "red", "label": "Red"}, {"key": "green", "label": "Green", "note": "swordfish"}]
    record("said", data={"choices": choices})
    assert last().data == {"choices": choices}


def test_passwords_in_rows_of_a_queryset(audit: Audit) -> None:
    audit({"name": "said", "events": ["said"]})
    User.objects.create(username="ann", password=SECRET)
    record("said", data={"rows": User.objects.values_list("username", "password")})
    assert last().data["rows"] == [["ann", "********"]]


def test_what_an_event_says_of_its_object_hides_the_secrets_of_the_object(audit: Audit) -> None:
    audit({"name": "said", "events": ["said"]})
    token = Token.objects.create(key=KEY, label="front door")
    record("said", token, data={"row": model_to_dict(token), "note": f"by {KEY}", "list": [KEY]})
    assert KEY not in json.dumps(last().data)
    assert last().data["row"]["label"] == "front door"
    box = Strongbox.objects.create(note="swordfish", settings={"a": 1})
    record("said", box, data=model_to_dict(box))
    assert "swordfish" not in json.dumps(last().data)
    assert last().data["settings"] == {"a": 1}


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
    names = "".join(f'"name{number}": 1, ' for number in range(30_000))
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


def test_lazy_texts_are_texts(audit: Audit) -> None:
    audit({"name": "said", "events": ["said"]})
    record(
        "said", data={"lazy": SimpleLazyObject(lambda: "tea"), "body": SimpleLazyObject(lambda: f"password={SECRET}")}
    )
    assert last().data["lazy"] == "tea"
    assert SECRET not in str(last().data)


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
