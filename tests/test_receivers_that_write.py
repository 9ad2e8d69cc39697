"""Receivers that write what is being written: the same row, other rows, and through async methods."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.db import models
from django.db.models import F, Value
from django.db.models.functions import Upper
from django.db.models.signals import ModelSignal, post_delete, post_save, pre_delete, pre_save

from .app.models import Box, Category, Place, Product, Tag
from .conftest import Audit, last, trail

both = pytest.mark.parametrize("capture_queries", [True, False])


@contextmanager
def receiving(signal: ModelSignal, receiver: Any, sender: type[models.Model]) -> Iterator[None]:
    signal.connect(receiver, sender=sender)
    try:
        yield
    finally:
        signal.disconnect(receiver, sender=sender)


def replays() -> None:
    call_command("audit_replay", "--check", stdout=StringIO())


@pytest.mark.django_db(transaction=True)
@both
def test_async_receivers_save_by_async_methods(audit: Audit, capture_queries: bool) -> None:
    audit(CAPTURE_QUERIES=capture_queries)

    async def before(instance: Category, **_: Any) -> None:
        if instance.name == "a":
            await Category.objects.acreate(name="other")
            instance.name = "b"

    async def after(instance: Category, created: bool, **_: Any) -> None:
        if created and instance.name == "b":
            instance.name = "c"
            await instance.asave()

    async def create_and_delete() -> None:
        category = await Category.objects.acreate(name="a")
        await category.adelete()

    with receiving(pre_save, before, Category), receiving(post_save, after, Category):
        Category.objects.create(name="a").delete()
        async_to_sync(create_and_delete)()
    once = [
        ("create", [None, "other"]),
        ("create", [None, "b"]),
        ("update", ["b", "c"]),
        ("delete", ["c", None]),
    ]
    assert [(kind, changes["name"]) for kind, changes in trail()] == once * 2
    replays()


@pytest.mark.django_db
def test_a_receiver_of_pre_delete_saves_the_row_or_deletes_it(audit: Audit) -> None:
    audit()

    def save(instance: Tag, **_: Any) -> None:
        instance.name = "dying"
        instance.save()

    with receiving(pre_delete, save, Tag):
        Tag.objects.create(name="a").delete()
    assert trail()[1:] == [("update", {"name": ["a", "dying"]}), ("delete", {"name": ["dying", None]})]
    seen: list[int] = []

    def delete(instance: Tag, **_: Any) -> None:
        if not seen:
            seen.append(instance.pk)
            Tag.objects.get(pk=instance.pk).delete()

    with receiving(pre_delete, delete, Tag):
        Tag.objects.create(name="b").delete()
    assert trail()[3:] == [("create", {"name": [None, "b"]}), ("delete", {"name": ["b", None]})]


@pytest.mark.django_db
@both
def test_a_receiver_of_post_delete_brings_the_row_back(audit: Audit, capture_queries: bool) -> None:
    audit(CAPTURE_QUERIES=capture_queries)

    def bring_back(instance: Tag, **_: Any) -> None:
        instance.name = "back"
        instance.save(force_insert=True)

    tag = Tag.objects.create(name="a")
    with receiving(post_delete, bring_back, Tag):
        tag.delete()
    assert trail()[1:] == [("delete", {"name": ["a", None]}), ("create", {"name": [None, "back"]})]
    replays()


@pytest.mark.django_db
@both
def test_receivers_set_expressions_and_defaults_of_the_database(audit: Audit, capture_queries: bool) -> None:
    audit(CAPTURE_QUERIES=capture_queries)

    def compute(instance: Box, **_: Any) -> None:
        if instance._state.adding:
            instance.width, instance.label = 5, Upper(Value("abc"))
        else:
            instance.width = F("height") + 3

    with receiving(pre_save, compute, Box):
        box = Box.objects.create()
        box.height = 9
        box.save()
    assert trail()[0][1]["label"] == [None, "ABC"]
    # The expression is computed from the row as it was.
    assert trail()[1][1] == {"width": [5, 4], "height": [1, 9], "area": [5, 36]}
    replays()


@pytest.mark.django_db
@both
def test_receivers_load_the_row_anew(audit: Audit, capture_queries: bool) -> None:
    audit(CAPTURE_QUERIES=capture_queries)
    product = Product.objects.create(name="a", stock=1)

    def keep_stock(instance: Product, **_: Any) -> None:
        instance.refresh_from_db(fields=["stock"])

    product.name, product.stock = "b", 5
    with receiving(pre_save, keep_stock, Product):
        product.save()
    assert (last().changes["name"], "stock" in last().changes) == (["a", "b"], False)
    replays()


@pytest.mark.django_db
@both
def test_a_save_that_failed_in_a_receiver_is_tried_again(audit: Audit, capture_queries: bool) -> None:
    audit({"name": "t", "model": "app.Tag"}, CAPTURE_QUERIES=capture_queries)
    tag = Tag.objects.create(name="a")

    def refuse(instance: Tag, **_: Any) -> None:
        if instance.name == "bad":
            raise ValueError

    for signal in (pre_save, post_save):
        with receiving(signal, refuse, Tag):
            tag.name = "bad"
            with pytest.raises(ValueError):  # noqa: PT011
                tag.save()
            tag.name = "good"
            tag.save()
    assert [changes["name"] for _, changes in trail()] == [
        [None, "a"],
        ["a", "good"],
        ["good", "bad"],
        ["bad", "good"],
    ]


@pytest.mark.django_db
def test_a_receiver_of_post_save_writes_by_every_other_path(audit: Audit) -> None:
    audit()

    def write(instance: Place, created: bool, **_: Any) -> None:
        if created:
            instance.tags.add(Tag.objects.create(name="t"))
            Place.objects.filter(pk=instance.pk).update(name="b")
            instance.name = "c"
            instance.save(update_fields=["name"])

    with receiving(post_save, write, Place):
        Place.objects.create(name="a")
    assert [kind for kind, _ in trail(model="app.place")] == ["create", "m2m", "update", "update"]
    replays()
