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

from .app.models import Note, Person, Product, Shelf, Team, Thing
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
