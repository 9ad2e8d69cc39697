"""Baseline: a starting point for rows that are older than the package, or than the rule on one of their fields."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError, router, transaction
from django.db.models import Model

from django_signal_audit.capture.transactions import lock_database
from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.changes import Change, FieldChange, M2MChange
from django_signal_audit.events.values import Digest, JSONValue, decode
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.inheritance import labels_including_children
from django_signal_audit.models.state import RecordedState
from django_signal_audit.models.tables import table_exists
from django_signal_audit.recorder import record_changes
from django_signal_audit.replay.comparison import Comparison, RowReader, StoredRow, first_row_names, rows_named
from django_signal_audit.replay.replay import RecordedStates
from django_signal_audit.rules.matching import match_baseline
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.rules.registry import get_registry

BATCH_SIZE = 500
# The key in the data of events that repair.
REPAIR = "repair"
# How many rows of a table migrate reads to find out if a baseline is due.
LOOKED_AT = 500


def complete_history(loaded: Mapping[type[Model], Iterable[object]], using: str) -> None:
    """Give a starting point to rows without any history, and to those that differ from the recorded one.

    Args:
        loaded: The primary keys of the rows by model.
        using: The database.

    """
    # Rows of multi-table children come first, as their events are about the parents' rows too.
    for model in sorted(loaded, key=lambda item: len(item._meta.get_parent_list()), reverse=True):
        plan = get_registry().plan_for(model)
        if plan is not None:
            Baseline(plan, using, repair=True, only_wrong=True).complete(list(loaded[model]))


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch that is done.

    Attributes:
        rows: How many rows of the table were looked at.
        written: How many of them got a starting point.
        repaired: How many of these differed from what was recorded of them.
        gone: How many rows that are gone got a deletion.

    """

    rows: int = 0
    written: int = 0
    repaired: int = 0
    gone: int = 0


