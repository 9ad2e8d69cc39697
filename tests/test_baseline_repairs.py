"""``audit_baseline --repair``: rows that differ, are gone or lack members get an event that says that it repairs."""

from __future__ import annotations

import io
import json
from typing import Any
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import connection, models

from django_signal_audit import suspend_auditing
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.replay import Replay
from django_signal_audit.rules.registry import get_registry

from .app.models import Category, Country, Document, Entry, Person, Pizzeria, Place, Product, Restaurant, Shelf, Tag
from .conftest import Audit, events
from .samples import make_event

pytestmark = pytest.mark.django_db

NOTIFYING = {"name": "all", "model": "app.*", "notify": ["log"]}
LOG = {"CHANNELS": {"log": {"BACKEND": "django_signal_audit.channels.log.LogChannel"}}}


def baseline(*arguments: str) -> str:
    """Return what ``audit_baseline`` prints."""
    out = io.StringIO()
    call_command("audit_baseline", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def differences() -> list[tuple[str, Any, str, str]]:
    """Return the differences that a replay finds, as model, primary key, kind and field."""
    found = Replay(get_registry().plans.values(), "default").differences()
    return [(item.model._meta.label_lower, item.pk, item.kind.value, item.field) for item in found]


def repair() -> list[AuditEvent]:
    """Repair, and return the events that say so; a second run must find nothing."""
    before = AuditEvent.objects.count()
    baseline("--repair")
    found = events()[before:]
    assert differences() == []
    count = AuditEvent.objects.count()
    baseline("--repair")
    assert AuditEvent.objects.count() == count
    assert not Notification.objects.exists()
    return found


def in_sql(sql: str, *params: Any) -> None:
    """Change rows as another program would."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


class bypass_capture(suspend_auditing):  # reads as the statement it is
    """Writes unseen, and leaves no event of that either."""

    def __init__(self) -> None:
        super().__init__(reason="unseen")

    def _record(self, event_type: str) -> None:
        pass


class TestRowsThatDiffer:
    def test_a_value_that_differs_is_repaired(self, audit: Audit) -> None:
        audit()
        product = Product.objects.create(name="a", price=2, stock=1)
        right = Product.objects.create(name="right")
        in_sql("UPDATE app_product SET price = 3, stock = 9 WHERE id = %s", product.pk)
        (event,) = repair()
        assert (event.event_type, event.source, event.object_id) == ("baseline", "baseline", str(product.pk))
        assert event.changes == {"price": ["2.00", "3.00"], "stock": [1, 9]}
        assert event.data == {"repair": {"reason": "differs", "fields": ["price", "stock"]}}
        assert event.context["command"] == "audit_baseline"
        assert AuditEvent.objects.for_object(right).count() == 1

    def test_a_plain_baseline_leaves_the_difference(self, audit: Audit) -> None:
        audit()
        product = Product.objects.create(name="a")
        in_sql("UPDATE app_product SET price = 3 WHERE id = %s", product.pk)
        assert "baseline recorded for 0 of 1 row." in baseline("app.Product")
        assert differences() == [("app.product", product.pk, "value", "price")]

    def test_the_history_goes_on_from_there(self, audit: Audit) -> None:
        audit()
        product = Product.objects.create(name="a", price=2)
        in_sql("UPDATE app_product SET price = 3 WHERE id = %s", product.pk)
        repair()
        product.refresh_from_db()
        product.price = 4
        product.save()
        prices = [event.changes["price"] for event in events(object_id=str(product.pk), model="app.product")]
        assert prices == [[None, "2.00"], ["2.00", "3.00"], ["3.00", "4.00"]]

    def test_members_that_came_and_went_unseen(self, audit: Audit) -> None:
        audit()
        tags = [Tag.objects.create(name=name) for name in "abc"]
        product = Product.objects.create(name="a")
        product.tags.set(tags[:2])
        with bypass_capture():
            product.tags.set(tags[1:])
        (event,) = repair()
        assert event.changes == {"tags": {"added": [tags[2].pk], "removed": [tags[0].pk]}}
        assert event.data == {"repair": {"reason": "differs", "fields": ["tags"]}}

    def test_masked_values_after_another_mask_key(self, audit: Audit) -> None:
        audit(MASK_KEY="one")
        Product.objects.create(name="a", api_token="secret")
        audit(MASK_KEY="two")
        assert [item[3] for item in differences()] == ["api_token"]
        (event,) = repair()
        assert set(event.changes) == {"api_token"}
        assert "secret" not in json.dumps([event.changes, event.data])

    def test_a_rule_that_was_suspended(self, audit: Audit) -> None:
        audit()
        kept, gone = (Product.objects.create(name=name) for name in "ab")
        gone_pk = str(gone.pk)
        with bypass_capture():
            kept.name = "c"
            kept.save()
            gone.delete()
            new = Product.objects.create(name="d")
        found = {event.object_id: event for event in repair()}
        assert found[str(kept.pk)].changes == {
            "name": ["a", "c"],
            "modified": found[str(kept.pk)].changes["modified"],
        }
        assert found[gone_pk].event_type == "delete"
        # A row that nothing is recorded of isn't repaired: it gets the baseline it would have got anyway.
        assert (found[str(new.pk)].event_type, found[str(new.pk)].data) == ("baseline", {})

    def test_a_composite_key(self, audit: Audit) -> None:
        audit()
        shelf = Shelf.objects.create(code="s")
        Entry.objects.create(shelf=shelf, number=1, text="a")
        Entry.objects.create(shelf=shelf, number=2, text="b")
        in_sql("UPDATE app_entry SET text = 'c' WHERE number = 1")
        in_sql("DELETE FROM app_entry WHERE number = 2")
        found = {event.object_id: event for event in repair()}
        assert found['["s", 1]'].changes == {"text": ["a", "c"]}
        assert found['["s", 2]'].event_type == "delete"

    def test_children_of_several_tables(self, audit: Audit) -> None:
        audit()
        pizzeria = Pizzeria.objects.create(name="a", stars=1)
        in_sql("UPDATE app_place SET name = 'b'")
        in_sql("UPDATE app_restaurant SET stars = 2")
        (event,) = repair()
        assert event.model == "app.pizzeria"
        assert event.changes == {"name": ["a", "b"], "stars": [1, 2]}
        assert AuditEvent.objects.state_of(Place, pizzeria.pk) == {"name": "b"}


class TestRowsThatAreGone:
    def test_the_row_is_recorded_as_deleted(self, audit: Audit) -> None:
        audit()
        tag = Tag.objects.create(name="t")
        product = Product.objects.create(name="a", price=2, api_token="secret")
        product.tags.add(tag)
        product_pk = product.pk
        in_sql("DELETE FROM app_product_tags")
        in_sql("DELETE FROM app_product")
        assert differences() == [("app.product", product_pk, "gone", "")]
        (event,) = repair()
        assert (event.event_type, event.source, event.object_repr) == ("delete", "baseline", "a")
        assert event.data == {"repair": {"reason": "gone"}}
        assert event.changes["price"] == ["2.00", None]
        assert event.changes["tags"] == {"added": [], "removed": [tag.pk]}
        assert event.changes["api_token"][0] == events()[1].changes["api_token"][1]
        assert AuditEvent.objects.state_of(Product, product_pk) is None

    def test_the_key_can_be_used_again(self, audit: Audit) -> None:
        audit()
        tag = Tag.objects.create(name="t")
        product = Product.objects.create(name="a")
        product.tags.add(tag)
        in_sql("DELETE FROM app_product_tags")
        in_sql("DELETE FROM app_product")
        repair()
        Product.objects.create(pk=product.pk, name="b")
        assert differences() == []

    def test_a_child_that_left_its_parent_behind(self, audit: Audit) -> None:
        audit()
        restaurant = Restaurant.objects.create(name="a", stars=1)
        in_sql("DELETE FROM app_restaurant")
        found = repair()
        assert [(event.model, event.event_type) for event in found] == [
            ("app.restaurant", "delete"),
            ("app.place", "baseline"),
        ]
        assert AuditEvent.objects.state_of(Place, restaurant.pk) == {"name": "a", "tags": []}
        assert AuditEvent.objects.state_of(Restaurant, restaurant.pk) is None

    def test_a_child_that_went_with_its_parent(self, audit: Audit) -> None:
        audit()
        pizzeria = Pizzeria.objects.create(name="a")
        for table in ("pizzeria", "restaurant", "place"):
            in_sql(f"DELETE FROM app_{table}")
        (event,) = repair()
        assert (event.model, event.object_id) == ("app.pizzeria", str(pizzeria.pk))

    def test_names_that_no_key_of_the_model_has(self, audit: Audit) -> None:
        audit()
        make_event(event_type="create", model="app.category", object_id="seven", changes={"name": [None, "a"]})
        Country.objects.create(code="k" * 300, name="n")
        in_sql("DELETE FROM app_country")
        found = repair()
        assert sorted(event.model for event in found) == ["app.category", "app.country"]

    def test_values_of_every_kind_come_back_as_they_were_recorded(self, audit: Audit) -> None:
        audit(MAX_VALUE_BYTES=64)
        attributes: dict[str, Any] = {"$digest": "mine", "deep": {"a": [1, None]}}
        product = Product.objects.create(
            name="n" * 50, attributes=attributes, blob=b"bytes", weight=1.5, released="2026-01-31"
        )
        Document.objects.create(id=UUID(int=7), title="d" * 50)
        recorded = {event.object_id: event.changes for event in events()}
        in_sql("DELETE FROM app_product")
        in_sql("DELETE FROM app_document")
        for event in repair():
            old = {name: change[0] for name, change in event.changes.items()}
            assert old == {name: change[1] for name, change in recorded[event.object_id].items()}
        assert product.pk


class TestMembersFromBeforeThePackage:
    def test_the_baseline_names_those_that_no_event_tells_of(self, audit: Audit) -> None:
        tags = [Tag.objects.create(name=name) for name in "ab"]
        product = Product.objects.create(name="a")
        product.tags.add(tags[0])
        audit()
        product.tags.add(tags[1])
        baseline()
        assert AuditEvent.objects.state_of(Product, product.pk)["tags"] == [tag.pk for tag in tags]
        assert differences() == []
        assert repair() == []

    def test_after_a_prune(self, audit: Audit) -> None:
        audit()
        tags = [Tag.objects.create(name=name) for name in "abc"]
        product = Product.objects.create(name="a")
        product.tags.set(tags[:2])
        AuditEvent.objects.filter(model="app.product").prune()
        product.tags.set(tags[1:])
        baseline()
        assert AuditEvent.objects.state_of(Product, product.pk)["tags"] == [tag.pk for tag in tags[1:]]
        assert differences() == []

    def test_symmetrical_m2m_pairs_from_before_the_package_are_added(self, audit: Audit) -> None:
        people = [Person.objects.create(name=name) for name in "abc"]
        people[0].friends.add(people[1])
        audit()
        people[0].friends.add(people[2])
        baseline()
        assert differences() == []
        assert AuditEvent.objects.state_of(Person, people[0].pk)["friends"] == [person.pk for person in people[1:]]

    def test_a_member_field_that_a_rule_names_since(self, audit: Audit) -> None:
        audit({"name": "names", "model": "app.Product", "fields": ["name"]})
        tags = [Tag.objects.create(name=name) for name in "ab"]
        product = Product.objects.create(name="a")
        product.tags.add(tags[0])
        audit({"name": "all", "model": "app.Product", "fields": ["name", "tags"]})
        product.tags.add(tags[1])
        baseline()
        assert differences() == []


class TestTheCommand:
    def test_it_says_what_it_did(self, audit: Audit) -> None:
        audit()
        Tag.objects.bulk_create([Tag(name=name) for name in "abc"])
        in_sql("UPDATE app_tag SET name = 'x' WHERE name = 'a'")
        in_sql("DELETE FROM app_tag WHERE name = 'b'")
        with bypass_capture():
            Tag.objects.create(name="new")
        line = "app.tag: baseline {0} for 2 of 3 rows (1 of them differed); deletion {0} for 1 row that is gone."
        before = len(events())
        assert baseline("app.Tag", "--repair", "--dry-run").strip() == line.format("would be recorded")
        assert len(events()) == before
        assert baseline("app.Tag", "--repair", "--batch-size", "1").strip() == line.format("recorded")
        assert len(events()) == before + 3

    def test_nobody_is_notified(self, audit: Audit) -> None:
        audit(NOTIFYING, **LOG)
        with bypass_capture():
            category = Category.objects.create(name="a")
        make_event(event_type="create", model="app.tag", object_id="77", changes={"name": [None, "a"]})
        baseline("--repair")
        assert {(event.model, event.event_type) for event in events(source="baseline")} == {
            ("app.category", "baseline"),
            ("app.tag", "delete"),
        }
        assert category.pk
        assert not Notification.objects.exists()

    def test_rules_without_deletions_are_left_alone(self, audit: Audit) -> None:
        audit({"name": "changes", "model": "app.Tag", "events": ["create", "update"]})
        tag = Tag.objects.create(name="a")
        tag.delete()
        assert repair() == []


@pytest.mark.parametrize(
    ("recorded", "field", "value", "is_same"),
    [
        ("1.5", "price", "1.50", True),
        ("1.5000", "price", "1.50", True),
        (2, "price", "2.00", True),
        ("2.0", "price", "2.00", True),
        (True, "stock", 1, True),
        ("3.0", "stock", 3, True),
        ("3.5", "stock", 3, False),
        (0, "is_active", False, True),
        (3, "weight", 3.0, True),
        ("3.00", "weight", 3.0, True),
        (7, "name", "7", True),
        ("2026-01-31T00:00:00+00:00", "released", "2026-01-31", True),
        ("2026-01-31T10:00:00+00:00", "released", "2026-01-31", False),
        (None, "price", "0.00", False),
        ("", "slug", None, False),
        (1, "attributes", True, False),
        ("x", "stock", 3, False),
        ({"a": 1}, "name", "a", False),
    ],
)
def test_values_that_were_recorded_under_another_type(
    audit: Audit, recorded: Any, field: str, value: Any, is_same: bool
) -> None:
    audit({"name": "all", "model": "app.Product", "fields": [field]})
    with bypass_capture():
        product = Product.objects.create(**{"name": "a", field: value})
    changes = {field: [None, recorded]}
    make_event(event_type="create", model="app.product", object_id=str(product.pk), changes=changes)
    assert [item[3] for item in differences()] == ([] if is_same else [field])
    assert len(repair()) == (0 if is_same else 1)


def test_a_moment_that_was_recorded_as_a_date(audit: Audit) -> None:
    audit({"name": "all", "model": "app.Product", "fields": ["modified"]})
    with bypass_capture():
        product = Product.objects.create(name="a")
        models.QuerySet(Product).update(modified="2026-01-31T00:00Z")
    changes = {"modified": [None, "2026-01-31"]}
    make_event(event_type="create", model="app.product", object_id=str(product.pk), changes=changes)
    assert differences() == []
