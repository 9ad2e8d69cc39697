"""Comparing one row with what is recorded of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django_signal_audit.capture.images import ImageReader
from django_signal_audit.models.state import RecordedState, member_order
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.values import (
    Digest,
    JSONValue,
    Masked,
    decode_tag,
    mask,
    shorten,
)

from .differences import Difference, Kind
from .equality import is_same, spellings
from .rows import StoredRow


class Comparison:
    """Compares rows of one plan's model, in the fields whose every change is recorded."""

    def __init__(self, plan: ModelPlan) -> None:
        self.plan = plan
        self._images = ImageReader(plan, "")
        self._fields = {name: field for name, field in plan.all_fields.items() if name in plan.covered}
        self.members = sorted(plan.covered & set(plan.all_members))

    def of_row(self, row: StoredRow, states: Sequence[RecordedState]) -> Iterator[Difference]:
        """Return how a row that is there differs from all of the states that it may have been in when it was read."""
        told = [state for state in states if state.values is not None]
        if not told:
            kind = Kind.DELETED if any(state.is_told for state in states) else Kind.UNRECORDED
            yield self._difference(row.pk, kind)
            return
        if not any(state.has_start for state in told):
            yield self._difference(row.pk, Kind.UNSTARTED)
        values = [state.values for state in told if state.values is not None]
        yield from self._of_fields(row, values)
        yield from self._of_members(row, values)

    def of_nothing(self, pk: Any, states: Sequence[RecordedState]) -> Iterator[Difference]:
        """Return how a row that is not there differs from all of the states it may have been in."""
        if all(state.values is not None for state in states):
            yield self._difference(pk, Kind.GONE)

    def untold(self, state: RecordedState) -> list[str]:
        """Return the fields of which no event of a row tells, out of those that are compared."""
        values = state.values or {}
        return [name for name in self._fields if name not in values]

    def _of_fields(self, row: StoredRow, values: Sequence[dict[str, Any]]) -> Iterator[Difference]:
        for name, actual in self._images.row(row.image, self._fields).items():
            recorded = [known[name] for known in values if name in known]
            if recorded and not any(self.is_recorded(name, one, actual) for one in recorded):
                shown = self.plan.keepers[name](actual)
                yield self._difference(row.pk, Kind.VALUE, name, recorded[-1], shown)

    def _of_members(self, row: StoredRow, values: Sequence[dict[str, Any]]) -> Iterator[Difference]:
        for name in self.members:
            actual = sorted(row.members[name], key=member_order)
            recorded = [known.get(name, []) for known in values]
            if actual not in recorded:
                yield self._difference(row.pk, Kind.MEMBERS, name, recorded[-1], actual)

    def is_recorded(self, name: str, recorded: JSONValue, actual: Any) -> bool:
        """Return whether the value is the recorded one; tags and digests are compared with those of the value."""
        field, tag = self._fields[name], decode_tag(recorded)
        if isinstance(tag, Masked):
            return any(recorded == mask(f"{self.plan.label}.{name}", text) for text in spellings(field, actual))
        if isinstance(tag, Digest):
            return any(recorded == shorten(text, max_bytes=-1) for text in spellings(field, actual))
        return is_same(field, recorded, actual)

    def _difference(
        self, pk: Any, kind: Kind, field: str = "", recorded: JSONValue = None, actual: JSONValue = None
    ) -> Difference:
        return Difference(model=self.plan.model, pk=pk, kind=kind, field=field, recorded=recorded, actual=actual)
