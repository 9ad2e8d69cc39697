"""factory_boy: objects made by factories are recorded, and the recipes' own second save makes no event."""

from __future__ import annotations

from typing import Any

import factory
import pytest
from django.db.models.signals import post_save, pre_save

from tests.conftest import trail

from .shop.models import Label, Product

pytestmark = pytest.mark.django_db


class LabelFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Label

    name = factory.Sequence(lambda number: f"label {number}")


class ProductFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Product
        skip_postgeneration_save = True

    name = "Tea"

    @factory.post_generation
    def labels(self, create: bool, extracted: Any, **_: Any) -> None:
        if create and extracted:
            self.labels.set(extracted)


def test_what_factories_make_is_recorded() -> None:
    label = LabelFactory(name="hot")
    ProductFactory(labels=[label])
    LabelFactory.create_batch(2)
    ProductFactory.build()
    assert [event_type for event_type, _ in trail()] == ["create", "create", "m2m", "create", "create"]


def test_with_signals_muted_nothing_breaks() -> None:
    """Muting takes our receivers away too, so that saves under it may leave no event: as fixtures they need none."""
    with factory.django.mute_signals(pre_save, post_save):
        product = ProductFactory()
    product.price = 3
    product.save()
    assert trail()[-1] == ("update", {"price": ["0.00", "3.00"]})
