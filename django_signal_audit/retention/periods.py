"""Which events have been kept long enough: what the rules promise, and what the caller asks for."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django_signal_audit.models import AuditEvent
from django_signal_audit.rules.periods import Period, parse_period
from django_signal_audit.rules.schema import Rule

# Tells of a batch that was pruned, in the transaction that took it away.
EVENTS_PRUNED = "events_pruned"


def periods_of(rules: Iterable[Rule]) -> dict[str, Period]:
    """Return the ``retention`` of each rule that has a period as such, by name."""
    found = {rule.name: parse_period(rule.retention) for rule in rules}
    return {name: period for name, period in found.items() if period is not None}


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long events are to be kept, as of one moment.

    An event is kept as long as the longest ``retention`` of its rules says. ``older_than`` asks for no more than
    that: it stands in for the rules that say nothing, whose events are otherwise kept for ever.

    Attributes:
        now: The moment that ages are counted to.
        periods: The retention of the rules that have one.
        older_than: How old events of the others must be; None keeps them.
        rule: Only events that this rule matched; ``""`` for all.

    """

    now: dt.datetime
    periods: Mapping[str, Period]
    older_than: Period | None = None
    rule: str = ""

    @property
    def cutoff(self) -> dt.datetime | None:
        """Return the moment before which events may be due; None if none ever is."""
        if self.older_than is not None:
            return _earliest(self._cut(self.older_than), self._cut(self.periods.get(self.rule, self.older_than)))
        if self.rule:
            return self._cut(self.periods.get(self.rule))
        cuts = [cut for period in self.periods.values() if (cut := self._cut(period)) is not None]
        return max(cuts, default=None)

    @property
    def older_than_seconds(self) -> int | None:
        """Return how old events were asked to be, in seconds before now; None if that was not asked for."""
        cut = self._cut(self.older_than)
        return None if cut is None else int((self.now - cut).total_seconds())

    def is_due(self, event: AuditEvent) -> bool:
        """Return whether an event has been kept long enough."""
        if event.event_type == EVENTS_PRUNED and not self.periods.keys() & set(event.rules):
            # What is left to say where the others went stays, unless a rule of its own lets it go.
            return False
        promised = [self.periods.get(name, self.older_than) for name in event.rules]
        if self.older_than is not None or not promised:
            promised.append(self.older_than)
        cut = _earliest(*map(self._cut, promised))
        return cut is not None and event.recorded_at < cut

    def _cut(self, period: Period | None) -> dt.datetime | None:
        """Return the moment before which events are older than the period, None if none ever is."""
        return None if period is None else period.before(self.now)


def _earliest(*cuts: dt.datetime | None) -> dt.datetime | None:
    """Return the earliest of the moments, None if one of them is before all dates."""
    known = [cut for cut in cuts if cut is not None]
    return min(known) if known and len(known) == len(cuts) else None
