"""The replay of one model's table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from django.utils.translation import gettext as _

from django_signal_audit.events.keys import parse_id
from django_signal_audit.models.state import RecordedState
from django_signal_audit.rules.plans import ModelPlan

from .comparison import Comparison
from .differences import Difference, LeftOut
from .rows import RowReader, StoredRow, rows_named
from .trail import Trail


class TableReplay:
    """Compares the rows of one plan's model with the fold of their events, a chunk at a time.

    Args:
        plan: The plan.
        using: The database.
        on_rows: Is called with the number of rows of each chunk that was compared.

    """

    def __init__(self, plan: ModelPlan, using: str, on_rows: Callable[[int], Any]) -> None:
        self.plan = plan
        self.using = using
        self.rows = 0
        self._on_rows = on_rows
        self._reader = RowReader(plan, using, plan.covered & set(plan.all_members))
        self._trail = Trail(plan.model, using)
        self._comparison = Comparison(plan, using)
        # In how many rows a field is known to the model alone, and in how many to the events alone.
        self._untold: Counter[str] = Counter()
        self._former: Counter[str] = Counter()

    def count(self) -> int:
        """Return how many rows the table has."""
        return self._reader.count()

    def differences(self) -> Iterator[Difference]:
        """Return every difference: of the rows that are there, then of those that should be."""
        for keys in self._reader.key_chunks():
            rows = self._reader.read(keys)
            states = self._trail.states([row.name for row in rows])
            for row in rows:
                self._note(row, states[row.name])
                if any(self._comparison.of_row(row, [states[row.name]])):
                    yield from self._look_again(row.pk, row.name)
            self._on_rows(len(keys))
        for names in self._trail.vanished():
            for name in names:
                yield from self._look_again(parse_id(self.plan.model, name), name)

    def _look_again(self, pk: Any, name: str) -> Iterator[Difference]:
        """Return how a row differs, though somebody may be writing it.

        Every state between two looks at the events is one that the row may have been in when it was read in between.
        """
        newest = self._trail.newest(name)
        row = next(iter(self._reader.read([] if pk is None else [pk])), None)
        is_there = row is not None or bool(rows_named(self.plan.model, [name], self.using) & {name})
        states = self._trail.states_since(name, newest)
        if row is not None:
            yield from self._comparison.of_row(row, states)
        elif not is_there:
            yield from self._comparison.of_nothing(name if pk is None else pk, states)

    def _note(self, row: StoredRow, state: RecordedState) -> None:
        self.rows += 1
        if state.has_start:
            self._untold.update(self._comparison.untold(state))
        self._former.update((state.values or {}).keys() - self.plan.all_fields.keys() - self.plan.all_members.keys())

    def left_out(self) -> Iterator[LeftOut]:
        """Return what was not compared, once ``differences`` has come to its end."""
        for name in (*self.plan.all_fields, *self.plan.all_members):
            if name not in self.plan.covered:
                reason = _("not every change is recorded: rules exclude it or have conditions")
                yield LeftOut(model=self.plan.model, field=name, reason=reason)
        for name, rows in sorted(self._untold.items()):
            reason = _("no recorded history; run audit_baseline")
            yield LeftOut(model=self.plan.model, field=name, reason=reason, rows=rows)
        for name, rows in sorted(self._former.items()):
            reason = _("the model no longer has this field")
            yield LeftOut(model=self.plan.model, field=name, reason=reason, rows=rows)
