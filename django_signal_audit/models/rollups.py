"""Counts of events that are kept, so that nobody has to count the same events twice."""

from __future__ import annotations

from typing import Any

from django.db import connections, models
from django.utils.translation import gettext_lazy as _

# The row that says how often events were taken away or changed.
LOSSES = "losses"


class Rollup(models.Model):
    """The counts of one period; see ``reports.rollups``. All rows can be deleted at any time, and are made again."""

    key = models.CharField(primary_key=True, max_length=64)
    # How often events had been taken away or changed when these were counted.
    number = models.BigIntegerField(default=0)
    asked_on = models.DateField(null=True)
    scope: models.JSONField[Any, Any] = models.JSONField(default=dict)
    base = models.BinaryField(default=b"")
    recent = models.BinaryField(default=b"")

    objects: models.Manager[Rollup] = models.Manager()

    class Meta:
        verbose_name = _("roll-up")
        verbose_name_plural = _("roll-ups")
        default_permissions = ()

    def __str__(self) -> str:
        return self.key


def has_rollups(using: str) -> bool:
    """Return whether counts are kept on a database."""
    return connections[using].vendor == "postgresql"


def forget_rollups(using: str) -> None:
    """Make all counts invalid, in the transaction that takes events away or changes them, and before it does so.

    The row is locked until the transaction ends: who counts meanwhile can't keep what they have counted.
    """
    if not has_rollups(using):
        return
    table = connections[using].ops.quote_name(Rollup._meta.db_table)
    added = f"INSERT INTO {table} AS kept (key, number, scope, base, recent) VALUES (%s, 1, '{{}}', '', '')"  # noqa: S608
    counted = f"{added} ON CONFLICT (key) DO UPDATE SET number = kept.number + 1"
    # Names are in them, too. What was asked for is counted again.
    emptied = f"UPDATE {table} SET base = '', recent = '' WHERE key <> %s AND base <> ''"  # noqa: S608  # our own table
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)", [table])
        if cursor.fetchone() == (None,):
            return  # its migration has yet to run
        for statement in (counted, emptied):
            cursor.execute(statement, [LOSSES])
