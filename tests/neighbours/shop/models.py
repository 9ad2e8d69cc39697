"""What every one of the projects sells."""

from __future__ import annotations

from django.db import models


class Label(models.Model):
    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class Product(models.Model):
    name = models.CharField(max_length=50)
    price = models.DecimalField(max_digits=8, decimal_places=2, default=0)
    labels = models.ManyToManyField(Label, blank=True)

    def __str__(self) -> str:
        return self.name


class News(models.Model):
    title = models.CharField(max_length=50)
