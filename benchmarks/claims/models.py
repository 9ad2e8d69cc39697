"""The models of the comparison: a product that is audited, what it refers to, and a note that nobody audits."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models

from benchmarks.claims.packages import package

audited_by = package(settings.COMPARED_PACKAGE)  # type: ignore[misc]


class Category(models.Model):
    name = models.CharField(max_length=100)

    objects: ClassVar[models.Manager[Category]] = models.Manager()

    def __str__(self) -> str:
        return self.name


class Supplier(models.Model):
    name = models.CharField(max_length=100)

    objects: ClassVar[models.Manager[Supplier]] = models.Manager()

    def __str__(self) -> str:
        return self.name


class Tag(models.Model):
    name = models.CharField(max_length=100)

    objects: ClassVar[models.Manager[Tag]] = models.Manager()

    def __str__(self) -> str:
        return self.name


class Note(models.Model):
    text = models.CharField(max_length=100)

    objects: ClassVar[models.Manager[Note]] = models.Manager()

    def __str__(self) -> str:
        return self.text


class Product(models.Model):
    name = models.CharField(max_length=100)
    code = models.CharField(max_length=100, unique=True)
    price = models.DecimalField(max_digits=12, decimal_places=2)
    details = models.JSONField(default=dict, blank=True)
    category = models.ForeignKey(Category, models.CASCADE, null=True, blank=True)
    supplier = models.ForeignKey(Supplier, models.SET_NULL, null=True, blank=True)
    tags = models.ManyToManyField(Tag, related_name="products", blank=True)

    objects = audited_by.manager()

    def __str__(self) -> str:
        return self.name


class Account(models.Model):
    """Has a field whose name says that it is secret, one that is to be masked, and one that is to be left out."""

    password = models.CharField(max_length=100, default="")
    iban = models.CharField(max_length=100, default="")
    remark = models.CharField(max_length=100, default="")

    objects = audited_by.manager()

    def __str__(self) -> str:
        return f"account {self.pk}"


audited_by.register(Product)
audited_by.register(Account, left_out=("remark",))
