"""``audit_report --subject``: everything that the audit log and the outbox have about one person."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command

from django_signal_audit import audit_context, record
from django_signal_audit.models import Notification, Preference
from django_signal_audit.reports import subject

from .app.models import Note, Person, Product, Room, Shelf, Team, Thing
from .conftest import Audit
from .samples import make_event

pytestmark = pytest.mark.django_db


def report(*arguments: str) -> list[dict[str, Any]]:
    out = io.StringIO()
    call_command("audit_report", *arguments, "--format", "json", stdout=out, stderr=io.StringIO())
    return list(json.loads(out.getvalue()))


def about(label: str, pk: object) -> list[tuple[str, str, str]]:
    """Return why, what and about which object each line is."""
    found = report("--subject", label, str(pk))
    return [(row["because"], row["event"], " ".join(row["object"].split()[:2])) for row in found]


def test_the_persons_own_row_and_all_that_refers_to_it(audit: Audit) -> None:
    audit()
    ada, bob = Person.objects.create(name="ada"), Person.objects.create(name="bob")
    bob.friends.add(ada)
    Team.objects.create(name="reds").members.add(bob)
    Shelf.objects.create(code="attic")
    thing = Thing.objects.create(name="hat", keeper=ada)
    thing.keeper = bob
    thing.save()
    Note.objects.create(text="nice", content_type=ContentType.objects.get_for_model(Person), object_id=ada.pk)
    found = about("app.Person", ada.pk)
    named = [line for line in found if line[0] == "named in it"]
    assert found[0] == ("object", "create", f"app.person {ada.pk}")
    assert ("named in it", "m2m", f"app.person {bob.pk}") in named
    assert ("named in it", "create", f"app.thing {thing.pk}") in named
    assert ("named in it", "update", f"app.thing {thing.pk}") in named
    assert any(line[2].startswith("app.note") for line in named)
    assert not any(line[2].startswith(("app.team", "app.seat")) for line in found)
    assert ("object", "create", f"app.person {bob.pk}") not in found


def test_what_a_user_did_and_was_sent(audit: Audit) -> None:
    audit({"name": "all", "model": "app.*"}, {"name": "fail", "events": ["login_failed"]})
    ada = User.objects.create_user("ada", email="ada@shop.example")
    other = User.objects.create_user("other")
    with audit_context(actor=ada, reason="sale"):
        product = Product.objects.create(name="tea")
    make_event(actor_id=str(other.pk), context={"impersonator": {"id": str(ada.pk), "repr": "ada"}})
    make_event(
        event_type="login_failed", model="", object_id="", object_repr="", data={"credentials": {"username": "ada"}}
    )
    make_event(
        event_type="login_failed", model="", object_id="", object_repr="", data={"credentials": {"username": "adam"}}
    )
    record("newsletter", data={"to": "ada@shop.example"})
    record("newsletter", data={"to": "bob@shop.example"})
    Notification.objects.create(rule="r", channel="mail", recipient="ada@shop.example", data={"subject": "Hello"})
    Notification.objects.create(rule="r", channel="mail", recipient="bob@shop.example")
    Preference.objects.create(user=str(ada.pk), rule="r", channel="mail", choice="off")
    found = about("auth.User", ada.pk)
    assert ("actor", "create", f"app.product {product.pk}") in found
    assert ("impersonator", "update", "auth.user 3") in found
    assert [line for line in found if line[1] == "login_failed"] == [("named in it", "login_failed", "")]
    assert [line[1] for line in found].count("newsletter") == 1
    assert [line for line in found if line[0] == "recipient"] == [("recipient", "notification", "")]
    assert found[0][0] == "user"
    details = next(row for row in report("--subject", "auth.User", str(ada.pk)) if row["event"] == "create")["details"]
    assert details["changes"]["name"] == [None, "tea"]
    assert details["context"]["reason"] == "sale"


def test_a_person_who_is_gone_is_known_by_the_events(audit: Audit) -> None:
    audit()
    ada = Person.objects.create(name="ada")
    pk = ada.pk
    ada.delete()
    assert [line[1] for line in about("app.Person", pk)] == ["create", "delete"]
    assert about("app.Person", 99_999) == []


def test_secrets_have_stars_and_tables_have_lines(audit: Audit) -> None:
    audit()
    product = Product.objects.create(name="tea", api_token="hunter-22-22")
    out = io.StringIO()
    call_command("audit_report", "--subject", "app.Product", str(product.pk), stdout=out)
    assert f"Everything about app.Product {product.pk}" in out.getvalue()
    assert "tea" in out.getvalue()
    assert "hunter" not in out.getvalue()
    (line,) = report("--subject", "app.Product", str(product.pk))
    assert line["details"]["changes"]["api_token"] == [None, "********"]


def kinds(label: str, pk: object) -> list[tuple[str, str]]:
    """Return why and what each line is."""
    return [(because, event) for because, event, _ in about(label, pk)]


@pytest.mark.parametrize("is_gone", [False, True])
def test_what_was_sent_to_a_former_address(audit: Audit, is_gone: bool) -> None:
    audit({"name": "all", "model": "*"})
    ada = User.objects.create_user("ada", email="old@shop.example")
    pk = ada.pk
    Notification.objects.create(rule="r", channel="mail", recipient="old@shop.example")
    record("newsletter", data={"to": "old@shop.example"})
    ada.email = "new@shop.example"
    ada.save()
    if is_gone:
        ada.delete()
    found = kinds("auth.User", pk)
    assert ("named in it", "newsletter") in found
    assert ("recipient", "notification") in found


@pytest.mark.parametrize(
    ("stored", "used"),
    [
        ("jürgen@shop.example", "jürgen@shop.example"),
        ("ada@shop.example", "Ada@Shop.Example"),
        ("a_b%@shop.example", "a_b%@shop.example"),
        ('"a b"@shop.example', '"a b"@shop.example'),
    ],
)
def test_addresses_in_any_spelling(audit: Audit, stored: str, used: str) -> None:
    audit()
    ada = User.objects.create_user("ada", email=stored)
    Notification.objects.create(rule="r", channel="mail", recipient=used)
    Notification.objects.create(rule="r", channel="mail", recipient="aXbY@shop.example")
    record("newsletter", data={"to": used})
    record("newsletter", data={"to": "aXbY@shop.example"})
    assert sorted(kinds("auth.User", ada.pk)) == [("named in it", "newsletter"), ("recipient", "notification")]


def test_the_address_in_a_field_of_any_object_but_not_the_login_name(audit: Audit) -> None:
    audit()
    ada = User.objects.create_user("ada", email="ada@shop.example")
    Person.objects.create(name="ada@shop.example")
    Person.objects.create(name="ada")
    assert len(about("auth.User", ada.pk)) == 1


def test_actors_of_imported_events_that_are_known_by_their_name(audit: Audit) -> None:
    audit()
    ada = User.objects.create_user("ada", email="ada@shop.example")
    for name in ("ada", "ADA@shop.example", "adam", ""):
        make_event(actor_id="", actor_repr=name, model="app.tag", object_id="1")
    assert [line[0] for line in about("auth.User", ada.pk)] == ["actor", "actor"]


def test_fields_that_events_keep_beside_their_changes(audit: Audit) -> None:
    audit({"name": "things", "model": "app.Thing", "fields": ["name"], "include": ["keeper"]})
    Shelf.objects.create(code="attic")
    thing = Thing.objects.create(name="hat", keeper=(ada := Person.objects.create(name="ada")))
    thing.name = "cap"
    thing.save()
    assert kinds("app.Person", ada.pk) == [("named in it", "create"), ("named in it", "update")]


def test_references_under_former_names(audit: Audit) -> None:
    renamed = {
        "app.Stuff": "app.Thing",
        "app.Thing.owner": "app.Thing.keeper",
        "app.Person.mates": "app.Person.friends",
    }
    audit(RENAMED=renamed)
    ada = Person.objects.create(name="ada")
    make_event(event_type="update", model="app.stuff", object_id="5", changes={"owner": [None, ada.pk]})
    make_event(
        event_type="m2m", model="app.person", object_id="600", changes={"mates": {"added": [ada.pk], "removed": []}}
    )
    assert {line[2] for line in about("app.Person", ada.pk)} == {
        f"app.person {ada.pk}",
        "app.stuff 5",
        "app.person 600",
    }


def test_more_references_than_a_query_may_have_alternatives(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    audit()
    ada = Person.objects.create(name="ada")
    monkeypatch.setattr(subject, "auditable_models", lambda: 600 * [Thing])
    assert kinds("app.Person", ada.pk) == [("object", "create")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--subject", "app.Persn", "1"], "There is no model 'app.Persn'."),
        (["--subject", "app.Person", "1", "--by", "model"], "can't be combined with --by"),
        (["--subject", "app.Person", "1", "--since", "7d"], "can't be combined with --since"),
    ],
)
def test_mistakes_are_one_line(audit: Audit, arguments: list[str], said: str) -> None:
    audit()
    with pytest.raises(CommandError, match=said):
        report(*arguments)


@pytest.mark.parametrize("is_gone", [False, True])
def test_references_by_another_field_than_the_primary_key(audit: Audit, is_gone: bool) -> None:
    audit()
    room = Room.objects.create(code="attic", floor=1)
    shelf = Shelf.objects.create(code="a", room=room)
    other = Shelf.objects.create(code="b")
    shelf.room = None
    shelf.save()
    pk = room.pk
    room.code = "cellar"
    room.save()
    if is_gone:
        room.delete()
    found = about("app.Room", pk)
    assert ("named in it", "create", f"app.shelf {shelf.pk}") in found
    assert not any(line[2] == f"app.shelf {other.pk}" for line in found)


@pytest.mark.parametrize("column", ["object_repr", "object_id"])
def test_objects_that_are_called_by_the_address(audit: Audit, column: str) -> None:
    audit()
    ada = User.objects.create_user("ada", email="ada@shop.example")
    event = make_event(model="news.reader", **{column: "Ada@shop.example"})
    make_event(model="news.reader", **{column: "bob@shop.example"})
    make_event(model="news.reader", **{column: "ada"})
    found = [line for line in about("auth.User", ada.pk) if line[2].startswith("news.reader")]
    assert found == [("named in it", "update", f"news.reader {event.object_id}")]


def test_addresses_with_a_name_before_them(audit: Audit) -> None:
    audit()
    ada = User.objects.create_user("ada", email="ada@shop.example")
    for address in ("Ada L. <Ada@shop.example>", "Lada <lada@shop.example>"):
        Notification.objects.create(rule="r", channel="mail", recipient=address)
        record("newsletter", data={"to": [f"Bob <bob@shop.example>, {address}"]})
        make_event(event_type="login", object_id="7", actor_id="", actor_repr=address)
        make_event(event_type="delete", object_id="7", object_repr=address)
    found = [line for line in kinds("auth.User", ada.pk) if line != ("object", "create")]
    assert sorted(found) == [
        ("actor", "login"),
        ("named in it", "delete"),
        ("named in it", "newsletter"),
        ("recipient", "notification"),
    ]
