"""Replay: every audited row against the fold of its events, in constant memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.db import connections, models
from django.db.models import Q
from django.utils.translation import gettext as _

from django_signal_audit.capture.images import chunks
from django_signal_audit.capture.tenants import tenants_by_key
from django_signal_audit.enums import LAST_EVENTS, ROW_EVENTS
from django_signal_audit.events.keys import parse_id
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.inheritance import labels_including_children
from django_signal_audit.models.renames import former_labels
from django_signal_audit.models.state import RecordedState, fold
from django_signal_audit.models.tables import table_exists
from django_signal_audit.models.tenants import current_tenant, tenant_function
from django_signal_audit.replay.comparison import Comparison, Difference, LeftOut, RowReader, StoredRow, rows_named
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.rules.tenants import mapping

PAGE = 2000
_COLUMNS = ("object_id", "model", "event_type", "changes")


class RecordedStates:
    """The events that describe the rows of one model.

    Args:
        model: The concrete model.
        using: The database.

    """

    def __init__(self, model: type[models.Model], using: str) -> None:
        self.model = model
        self.using = using
        labels = labels_including_children(model)
        # Rows may come from another tenant, with the events that they had there.
        events = AuditEvent.objects if tenant_function() else AuditEvent.of_all_tenants
        self._events = events.using(using).filter(model__in=labels, event_type__in=ROW_EVENTS)
        label = model._meta.label_lower
        self._own = self._events.filter(model__in=(label, *former_labels(label)))

    def states(self, names: Sequence[str]) -> dict[str, RecordedState]:
        """Return the recorded states of the rows with these names."""
        states = {name: RecordedState() for name in names}
        rows = (row[1:] for row in self._rows(names))
        # Some databases find "a" where "A" was asked for.
        fold(self.model, (row for row in rows if row[0] in states), states)
        return states

    def newest(self, name: str, *, own: bool = False) -> int | None:
        """Return the id of the newest event of a row, None if there is none; ``own``: children's events don't count."""
        events = self._own if own else self._events
        found = events.filter(object_id=name).order_by("-id").values_list("id", "object_id")
        return next((pk for pk, object_id in found.iterator(chunk_size=100) if object_id == name), None)

    def states_since(self, name: str, event_id: int | None) -> list[RecordedState]:
        """Return the state of a row as an event left it, and as each later one did."""
        state, states = RecordedState(), []
        for pk, *row in self._rows([name]):
            if row[0] != name:
                continue
            if event_id is None or pk > event_id:
                states.append(state.copy())
            fold(self.model, [tuple(row)], {name: state})
        return [*states, state]

    def _rows(self, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """Return id, name, label, type and changes of the events of these rows, oldest first, a page at a time."""
        events = self._events.filter(object_id__in=names).order_by("id").values_list("id", *_COLUMNS)
        page = list(events[:PAGE])
        while page:
            yield from page
            page = list(events.filter(id__gt=page[-1][0])[:PAGE]) if len(page) == PAGE else []

    def alive(self) -> Iterator[tuple[str, int]]:
        """Return the names of the rows whose last recorded event does not end their history, with that event's id.

        Events of multi-table children are not asked. Where the database takes different names for equal, a name may
        come several times; only the last is its newest event.
        """
        for name, run in groupby(self._last_words(), key=itemgetter(0)):
            *_, (_, event_id, event_type) = run
            if event_type not in LAST_EVENTS:
                yield name, event_id

    def vanished(self) -> Iterator[list[str]]:
        """Return the names of the rows that should be there by the model's own events and aren't, some at a time."""
        for chunk in chunks(self.alive()):
            there = rows_named(self.model, [name for name, _event_id in chunk], self.using)
            gone = [name for name, event_id in chunk if name not in there and self.newest(name, own=True) == event_id]
            if gone:
                yield gone

    def last_tenant(self, name: str) -> str:
        """Return the tenant of the newest event of a row, ``""`` if there is none."""
        newest = self.newest(name)
        events = self._events.none() if newest is None else self._events.filter(pk=newest).order_by()
        return next(iter(events.values_list("tenant", flat=True)), "")

    def last_text(self, name: str) -> str:
        """Return what the newest event of a row calls the object, ``""`` if there is none."""
        newest = self.newest(name)
        events = self._events.none() if newest is None else self._events.filter(pk=newest).order_by()
        return next(iter(events.values_list("object_repr", flat=True)), "")

    def _last_words(self) -> Iterator[tuple[str, int, str]]:
        """Return name, id and type of all events, those of one row in a run, a page at a time."""
        columns = self._own.order_by("object_id", "id").values_list("object_id", "id", "event_type")
        page = list(columns[:PAGE])
        while page:
            yield from page
            name, event_id, _ = page[-1]
            # The first condition is implied by the second; the database finds its place in the index by it.
            rest = columns.filter(object_id__gte=name).filter(Q(object_id__gt=name) | Q(id__gt=event_id))
            page = list(rest[:PAGE]) if len(page) == PAGE else []


class TableReplay:
    """Compares the rows of one plan's model with the fold of their events, a chunk at a time.

    Args:
        plan: The plan.
        using: The database.
        on_rows: Is called with the number of rows of each chunk that was compared.

    """

    def __init__(self, plan: ModelPlan, using: str, on_rows: Callable[[int], object]) -> None:
        self.plan = plan
        self.using = using
        self.rows = 0
        self._on_rows = on_rows
        self._reader = RowReader(plan, using, plan.covered & set(plan.all_members))
        self._recorded_states = RecordedStates(plan.model, using)
        # Whose rows are compared, where rows name their tenants; "" for all.
        self._tenant = current_tenant() if mapping() else ""
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
            rows = self._of_tenant(self._reader.read(keys))
            states = self._recorded_states.states([row.name for row in rows])
            for row in rows:
                self._note(row, states[row.name])
                if any(self._comparison.of_row(row, [states[row.name]])):
                    yield from self._look_again(row.pk, row.name)
            self._on_rows(len(keys))
        for names in self._recorded_states.vanished():
            for name in names:
                if self._tenant and self._recorded_states.last_tenant(name) != self._tenant:
                    continue
                yield from self._look_again(parse_id(self.plan.model, name), name)

    def _of_tenant(self, rows: Sequence[StoredRow]) -> Sequence[StoredRow]:
        """Return those of the rows that belong to the tenant that was asked for."""
        if not self._tenant:
            return rows
        tenants = tenants_by_key(self.plan.model, [row.pk for row in rows], self.using)
        return [row for row in rows if tenants.get(row.pk) == self._tenant]

    def _look_again(self, pk: object, name: str) -> Iterator[Difference]:
        """Return how a row differs, though somebody may be writing it.

        Every state between two looks at the events is one that the row may have been in when it was read in between.
        """
        newest = self._recorded_states.newest(name)
        row = next(iter(self._reader.read([] if pk is None else [pk])), None)
        is_there = row is not None or bool(rows_named(self.plan.model, [name], self.using) & {name})
        states = self._recorded_states.states_since(name, newest)
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


def _ignore(_rows: int) -> None:
    """Tell nobody."""


class Replay:
    """One run of the comparison. Rows may be written meanwhile.

    Args:
        plans: The plans of the models to replay.
        using: The database.
        on_rows: Is called with the number of rows that have been compared since it was called last.

    """

    def __init__(self, plans: Iterable[ModelPlan], using: str, on_rows: Callable[[int], object] = _ignore) -> None:
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
    if not (plan.all_fields or plan.all_members):
        return _("the model has no field besides its primary key")
    if not plan.covered:
        return _("no field has all its changes recorded: rules exclude them or have conditions")
    return ""
