"""Tables as other packages make them, with rows as they write them; the packages themselves are not needed."""

from __future__ import annotations

from django.db import models

from tests.app.models import Line, Room


class AuditlogEntry(models.Model):
    """django-auditlog 2.3: the changes are JSON in a text."""

    content_type_id = models.IntegerField()
    object_pk = models.CharField(max_length=255, db_index=True)
    object_id = models.BigIntegerField(null=True)
    object_repr = models.TextField()
    action = models.PositiveSmallIntegerField()
    changes = models.TextField(blank=True)
    timestamp = models.DateTimeField()
    actor_id = models.BigIntegerField(null=True)
    remote_addr = models.GenericIPAddressField(null=True)
    additional_data = models.JSONField(null=True)

    class Meta:
        db_table = "auditlog_logentry"


class HistoricalRoom(models.Model):
    """The history of a model by django-simple-history."""

    id = models.BigIntegerField(db_index=True)
    code = models.CharField(max_length=20)
    floor = models.IntegerField()
    number = models.IntegerField()
    name = models.CharField(max_length=50)
    history_id = models.AutoField(primary_key=True)
    history_date = models.DateTimeField()
    history_change_reason = models.CharField(max_length=100, null=True)
    history_type = models.CharField(max_length=1)
    history_user_id = models.BigIntegerField(null=True)

    instance_type = Room


class HistoricalLine(models.Model):
    """The same, of a model with a composite primary key."""

    order = models.IntegerField()
    number = models.IntegerField()
    text = models.CharField(max_length=50)
    history_id = models.AutoField(primary_key=True)
    history_date = models.DateTimeField()
    history_type = models.CharField(max_length=1)

    instance_type = Line
