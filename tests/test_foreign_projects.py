"""What the test suites of published projects brought to light."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.db import models, transaction
from django.db.models.signals import post_delete, post_save, pre_delete, pre_save

from django_signal_audit.capture.connection import reconnect
from django_signal_audit.replay import Replay
from django_signal_audit.rules.registry import get_registry

from .app.models import Place, Tag
from .conftest import Audit, trail

pytestmark = pytest.mark.django_db


def test_apps_that_are_loaded_later_are_audited(settings: Any, audit: Audit) -> None:
    # Django's own runner installs the apps of the tests after setup(), and no setting_changed tells of it.
    everything = list(settings.INSTALLED_APPS)
    apps.set_installed_apps([name for name in everything if name != "tests.app"])
    try:
        audit({"name": "all", "model": "*"})
        assert get_registry().plan_for(Tag) is None
        apps.set_installed_apps(everything)
        try:
            Tag.objects.create(name="late")
        finally:
            apps.unset_installed_apps()
    finally:
        apps.unset_installed_apps()
        get_registry.cache_clear()
        reconnect()
    assert trail(model="app.tag") == [("create", {"name": [None, "late"]})]


@pytest.fixture
def forget() -> Iterator[None]:
    """Take models out again that a test has defined."""
    known = dict(apps.all_models["app"])
    yield
    for name in set(apps.all_models["app"]) - set(known):
        del apps.all_models["app"][name]
    apps.clear_cache()
    get_registry.cache_clear()
    reconnect()


@pytest.mark.usefixtures("forget")
@pytest.mark.parametrize("model", ["*", "app.latecomer"])
@pytest.mark.parametrize("capture_queries", [True, False])
def test_models_that_are_defined_later_are_audited(audit: Audit, model: str, capture_queries: bool) -> None:
    # Modules of models that nobody imports at start-up; the tests of django-safedelete and REST framework have many.
    audit({"name": "late", "model": model}, CAPTURE_QUERIES=capture_queries)

    class Latecomer(models.Model):
        name = models.CharField(max_length=20)

        class Meta:
            app_label = "app"
            managed = False
            db_table = Tag._meta.db_table

    row = Latecomer.objects.create(name="a")
    Latecomer.objects.update(name="b")
    row.delete()
    changes = [("create", {"name": [None, "a"]}), ("update", {"name": ["a", "b"]}), ("delete", {"name": ["b", None]})]
    assert trail(model="app.latecomer") == (changes if capture_queries else [changes[0], changes[2]])


class Box:
    """What a field may give for a number; the field itself does not take it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __str__(self) -> str:
        return f"box {self.number}"


class BoxedAutoField(models.BigAutoField):  # type: ignore[type-arg]
    def from_db_value(self, value: int, *_: Any) -> Box:
        return Box(value)


@pytest.mark.usefixtures("forget")
@pytest.mark.parametrize("capture_queries", [True, False])
def test_an_object_may_get_a_key_by_which_nobody_can_find_it(audit: Audit, capture_queries: bool) -> None:
    # Django's own tests of custom_pk have such a field.
    audit({"name": "late", "model": "app.boxed"}, CAPTURE_QUERIES=capture_queries)

    class Boxed(models.Model):
        id = BoxedAutoField(primary_key=True)
        name = models.CharField(max_length=20)

        class Meta:
            app_label = "app"
            managed = False
            db_table = Tag._meta.db_table

    row = Boxed.objects.create(name="a")
    assert isinstance(row.pk, Box)
    assert trail(model="app.boxed", object_id=str(row.pk)) == [("create", {"name": [None, "a"]})]


@pytest.mark.usefixtures("forget")
def test_models_that_name_a_later_one_wait_for_it(audit: Audit) -> None:
    audit({"name": "late", "model": "*"})

    class Early(models.Model):
        late = models.ForeignKey("app.Late", models.CASCADE, related_name="+")

        class Meta:
            app_label = "app"
            managed = False

    assert get_registry().plan_for(Tag) is not None

    class Late(models.Model):
        class Meta:
            app_label = "app"
            managed = False

    assert {Early, Late} <= set(get_registry().senders)


@pytest.mark.usefixtures("forget")
def test_a_model_that_is_defined_later_concerns_its_parents_alone(audit: Audit) -> None:
    # Test suites define hundreds of models.
    audit({"name": "late", "model": "*"})
    registry = get_registry()
    known = dict(registry.plans)

    class Latecomer(Place):
        class Meta:
            app_label = "app"
            managed = False

    try:
        assert get_registry() is registry
        assert Latecomer in registry.senders
        assert {model for model, plan in known.items() if registry.plans[model] is not plan} == {Place}
        assert [plan.model for plan in registry.plans[Place].descendants].count(Latecomer) == 1
        assert registry.plans[Latecomer].fields.keys() >= registry.plans[Place].fields.keys()
    finally:
        del Place.latecomer


