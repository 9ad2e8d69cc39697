"""The tables that are written: a product that is audited and its twin that is not."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from benchmarks.contenders import contender

audited_by = contender(settings.BENCHMARK_CONTENDER)


class Category(models.Model):
    name = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.name


class Tag(models.Model):
    name = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.name


class Item(models.Model):
    """Twelve fields of the usual types, with the indexes of a unique number and of a foreign key."""

    name = models.CharField(max_length=200)
    sku = models.CharField(max_length=40, unique=True)
    description = models.TextField()
    price = models.DecimalField(max_digits=12, decimal_places=4)
    cost = models.DecimalField(max_digits=12, decimal_places=4)
    stock = models.IntegerField()
    weight = models.FloatField()
    is_active = models.BooleanField()
    released = models.DateField()
    available_from = models.DateTimeField()
    attributes = models.JSONField()
    category = models.ForeignKey(Category, models.CASCADE, related_name="+")

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.name


class Supply(Item):
    """Rows that are copied into the other tables, past every contender."""


class Product(Item):
    tags = models.ManyToManyField(Tag, related_name="+")

    objects = audited_by.manager()


class Article(Item):
    """The product's twin that nobody audits."""

    tags = models.ManyToManyField(Tag, related_name="+")


audited_by.adapt(Product)
