"""Baseline: a starting point for rows that are older than the package, or than the rule on one of their fields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from .capture.transactions import lock_database
from .changes import Change, FieldChange, MembersChange
from .enums import EventType, Source
from .matching import match_baseline
from .models.state import RecordedState
from .recorder import record_changes
from .replay.rows import RowReader, StoredRow
from .replay.trail import Trail
from .rules.plans import ModelPlan

BATCH_SIZE = 500


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch that is done: how many rows were looked at, and how many got a starting point."""

    rows: int
    written: int


class Baseline:
    """Writes the starting points of one plan's rows, in batches that commit one by one.

    What is told already stays as it is told: running it again goes on where it ended, and hides no difference.

    Args:
        plan: The plan.
        using: The database.

    """

    def __init__(self, plan: ModelPlan, using: str) -> None:
        match = match_baseline(plan)
        self.names = match.names if match else frozenset()
        self.plan = plan
        self.using = using
        self._reader = RowReader(plan, using, self.names & set(plan.all_members))
        self._trail = Trail(plan.model, using)

    def count(self) -> int:
        """Return how many rows the table has."""
        return self._reader.count()

    def run(self, batch_size: int = BATCH_SIZE) -> Iterator[Batch]:
        """Write what is missing, and return each batch after its commit."""
        for keys in self._reader.key_chunks(batch_size) if self.names else ():
            # Most rows of a table that is gone through again need nothing, and no lock.
            missing = [change.pk for change in self._changes(keys, lock=False)]
            yield Batch(len(keys), self._write(missing) if missing else 0)

    def _write(self, keys: Sequence[Any]) -> int:
        with transaction.atomic(using=self.using):
            lock_database(self.using)
            # The locks come first: whoever held them has committed his events by then.
            return len(record_changes(self._changes(keys, lock=True), self.using))

    def _changes(self, keys: Sequence[Any], *, lock: bool) -> list[Change]:
        rows = self._reader.read(keys, lock=lock)
        states = self._trail.states([row.name for row in rows])
        changes = [self._change(row, states[row.name]) for row in rows]
        return [change for change in changes if change is not None]

    def _change(self, row: StoredRow, state: RecordedState) -> Change | None:
        """Return the starting point of what is not told of a row, None if nothing is missing."""
        known = state.values or {}
        images = self._reader.images
        fields = {
            name: FieldChange(old=None, new=value)
            for name, value in images.row(row.image, self.names).items()
            if name not in known
        }
        members = {
            name: MembersChange(added=tuple(keys))
            for name, keys in row.members.items()
            if name not in known and (keys or not state.has_start)
        }
        if state.has_start and not fields and not members:
            return None
        return Change(
            event_type=EventType.BASELINE,
            source=Source.BASELINE,
            using=self.using,
            model=self.plan.model,
            pk=row.pk,
            instance=images.instance(row.image),
            fields=fields,
            members=members,
        )