@pytest.fixture
def annex() -> Iterator[None]:
    """Add a child of Place that has no table."""

    class Annex(Place):
        class Meta:
            app_label = "app"
            managed = False

    yield
    del apps.all_models["app"]["annex"]
    apps.clear_cache()
    del Place.annex


@pytest.mark.usefixtures("annex")
@pytest.mark.parametrize("capture_queries", [True, False])
def test_a_child_without_a_table_extends_no_row(audit: Audit, capture_queries: bool) -> None:
    # Children of auth.User that tests define in passing, or that a migration has yet to make.
    tag = Tag.objects.create(name="old")
    audit({"name": "all", "model": "app.*"}, CAPTURE_QUERIES=capture_queries)
    place = Place.objects.create(name="a")
    place.tags.add(tag)
    place.name = "b"
    place.save()
    assert trail(object_id=str(place.pk)) == [
        ("create", {"name": [None, "a"]}),
        ("m2m", {"tags": {"added": [tag.pk], "removed": []}}),
        ("update", {"name": ["a", "b"]}),
    ]
    assert list(Replay([get_registry().plans[Place]], "default").differences()) == []
    Place.objects.update(name="c")
    assert trail(source="bulk") == ([("update", {"name": ["b", "c"]})] if capture_queries else [])


@pytest.mark.parametrize(("capture_queries", "source"), [(True, "bulk"), (False, "orm")])
@pytest.mark.parametrize("arguments", [{}, {"created": False, "raw": False, "using": "default"}])
def test_signals_sent_by_hand_around_an_update(
    audit: Audit, capture_queries: bool, source: str, arguments: dict[str, Any]
) -> None:
    # django-oscar allocates stock so.
    tag = Tag.objects.create(name="a")
    audit({"name": "all", "model": "app.*"}, CAPTURE_QUERIES=capture_queries)
    pre_save.send(Tag, instance=tag, **arguments)
    Tag.objects.filter(pk=tag.pk).update(name="b")
    tag.name = "never stored"
    post_save.send(Tag, instance=tag, **arguments)
    assert trail(source=source) == [("update", {"name": ["a", "b"]})]
    tag.name = "c"
    tag.save()
    assert trail()[1:] == [("update", {"name": ["b", "c"]})]


@pytest.mark.parametrize("capture_queries", [True, False])
def test_signals_sent_by_hand_after_a_save(audit: Audit, capture_queries: bool) -> None:
    tag = Tag(name="a")

    def announce(instance: Tag, update_fields: Any, **_: Any) -> None:
        if update_fields != ["name"]:
            pre_save.send(Tag, instance=instance, update_fields=["name"])
            Tag.objects.filter(pk=instance.pk).update(name="b")
            post_save.send(Tag, instance=instance, update_fields=["name"])

    audit({"name": "all", "model": "app.*"}, CAPTURE_QUERIES=capture_queries)
    post_save.connect(announce, sender=Tag)
    try:
        tag.save()
    finally:
        post_save.disconnect(announce, sender=Tag)
    assert trail() == [("create", {"name": [None, "a"]}), ("update", {"name": ["a", "b"]})]


@pytest.mark.parametrize("capture_queries", [True, False])
def test_signals_of_a_deletion_that_is_none(audit: Audit, capture_queries: bool) -> None:
    # Packages that only mark a row as deleted send them.
    tag = Tag.objects.create(name="a")
    audit({"name": "all", "model": "app.*"}, CAPTURE_QUERIES=capture_queries)
    for arguments in ({}, {"using": "default"}):
        pre_delete.send(Tag, instance=tag, **arguments)
        post_delete.send(Tag, instance=tag, **arguments)
    assert trail() == []
    tag.delete()
    assert trail() == [("delete", {"name": ["a", None]})]


@pytest.mark.parametrize("capture_queries", [True, False])
def test_members_that_are_none_leave_the_transaction_as_it_was(audit: Audit, capture_queries: bool) -> None:
    # Django's own tests handle the error and go on.
    place, tag = Place.objects.create(name="a"), Tag.objects.create(name="old")
    audit({"name": "all", "model": "app.*"}, CAPTURE_QUERIES=capture_queries)
    with transaction.atomic():
        with pytest.raises(TypeError, match="not iterable"):
            place.tags.set(7)  # type: ignore[arg-type]
        place.tags.set([tag])
    assert trail() == [("m2m", {"tags": {"added": [tag.pk], "removed": []}})]
