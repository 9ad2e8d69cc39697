from __future__ import annotations

import datetime as dt

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction

from django_signal_audit import audit_context, record
from django_signal_audit.events.values import Digest, Masked
from django_signal_audit.exceptions import ImmutableEvent
from django_signal_audit.models import AuditEvent

from .app.models import Category, Line, Product, Tag
from .conftest import Audit, events, last

pytestmark = pytest.mark.django_db


@pytest.fixture
def event(audit: Audit) -> AuditEvent:
    audit()
    Category.objects.create(name="a")
    return last()


def test_events_are_immutable(event: AuditEvent) -> None:
    event.level = "critical"
    with pytest.raises(ImmutableEvent, match="prune"):
        event.save()
    with pytest.raises(ImmutableEvent):
        event.delete()
    with pytest.raises(ImmutableEvent):
        AuditEvent.objects.update(level="critical")
    with pytest.raises(ImmutableEvent):
        AuditEvent.objects.all().delete()
    with pytest.raises(ImmutableEvent):
        AuditEvent.objects.filter(pk=event.pk).update(level="critical")
    with pytest.raises(ImmutableEvent), transaction.atomic():
        AuditEvent.objects.bulk_update([event], ["level"])
    with pytest.raises(ImmutableEvent):
        AuditEvent.objects.bulk_create([event], update_conflicts=True, update_fields=["level"], unique_fields=["id"])
    with pytest.raises(ImmutableEvent), transaction.atomic():
        AuditEvent.objects.update_or_create(pk=event.pk, defaults={"level": "critical"})
    assert AuditEvent.objects.get().level == "info"


def test_a_copy_cannot_overwrite(event: AuditEvent) -> None:
    copy = AuditEvent(pk=event.pk, event_type="forged", source="orm")
    with pytest.raises(IntegrityError), transaction.atomic():
        copy.save()


def test_pruning_is_the_only_way_out(event: AuditEvent) -> None:
    assert AuditEvent.objects.filter(pk=event.pk).prune() == 1
    assert [found.event_type for found in events()] == ["baseline", "events_pruned"]
    assert (events()[0].pk, events()[0].uid == event.uid) == (event.pk, False)


def test_no_foreign_key_leaves_an_event() -> None:
    assert not [field for field in AuditEvent._meta.get_fields() if field.is_relation]


def test_querysets_answer_by_object_actor_and_time(audit: Audit) -> None:
    audit({"name": "all", "model": "app.*"})
    anna, bert = User.objects.create_user("anna"), User.objects.create_user("bert")
    with audit_context(actor=anna):
        one = Category.objects.create(name="one")
        Category.objects.create(name="two")
    with audit_context(actor=bert):
        one.name = "uno"
        one.save()
        Tag.objects.create(name="t")
    found = AuditEvent.objects
    assert found.for_object(one).count() == 2
    assert found.for_model(Category).count() == 3
    assert found.by_actor(anna).count() == 2
    assert found.by_actor(bert.pk).of_type("update").count() == 1
    assert found.of_type("create", "update").count() == 4
    first, *_, newest = events()
    assert list(found.between(first.recorded_at, newest.recorded_at)) == events()[:3][::-1]
    assert newest.recorded_at.utcoffset() == dt.timedelta()


def test_an_object_without_a_key_does_not_find_the_events_of_others(audit: Audit) -> None:
    audit()
    record("asked", Product(name="unsaved"))
    gone = Product.objects.create(name="gone")
    gone.delete()
    for obj in (gone, Product(), Line(number=3)):
        with pytest.raises(ValueError, match=r"has no primary key here: delete\(\) takes it .* Use for_key\("):
            AuditEvent.objects.for_object(obj)


def test_a_label_in_place_of_a_model_is_named(audit: Audit) -> None:
    audit()
    for asked in (
        lambda: AuditEvent.objects.for_model("app.Product"),
        lambda: AuditEvent.objects.for_key("app.Product", 1),
        lambda: AuditEvent.objects.state_of("app.Product", 1),
    ):
        with pytest.raises(TypeError, match=r"^The class of a model is needed, not 'app\.Product'\.$"):
            asked()
    for wrong in (Product, "app.Product", None):
        with pytest.raises(TypeError, match=r"^for_object\(\) takes an object of a model, not "):
            AuditEvent.objects.for_object(wrong)


def test_old_and_new_are_typed_values(audit: Audit, settings: object) -> None:
    audit(
        {"name": "all", "model": "app.Product", "fields": ["price", "api_token", "blob", "released", "weight", "tags"]}
    )
    product = Product.objects.create(
        name="a", price="1.5", api_token="hunter2", blob=b"\x00\xff", released=dt.date(2020, 2, 3), weight=0.1
    )
    new = last().new
    assert new["weight"] == 0.1
    assert new["released"] == dt.date(2020, 2, 3)
    assert isinstance(new["api_token"], Masked)
    assert str(new["api_token"]) == "********"
    assert isinstance(new["blob"], Digest)
    assert new["blob"].length == 2
    tag = Tag.objects.create(name="t")
    product.tags.add(tag)
    assert last().m2m_changes["tags"].added == (tag.pk,)
    assert last().old == {}


def test_over_long_values_become_digests(audit: Audit) -> None:
    audit({"name": "all", "model": "app.Product", "fields": ["name", "attributes"]}, MAX_VALUE_BYTES=20)
    Product.objects.create(name="ä" * 11, attributes={"key": "x" * 30})
    changes = last().changes
    assert changes["name"][1]["length"] == 22
    assert changes["attributes"][1]["$digest"].startswith("sha256:")
    Product.objects.create(name="ä" * 10, attributes={"k": 1})
    assert last().changes == {"name": [None, "ä" * 10], "attributes": [None, {"k": 1}]}


@pytest.mark.parametrize("document", [{"$masked": "x"}, {"$digest": "y", "length": 1}, {"$value": 1}])
def test_documents_cannot_pass_for_tags(audit: Audit, document: dict) -> None:
    audit({"name": "all", "model": "app.Product", "fields": ["attributes"]})
    product = Product.objects.create(name="a", attributes=document)
    assert AuditEvent.objects.state_of(Product, product.pk) == {"attributes": document}


def test_text_with_a_nul(audit: Audit) -> None:
    if connection.vendor == "postgresql":
        pytest.skip("PostgreSQL stores no NUL")
    audit({"name": "all", "model": "app.Category"})
    category = Category.objects.create(name="a\x00b")
    assert AuditEvent.objects.state_of(Category, category.pk) == {"name": "a\x00b", "parent": None}


def test_state_at_a_moment(audit: Audit) -> None:
    audit({"name": "all", "model": "app.Category"})
    category = Category.objects.create(name="a")
    created = last().recorded_at
    category.name = "b"
    category.save()
    key = category.pk
    category.delete()
    state = AuditEvent.objects.state_of
    assert state(Category, key, at=created) == {"name": "a", "parent": None}
    assert state(Category, key, at=created - dt.timedelta(seconds=1)) is None
    assert state(Category, key) is None
    assert state(Category, 10**9) is None
