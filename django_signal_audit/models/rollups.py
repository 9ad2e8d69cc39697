"""Counts of events that are kept, so that nobody has to count the same events twice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import connections, models
from django.utils.translation import gettext_lazy as _

# The row that says how often events were taken away or changed, and how many were pruned.
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


_COUNTED = """
INSERT INTO {table} AS kept (key, number, scope, base, recent) VALUES (%s, 1, '{{}}', '', '')
ON CONFLICT (key) DO UPDATE SET number = kept.number + 1
"""
# Names are in them, too. What was asked for is counted again.
_EMPTIED = """
UPDATE {table} SET base = '', recent = '' WHERE key <> %s AND base <> ''
    AND COALESCE((scope ->> 'since')::bigint, %s) <= %s
"""
_HOLDS = "UPDATE {table} SET number = number + 1 WHERE key <> %s AND base <> ''"
_PRUNED = """
UPDATE {table} SET scope = jsonb_build_object('pruned', COALESCE((scope ->> 'pruned')::bigint, 0) + %s) WHERE key = %s
"""
_LAST = 2**62


def forget_rollups(using: str, newest: int = _LAST) -> None:
    """Make counts invalid, in the transaction that takes events away or changes them, and before it does so.

    The row is locked until the transaction ends: who counts meanwhile can't keep what they have counted.

    Args:
        using: The database.
        newest: The second of the newest of these events: what counts later ones alone still holds.

    """
    _run(using, [(_COUNTED, [LOSSES]), (_EMPTIED, [LOSSES, newest, newest]), (_HOLDS, [LOSSES])])


def note_pruned(using: str, count: int) -> None:
    """Say how many of the rows that were deleted are no loss that nobody knows of, in the same transaction."""
    _run(using, [(_PRUNED, [count, LOSSES])])
    if has_rollups(using) and connections[using].pg_version >= 150000:  # type: ignore[attr-defined]
        with connections[using].cursor() as cursor:
            # Otherwise the next view may come before the statistics do, and count all again.
            cursor.execute("SELECT pg_stat_force_next_flush()")


def _run(using: str, statements: Iterable[tuple[str, list[str | int]]]) -> None:
    if not has_rollups(using):
        return
    table = connections[using].ops.quote_name(Rollup._meta.db_table)
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)", [table])
        if cursor.fetchone() == (None,):
            return  # its migration has yet to run
        for statement, parameters in statements:
            cursor.execute(statement.format(table=table), parameters)
