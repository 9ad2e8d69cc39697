"""Comparing one row with what is recorded of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django_signal_audit.capture.images import ImageReader
from django_signal_audit.events.documents import MASK_KEY, JSONValue, canonical_json, mask, unescaped
from django_signal_audit.events.masking import is_stand_in
from django_signal_audit.events.values import shorten
from django_signal_audit.models.state import RecordedState, member_order
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.rules.serializers import scope_of

from .differences import Difference, Kind
from .equality import is_same, spellings
from .rows import StoredRow


class Comparison:
    """Compares rows of one plan's model, in the fields whose every change is recorded."""

    def __init__(self, plan: ModelPlan, using: str) -> None:
        self.plan = plan
        self._images = ImageReader(plan, using)
        self._fields = {name: field for name, field in plan.all_fields.items() if name in plan.covered}
        self.members = sorted(plan.covered & set(plan.all_members))

    def of_row(self, row: StoredRow, states: Sequence[RecordedState]) -> Iterator[Difference]:
        """Return how a row that is there differs from all of the states that it may have been in when it was read."""
        told = [state for state in states if state.values is not None]
        if not told:
            kind = Kind.DELETED if any(state.is_told for state in states) else Kind.UNRECORDED
            yield self._difference(row.shown_pk(self.plan.model), kind)
            return
        if not any(state.has_start for state in told):
            yield self._difference(row.shown_pk(self.plan.model), Kind.UNSTARTED)
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
        for name, actual in self._images.row(row.image, self.plan.covered).items():
            recorded = [known[name] for known in values if name in known]
            if recorded and not any(self.is_recorded(name, row.pk, one, actual) for one in recorded):
                shown = self.plan.keepers[name](actual, row.pk)
                yield self._difference(row.shown_pk(self.plan.model), Kind.VALUE, name, recorded[-1], shown)

    def _of_members(self, row: StoredRow, values: Sequence[dict[str, Any]]) -> Iterator[Difference]:
        for name in self.members:
            actual = sorted(row.members[name], key=member_order)
            recorded = [known.get(name, []) for known in values]
            if actual not in recorded:
                yield self._difference(row.shown_pk(self.plan.model), Kind.MEMBERS, name, recorded[-1], actual)

    def is_recorded(self, name: str, pk: Any, recorded: JSONValue, actual: Any) -> bool:
        """Return whether the value is the recorded one; tags and digests are compared with those of the value."""
        field, scope = self._fields[name], scope_of(self._fields[name], pk)
        if not is_stand_in(recorded) and not isinstance(recorded, (dict, list)):
            return is_same(field, recorded, actual)
        # Inner secrets may lie in what is too long, so both what is kept now and what would be in clear are compared.
        kept = self.plan.keepers[name](actual, pk)
        return any(_agree(recorded, spelled, kept, scope) for spelled in spellings(field, actual))

    def _difference(
        self, pk: Any, kind: Kind, field: str = "", recorded: JSONValue = None, actual: JSONValue = None
    ) -> Difference:
        return Difference(model=self.plan.model, pk=pk, kind=kind, field=field, recorded=recorded, actual=actual)


def _agree(recorded: JSONValue, actual: JSONValue, kept: JSONValue, scope: tuple[str, ...]) -> bool:
    """Return whether a recorded value tells of the actual one, whichever of its parts are masked now or were then.

    Args:
        recorded: What is recorded.
        actual: The value in clear.
        kept: What is kept of it now.
        scope: The scope of its tag.

    """
    if is_stand_in(recorded) or not isinstance(recorded, (dict, list)):
        return canonical_json(recorded) in map(canonical_json, _forms(recorded, actual, kept, scope))
    parts = _parts(recorded)
    actuals, keeps = _parts(actual), _parts(kept)
    return (
        type(recorded) is type(actual)
        and parts.keys() == actuals.keys()
        and all(_agree(part, actuals[key], keeps.get(key, actuals[key]), (*scope, key)) for key, part in parts.items())
    )


def _forms(recorded: JSONValue, actual: JSONValue, kept: JSONValue, scope: tuple[str, ...]) -> Iterator[JSONValue]:
    yield kept
    if not is_stand_in(recorded):
        yield actual
    elif MASK_KEY in recorded:  # type: ignore[operator]
        yield mask(scope, actual)
    else:
        yield shorten(actual, max_bytes=-1)
        yield shorten(kept, max_bytes=-1)


def _parts(value: JSONValue) -> dict[str, JSONValue]:
    """Return the parts of a list or an object by the steps of their paths."""
    if isinstance(value, list):
        return {str(position): item for position, item in enumerate(value)}
    return unescaped(value) if isinstance(value, dict) else {}
