"""A model of the same fields for each package."""

from __future__ import annotations

import uuid
from typing import Any

import reversion
from auditlog.registry import auditlog
from django.conf import settings
from django.db import models
from field_audit import audit_fields
from simple_history.models import HistoricalRecords


class Category(models.Model):
    name = models.CharField(max_length=30)

    def __str__(self) -> str:
        return self.name


class Tag(models.Model):
    name = models.CharField(max_length=30)

    def __str__(self) -> str:
        return self.name


class Common(models.Model):
    name = models.CharField(max_length=30)
    note = models.TextField(null=True, blank=True)
    qty = models.IntegerField(null=True, blank=True)
    price = models.DecimalField(max_digits=12, decimal_places=4, default=0)
    weight = models.FloatField(null=True, blank=True)
    active = models.BooleanField(default=True)
    day = models.DateField(null=True, blank=True)
    moment = models.DateTimeField(null=True, blank=True)
    clock = models.TimeField(null=True, blank=True)
    span = models.DurationField(null=True, blank=True)
    ident = models.UUIDField(default=uuid.uuid4)
    meta = models.JSONField(default=dict, blank=True)
    blob = models.BinaryField(null=True, blank=True)
    file = models.FileField(blank=True)
    password = models.CharField(max_length=30, blank=True)
    category = models.ForeignKey(Category, models.SET_NULL, null=True, blank=True, related_name="+")
    tags = models.ManyToManyField(Tag, blank=True, related_name="+")

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.name


class HistoryKept(Common):
    history = HistoricalRecords(m2m_fields=["tags"])


class HistoryExcluding(models.Model):
    """A model with a UUID as key, and UUIDs as keys of its history."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=30)
    stock = models.IntegerField(default=0)
    history = HistoricalRecords(excluded_fields=["stock"], history_id_field=models.UUIDField(default=uuid.uuid4))

    def __str__(self) -> str:
        return self.name


class Place(models.Model):
    name = models.CharField(max_length=30)
    history = HistoricalRecords()

    def __str__(self) -> str:
        return self.name


class Restaurant(Place):
    stars = models.IntegerField(default=0)
    history = HistoricalRecords()


class Logged(Common):
    pass


auditlog.register(Logged, m2m_fields={"tags"})


class Versioned(Common):
    pass


reversion.register(Versioned)


class VersionedPlace(models.Model):
    name = models.CharField(max_length=30)

    def __str__(self) -> str:
        return self.name


class VersionedRestaurant(VersionedPlace):
    stars = models.IntegerField(default=0)


reversion.register(VersionedPlace)
reversion.register(VersionedRestaurant, follow=["versionedplace_ptr"])


class EasyAudited(Common):
    pass


# It can record neither bytes nor files.
_COLUMNS = [field.name for field in (*Common._meta.local_fields, *Common._meta.local_many_to_many)]
_AUDITED = [name for name in _COLUMNS if name not in ("blob", "file")]


@audit_fields(*_AUDITED, audit_special_queryset_writes=False)
class FieldAudited(Common):
    pass


if settings.HAS_TRIGGERS:
    import pghistory

    @pghistory.track(pghistory.InsertEvent(), pghistory.UpdateEvent(), pghistory.DeleteEvent())
    class Triggered(Common):
        pass

    @pghistory.track()
    class TriggeredWithoutDeletes(models.Model):
        name = models.CharField(max_length=30)
        stock = models.IntegerField(default=0)

        def __str__(self) -> str:
            return self.name

    @pghistory.track(pghistory.InsertEvent(), pghistory.UpdateEvent(row=pghistory.Old), pghistory.DeleteEvent())
    class TriggeredBefore(models.Model):
        name = models.CharField(max_length=30)
        stock = models.IntegerField(default=0)

        def __str__(self) -> str:
            return self.name


def model(name: str) -> Any:
    """Return a model of this app."""
    from django.apps import apps

    return apps.get_model("shop", name)
