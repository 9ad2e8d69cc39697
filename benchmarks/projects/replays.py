"""Compares the trail with the tables at the end of every test, before its rows go."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

# A row that was there before the audit's tables were is no fault: flushes and migrations leave such.
HARMLESS = {"unrecorded", "unstarted"}


def replay_after_tests(path: str) -> None:
    """Have each difference become a line of the file: kind, model, key, field, both values, test."""
    from django.test import TestCase, TransactionTestCase

    notes = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    original: Callable[[Any], None] = TransactionTestCase._post_teardown

    def teardown(self: Any) -> None:
        try:
            for alias in self._databases_names(include_mirrors=False):
                lines = [f"{line}\t{self.id()}\n" for line in _differences(alias)]
                os.write(notes, "".join(lines).encode())
        except Exception as error:  # noqa: BLE001  # of any kind, and it must not keep the test's transaction open
            os.write(notes, f"no replay: {error!r}\t{self.id()}\n".encode())
        original(self)
        if not isinstance(self, TestCase):
            # It has emptied the tables, those of the apps at least that the test names, which ours is not among.
            for alias in self._databases_names(include_mirrors=False):
                _forget(alias)

    TransactionTestCase._post_teardown = teardown


def _differences(alias: str) -> list[str]:
    from django.db import connections

    from django_signal_audit.models import AuditEvent
    from django_signal_audit.models.tables import has_table
    from django_signal_audit.replay import Replay
    from django_signal_audit.rules.registry import get_registry

    if connections[alias].needs_rollback or not has_table(AuditEvent, alias):
        return []
    told = set(AuditEvent.objects.using(alias).values_list("model", flat=True).distinct())
    plans = [plan for plan in get_registry().plans.values() if plan.label in told and not _is_written_by_database(plan)]
    found = Replay(plans, alias).differences()
    return [
        f"{item.kind.value}\t{item.model._meta.label}\t{item.pk}\t{item.field}\t{item.recorded!r}\t{item.actual!r}"
        for item in found
        if item.kind.value not in HARMLESS
    ]


def _is_written_by_database(plan: Any) -> bool:
    """Return whether an ``on_delete`` of the database's own writes the rows, which the guarantees except."""
    from django.db import models

    own = {getattr(models, name, None) for name in ("DB_CASCADE", "DB_SET_NULL", "DB_SET_DEFAULT")} - {None}
    return any(field.remote_field.on_delete in own for field in plan.model._meta.concrete_fields if field.is_relation)


def _forget(alias: str) -> None:
    from django.db import connections

    from django_signal_audit.models import AuditEvent
    from django_signal_audit.models.tables import has_table

    if has_table(AuditEvent, alias):
        with connections[alias].cursor() as cursor:
            cursor.execute(f"DELETE FROM {AuditEvent._meta.db_table}")
