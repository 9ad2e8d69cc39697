"""Replay: every audited row against the fold of its events, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.db import connections
from django.utils.translation import gettext as _

from django_signal_audit.models.tables import table_exists
from django_signal_audit.rules.plans import ModelPlan

from .differences import Difference, LeftOut
from .table import TableReplay


def _ignore(_rows: int) -> None:
    """Tell nobody."""


class Replay:
    """One run of the comparison. Rows may be written meanwhile.

    Args:
        plans: The plans of the models to replay.
        using: The database.
        on_rows: Is called with the number of rows that have been compared since it was called last.

    """

    def __init__(self, plans: Iterable[ModelPlan], using: str, on_rows: Callable[[int], Any] = _ignore) -> None:
        self._skipped: list[LeftOut] = []
        self._tables: list[TableReplay] = []
        self._has_tables = False
        tables = set(connections[using].introspection.table_names(include_views=True))
        for plan in plans:
            # Those of other schemas aren't listed.
            is_there = plan.model._meta.db_table in tables or table_exists(plan.model, using)
            self._has_tables |= is_there
            reason = _why_not(plan, is_there=is_there)
            if reason:
                self._skipped.append(LeftOut(model=plan.model, field="", reason=reason))
            else:
                self._tables.append(TableReplay(plan, using, on_rows))

    @property
    def has_tables(self) -> bool:
        """Return whether any of the models has its table on the database."""
        return self._has_tables

    @property
    def rows(self) -> int:
        """Return how many rows have been compared."""
        return sum(table.rows for table in self._tables)

    def count(self) -> int:
        """Return how many rows there are, children's counted with their parents too."""
        return sum(table.count() for table in self._tables)

    def differences(self) -> Iterator[Difference]:
        """Return every difference."""
        for table in self._tables:
            yield from table.differences()

    def left_out(self) -> list[LeftOut]:
        """Return what was not compared, once ``differences`` has come to its end."""
        return [*self._skipped, *(item for table in self._tables for item in table.left_out())]


def _why_not(plan: ModelPlan, *, is_there: bool) -> str:
    if not is_there:
        return _("the table doesn't exist in this database")
    if not plan.covered:
        return _("no field has all its changes recorded: rules exclude them or have conditions")
    return ""
