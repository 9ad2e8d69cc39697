"""Tags of masked values: their scope, secrets inside JSON documents, and documents that look like tags."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core import serializers
from django.test import Client

from django_signal_audit import audit_context, record
from django_signal_audit.context.scopes import suspended
from django_signal_audit.events.values import Masked
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.replay import Replay
from django_signal_audit.rules.registry import get_registry
from django_signal_audit.testing import fake_notifications

from .app.models import Category, Pizzeria, Place, Product
from .conftest import Audit, events, last
from .notices import calling
from .vault.models import Strongbox

pytestmark = pytest.mark.django_db

SECRET = "hunter2-and-a-bit"


def everything_written() -> str:
    return serializers.serialize("json", [*AuditEvent.objects.all(), *Notification.objects.all()])


def differences() -> list[Any]:
    return list(Replay(get_registry().plans.values(), "default").differences())


def tag_of(name: str) -> str:
    return str(last().changes[name][1]["$masked"])


def test_rows_with_equal_secrets_have_different_tags(audit: Audit) -> None:
    audit()
    rows = [Product.objects.create(name="x", api_token=SECRET) for _ in range(2)]
    Product.objects.bulk_create([Product(name="y", api_token=SECRET) for _ in range(2)])
    Product.objects.update(api_token=f"{SECRET}!")
    tags = [json.dumps(value) for event in events() for value in event.changes["api_token"] if value is not None]
    # Each of the four rows has two tags: of the first secret, twice, and of the second.
    assert len(tags) == 12
    assert len(set(tags)) == 8
    assert rows[0].api_token == rows[1].api_token


def test_a_guess_that_is_written_into_a_row_of_ones_own_finds_no_tag_of_another(audit: Audit) -> None:
    audit({"name": "users", "model": "auth.User", "mask": ["email"]})
    User.objects.create(username="victim", email="victim@example.com")
    victims = tag_of("email")
    own = User.objects.create(username="guesser", email="guess@example.com")
    own.email = "victim@example.com"
    own.save()
    assert tag_of("email") != victims


def test_a_secret_that_comes_back_has_its_tag_again(audit: Audit) -> None:
    audit()
    product = Product.objects.create(name="x", api_token="first")
    first = tag_of("api_token")
    product.api_token = "second"
    product.save()
    assert tag_of("api_token") != first
    Product.objects.filter(pk=product.pk).update(api_token="first")
    assert tag_of("api_token") == first
    product.delete()
    assert last().changes["api_token"][0] == {"$masked": first}


def test_the_same_row_has_the_same_tag_as_its_child_and_as_its_parent(audit: Audit) -> None:
    audit({"name": "places", "model": ["app.Place", "app.Pizzeria"], "mask": ["name"]})
    pizzeria = Pizzeria.objects.create(name=SECRET)
    own = tag_of("name")
    pizzeria.delete(keep_parents=True)
    Place.objects.update(name="other")
    assert last().model == "app.place"
    assert last().changes["name"][0] == {"$masked": own}
    assert differences() == []


def test_secret_keys_in_documents_are_masked_at_any_depth(audit: Audit) -> None:
    audit()
    document = {
        "password": SECRET,
        "list": [{"deeper": [{"api_key": SECRET, "size": 3}]}],
        "accessToken": {"value": SECRET},
        "open": "to all",
        "token": None,
    }
    product = Product.objects.create(name="x", attributes=document)
    new = last().changes["attributes"][1]
    assert new["open"] == "to all"
    assert new["token"] is None
    assert new["list"][0]["deeper"][0]["size"] == 3
    tags = [new["password"], new["list"][0]["deeper"][0]["api_key"], new["accessToken"]]
    assert len({item["$masked"] for item in tags}) == 3
    document["list"] = []
    Product.objects.filter(pk=product.pk).update(attributes=document)
    assert last().changes["attributes"][1]["password"] == new["password"]
    product.delete()
    assert SECRET not in everything_written()


def test_a_row_with_secrets_in_its_document_replays(audit: Audit) -> None:
    audit()
    product = Product.objects.create(name="x", attributes={"a": [{"password": SECRET}], "b": 1})
    assert differences() == []
    state = AuditEvent.objects.state_of(Product, product.pk)
    assert state is not None
    assert isinstance(state["attributes"]["a"][0]["password"], Masked)
    with suspended():
        Product.objects.update(attributes={"a": [{"password": "another"}], "b": 1})
    (difference,) = differences()
    assert "another" not in str(difference)


def test_documents_replay_whichever_keys_were_secret_when_they_were_written(audit: Audit) -> None:
    audit(MASK_FIELDS=["b"])
    Product.objects.create(name="x", attributes={"a": [SECRET], "b": 1, "c": {"b": [2]}})
    audit(MASK_FIELDS=["a"])
    assert differences() == []
    with suspended():
        Product.objects.update(attributes={"a": [SECRET], "b": 2, "c": {"b": [2]}})
    assert len(differences()) == 1


def test_a_long_document_with_a_secret_replays(audit: Audit) -> None:
    audit(MAX_VALUE_BYTES=100)
    Product.objects.create(name="x", attributes={"password": SECRET, "text": "x" * 200})
    assert set(last().changes["attributes"][1]) == {"$digest", "length"}
    assert differences() == []


def test_a_document_with_a_masked_part_is_not_reverted(audit: Audit, client: Client) -> None:
    audit()
    admin = User.objects.create_superuser("root", password="x")
    client.force_login(admin)
    product = Product.objects.create(name="x", attributes={"a": {"password": SECRET}, "b": 1})
    product.attributes = {"a": {"password": SECRET}, "b": 2}
    product.save()
    url = f"/admin/django_signal_audit/auditevent/{last().pk}/"
    page = client.get(url).content.decode()
    assert SECRET not in page
    assert "hmac" not in page
    client.post(f"{url}revert/", {"post": "yes"})
    product.refresh_from_db()
    assert product.attributes == {"a": {"password": SECRET}, "b": 2}


RESERVED = [
    {"$masked": "hmac-sha256:0"},
    {"$digest": "sha256:0", "length": 3},
    {"$value": {"$masked": "x"}},
    {"a": [{"$masked": "x", "b": {"$value": 1}}]},
    [[{"$digest": 1}]],
]


@pytest.mark.parametrize("document", RESERVED)
def test_documents_that_look_like_tags_are_what_they_are(audit: Audit, document: Any) -> None:
    audit()
    product = Product.objects.create(name="x", attributes=document)
    assert last().new["attributes"] == document
    assert differences() == []
    state = AuditEvent.objects.state_of(Product, product.pk)
    assert state is not None
    assert state["attributes"] == document


@pytest.mark.parametrize("document", RESERVED)
def test_documents_that_look_like_tags_are_reverted_to(audit: Audit, client: Client, document: Any) -> None:
    audit()
    client.force_login(User.objects.create_superuser("root", password="x"))
    product = Product.objects.create(name="x", attributes=document)
    product.attributes = {}
    product.save()
    client.post(f"/admin/django_signal_audit/auditevent/{last().pk}/revert/", {"post": "yes"})
    product.refresh_from_db()
    assert product.attributes == document


@pytest.mark.parametrize("document", RESERVED[:3])
def test_a_message_shows_a_look_alike_and_no_stars(audit: Audit, document: Any) -> None:
    audit(
        {"name": "tell", "model": "app.Product", "fields": ["attributes"], "notify": ["take"]},
        {"name": "said", "events": ["said"], "notify": ["take"]},
        CHANNELS={"take": calling("take")},
    )
    with fake_notifications() as fake:
        Product.objects.create(name="x", attributes=document)
        record("said", data={"deep": [document]})
    for message in fake.sent:
        assert all(json.dumps(key) in message.body for key in document)
        assert "****" not in message.body


def test_a_look_alike_in_data_and_context_is_escaped(audit: Audit) -> None:
    audit()
    with audit_context(extra_part=[{"$masked": "x"}], **{"$masked": "y"}):
        record("said", data={"$masked": "x", "deep": [{"$digest": "z"}]})
    event = last()
    assert event.data == {"$value": {"$masked": "x", "deep": [{"$value": {"$digest": "z"}}]}}
    assert event.context["extra"] == {"$value": {"$masked": "y", "extra_part": [{"$value": {"$masked": "x"}}]}}


def test_tags_in_data_are_those_of_the_event_or_of_its_object(audit: Audit) -> None:
    audit()
    one, other = Category.objects.create(name="a"), Category.objects.create(name="b")
    for obj in (None, None, one, one, other):
        record("used", obj, data={"token": SECRET, "deep": {"token": SECRET}})
    tags = [
        [event.data["token"]["$masked"], event.data["deep"]["token"]["$masked"]] for event in events(event_type="used")
    ]
    assert len({tag for pair in tags[:2] for tag in pair}) == 4
    assert tags[2] == tags[3]
    assert not set(tags[2]) & set(tags[4])
    assert SECRET not in everything_written()


def test_tags_in_the_context_are_those_of_its_scope(audit: Audit) -> None:
    audit()
    for _ in range(2):
        with audit_context(token=SECRET):
            Category.objects.create(name="a")
            Category.objects.create(name="b")
    tags = [event.context["extra"]["token"]["$masked"] for event in events()]
    assert tags[0] == tags[1] != tags[2] == tags[3]


def test_a_masked_json_field_keeps_its_tag(audit: Audit) -> None:
    audit({"name": "all", "model": "vault.Strongbox", "mask": ["settings"]})
    box = Strongbox.objects.create(settings={"a": {"password": SECRET}})
    assert set(last().changes["settings"][1]) == {"$masked"}
    box.save()
    assert len(events()) == 1
    assert differences() == []