class Baseline:
    """Writes the starting points of one plan's rows, in batches that commit one by one.

    What is told already stays as it is told: running it again goes on where it ended, and hides no difference.

    Args:
        plan: The plan.
        using: The database.
        repair: Also write what the row holds where that differs from what is recorded, and deletions of rows that
            are gone.
        is_dry: Only return what would be written.
        only_wrong: Leave rows alone that have recorded values, if none of these is wrong.

    """

    def __init__(
        self, plan: ModelPlan, using: str, *, repair: bool = False, is_dry: bool = False, only_wrong: bool = False
    ) -> None:
        match = match_baseline(plan)
        self.names = match.names if match else frozenset()
        self.plan = plan
        self.using = using
        self._is_dry, self._only_wrong = is_dry, only_wrong
        self._reader = RowReader(plan, using, self.names & set(plan.all_members))
        self._recorded_states = RecordedStates(plan.model, using)
        self._comparison = Comparison(plan, using) if repair else None

    def count(self) -> int:
        """Return how many rows the table has."""
        return self._reader.count()

    def run(self, batch_size: int = BATCH_SIZE) -> Iterator[Batch]:
        """Write what is missing, and return each batch after its commit."""
        if not self.names:
            return
        if self._comparison is not None and self.plan.covered:
            for gone in self._recorded_states.vanished():
                for start in range(0, len(gone), batch_size):
                    yield Batch(gone=self._end(gone[start : start + batch_size]))
        for keys in self._reader.key_chunks(batch_size):
            # Most rows of a table that is gone through again need nothing, and no lock.
            missing = self._changes(keys, lock=False)
            if missing and not self._is_dry:
                missing = self._write([change.pk for change in missing])
            yield Batch(len(keys), len(missing), sum(REPAIR in change.data for change in missing))

    def complete(self, keys: Sequence[object]) -> None:
        """Write what is missing of some rows."""
        for start in range(0, len(keys) if self.names else 0, BATCH_SIZE):
            self._write(keys[start : start + BATCH_SIZE])

    def _write(self, keys: Sequence[object]) -> list[Change]:
        with transaction.atomic(using=self.using):
            lock_database(self.using)
            # The locks come first: those who held them have committed the events of the rows by then.
            changes = self._changes(keys, lock=True)
            return changes if len(record_changes(changes, self.using)) == len(changes) else []

    def _changes(self, keys: Sequence[object], *, lock: bool) -> list[Change]:
        rows = self._reader.read(keys, lock=lock)
        states = self._recorded_states.states([row.name for row in rows])
        changes = [self._change(row, states[row.name]) for row in rows]
        return [change for change in changes if change is not None]

    def _change(self, row: StoredRow, state: RecordedState) -> Change | None:
        """Return the starting point of what is not told of a row or told wrongly, None if nothing is."""
        known = state.values or {}
        images = self._reader.images
        values = images.row(row.image, self.names)
        fields = {name: FieldChange(old=None, new=value) for name, value in values.items() if name not in known}
        wrong = self._wrong_fields(row.pk, values, known)
        members = {name: change for name in row.members if (change := self._members(name, row, state)) is not None}
        repaired = sorted({*wrong, *(name for name, change in members.items() if change.removed)})
        is_left_alone = self._only_wrong and state.values is not None and not repaired
        if is_left_alone or (state.has_start and not fields and not wrong and not members):
            return None
        return Change(
            event_type=EventType.BASELINE,
            source=Source.BASELINE,
            using=self.using,
            model=self.plan.model,
            pk=row.pk,
            instance=images.instance(row.image),
            fields={**fields, **wrong},
            members=members,
            data={REPAIR: {"reason": "differs", "fields": repaired}} if repaired else {},
        )

    def _wrong_fields(
        self, pk: object, values: Mapping[str, object], known: Mapping[str, JSONValue]
    ) -> dict[str, FieldChange]:
        """Return the fields that hold another value than is recorded, with the recorded one as the old value."""
        if self._comparison is None:
            return {}
        return {
            name: FieldChange(old=self._decode(name, known[name]), new=value)
            for name, value in values.items()
            if name in known and name in self.plan.covered
            if not self._comparison.is_recorded(name, pk, known[name], value)
        }

    def _members(self, name: str, row: StoredRow, state: RecordedState) -> M2MChange | None:
        """Return the members that are not told of and, for a repair, those that are told of and aren't there."""
        actual = row.members[name]
        known = (state.values or {}).get(name)
        if known is None:
            return M2MChange(added=tuple(actual)) if actual or not state.has_start else None
        removed: list[Any] = []
        if self._comparison is not None and name in self.plan.covered:
            removed = [key for key in known if key not in actual]
        # Members that are older than the package come to light when others are added or removed.
        change = M2MChange(added=tuple(key for key in actual if key not in known), removed=tuple(removed))
        return change or None

    def _end(self, names: Sequence[str]) -> int:
        """Write the deletions of rows that are gone, and return how many they are."""
        if self._is_dry:
            return len(names)
        with transaction.atomic(using=self.using):
            lock_database(self.using)
            there = rows_named(self.plan.model, names, self.using)
            states = self._recorded_states.states(names)
            changes = [self._deletion(name, states[name].values or {}) for name in names if name not in there]
            changes = [change for change in changes if states[str(change.pk)].values is not None]
            return len(record_changes(changes, self.using))

    def _deletion(self, name: str, known: Mapping[str, JSONValue]) -> Change:
        """Return the deletion of a row by its name in the audit log, with what is recorded of it as the old values."""
        fields = [field for field in self.plan.all_fields if field in known]
        members: dict[str, Any] = {field: known[field] for field in self.plan.all_members if field in known}
        return Change(
            event_type=EventType.DELETE,
            source=Source.BASELINE,
            using=self.using,
            model=self.plan.model,
            pk=name,
            object_repr=self._recorded_states.last_text(name),
            fields={field: FieldChange(old=self._decode(field, known[field]), new=None) for field in fields},
            members={field: M2MChange(removed=tuple(keys)) for field, keys in members.items() if keys},
            data={REPAIR: {"reason": "gone"}},
        )

    def _decode(self, name: str, recorded: JSONValue) -> object:
        """Return the recorded value, None for a digest of what is secret by now: only the secret gives its tag."""
        value = decode(self.plan.all_fields[name], recorded)
        return None if isinstance(value, Digest) and name in self.plan.secret else value


def after_migrate(using: str = "", verbosity: int = 1, stdout: Any = None, plan: Any = (), **_: Any) -> None:
    """Say that ``audit_baseline`` is due if the migration that made our tables left audited rows without events."""
    if verbosity < 1 or not any(_makes_tables(migration) and not is_backward for migration, is_backward in plan or ()):
        return
    found = models_from_before(using)
    if found:
        database = "" if using == "default" else f" --database {using}"
        out = stdout or sys.stdout
        out.write(f"  These audited models have rows without recorded history: {', '.join(found)}.\n")
        out.write(f"  Run manage.py audit_baseline{database} to record their baseline.\n")


def models_from_before(using: str) -> list[str]:
    """Return the labels of the audited models among whose first rows is one without a starting point."""
    plans = [plan for model, plan in get_registry().plans.items() if router.allow_migrate_model(using, model)]
    return sorted(plan.model._meta.label for plan in plans if plan.unconditional and _begins_unrecorded(plan, using))


def _begins_unrecorded(plan: ModelPlan, using: str) -> bool:
    """Return whether one of the first rows by primary key has no starting point: no table is read for that.

    The rest of the migration may have changed a row that was there before our tables, so that it has events.
    """
    try:
        names = first_row_names(plan.model, using, LOOKED_AT) if table_exists(plan.model, using) else []
    except DatabaseError:
        # A view that can't be read now, or a column that is still to come, must not spoil the migration.
        return False
    events = AuditEvent.objects.using(using).filter(model__in=labels_including_children(plan.model))
    starts = events.filter(object_id__in=names, event_type__in=(EventType.CREATE, EventType.BASELINE))
    return bool(set(names) - set(starts.values_list("object_id", flat=True)))


def _makes_tables(migration: Any) -> bool:
    return bool(migration.app_label == AuditEvent._meta.app_label and migration.initial)
